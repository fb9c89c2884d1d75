"""What is confirmed of what others pay: policies of acknowledging, with limits.

    AcknowledgeUpTo("0.50", total="20.00", tasks_only=True)

To acknowledge a payment is to sign the balances after it. A policy says so for each payment that is proposed, one after
another; what it does not confirm is rejected, so that the channel is not blocked by it until it expires.

Source: payment channels, `acknowledge_transfer`, `reject_transfer`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import msgspec

from .amounts import Amount

EXPECTED_WITHIN_S: Final = 60.0
"""How long a payment may be proposed before it is expected."""

Verdict = bool | str | None
"""True: acknowledge. False, or a text for the payer: reject. None: leave it to the application."""


class ProposedPayment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that the other party has signed, and that waits for its answer. It was checked.

    Args:
        channel_id: Where.
        nonce: Its number in the channel.
        from_agent_id: Who pays.
        amount: Minor units.
        task_id: The task that it pays for, if it says so.
        memo: For people; nobody has signed it.
        received: What the other party has paid in this channel so far, less what it was paid, in minor units. It
            follows from balances and deposits, so it is the same after a restart. Negative, if it was paid more.
    """

    channel_id: str
    nonce: int
    from_agent_id: str
    amount: int
    task_id: str | None
    memo: str | None
    received: int


class Expected:
    """A payment that the application waits for: a channel's `expect`.

    Args:
        amount: Minor units.
        task_id: The task that it has to name; None: any, or none.
    """

    def __init__(self, amount: int, task_id: str | None = None) -> None:
        self.amount = amount
        self.task_id = task_id
        self.nonce: int | None = None
        """Of the payment, once it was acknowledged."""

    def __repr__(self) -> str:
        """How much for what, and whether it has come."""
        what = "" if self.task_id is None else f" for task {self.task_id}"
        return f"<Expected {self.amount}{what}{'' if self.nonce is None else f', paid with nonce {self.nonce}'}>"

    def fits(self, payment: ProposedPayment) -> bool:
        """Whether a payment is the one."""
        return payment.amount == self.amount and self.task_id in {None, payment.task_id}


class Expectations:
    """What is expected in one channel. Each expectation is for one payment; the one that says more goes first."""

    def __init__(self) -> None:
        self._open: list[Expected] = []
        self._added = asyncio.Event()

    def add(self, expected: Expected) -> Expected:
        """Expect a payment, from now on."""
        self._open.append(expected)
        added, self._added = self._added, asyncio.Event()
        added.set()
        return expected

    def find(self, payment: ProposedPayment) -> Expected | None:
        """The expectation that a payment would fulfil."""
        fitting = [expected for expected in self._open if expected.fits(payment)]
        return min(fitting, key=lambda expected: expected.task_id is None, default=None)

    async def wait(self, payment: ProposedPayment) -> None:
        """Wait until a payment is expected."""
        while self.find(payment) is None:
            await self._added.wait()

    def fulfil(self, payment: ProposedPayment) -> None:
        """A payment was acknowledged: it is not expected any more."""
        expected = self.find(payment)
        if expected is not None:
            expected.nonce = payment.nonce
            self._open.remove(expected)


class Desk(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy may look at, beside the payment.

    Args:
        amount: An amount of the application's in minor units.
        expected: What is expected in the channel.
    """

    amount: Callable[[Amount], int]
    expected: Expectations


class Acknowledging(Protocol):
    """A policy. One may serve many channels at once; within one it is asked about one payment after another."""

    async def answer(self, payment: ProposedPayment, desk: Desk) -> Verdict:
        """What is done with a payment. It is cancelled if the payment is withdrawn, or expires, meanwhile."""
        ...


class AcknowledgeNothing:
    """Leave every payment to the application: `PaymentChannel.proposed`, `acknowledge`, `reject`."""

    async def answer(self, payment: ProposedPayment, desk: Desk) -> Verdict:  # noqa: ARG002 - The protocol's.
        """Leave it."""
        return None


class AcknowledgeUpTo:
    """Confirm payments up to a limit; others are rejected.

    Args:
        amount: The most of one payment.
        total: The most that the other party pays in the channel, less what it is paid; None: no limit.
        tasks_only: Only what names a task of the two.
    """

    def __init__(self, amount: Amount, *, total: Amount | None = None, tasks_only: bool = False) -> None:
        self._amount = amount
        self._total = total
        self._tasks_only = tasks_only

    async def answer(self, payment: ProposedPayment, desk: Desk) -> Verdict:
        """Confirm it within the limits."""
        if self._tasks_only and payment.task_id is None:
            return "only payments for a task are taken"
        if payment.amount > desk.amount(self._amount):
            return "it is more than is taken at once"
        if self._total is not None and payment.received + payment.amount > desk.amount(self._total):
            return "it would be more than is taken in all"
        return True


class AcknowledgeExpected:
    """Confirm what the channel's `expect` was told of; others are rejected.

    Args:
        within_s: How long a payment may be there before it is expected, in seconds.
    """

    def __init__(self, within_s: float = EXPECTED_WITHIN_S) -> None:
        self._within_s = within_s

    async def answer(self, payment: ProposedPayment, desk: Desk) -> Verdict:
        """Confirm it once it is expected."""
        try:
            async with asyncio.timeout(self._within_s):
                await desk.expected.wait(payment)
        except TimeoutError:
            return "it is not expected"
        return True


class AcknowledgeWhen:
    """Ask the application about each payment.

    Args:
        decide: True: confirm; False, or a text for the payer: reject; None: leave it to the application. What it
            raises is logged, and the payment is rejected.
    """

    def __init__(self, decide: Callable[[ProposedPayment], Awaitable[Verdict]]) -> None:
        self._decide = decide

    async def answer(self, payment: ProposedPayment, desk: Desk) -> Verdict:  # noqa: ARG002 - The protocol's.
        """What the application says."""
        return await self._decide(payment)

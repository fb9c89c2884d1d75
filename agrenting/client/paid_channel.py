"""PaidChannel: the side of a payment channel that is paid: what the other party proposes, and how it is answered.

Source: payment channels, `acknowledge_transfer`, `reject_transfer`.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from .acknowledging import (
    AcknowledgeNothing,
    Acknowledging,
    Desk,
    Expectations,
    Expected,
    ProposedPayment,
    Verdict,
)
from .amounts import Amount
from .asking import converted
from .backoff import NOT_NOW
from .errors import AlreadySigned, CannotSign, RefusedByServer
from .live_channel import LiveChannel
from .payments import ChannelKeeper

if TYPE_CHECKING:
    from .context import AgentContext

CROSSED: Final = "crossed: the payee has signed a payment of its own with this nonce; pay with the next one"
"""Why a payment is rejected that was made at the same moment as one of the payee's."""

UNDECIDED: Final = "the payee could not decide"
"""Why a payment is rejected about which the policy has failed."""

_LOG = logging.getLogger(__name__)


class PaidChannel(LiveChannel):
    """An online payment channel, as far as the other party pays in it. The rest of it is `PaymentChannel`.

    Args:
        context: The agent's.
        channel_id: Which channel.
        acknowledge: What is confirmed of what the other party pays; None: everything is left to the application.
        closes: Whether to agree to a close that the other party offers for the balances as they stand.

    Raises:
        NoSigningKey: The agent was given none.
        BrokenRecord: The file of what was signed is damaged, or another agent's.
    """

    def __init__(
        self,
        context: "AgentContext",
        channel_id: str,
        *,
        acknowledge: Acknowledging | None = None,
        closes: bool = True,
    ) -> None:
        path = context.folder.channel(channel_id)
        self._keeper = ChannelKeeper(context.require_signer(), agent_id=context.me.id, path=path)
        super().__init__(context, channel_id, self._keeper, closes=closes)
        self._policy: Acknowledging = acknowledge or AcknowledgeNothing()
        self._expected = Expectations()
        self._confirming: ProposedPayment | None = None
        """The last payment that was confirmed, until it is known to be made: the answer may be lost."""
        self._left = 0
        """Nonce of the last payment that was looked at: if it still waits, it is left to the application."""

    @property
    def balance(self) -> int:
        """What this agent has in it, in minor units."""
        return self._of_own("balance")

    @property
    def other_balance(self) -> int:
        """What the other party has in it, in minor units."""
        return self._of_other("balance")

    @property
    def nonce(self) -> int:
        """The last one that was used up."""
        return int(self.channel["last_nonce"])

    @property
    def received(self) -> int:
        """What the other party has paid, less what it was paid, in minor units; also after a restart."""
        return self.balance - self.deposited

    @property
    def proposed(self) -> ProposedPayment | None:
        """A payment of the other party's that waits for its answer."""
        pending = self.channel["pending_proposal"]
        if pending is None or pending["from_agent_id"] == self._context.me.id:
            return None
        return converted({**pending, "channel_id": self.id, "received": self.received}, ProposedPayment)

    def expect(self, amount: Amount, task_id: str | None = None) -> Expected:
        """Expect a payment: `AcknowledgeExpected` confirms it. Wait for it with `until_paid`.

        Args:
            amount: Just so much.
            task_id: The task that it has to name; None: any, or none.
        """
        return self._expected.add(Expected(self._context.amount(amount), task_id))

    async def until_paid(self, expected: Expected, timeout_s: float | None = None) -> int:
        """Wait until a payment that is expected was acknowledged; its nonce.

        Raises:
            TimeoutError: It was not, in time.
            CannotSign: The channel has ended before.
            LyingServer, BrokenRecord, RefusedByServer, Disconnected: Nothing more is heard of the channel.
        """
        async with asyncio.timeout(timeout_s):
            await self.until(lambda: expected.nonce is not None or self.is_over)
        if expected.nonce is None:
            raise CannotSign(f"the channel is {self.status}")
        return expected.nonce

    async def until_proposed(self) -> ProposedPayment:
        """Wait for a payment of the other party's that the policy has left to the application.

        Raises:
            CannotSign: The channel has ended.
            LyingServer, BrokenRecord, RefusedByServer, Disconnected: Nothing more is heard of the channel.
        """
        await self.until(lambda: self._left_to_application() is not None or self.is_over)
        payment = self._left_to_application()
        if payment is None:
            raise CannotSign(f"the channel is {self.status}")
        return payment

    async def acknowledge(self, payment: ProposedPayment) -> None:
        """Confirm a payment of the other party's.

        Raises:
            CannotSign: It does not wait for its answer any more; or a payment of this agent's was signed with its nonce
                (`AlreadySigned`): reject it.
            RefusedByServer, LyingServer, BrokenRecord, NoAnswer, Disconnected: As for any push.
        """
        self._require_sound()
        pending, proposed = self.channel["pending_proposal"], self.proposed
        if proposed is None or _terms(proposed) != _terms(payment):
            raise CannotSign(f"the payment with nonce {payment.nonce} does not wait for an answer any more")
        signed = self._keeper.acknowledge(pending)
        self._confirming = payment
        await self._push("acknowledge_transfer", signed)
        self._confirmed(payment)
        self._tell()

    async def reject(self, payment: ProposedPayment, reason: str = "") -> None:
        """Reject a payment of the other party's.

        Args:
            payment: Which.
            reason: For the payer, at most `text_chars_max` characters.

        Raises:
            RefusedByServer: `nonce_replayed` and more: it does not wait any more.
            LyingServer, BrokenRecord, NoAnswer, Disconnected: As for any push.
        """
        await self._push("reject_transfer", {"nonce": payment.nonce, "reason": reason})

    # How payments are answered.

    async def _do_chore(self) -> bool:
        payment = self.proposed
        if payment is None or payment.nonce == self._left:
            return await super()._do_chore()
        try:
            await self._answer_payment(payment)
        except (RefusedByServer, CannotSign) as error:
            if isinstance(error, RefusedByServer) and error.reason in NOT_NOW:
                raise  # It is tried again.
            _LOG.info("payment channel %s: payment %s was not answered: %s", self.id, payment.nonce, error)
            await self._look_again()
        self._left = payment.nonce
        self._tell()
        return True

    async def _answer_payment(self, payment: ProposedPayment) -> None:
        verdict: Verdict = CROSSED
        if not self._has_signed(payment.nonce):
            verdict = await self._verdict(payment)
        if verdict is True:
            try:
                await self.acknowledge(payment)
            except AlreadySigned:
                verdict = CROSSED
        if verdict is False or isinstance(verdict, str):
            await self.reject(payment, verdict or "")

    async def _verdict(self, payment: ProposedPayment) -> Verdict:
        """What the policy says; None also where the payment is over before that."""
        desk = Desk(amount=self._context.amount, expected=self._expected)
        deciding = asyncio.ensure_future(self._policy.answer(payment, desk))
        over = asyncio.ensure_future(self.until(lambda: self.proposed is None or self.proposed.nonce != payment.nonce))
        try:
            await asyncio.wait((deciding, over), return_when=asyncio.FIRST_COMPLETED)
            return deciding.result() if deciding.done() else None
        except Exception:  # noqa: BLE001 - It is the application's own code, which may raise anything.
            _LOG.exception("payment channel %s: the policy has failed about payment %s", self.id, payment.nonce)
            return UNDECIDED
        finally:
            deciding.cancel()
            over.cancel()
            await asyncio.gather(deciding, over, return_exceptions=True)

    def _tell(self) -> None:
        payment, last = self._confirming, self.channel.get("last_transfer")
        if payment is not None and last is not None and last["nonce"] == payment.nonce:
            self._confirmed(payment)
        super()._tell()

    def _confirmed(self, payment: ProposedPayment) -> None:
        """A payment was made: it is not expected any more."""
        if self._confirming is payment:
            self._confirming = None
            self._expected.fulfil(payment)

    def _has_signed(self, nonce: int) -> bool:
        """Whether a payment of this agent's was signed with a nonce that is not used up yet."""
        payment = self._keeper.record.payment
        return payment is not None and payment.is_paid is None and payment.transfer.nonce >= nonce

    def _left_to_application(self) -> ProposedPayment | None:
        payment = self.proposed
        return payment if payment is not None and payment.nonce == self._left else None


def _terms(payment: ProposedPayment) -> tuple[int, int, str | None]:
    """What is confirmed of a payment."""
    return payment.nonce, payment.amount, payment.task_id

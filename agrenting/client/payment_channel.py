"""PaymentChannel: pay another agent in doubly signed steps, and be paid.

    channel = await agent.open_channel("bob/translator", deposit="5.00")
    nonce = await channel.pay("0.25", task_id=task.id)
    await channel.close()

A payment is signed once. What was signed is on disk before it is sent, and over losses of the connection the very same
bytes are sent again, which the server answers with what has become of them. A program that is killed on the way finds
the payment in `unfinished` when it comes back, and finishes it by `resume`, or takes it back by `withdraw`.

When both parties pay at the same moment, both have signed the next nonce, and the server takes the first. Who came
second cannot sign the other's payment with a nonce that it has signed already, so it rejects it as crossed; who is told
so pays with the next nonce. From then on the two take turns until one of them has nothing more to pay.

Source: payment channels, `propose_transfer`, `acknowledge_transfer`; SIGNING.md ("payment.transfer").
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from . import asking
from .acknowledging import Acknowledging
from .amounts import Amount
from .channel_record import Payment
from .errors import CannotSign, NoAnswer, NotPaid, RefusedByServer, UnfinishedPayment, WrongAnswer
from .kept_channel import Channel
from .paid_channel import CROSSED, PaidChannel

if TYPE_CHECKING:
    from .context import AgentContext

CROSSINGS_MAX: Final = 20
"""How often one payment may be crossed before it counts as not made."""

TURN_S: Final = 1.0
"""How long the other party has for its payment, when it is its turn."""

WITHDRAWAL_S: Final = 10.0
"""How long to wait until a payment is taken back that was not answered in time."""

FIRST_COME: Final = frozenset(("transfer_pending", "nonce_replayed"))
"""Refusals of a payment whose nonce the other party's has, or had."""

_LOG = logging.getLogger(__name__)


class OwnPayment(msgspec.Struct, frozen=True, kw_only=True):
    """A payment that this agent has signed.

    Args:
        nonce: Its number in the channel.
        amount: Minor units.
        task_id: The task that it pays for.
        memo: For people; not signed.
        is_paid: Whether both have signed it; None: it is not known yet.
    """

    nonce: int
    amount: int
    task_id: str | None
    memo: str | None
    is_paid: bool | None


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    """Between whom a task is."""

    client_agent_id: str
    provider_agent_id: str


class _Voided(msgspec.Struct, frozen=True, kw_only=True):
    """Why a payment was not made, as the server tells it."""

    nonce: int
    from_agent_id: str
    reason: str
    text: str | None = None


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a payment that was proposed before."""

    status: str
    reason: str | None = None
    text: str | None = None


class PaymentChannel(PaidChannel):
    """An online payment channel of an agent that is open. Made by `Paying`.

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
        super().__init__(context, channel_id, acknowledge=acknowledge, closes=closes)
        self._voided: _Voided | None = None
        """The newest payment of this agent's that was not made."""
        self._offered_last: Channel = {}
        """The payload of the payment that was sent last."""
        self._tasks_of_both: set[str] = set()
        self._is_contended = False
        """Whether both have paid at the same moment, lately."""
        self._turn_after: int | None = None
        """Nonce after which it is the other party's turn to pay; None: it is nobody's."""

    @property
    def last_payment(self) -> OwnPayment | None:
        """The last payment that this agent has signed, and what has become of it: also before a restart."""
        payment = self._keeper.record.payment
        return None if payment is None else _own(payment)

    @property
    def unfinished(self) -> OwnPayment | None:
        """A payment that was signed, and of which it is not known yet whether it was made."""
        payment = self.last_payment
        return None if payment is None or payment.is_paid is not None else payment

    async def pay(
        self,
        amount: Amount,
        *,
        task_id: str | None = None,
        memo: str | None = None,
        timeout_s: float | None = None,
    ) -> int:
        """Pay the other party, and wait until it has signed the same; the payment's nonce.

        One payment is made after another; while one of the other party's waits for its answer, that is waited for. If
        this is cancelled, look at `unfinished` before paying anew.

        Args:
            amount: How much: minor units, or text in major units.
            task_id: The task that it pays for; signed.
            memo: For people, at most `memo_chars_max` characters; not signed.
            timeout_s: How long the other party has for its answer; then the payment is taken back. None: as long as the
                server keeps a proposal.

        Raises:
            NotPaid: The other party has rejected it, or it was taken back: nothing was paid.
            UnfinishedPayment: An earlier one is not finished: `resume` or `withdraw` it first.
            CannotSign: The channel is not open, or this agent has not so much in it.
            NoAnswer: It was neither answered nor taken back in time: it is unfinished.
            WrongAnswer: The task is not one of the two.
            ValueError: The amount is none, or the memo is too long.
            RefusedByServer: `not_found` (no such task), `contact_revoked` and more.
            LyingServer, BrokenRecord, Disconnected: Nothing more is signed in this channel.
        """
        minor = self._context.amount(amount)
        memo_chars_max = int(self._context.market.limits["memo_chars_max"])
        if memo is not None and len(memo) > memo_chars_max:
            raise ValueError(f"a memo has at most {memo_chars_max} characters, not {len(memo)}")
        if task_id is not None:
            await self._require_task(task_id)
        async with self._acting:
            self._require_finished()
            crossings = 0
            while True:
                await self._wait_for_turn()
                self._require_sound()
                payload = self._keeper.propose(minor, task_id=task_id, memo=memo)
                nonce: int = payload["nonce"]
                if await self._carry_out(payload, timeout_s):
                    self._turn_after = nonce if self._is_contended else None
                    return nonce
                await self._learn_why(nonce)
                crossings += 1
                if crossings > CROSSINGS_MAX or not self._was_crossed(nonce):
                    raise self._not_paid(nonce)

    async def resume(self, timeout_s: float | None = None) -> int:
        """Finish the payment that is unfinished, with the same bytes; its nonce.

        Raises:
            NotPaid: It was not made, and cannot be any more: pay anew if you like.
            CannotSign: Nothing is unfinished.
            NoAnswer, RefusedByServer, LyingServer, BrokenRecord, Disconnected: As for `pay`.
        """
        async with self._acting:
            payment = self._require_unfinished()
            nonce = payment.transfer.nonce
            if not await self._carry_out(self._again(payment), timeout_s):
                await self._learn_why(nonce)
                raise self._not_paid(nonce)
            return nonce

    async def withdraw(self) -> bool:
        """Take the payment back that is unfinished; whether nothing was paid. The other party may be faster.

        Raises:
            CannotSign: Nothing is unfinished.
            RefusedByServer, LyingServer, BrokenRecord, Disconnected: As for `pay`.
        """
        async with self._acting:
            payment = self._require_unfinished()
            await self._take_back(self._again(payment))
            return not self._is_paid(payment.transfer.nonce)

    async def deposit(self, amount: Amount) -> int:
        """Put more money into the channel; what this agent has in it then, in minor units.

        Raises:
            RefusedByServer: `insufficient_balance`, `spend_cap_exceeded`, `channel_not_open` and more.
            ValueError: The amount is none.
            LyingServer, BrokenRecord, Disconnected: As for `pay`.
        """
        minor = self._context.amount(amount)
        async with self._acting:
            while True:
                await self.until(lambda: self.channel["pending_proposal"] is None)
                try:
                    await self._post("deposit", {"amount": minor})
                except RefusedByServer as refusal:
                    if refusal.reason != "transfer_pending":
                        raise
                    await self._look_again()
                else:
                    return self.balance

    # How a payment is carried out.

    async def _carry_out(self, payload: Channel, timeout_s: float | None) -> bool:
        """Propose what was signed, until it is known what has become of it; whether it was paid."""
        nonce: int = payload["nonce"]
        try:
            async with asyncio.timeout(timeout_s):
                await self._offer(payload)
                await self.until(lambda: self._is_decided(nonce))
        except TimeoutError:
            try:
                async with asyncio.timeout(WITHDRAWAL_S):
                    await self._take_back(payload)
            except TimeoutError:
                raise NoAnswer(f"the payment with nonce {nonce} was neither answered nor taken back in time") from None
        return self._is_paid(nonce)

    async def _offer(self, payload: Channel) -> None:
        """Have the server know a payment. What it refuses because the other party was faster is void with its nonce."""
        nonce: int = payload["nonce"]
        while True:
            self._offered_last = payload
            try:
                await self._push("propose_transfer", payload)
                return
            except RefusedByServer as refusal:
                await self._look_again()
                if refusal.reason in FIRST_COME:
                    self._is_contended, self._turn_after = True, nonce
                    await self.until(lambda: self._is_decided(nonce))
                if self._is_decided(nonce):
                    return
                raised = self._again(self._require_unfinished())
                if refusal.reason != "stale_state" or raised == payload:
                    raise
            payload = raised  # The other party has deposited: the same payment, over the balances of now.

    async def _take_back(self, payload: Channel) -> None:
        """Have the nonce of a payment used up, if the other party does not confirm it before."""
        nonce: int = payload["nonce"]
        await self._offer(payload)  # The server cannot take back what it has not heard of.
        if not self._is_decided(nonce):
            try:
                await self._push("reject_transfer", {"nonce": nonce, "reason": "withdrawn"})
            except RefusedByServer as refusal:
                _LOG.debug("payment %s of channel %s was not taken back: %s", nonce, self.id, refusal)
                await self._look_again()
        await self.until(lambda: self._is_decided(nonce))

    async def _wait_for_turn(self) -> None:
        """Wait until nothing is proposed, and until the other party has paid, if that is its turn."""
        await self.until(self._is_free)
        nonce, self._turn_after = self._turn_after, None
        if nonce is None:
            return
        try:
            async with asyncio.timeout(TURN_S):
                await self.until(lambda: not self._is_free() or self.nonce > nonce)
        except TimeoutError:
            self._is_contended = False
        await self.until(self._is_free)

    def _is_free(self) -> bool:
        """Whether nothing waits for an answer; also where nothing can be paid, which the keeper says."""
        return self.channel["pending_proposal"] is None or self.status != "open"

    def _is_decided(self, nonce: int) -> bool:
        """Whether it is known what has become of a payment.

        Raises:
            CannotSign: It cannot be known, because the server has lost states.
        """
        payment = self._keeper.record.payment
        if payment is None or payment.transfer.nonce != nonce:
            raise CannotSign(f"the payment with nonce {nonce} is not the last one that was signed")
        if payment.is_paid is None and self.is_state_lost:
            raise CannotSign("the server has lost states of this channel: it can only be closed jointly")
        return payment.is_paid is not None

    def _is_paid(self, nonce: int) -> bool:
        payment = self._keeper.record.payment
        return payment is not None and payment.transfer.nonce == nonce and payment.is_paid is True

    async def _learn_why(self, nonce: int) -> None:
        """Ask why a payment was not made, where that was told while nobody listened, or to the other party alone."""
        if self._turn_after == nonce or (self._voided is not None and self._voided.nonce == nonce):
            return
        try:
            told = await self._push("propose_transfer", self._offered_last)
        except (CannotSign, NoAnswer):
            return  # The channel has ended, and that is why; or it stays unknown.
        except RefusedByServer as refusal:
            # It has never come there: its nonce went to a payment of the other party's, or with the channel.
            if refusal.reason in FIRST_COME:
                self._is_contended, self._turn_after = True, nonce
            return
        outcome = asking.converted(told.get("outcome"), _Outcome)
        self._voided = _Voided(
            nonce=nonce, from_agent_id=self._context.me.id, reason=outcome.reason or "", text=outcome.text
        )

    def _was_crossed(self, nonce: int) -> bool:
        """Whether a payment was not made because the other party has signed one at the same moment."""
        voided = self._voided
        if voided is None or voided.nonce != nonce:
            return self._turn_after == nonce  # The server has taken the other party's.
        if voided.text != CROSSED:
            return False
        self._is_contended = True
        return True

    def _not_paid(self, nonce: int) -> NotPaid:
        voided = self._voided
        if voided is None or voided.nonce != nonce:
            return NotPaid(nonce)
        return NotPaid(nonce, reason=voided.reason, text=voided.text)

    def _again(self, payment: Payment) -> Channel:
        """The payload of a payment that was signed before."""
        transfer = payment.transfer
        return self._keeper.propose(transfer.amount, task_id=transfer.task_id, memo=payment.memo)

    def _require_finished(self) -> None:
        unfinished = self.unfinished
        if unfinished is not None:
            raise UnfinishedPayment(unfinished.nonce, amount=unfinished.amount, task_id=unfinished.task_id)

    def _require_unfinished(self) -> Payment:
        self._require_sound()
        payment = self._keeper.record.payment
        if payment is None or payment.is_paid is not None:
            raise CannotSign("no payment is unfinished")
        return payment

    async def _require_task(self, task_id: str) -> None:
        """Refuse a task that is none of the two, before a nonce is bound to it."""
        if task_id in self._tasks_of_both:
            return
        task = await asking.get(self._context, f"/tasks/{task_id}", _Task)
        parties = {self.channel["agent_a_id"], self.channel["agent_b_id"]}
        if {task.client_agent_id, task.provider_agent_id} != parties:
            raise WrongAnswer(f"task {task_id} is not one of the channel's two parties", expected=parties)
        self._tasks_of_both.add(task_id)

    async def _hear(self, event: str, payload: Channel) -> None:
        if event in {"reject_transfer", "transfer_voided"}:
            voided = asking.converted(payload, _Voided)
            if voided.from_agent_id == self._context.me.id:
                self._voided = voided
        await super()._hear(event, payload)


def _own(payment: Payment) -> OwnPayment:
    transfer = payment.transfer
    return OwnPayment(
        nonce=transfer.nonce,
        amount=transfer.amount,
        task_id=transfer.task_id,
        memo=payment.memo,
        is_paid=payment.is_paid,
    )

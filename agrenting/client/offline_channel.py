"""OfflineChannel: payments that two agents sign over any medium, and hand in when they like.

    payment = channel.pay("0.25")                        # a dict, JSON: send it to the other agent, by any way
    transfer = await others.countersign(payment)         # there: checked, and signed by both
    channel.complete(transfer)                           # here again
    await channel.submit()                               # by either, now and then, and before the end

What both have signed is money, also if the server has never heard of it. It has to be handed in before the channel is
closed, at the latest while it is `closing` or `disputed`; a channel that is read here does so by itself when it hears
of either. An agent that is not there within the channel's window loses what it has not handed in.

Source: payment channels, offline transfers, `submit_transfers`.
"""

import logging
from typing import TYPE_CHECKING, Any, Final

from .acknowledging import Acknowledging, Desk, Expectations, Expected, ProposedPayment
from .amounts import Amount
from .backoff import NOT_NOW
from .errors import CannotSign, RefusedByServer, RolledBack
from .kept_channel import Channel
from .live_channel import LiveChannel
from .offline_keeper import OfflineKeeper

if TYPE_CHECKING:
    from .context import AgentContext

LAST_CALL: Final = frozenset(("closing", "disputed"))
"""States in which transfers have to be handed in before a time is over."""

_LOG = logging.getLogger(__name__)


class OfflineChannel(LiveChannel):
    """An offline payment channel of an agent that is open. Made by `Paying`.

    `OfflineKeeper` does the same without an agent and without any connection, once the channel was open here.

    Args:
        context: The agent's.
        channel_id: Which channel.
        acknowledge: What is countersigned; None: whatever is handed to `countersign`.
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
        path = context.folder.channel(channel_id).with_suffix(".offline")
        self._keeper = OfflineKeeper(context.require_signer(), agent_id=context.me.id, path=path)
        super().__init__(context, channel_id, self._keeper, closes=closes)
        self._policy = acknowledge
        self._expected = Expectations()

    # How it stands.

    @property
    def balance(self) -> int:
        """What this agent has, in minor units; a payment that it has signed counts as paid."""
        return self._keeper.balance

    @property
    def other_balance(self) -> int:
        """What the other party has, in minor units, by what both have signed."""
        return self._keeper.other_balance

    @property
    def nonce(self) -> int:
        """Of the newest payment that both have signed."""
        return self._keeper.last_nonce

    @property
    def submitted_nonce(self) -> int:
        """Of the newest payment that the server knows."""
        return self._keeper.submitted_nonce

    @property
    def unsubmitted(self) -> list[dict[str, Any]]:
        """The transfers that the server does not know yet: evidence in a dispute."""
        return self._keeper.unsubmitted()

    @property
    def unanswered(self) -> dict[str, Any] | None:
        """The payment that the other party has not countersigned yet, to be brought again; None: there is none."""
        return self._keeper.brought_again()

    # Paying and being paid.

    def pay(self, amount: Amount, *, task_id: str | None = None) -> dict[str, Any]:
        """Sign a payment, to be carried to the other party; it counts as paid from now on.

        Args:
            amount: How much: minor units, or text in major units.
            task_id: What it pays for; signed, and not looked up.

        Raises:
            UnfinishedPayment: An earlier one is not countersigned yet: bring `unanswered` again, or force-close.
            CannotSign: The channel is not open, a close was signed, or this agent has not so much.
            BrokenRecord, LyingServer: Nothing is signed.
            ValueError: The amount is none.
        """
        self._require_sound()
        return self._keeper.pay(self._context.amount(amount), task_id)

    def expect(self, amount: Amount, task_id: str | None = None) -> Expected:
        """Expect a payment of the other party's: the policy `AcknowledgeExpected` takes what is expected, and no more.

        Args:
            amount: Exactly how much: minor units, or text in major units.
            task_id: The task that it has to name; None: any, or none.
        """
        return self._expected.add(Expected(self._context.amount(amount), task_id))

    async def countersign(self, payment: dict[str, Any]) -> dict[str, Any]:
        """Check a payment of the other party's, and sign it too; the transfer, to be carried back.

        Args:
            payment: What its `pay` gave.

        Raises:
            ForgedTransfer, WrongBalance, WrongChannel, MalformedAnswer: It is not what it should be.
            AlreadySigned: Another payment has its nonce; this agent's own maybe, that was signed at the same moment.
            CannotSign: The policy does not take it, the channel is not open, or a close was signed.
            BrokenRecord, LyingServer: Nothing is signed.
        """
        self._require_sound()
        checked = self._keeper.check(payment)
        proposed = ProposedPayment(
            channel_id=self.id,
            nonce=checked.nonce,
            from_agent_id=checked.from_agent_id,
            amount=checked.amount,
            task_id=checked.task_id,
            memo=None,
            received=self.balance - self._keeper.deposited,
        )
        if self._policy is not None and checked.nonce > self.nonce:
            desk = Desk(amount=self._context.amount, expected=self._expected)
            verdict = await self._policy.answer(proposed, desk)
            if verdict is not True:
                raise CannotSign(f"the payment was not taken: {verdict or 'the policy says no'}")
        is_new = checked.nonce > self.nonce  # It may have been brought twice, and signed while the policy decided.
        transfer = self._keeper.countersign(payment)
        if is_new:
            self._expected.fulfil(proposed)
        return transfer

    def complete(self, transfer: dict[str, Any]) -> None:
        """Take what the other party's `countersign` gave: the payment is made. Again does no harm.

        Raises:
            ForgedTransfer, WrongBalance, WrongChannel, MalformedAnswer: It is not what it should be.
            CannotSign: It is not the next one.
            BrokenRecord, LyingServer: Nothing is taken.
        """
        self._require_sound()
        self._keeper.complete(transfer)

    async def submit(self) -> int:
        """Hand in what the server does not know yet; how many transfers that were.

        Raises:
            RefusedByServer: `terminal_state`, `bad_transfer` and more.
            LyingServer, BrokenRecord, NoAnswer, Disconnected: As for any push.
        """
        first = self.submitted_nonce
        at_once = int(self._context.market.limits["transfers_per_frame_max"])
        while transfers := self._keeper.unsubmitted():
            before = self.submitted_nonce
            await self._push("submit_transfers", {"transfers": transfers[:at_once]})
            if self.submitted_nonce <= before:
                raise RolledBack(f"transfers were handed in, and the server stays at nonce {before}", told=before)
        return self.submitted_nonce - first

    # What goes on behind it.

    async def _do_chore(self) -> bool:
        """Hand in what would be lost otherwise."""
        is_urgent = self.status in LAST_CALL or bool(self.channel["close_requests"])
        if not is_urgent or not self._keeper.unsubmitted():
            return await super()._do_chore()
        mark = self._mark()
        try:
            await self.submit()
        except RefusedByServer as refusal:
            if refusal.reason in NOT_NOW:
                raise
            _LOG.error("payment channel %s: transfers were not taken: %s", self.id, refusal)
            await self.until(lambda: self.is_over or self._mark() != mark)
        return True

    async def _come_closer(self, finals: tuple[int, int] | None) -> None:
        if self._keeper.unsubmitted():
            await self.submit()
        await super()._come_closer(finals)

    def _request_of(self, agent_id: str, finals: tuple[int, int] | None) -> Channel | None:
        """A close is agreed to only once the server knows all that was signed."""
        return None if self._keeper.unsubmitted() else super()._request_of(agent_id, finals)

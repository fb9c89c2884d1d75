"""The moves of a payment channel, which its events, its clock and the end of a contact are made of.

A move is a channel after a change, together with what the change brings about. Moves follow one another: an event at a
channel whose window has run out is decided on the channel as the clock has left it, and both are carried out together.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from channels.changes import Change, NoteStep, Timer
from channels.channel_steps import ChannelStep, StepKind
from channels.handlers import Context, Decision
from channels.ledger import unlock
from channels.limits import Market
from channels.payment_rules import LIVE
from channels.payment_state import (
    CLOCK,
    Cause,
    Closing,
    PaymentChannel,
    Phase,
    Proposal,
    SignedTransfer,
    snapshot,
)
from channels.told import Broadcast

ENDED_AS = {
    StepKind.DECLINED: Phase.DECLINED,
    StepKind.CANCELLED: Phase.DECLINED,
    StepKind.EXPIRED: Phase.EXPIRED,
}
"""How a channel ends that nobody has accepted."""


class Moved(msgspec.Struct, frozen=True, kw_only=True):
    """A channel after a change.

    Args:
        channel: As it is now.
        changes: What goes with it in the same transaction.
        told: What its subscribers are told.
    """

    channel: PaymentChannel
    changes: tuple[Change, ...] = ()
    told: tuple[Broadcast, ...] = ()

    def then(self, move: "Callable[[PaymentChannel], Moved]") -> "Moved":
        """What another move makes of it, with what went before."""
        after = move(self.channel)
        return Moved(channel=after.channel, changes=(*self.changes, *after.changes), told=(*self.told, *after.told))

    def stepped(
        self, kind: StepKind, context: Context, *, by: str | None, details: dict[str, Any] | None = None
    ) -> "Moved":
        """The same, with a step in the channel's history that says so."""
        channel = msgspec.structs.replace(self.channel, steps=self.channel.steps + 1)
        step = ChannelStep(
            number=channel.steps,
            kind=kind,
            at=context.now,
            agent_id=by,
            balance_a=channel.balance_a,
            balance_b=channel.balance_b,
            last_nonce=channel.last_nonce,
            details=details or {},
        )
        return Moved(channel=channel, changes=(*self.changes, NoteStep(channel.id, step)), told=self.told)

    def telling(self, *told: Broadcast) -> "Moved":
        """The same, with more that is told of it."""
        return Moved(channel=self.channel, changes=self.changes, told=(*self.told, *told))

    def with_changes(self, *changes: Change) -> "Moved":
        """The same, with more that goes with it."""
        return Moved(channel=self.channel, changes=(*self.changes, *changes), told=self.told)


def decided(before: PaymentChannel | None, moved: Moved, context: Context, **reply: Any) -> Decision:
    """A move as a decision, whose reply is the whole channel, and which arms its timer.

    Args:
        before: The channel as it was loaded; None for a new one, which the caller inserts.
        moved: What became of it.
        context: The market.
        reply: What stands in the reply besides.
    """
    channel, changes = moved.channel, moved.changes
    due = due_at(channel, context.market)
    if due is not None and (channel.clock_at is None or due < channel.clock_at):
        channel = msgspec.structs.replace(channel, clock_at=due)
        changes = (*changes, Timer(CLOCK, channel.topic, due))
    return Decision(
        state=None if channel is before or before is None else channel,
        reply={**snapshot(channel, context.market), **reply},
        changes=changes,
        broadcasts=moved.told,
    )


def due_at(channel: PaymentChannel, market: Market) -> datetime | None:
    """When the clock next changes the channel; None while it does not.

    What had begun when the market was restored from a backup waits a window more: it may have gone otherwise since, and
    who knows that must have the time to come back.
    """
    if channel.is_final or channel.state_lost is not None:
        return None
    if channel.status is Phase.PENDING:
        return max((channel.expires_at, *_waits(channel, market, since=channel.created_at)))
    if channel.dispute is not None:
        return max((channel.dispute.ends_at, *_waits(channel, market, since=channel.dispute.opened_at)))
    if channel.closing is not None:
        return max((channel.closing.ends_at, *_waits(channel, market, since=channel.closing.began_at)))
    return None if channel.pending_proposal is None else channel.pending_proposal.expires_at


def awaited_until(channel: PaymentChannel, market: Market) -> datetime | None:
    """Until when who knows more of the channel is waited for after a restore; None where nobody was."""
    return max(_waits(channel, market, since=channel.created_at), default=None)


def is_awaited(channel: PaymentChannel, context: Context) -> bool:
    """Whether the market was restored so lately that who knows more of the channel may still come back."""
    until = awaited_until(channel, context.market)
    return until is not None and context.now < until


def _waits(channel: PaymentChannel, market: Market, *, since: datetime) -> list[datetime]:
    window = timedelta(seconds=channel.window_s)
    return [restored_at + window for restored_at in market.restores if since <= restored_at]


def by_the_clock(channel: PaymentChannel, context: Context) -> Moved:
    """The channel as the clock has left it, also before its timer has run."""
    due = due_at(channel, context.market)
    if due is None or context.now < due:
        return Moved(channel=channel)
    if channel.status is Phase.PENDING:
        return never_opened(channel, context, StepKind.EXPIRED, cause=Cause.EXPIRED, by=None)
    if channel.status is Phase.DISPUTED:
        return paid_out(channel, context, cause=Cause.DISPUTE_TIMEOUT)
    if channel.status is Phase.CLOSING:
        return paid_out(channel, context, cause=Cause.FORCE_CLOSE)
    return voided(channel, context, reason="expired", by=None)


def updated(channel: PaymentChannel, context: Context, change: str) -> Broadcast:
    """What both are told of a change that has no event of its own."""
    told = {"channel_id": channel.id, "change": change, "channel": snapshot(channel, context.market)}
    return Broadcast(channel.topic, "channel_updated", told)


def never_opened(
    channel: PaymentChannel,
    context: Context,
    kind: StepKind,
    *,
    cause: Cause,
    by: str | None,
    reason: str | None = None,
) -> Moved:
    """The end of a channel that nobody has accepted: its opener has its deposit back."""
    after = msgspec.structs.replace(
        channel,
        status=ENDED_AS[kind],
        cause=cause,
        reason=reason,
        closed_at=context.now,
        final_balance_a=channel.balance_a,
        final_balance_b=channel.balance_b,
    )
    details = {"reason": reason if by is not None else cause} if kind is StepKind.DECLINED else {}
    moved = Moved(channel=after, changes=_payout(after)).stepped(kind, context, by=by, details=details)
    return moved.telling(updated(moved.channel, context, kind))


def paid_out(
    channel: PaymentChannel,
    context: Context,
    *,
    cause: Cause,
    by: str | None = None,
    finals: tuple[int, int] | None = None,
    signatures: tuple[str, str] | None = None,
    reason: str | None = None,
) -> Moved:
    """The end of a channel: each party has its part.

    Args:
        channel: Nothing may be pending.
        context: The clock.
        cause: What ends it.
        by: The agent that does; None for the clock and for an operator.
        finals: Of A and B, in minor units; None: the balances.
        signatures: Of A and B over the close, where that ends it.
        reason: An operator's.
    """
    final_a, final_b = (channel.balance_a, channel.balance_b) if finals is None else finals
    assert final_a + final_b == channel.total, "all that is locked is paid out, and no more"
    signature_a, signature_b = (None, None) if signatures is None else signatures
    after = msgspec.structs.replace(
        channel,
        status=Phase.CLOSED,
        closing=None,
        dispute=None,
        close_requests=(),
        cause=cause,
        reason=reason,
        closed_at=context.now,
        final_balance_a=final_a,
        final_balance_b=final_b,
        close_signature_a=signature_a,
        close_signature_b=signature_b,
    )
    details = {
        "cause": cause,
        "final_balance_a": final_a,
        "final_balance_b": final_b,
        "signature_a": signature_a,
        "signature_b": signature_b,
        "reason": reason,
    }
    moved = Moved(channel=after, changes=_payout(after)).stepped(StepKind.CLOSED, context, by=by, details=details)
    told = {
        "channel_id": channel.id,
        "cause": cause,
        "final_balance_a": final_a,
        "final_balance_b": final_b,
        "closed_at": after.closed_at,
        "channel": snapshot(moved.channel, context.market),
    }
    return moved.telling(Broadcast(channel.topic, "channel_closed", told))


def voided(channel: PaymentChannel, context: Context, *, reason: str, by: str | None, text: str | None = None) -> Moved:
    """The channel without its pending proposal, if it has one: the nonce is used up, so it can never be executed.

    Args:
        channel: Any.
        context: The clock.
        reason: Why, one word.
        by: The agent that did it; None for the clock.
        text: What it said.
    """
    proposal = channel.pending_proposal
    if proposal is None:
        return Moved(channel=channel)
    after = moved_on(channel, last_nonce=proposal.nonce, pending_proposal=None)
    details = {**_of_transfer(proposal), "memo": proposal.memo, "signature": proposal.signature}
    moved = Moved(channel=after).stepped(
        StepKind.VOIDED, context, by=by, details={**details, "reason": reason, "text": text}
    )
    told = {
        "channel_id": channel.id,
        "nonce": proposal.nonce,
        "amount": proposal.amount,
        "from_agent_id": proposal.from_agent_id,
        "agent_id": by,
        "reason": reason,
        "text": text,
        "last_nonce": after.last_nonce,
        "next_nonce": after.last_nonce + 1,
    }
    return moved.telling(Broadcast(channel.topic, "transfer_voided", told))


def transferred(
    channel: PaymentChannel, transfer: SignedTransfer, context: Context, *, by: str, memo: str | None = None
) -> Moved:
    """The channel after a transfer that both have signed."""
    after = moved_on(
        channel,
        last_nonce=transfer.nonce,
        balance_a=transfer.balance_a,
        balance_b=transfer.balance_b,
        last_transfer=transfer,
        pending_proposal=None,
        deposited_since_a=0,
        deposited_since_b=0,
    )
    assert after.total == channel.total, "a transfer only moves what is there"
    signatures = {"signature_a": transfer.signature_a, "signature_b": transfer.signature_b}
    details = {**_of_transfer(transfer), "memo": memo, **signatures}
    return Moved(channel=after).stepped(StepKind.TRANSFER, context, by=by, details=details)


def moved_on(channel: PaymentChannel, **changed: Any) -> PaymentChannel:
    """The channel with another last nonce: what was signed for the one before is worth nothing now."""
    return msgspec.structs.replace(channel, close_requests=(), before_deposit=None, **changed)


def force_closed(channel: PaymentChannel, context: Context, *, by: str | None, reason: str = "force_close") -> Moved:
    """A channel whose balances are paid out when its window is over; a disputed one stays so meanwhile."""
    ends_at = context.now + timedelta(seconds=channel.window_s)
    moved = voided(channel, context, reason=reason, by=by)
    closing = Closing(by=by, began_at=context.now, ends_at=ends_at)
    status = Phase.DISPUTED if channel.status is Phase.DISPUTED else Phase.CLOSING
    after = msgspec.structs.replace(moved.channel, status=status, closing=closing)
    details = {"ends_at": ends_at}
    moved = Moved(channel=after, changes=moved.changes, told=moved.told)
    moved = moved.stepped(StepKind.FORCE_CLOSE, context, by=by, details=details)
    return moved.telling(updated(moved.channel, context, "force_close"))


def revoked(channel: PaymentChannel, context: Context, *, cause: Cause) -> Decision:
    """What the end of a contact, or a ban, does to a channel of the two.

    One that is not open yet never will be; but if it may once have been, and this server has lost that, it waits. Of
    the others a pending proposal is voided, and from then on they are only handed in to, disputed and closed; a ban
    force-closes them at once.
    """
    moved = by_the_clock(channel, context)
    now = moved.channel
    if now.status is Phase.PENDING and now.state_lost is None and not is_awaited(now, context):
        moved = moved.then(lambda it: never_opened(it, context, StepKind.DECLINED, cause=cause, by=None))
    elif now.status in LIVE or (now.status is Phase.PENDING and is_awaited(now, context)):
        moved = moved.then(lambda it: _restricted(it, context, reason=cause))
    if cause is Cause.BANNED and _is_closable(moved.channel):
        moved = moved.then(lambda it: force_closed(it, context, by=None, reason=cause))
    return decided(channel, moved, context)


def _is_closable(channel: PaymentChannel) -> bool:
    """Whether a ban begins the window; of a disputed channel it runs beside the dispute."""
    return channel.status in {Phase.OPEN, Phase.DISPUTED} and channel.closing is None and channel.state_lost is None


def _restricted(channel: PaymentChannel, context: Context, *, reason: str) -> Moved:
    if channel.is_revoked:
        return Moved(channel=channel)
    moved = voided(channel, context, reason=reason, by=None)
    after = msgspec.structs.replace(moved.channel, is_revoked=True)
    moved = Moved(channel=after, changes=moved.changes, told=moved.told)
    moved = moved.stepped(StepKind.REVOKED, context, by=None)
    return moved.telling(updated(moved.channel, context, "revoked"))


def _of_transfer(transfer: Proposal | SignedTransfer) -> dict[str, Any]:
    names = ("nonce", "amount", "from_agent_id", "to_agent_id", "task_id")
    return {name: getattr(transfer, name) for name in names}


def _payout(channel: PaymentChannel) -> tuple[Change, ...]:
    assert channel.final_balance_a is not None, "it has ended"
    assert channel.final_balance_b is not None, "it has ended"
    return unlock(
        channel_id=channel.id,
        agent_a_id=channel.agent_a_id,
        final_a=channel.final_balance_a,
        agent_b_id=channel.agent_b_id,
        final_b=channel.final_balance_b,
    )

"""How a payment channel comes about, and what is put into it: by REST, and announced on the wire.

open ─► PENDING ──── accept ─────────────────────────► OPEN
├──────── decline, cancel, a revocation ──► DECLINED   refunded
└──────── the clock ──────────────────────► EXPIRED    refunded
"""

from datetime import timedelta

import msgspec

from channels.agents import Agent, require_active
from channels.changes import Insert, Mail, Spend
from channels.channel_steps import StepKind
from channels.contacts import Kind, require_price_in_scope
from channels.errors import Conflict, Expired, Forbidden, Invalid
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.ledger import lock
from channels.negotiation import require_text
from channels.opening import Opening, require_partner, require_room
from channels.payment_moves import (
    Moved,
    awaited_until,
    by_the_clock,
    decided,
    due_at,
    is_awaited,
    never_opened,
    updated,
)
from channels.payment_rules import (
    require_mode,
    require_nothing_pending,
    require_open,
    require_tradable,
    require_unended,
    require_unfrozen,
)
from channels.payment_state import (
    Cause,
    ChannelFacts,
    Mode,
    PaymentChannel,
    Phase,
    require_party,
)


class OpenChannel(msgspec.Struct, frozen=True, kw_only=True):
    """Open a channel with a counterparty.

    Args:
        deposit: Of the opener, in minor units; at least 1.
        mode: Fixed for good.
        window_s: What a force-close waits, 24 hours to 7 days; 24 hours unless given.
    """

    counterparty_agent_id: str
    deposit: int
    mode: Mode = Mode.ONLINE
    window_s: int | None = None


class Acceptance(msgspec.Struct, frozen=True, kw_only=True):
    """Accept a channel. `deposit`: the counterparty's own, in minor units; 0 for none."""

    deposit: int = 0


class DeclineChannel(msgspec.Struct, frozen=True, kw_only=True):
    """Decline a channel; `reason` is told to the opener."""

    reason: str = ""


class MakeDeposit(msgspec.Struct, frozen=True, kw_only=True):
    """Put `amount` more minor units into one's own side."""

    amount: int


class AcceptanceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an acceptance rests on: the channel and its two agents."""

    channel: PaymentChannel | None
    agents: tuple[Agent, ...] = ()


def open_channel(opening: Opening, request: OpenChannel, context: Context) -> Decision:
    """Open a channel and lock the opener's deposit; the counterparty gets a stored message of it.

    Raises:
        Invalid: `same_agent`, `amount_out_of_range`, `window_out_of_range`.
        NotFound: `not_found`.
        Forbidden: `contact_required`, `contact_scope_exceeded`.
        Conflict: `blocked_by_you`, `public_key_required`, `agent_unavailable`, `too_many_open`, `spend_cap_exceeded`,
            `insufficient_balance`, `mailbox_full`.
    """
    limits = context.market.limits
    window_s = limits.window_default_s if request.window_s is None else request.window_s
    if not limits.window_min_s <= window_s <= limits.window_max_s:
        raise Invalid(
            "window_out_of_range",
            f"A force-close waits {limits.window_min_s} to {limits.window_max_s} seconds.",
            window_min_s=limits.window_min_s,
            window_max_s=limits.window_max_s,
        )
    _require_amount(request.deposit, minimum=1)
    counterparty = require_partner(opening, kind=Kind.PAYMENT_CHANNEL, keys=True)
    require_room(opening.open_count, open_max=limits.channels_open_max)
    require_price_in_scope(request.deposit, opening.max_price)
    opener = opening.client
    assert opener.public_key is not None, "require_partner has checked both keys"
    assert counterparty.public_key is not None, "require_partner has checked both keys"
    channel = PaymentChannel(
        id=context.new_id(),
        mode=request.mode,
        window_s=window_s,
        agent_a_id=opener.id,
        agent_b_id=counterparty.id,
        public_key_a=opener.public_key,
        public_key_b=counterparty.public_key,
        deposit_a=request.deposit,
        deposited_since_a=request.deposit,
        balance_a=request.deposit,
        max_price=opening.max_price,
        created_at=context.now,
        expires_at=context.now + timedelta(seconds=limits.channel_ttl_s),
    )
    moved = Moved(channel=channel).stepped(StepKind.OPENED, context, by=opener.id, details={"deposit": request.deposit})
    moved = moved.with_changes(
        Spend(request.deposit),
        *lock(channel_id=channel.id, agent_id=opener.id, amount=request.deposit),
        Mail(counterparty.id, "payment_channel", _announced(channel, opener.handle), opener.id),
    )
    opened = msgspec.structs.replace(moved.channel, clock_at=channel.expires_at)
    decision = decided(None, moved, context)
    return msgspec.structs.replace(decision, changes=(Insert("payment", channel.id, opened), *decision.changes))


def accept_channel(facts: AcceptanceFacts, request: Acceptance, context: Context) -> Decision:
    """Accept a channel with one's own deposit; only its counterparty may. It is open from now on.

    Raises:
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Invalid: `amount_out_of_range`.
        Conflict: `terminal_state`, `channel_not_pending`, `state_lost`, `contact_revoked`, `agent_unavailable`,
            `spend_cap_exceeded`, `insufficient_balance`, `mailbox_full`.
        Expired: `expired`.
    """
    channel = require_party(facts.channel, context)
    agent_id = _require_counterparty(channel, context)
    _require_amount(request.deposit, minimum=0)
    if channel.accepted_at is not None and channel.status is Phase.OPEN and channel.deposit_b == request.deposit:
        return decided(channel, Moved(channel=channel), context, duplicate=True)
    _require_pending(channel, context)
    require_tradable(channel)
    for agent in facts.agents:
        require_active(agent)
    after = msgspec.structs.replace(
        channel,
        status=Phase.OPEN,
        accepted_at=context.now,
        deposit_b=request.deposit,
        deposited_since_b=request.deposit,
        balance_b=request.deposit,
    )
    moved = Moved(channel=after).stepped(StepKind.ACCEPTED, context, by=agent_id, details={"deposit": request.deposit})
    spent = (Spend(request.deposit),) if request.deposit else ()
    moved = moved.with_changes(
        *spent,
        *lock(channel_id=channel.id, agent_id=agent_id, amount=request.deposit),
        _answered(moved.channel),
    )
    return decided(channel, moved.telling(updated(moved.channel, context, "accepted")), context)


def decline_channel(facts: ChannelFacts, request: DeclineChannel, context: Context) -> Decision:
    """Decline a channel; only its counterparty may. The opener has its deposit back.

    Raises:
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Invalid: `invalid_payload`: a reason has at most 2,000 characters.
        Conflict: `terminal_state`, `channel_not_pending`, `state_lost`, `recently_restored`, `mailbox_full`.
        Expired: `expired`.
    """
    require_text("reason", request.reason, context.market)
    channel = require_party(facts.channel, context)
    agent_id = _require_counterparty(channel, context)
    if channel.cause is Cause.DECLINED and channel.reason == request.reason:
        return decided(channel, Moved(channel=channel), context, duplicate=True)
    _require_pending(channel, context)
    _require_not_awaited(channel, context)
    moved = never_opened(channel, context, StepKind.DECLINED, cause=Cause.DECLINED, by=agent_id, reason=request.reason)
    return decided(channel, moved.with_changes(_answered(moved.channel)), context)


def cancel_channel(facts: ChannelFacts, _request: Empty, context: Context) -> Decision:
    """Take a channel back that nobody has accepted yet; only its opener may, and has its deposit back.

    Raises:
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `terminal_state`, `channel_not_pending`, `state_lost`, `recently_restored`.
        Expired: `expired`.
    """
    channel = require_party(facts.channel, context)
    if context.sender.agent_id != channel.agent_a_id:
        raise Forbidden("forbidden_role", "Only the opener takes a channel back; decline it instead.", role="opener")
    if channel.cause is Cause.CANCELLED:
        return decided(channel, Moved(channel=channel), context, duplicate=True)
    _require_pending(channel, context)
    _require_not_awaited(channel, context)
    moved = never_opened(channel, context, StepKind.CANCELLED, cause=Cause.CANCELLED, by=channel.agent_a_id)
    return decided(channel, moved, context)


def make_deposit(facts: ChannelFacts, request: MakeDeposit, context: Context) -> Decision:
    """Put more into one's own side of an open online channel, while nothing is pending. The nonce stays.

    Raises:
        NotFound: `not_found`.
        Invalid: `amount_out_of_range`.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `wrong_mode`, `contact_revoked`,
            `transfer_pending`, `spend_cap_exceeded`, `insufficient_balance`.
        Forbidden: `contact_scope_exceeded`.
    """
    channel = require_party(facts.channel, context)
    agent_id = context.sender.require_agent()
    _require_amount(request.amount, minimum=1)
    moved = by_the_clock(channel, context)
    now = moved.channel
    require_unfrozen(now)
    require_open(now)
    require_mode(now, Mode.ONLINE)
    require_tradable(now)
    require_nothing_pending(now)
    if agent_id == now.agent_a_id:
        require_price_in_scope(now.deposit_a + request.amount, now.max_price)
    return decided(channel, moved.then(lambda it: _deposited(it, agent_id, request.amount, context)), context)


def _deposited(channel: PaymentChannel, agent_id: str, amount: int, context: Context) -> Moved:
    side = channel.side(agent_id)
    raised = {
        f"{name}_{side}": getattr(channel, f"{name}_{side}") + amount
        for name in ("deposit", "deposited_since", "balance")
    }
    before = (channel.balance_a, channel.balance_b)
    after = msgspec.structs.replace(channel, before_deposit=before, close_requests=(), **raised)
    moved = Moved(channel=after).stepped(StepKind.DEPOSIT, context, by=agent_id, details={"amount": amount})
    moved = moved.with_changes(Spend(amount), *lock(channel_id=channel.id, agent_id=agent_id, amount=amount))
    return moved.telling(updated(moved.channel, context, "deposit"))


def _require_counterparty(channel: PaymentChannel, context: Context) -> str:
    if context.sender.agent_id != channel.agent_b_id:
        raise Forbidden("forbidden_role", "Only the counterparty accepts or declines a channel.", role="counterparty")
    return channel.agent_b_id


def _require_pending(channel: PaymentChannel, context: Context) -> None:
    due = due_at(channel, context.market) if channel.status is Phase.PENDING else None
    if channel.status is Phase.EXPIRED or (due is not None and context.now >= due):
        raise Expired("expired", "This payment channel has expired; open another one.", expired_at=channel.expires_at)
    require_unfrozen(channel)
    require_unended(channel)
    if channel.status is not Phase.PENDING:
        raise Conflict("channel_not_pending", "This payment channel has been accepted already.", status=channel.status)


def _require_not_awaited(channel: PaymentChannel, context: Context) -> None:
    """Refuse to end a channel that may have been accepted before the market was restored from a backup.

    Raises:
        Conflict: `recently_restored`, with the time until which who knows more is waited for.
    """
    if is_awaited(channel, context):
        raise Conflict(
            "recently_restored",
            "This server was restored from a backup: the channel may have been accepted since that was made. Accept it,"
            " or wait.",
            until=awaited_until(channel, context.market),
        )


def _require_amount(amount: int, *, minimum: int) -> None:
    if amount < minimum:
        raise Invalid("amount_out_of_range", f"A deposit is at least {minimum} minor units.", minimum=minimum)


def _announced(channel: PaymentChannel, opener_handle: str) -> dict[str, object]:
    return {
        "channel_id": channel.id,
        "topic": channel.topic,
        "status": channel.status,
        "agent_a_id": channel.agent_a_id,
        "agent_a_handle": opener_handle,
        "deposit": channel.deposit_a,
        "mode": channel.mode,
        "window_s": channel.window_s,
        "expires_at": channel.expires_at,
    }


def _answered(channel: PaymentChannel) -> Mail:
    told = {
        "channel_id": channel.id,
        "topic": channel.topic,
        "status": channel.status,
        "agent_b_id": channel.agent_b_id,
        "deposit": channel.deposit_b,
        "reason": channel.reason,
    }
    return Mail(channel.agent_a_id, "payment_channel", told, channel.agent_b_id)


OPEN = Handler(OpenChannel, open_channel, loads="channel_opening", access=Access.WRITE, scope="payments")
ACCEPT = Handler(Acceptance, accept_channel, loads="payment_accepting", access=Access.WRITE, scope="payments")
DECLINE = Handler(DeclineChannel, decline_channel, loads="payment", access=Access.WRITE, scope="payments")
CANCEL = Handler(Empty, cancel_channel, loads="payment", access=Access.WRITE, scope="payments")
DEPOSIT = Handler(MakeDeposit, make_deposit, loads="payment", access=Access.WRITE, scope="payments")

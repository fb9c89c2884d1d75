"""Disputes of a payment channel, lost states, and what an operator decides.

    OPEN, CLOSING ── dispute ─► DISPUTED ──┬── close ─────────────────────► CLOSED   as both have signed
                        │                  ├── the operator ──────────────► CLOSED   as decided
                        │                  ├── the clock ─────────────────► CLOSED   by the balances
                        │                  └── withdraw_dispute ──────────► as before
                        └── with evidence.transfers (offline mode) ───────► as before, those applied

Why each party may dispute once: so that nobody holds the other's money by disputing for ever. Why the clock pays the
balances out: they rest on two signatures each, so a dispute without more gains nothing.

In offline mode a dispute never ends before the window would in which a chain may still be handed in: else whoever
disputes would cut the other's time short.
"""

from datetime import timedelta
from typing import Any, Final, cast

import msgspec

from channels.channel_steps import StepKind
from channels.errors import Conflict, Forbidden, not_found
from channels.fields import invalid_payload, parse_text
from channels.handlers import Context, Decision
from channels.negotiation import require_text
from channels.payment_chain import DoublySigned, handed_in
from channels.payment_moves import Moved, by_the_clock, decided, moved_on, paid_out, voided
from channels.payment_rules import require_finals, require_unended, require_unfrozen
from channels.payment_state import (
    Cause,
    ChannelFacts,
    Dispute,
    Mode,
    PaymentChannel,
    Phase,
    StateLost,
    require_party,
    snapshot,
)
from channels.told import Broadcast
from crypto import BadDocument, canonical_json

DISPUTABLE: Final = frozenset({Phase.OPEN, Phase.CLOSING})
STATE_LOST: Final = "state_lost"
"""What both parties are told, and the operator, when this server is found to have lost states."""


class OpenDispute(msgspec.Struct, frozen=True, kw_only=True):
    """Freeze a channel.

    Args:
        reason: At most 2,000 characters.
        evidence: JSON whose only numbers are integers, at most 64 KiB; in offline mode its `transfers` are handed in.
    """

    reason: str
    evidence: Any = None


class DecideChannel(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's decision: what each is paid, in minor units, and why (1-2,000 characters)."""

    final_balance_a: int
    final_balance_b: int
    reason: str


def dispute(facts: ChannelFacts, request: OpenDispute, context: Context) -> Decision:
    """Freeze an open or closing channel. A pending proposal is voided.

    With `evidence.transfers` in offline mode the dispute is settled at once: they are applied like a chain that is
    handed in, and the channel is as before.

    Raises:
        Invalid: `invalid_payload`, `bad_transfer`.
        NotFound: `not_found`.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `dispute_used`, `nonce_replayed`.
    """
    require_text("reason", request.reason, context.market)
    _require_evidence(request.evidence, context)
    channel = require_party(facts.channel, context)
    agent_id = context.sender.require_agent()
    if _is_repeated(channel, request, agent_id):
        return decided(channel, Moved(channel=channel), context, duplicate=True)
    moved = by_the_clock(channel, context)
    require_unfrozen(moved.channel)
    require_unended(moved.channel)
    if moved.channel.status not in DISPUTABLE:
        status = moved.channel.status
        raise Conflict("channel_not_open", f"This payment channel is {status}.", status=status)
    if agent_id in moved.channel.disputes_used:
        raise Conflict("dispute_used", "Each party disputes a channel once; yours is used.")
    chain = _evident_transfers(moved.channel, request)
    ends_at = _ends_at(moved.channel, context)
    moved = moved.then(lambda it: voided(it, context, reason="dispute", by=agent_id))
    moved = moved.then(lambda it: _disputed(it, request, context, ends_at=ends_at))
    if chain is not None:
        moved, _ = handed_in(moved, facts, chain, context)
        moved = moved.then(lambda it: _resumed(it, context, StepKind.DISPUTE_SETTLED))
    told = {
        "channel_id": channel.id,
        "agent_id": agent_id,
        "reason": request.reason,
        "evidence": request.evidence,
        "ends_at": ends_at,
        "is_settled": chain is not None,
        "channel": snapshot(moved.channel, context.market),
    }
    return decided(channel, moved.telling(Broadcast(channel.topic, "dispute", told)), context)


def withdraw_dispute(facts: ChannelFacts, _request: Any, context: Context) -> Decision:
    """Take one's dispute back: the channel is as before, and pays at once where its window has run out meanwhile.

    Raises:
        NotFound: `not_found`.
        Conflict: `terminal_state`, `not_disputed`.
        Forbidden: `forbidden_role`: it is the other party's.
    """
    channel = require_party(facts.channel, context)
    moved = by_the_clock(channel, context)
    disputed = moved.channel
    require_unended(disputed)
    if disputed.dispute is None:
        raise Conflict("not_disputed", "This payment channel is not disputed.", status=disputed.status)
    agent_id = context.sender.require_agent()
    if disputed.dispute.agent_id != agent_id:
        raise Forbidden("forbidden_role", "Only who has opened a dispute withdraws it.", role="disputer")
    moved = moved.then(lambda it: _resumed(it, context, StepKind.DISPUTE_WITHDRAWN))
    told = {"channel_id": channel.id, "agent_id": agent_id, "channel": snapshot(moved.channel, context.market)}
    moved = moved.telling(Broadcast(channel.topic, "withdraw_dispute", told))
    return decided(channel, moved.then(lambda it: by_the_clock(it, context)), context)


def decide_channel(facts: ChannelFacts, request: DecideChannel, context: Context) -> Decision:
    """Pay a disputed channel out as an operator decides, or one that states were lost of.

    Raises:
        Invalid: `invalid_payload`, `amount_out_of_range`, `sum_mismatch`.
        NotFound: `not_found`.
        Conflict: `terminal_state`, `not_disputed`.
    """
    reason = parse_text(request.reason, field="reason", chars_max=context.market.limits.text_chars_max)
    channel = facts.channel
    if channel is None:
        raise not_found("payment channel")
    finals = (request.final_balance_a, request.final_balance_b)
    if channel.cause is Cause.OPERATOR and (channel.final_balance_a, channel.final_balance_b) == finals:
        return decided(channel, Moved(channel=channel), context, duplicate=True)
    moved = by_the_clock(channel, context)
    require_unended(moved.channel)
    if moved.channel.status is not Phase.DISPUTED and moved.channel.state_lost is None:
        raise Conflict(
            "not_disputed",
            "Only a disputed channel is decided, or one that states were lost of.",
            status=moved.channel.status,
        )
    require_finals(moved.channel, *finals)
    moved = moved.then(lambda it: paid_out(it, context, cause=Cause.OPERATOR, finals=finals, reason=reason))
    return decided(channel, moved, context)


def frozen(channel: PaymentChannel, lost: StateLost, context: Context) -> Moved:
    """The channel once it is known that this server has lost states of it.

    Nothing but a joint close or an operator's decision ends it, however long that takes. The nonces up to the lost one
    count as used: so a close that one party has signed before it, in the lost past, does not end it now.
    """
    moved = voided(channel, context, reason="state_lost", by=None)
    after = moved_on(moved.channel, last_nonce=max(moved.channel.last_nonce, lost.nonce), state_lost=lost)
    details = msgspec.structs.asdict(lost)
    del details["reported_by"], details["reported_at"]
    moved = Moved(channel=after, changes=moved.changes, told=moved.told)
    moved = moved.stepped(StepKind.STATE_LOST, context, by=lost.reported_by, details=details)
    told = {
        "channel_id": channel.id,
        "known_nonce": lost.nonce,
        "last_nonce": moved.channel.last_nonce,
        "channel": snapshot(moved.channel, context.market),
    }
    return moved.telling(Broadcast(channel.topic, STATE_LOST, told))


def _require_evidence(evidence: Any, context: Context) -> None:
    """Refuse evidence that is too large, or that could not stand in a history that others verify.

    Raises:
        Invalid: `invalid_payload`.
    """
    bytes_max = context.market.limits.evidence_bytes_max
    try:
        size = len(canonical_json(evidence))
    except BadDocument as error:
        raise invalid_payload("evidence", str(error)) from error
    if size > bytes_max:
        raise invalid_payload("evidence", f"Evidence has at most {bytes_max} bytes; hand in a longer chain in parts.")


def _is_repeated(channel: PaymentChannel, request: OpenDispute, agent_id: str) -> bool:
    now = channel.dispute
    if now is None or (now.agent_id, now.reason) != (agent_id, request.reason):
        return False
    return canonical_json(now.evidence) == canonical_json(request.evidence)  # Python takes true for 1.


def _ends_at(channel: PaymentChannel, context: Context) -> Any:
    ends_at = context.now + timedelta(seconds=context.market.limits.dispute_window_s)
    if channel.mode is Mode.ONLINE:
        return ends_at
    if channel.closing is not None:
        return max(ends_at, channel.closing.ends_at)
    return max(ends_at, context.now + timedelta(seconds=channel.window_s))


def _disputed(channel: PaymentChannel, request: OpenDispute, context: Context, *, ends_at: Any) -> Moved:
    agent_id = context.sender.require_agent()
    opened = Dispute(
        agent_id=agent_id,
        reason=request.reason,
        evidence=request.evidence,
        opened_at=context.now,
        ends_at=ends_at,
    )
    after = msgspec.structs.replace(
        channel, status=Phase.DISPUTED, dispute=opened, disputes_used=(*channel.disputes_used, agent_id)
    )
    details = {"reason": request.reason, "evidence": request.evidence, "ends_at": ends_at}
    return Moved(channel=after).stepped(StepKind.DISPUTE, context, by=agent_id, details=details)


def _resumed(channel: PaymentChannel, context: Context, kind: StepKind) -> Moved:
    """A disputed channel as it was before."""
    status = Phase.OPEN if channel.closing is None else Phase.CLOSING
    after = msgspec.structs.replace(channel, status=status, dispute=None)
    return Moved(channel=after).stepped(kind, context, by=context.sender.agent_id)


def _evident_transfers(channel: PaymentChannel, request: OpenDispute) -> tuple[DoublySigned, ...] | None:
    """The transfers that are evidence; None where there are none.

    Raises:
        Invalid: `invalid_payload`: they are not what submit_transfers takes.
    """
    evidence = request.evidence
    if channel.mode is not Mode.OFFLINE or not isinstance(evidence, dict) or "transfers" not in evidence:
        return None
    try:
        return msgspec.convert(cast("dict[str, Any]", evidence)["transfers"], tuple[DoublySigned, ...])
    except msgspec.ValidationError as error:
        raise invalid_payload("evidence.transfers", f"Not what submit_transfers takes: {error}.") from error

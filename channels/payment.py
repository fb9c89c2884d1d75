"""payment:{channel_id}: two agents pay each other in small, doubly signed steps out of money that is locked.

Who may join: the channel's two parties. Ended channels may be joined to read.

    open ─► PENDING ── accept ─► OPEN ────── force-close ───► CLOSING ── the window is over ─► CLOSED   by the balances
               │                  │ ▲                           │ ▲
               │                  ▼ │                           ▼ │
               │                DISPUTED (once a party) ────────────── the clock ────────────► CLOSED   by the balances
               │                                                   └── an operator ──────────► CLOSED   as decided
               │                OPEN, CLOSING, DISPUTED ───── close ─────────────────────────► CLOSED   as both signed
               ├── decline, cancel ─► DECLINED
               └── the clock ───────► EXPIRED

    transfer (online)    propose_transfer ─► pending ──┬── acknowledge_transfer ─► executed
                                                       └── reject_transfer, the clock, a dispute, … ─► voided

A nonce is strictly the last one plus one, and is used up however a proposal ends: so a signature that was refused can
never be executed later, and the log has no gaps. Offline channels know no proposals: two agents exchange doubly signed
transfers over any medium, and either hands the chain in (payment_chain.py).

Why the modes do not mix: whoever could use up a nonce here alone could void a transfer that was signed elsewhere.

What a channel is stands in payment_state.py, how it is opened in payment_opening.py, what an event is made of in
payment_moves.py, what a client knows better in payment_known.py, and how a dispute ends in payment_disputes.py.
"""

from datetime import timedelta
from typing import Any

import msgspec

from channels.channel_steps import ChannelStep, StepKind
from channels.errors import Conflict, Forbidden, not_found
from channels.fields import invalid_payload
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.negotiation import require_text
from channels.payment_chain import SubmitTransfers, submit_transfers
from channels.payment_disputes import OpenDispute, dispute, frozen, withdraw_dispute
from channels.payment_known import Known, lost_state, missing_states, signed_state, terms_of
from channels.payment_moves import Moved, by_the_clock, decided, force_closed, paid_out, transferred, voided
from channels.payment_proofs import (
    require_close_signature,
    require_transfer_signature,
    transfer_terms,
)
from channels.payment_rules import (
    require_amount,
    require_finals,
    require_live,
    require_mode,
    require_nothing_pending,
    require_open,
    require_tradable,
    require_unfrozen,
)
from channels.payment_state import (
    CLOCK,
    Cause,
    ChannelFacts,
    CloseRequest,
    Mode,
    PaymentChannel,
    Phase,
    Proposal,
    SignedTransfer,
    require_party,
)
from channels.stream_price import paid_by
from channels.told import Audience, Broadcast
from crypto import NonceGap, NonceReplayed, require_next_nonce

TOPIC = "payment:*"


class JoinChannel(msgspec.Struct, frozen=True, kw_only=True):
    """Join. `known`: what the client has kept; null or absent: nothing is asked for."""

    known: Known | None = None


class ProposeTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """Pay the other party. `memo`: for people, at most 200 characters, not signed; `task_id`: what it is for."""

    amount: int
    nonce: int
    signature: str
    memo: str | None = None
    task_id: str | None = None


class AcknowledgeTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """Confirm the proposed transfer: its amount, its nonce, and a signature over the same bytes."""

    amount: int
    nonce: int
    signature: str


class RejectTransfer(msgspec.Struct, frozen=True, kw_only=True):
    """Refuse the proposed transfer, or withdraw one's own. `nonce`, if given, must be its."""

    reason: str = ""
    nonce: int | None = None


class Close(msgspec.Struct, frozen=True, kw_only=True):
    """End the channel as both have signed: what each is paid, in minor units."""

    final_balance_a: int
    final_balance_b: int
    signature_a: str
    signature_b: str


class RequestClose(msgspec.Struct, frozen=True, kw_only=True):
    """Offer a close, signed by oneself, for the other party to answer with `close`."""

    final_balance_a: int
    final_balance_b: int
    signature: str


def access(sender: Identity, topic_id: str) -> None:
    """Only agents join; whether this one is a party, the join decides."""
    del topic_id
    sender.require_agent()


def join(facts: ChannelFacts, request: JoinChannel, context: Context) -> Decision:
    """The whole channel, also once it has ended; and for who says what it knows, the signed states that it lacks.

    A doubly signed state that this server should have, and has not, freezes an online channel: the server has been
    restored from an older copy. It is never rolled back silently.

    Raises:
        NotFound: `not_found`.
        Invalid: `invalid_payload`, `invalid_signature`: what is said to be known is not proved.
    """
    channel = require_party(facts.channel, context)
    moved = by_the_clock(channel, context)
    known = request.known
    if known is None:
        return decided(channel, moved, context)
    lost = lost_state(moved.channel, channel, facts, known, context)
    if lost is not None:
        moved = moved.then(lambda it: frozen(it, lost, context))
    return decided(channel, moved, context, **missing_states(facts, known, context))


def propose_transfer(facts: ChannelFacts, request: ProposeTransfer, context: Context) -> Decision:
    """Propose to pay the other party; the proposer is the payer. It stands for 5 minutes.

    Raises:
        NotFound: `not_found`: no such channel, or no such task of the two.
        Invalid: `invalid_payload`: the memo is too long; `amount_out_of_range`; `invalid_signature`.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `wrong_mode`, `contact_revoked`,
            `transfer_pending`, `nonce_replayed`, `nonce_gap`, `insufficient_channel_balance`, `stale_state`.
    """
    _require_memo(request.memo, context)
    channel = require_party(facts.channel, context)
    agent_id = context.sender.require_agent()
    outcome = _outcome_of_proposal(channel, facts, request, agent_id)
    if outcome is not None:
        return decided(channel, Moved(channel=channel), context, duplicate=True, outcome=outcome)
    moved = by_the_clock(channel, context)
    now = moved.channel
    require_unfrozen(now)
    require_open(now)
    require_mode(now, Mode.ONLINE)
    require_tradable(now)
    require_nothing_pending(now)
    _require_next(now, request.nonce)
    require_amount(now, agent_id, request.amount)
    if request.task_id is not None:
        _require_task(facts, now)
    terms = transfer_terms(
        now, nonce=request.nonce, amount=request.amount, from_agent_id=agent_id, task_id=request.task_id
    )
    require_transfer_signature(now, agent_id, terms=terms, signature=request.signature, market=context.market)
    proposal = Proposal(
        **msgspec.structs.asdict(terms),
        to_agent_id=now.other(agent_id),
        memo=request.memo,
        signature=request.signature,
        proposed_at=context.now,
        expires_at=context.now + timedelta(seconds=context.market.limits.proposal_ttl_s),
    )
    after = msgspec.structs.replace(now, pending_proposal=proposal)
    relayed = {"channel_id": channel.id, **msgspec.structs.asdict(proposal)}
    told = Broadcast(channel.topic, "propose_transfer", relayed, Audience.OTHER_AGENTS)
    return decided(channel, moved.then(lambda _: Moved(channel=after, told=(told,))), context)


def acknowledge_transfer(facts: ChannelFacts, request: AcknowledgeTransfer, context: Context) -> Decision:
    """Confirm the proposed transfer and move its amount between the two balances; only who is paid may.

    Amount and nonce repeat the proposal exactly, so that both signatures cover the same bytes. Where it is for a task
    that is paid as it streams over this channel, the task is paid so far in the same transaction.

    Raises:
        NotFound: `not_found`.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `wrong_mode`, `nonce_replayed`,
            `no_pending_transfer`, `proposal_mismatch`, `stale_state`.
        Forbidden: `forbidden_role`: the payer cannot.
        Invalid: `invalid_signature`.
    """
    channel = require_party(facts.channel, context)
    agent_id = context.sender.require_agent()
    outcome = _outcome_of_acknowledgement(channel, facts, request, agent_id)
    if outcome is not None:
        return decided(channel, Moved(channel=channel), context, duplicate=True, outcome=outcome)
    moved = by_the_clock(channel, context)
    now = moved.channel
    proposal = _require_pending(now, request.nonce)
    if proposal.from_agent_id == agent_id:
        raise Forbidden("forbidden_role", "The payer cannot acknowledge its own transfer.", role="payee")
    if (proposal.amount, proposal.nonce) != (request.amount, request.nonce):
        raise _mismatch(proposal)
    terms = terms_of(proposal)
    require_transfer_signature(now, agent_id, terms=terms, signature=request.signature, market=context.market)
    is_paid_by_a = now.side(proposal.from_agent_id) == "a"
    transfer = SignedTransfer(
        **msgspec.structs.asdict(terms),
        to_agent_id=agent_id,
        signature_a=proposal.signature if is_paid_by_a else request.signature,
        signature_b=request.signature if is_paid_by_a else proposal.signature,
        completed_at=context.now,
    )
    moved = moved.then(lambda it: transferred(it, transfer, context, by=agent_id, memo=proposal.memo))
    told = {"channel_id": channel.id, **msgspec.structs.asdict(transfer)}
    moved = moved.telling(Broadcast(channel.topic, "transfer_complete", told))
    paid = paid_by(transfer, facts.task, now)
    if paid is not None:
        saved, paid_told = paid
        moved = moved.with_changes(saved).telling(paid_told)
    return decided(channel, moved, context)


def reject_transfer(facts: ChannelFacts, request: RejectTransfer, context: Context) -> Decision:
    """Refuse the proposed transfer, or withdraw it. Its nonce is used up: it can never be executed.

    Raises:
        Invalid: `invalid_payload`: a reason has at most 2,000 characters.
        NotFound: `not_found`.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `wrong_mode`, `nonce_replayed`,
            `no_pending_transfer`, `proposal_mismatch`.
    """
    require_text("reason", request.reason, context.market)
    channel = require_party(facts.channel, context)
    agent_id = context.sender.require_agent()
    outcome = _outcome_of_rejection(facts, request, agent_id)
    if outcome is not None:
        return decided(channel, Moved(channel=channel), context, duplicate=True, outcome=outcome)
    moved = by_the_clock(channel, context)
    proposal = _require_pending(moved.channel, request.nonce)
    if request.nonce not in {None, proposal.nonce}:
        raise _mismatch(proposal)
    word = "withdrawn" if proposal.from_agent_id == agent_id else "rejected"
    rejected = voided(moved.channel, context, reason=word, by=agent_id, text=request.reason)
    relayed = Broadcast(channel.topic, "reject_transfer", rejected.told[-1].payload, Audience.OTHER_AGENTS)
    rejected = msgspec.structs.replace(rejected, told=(relayed,))
    return decided(channel, moved.then(lambda _: rejected), context)


def close(facts: ChannelFacts, request: Close, context: Context) -> Decision:
    """End the channel as both parties have signed, and pay both.

    The finals may differ from the balances: two signatures are agreement.

    Raises:
        NotFound: `not_found`.
        Conflict: `terminal_state`, `channel_not_open`, `transfer_pending`, `stale_state`.
        Invalid: `amount_out_of_range`, `sum_mismatch`, `invalid_signature` with the party's agent_id.
    """
    channel = require_party(facts.channel, context)
    finals, signatures = (request.final_balance_a, request.final_balance_b), (request.signature_a, request.signature_b)
    closed_with = (channel.close_signature_a, channel.close_signature_b)
    if closed_with == signatures and (channel.final_balance_a, channel.final_balance_b) == finals:
        return decided(channel, Moved(channel=channel), context, duplicate=True)
    moved = by_the_clock(channel, context)
    now = moved.channel
    _require_closable(now)
    require_finals(now, *finals)
    for agent_id, signature in zip((now.agent_a_id, now.agent_b_id), signatures, strict=True):
        require_close_signature(now, agent_id, finals=finals, signature=signature, market=context.market)
    by = context.sender.require_agent()
    moved = moved.then(
        lambda it: paid_out(it, context, cause=Cause.JOINT_CLOSE, by=by, finals=finals, signatures=signatures)
    )
    return decided(channel, moved, context)


def close_request(facts: ChannelFacts, request: RequestClose, context: Context) -> Decision:
    """Offer a close, which the other party can answer with `close` until the nonce moves.

    Raises:
        NotFound: `not_found`.
        Conflict: `terminal_state`, `channel_not_open`, `transfer_pending`, `stale_state`.
        Invalid: `amount_out_of_range`, `sum_mismatch`, `invalid_signature`.
    """
    channel = require_party(facts.channel, context)
    agent_id = context.sender.require_agent()
    moved = by_the_clock(channel, context)
    now = moved.channel
    _require_closable(now)
    finals = require_finals(now, request.final_balance_a, request.final_balance_b)
    own = next((one for one in now.close_requests if one.agent_id == agent_id), None)
    if own is not None and (own.final_balance_a, own.final_balance_b, own.signature) == (*finals, request.signature):
        return decided(channel, moved, context, duplicate=True)
    require_close_signature(now, agent_id, finals=finals, signature=request.signature, market=context.market)
    requested = CloseRequest(
        agent_id=agent_id,
        nonce=now.last_nonce,
        final_balance_a=finals[0],
        final_balance_b=finals[1],
        signature=request.signature,
        requested_at=context.now,
    )
    others = (one for one in now.close_requests if one.agent_id != agent_id)
    after = msgspec.structs.replace(now, close_requests=(*others, requested))
    asked = msgspec.structs.asdict(requested)
    details = {name: value for name, value in asked.items() if name not in {"agent_id", "requested_at"}}
    step = Moved(channel=after).stepped(StepKind.CLOSE_REQUEST, context, by=agent_id, details=details)
    told = Broadcast(channel.topic, "close_request", {"channel_id": channel.id, **asked}, Audience.OTHER_AGENTS)
    return decided(channel, moved.then(lambda _: step.telling(told)), context)


def force_close(facts: ChannelFacts, _request: Empty, context: Context) -> Decision:
    """Close without the other party: the balances are paid out when the window is over. By REST.

    Raises:
        NotFound: `not_found`.
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`.
    """
    channel = require_party(facts.channel, context)
    moved = by_the_clock(channel, context)
    if moved.channel.status is Phase.CLOSING:
        return decided(channel, moved, context, duplicate=True)
    require_unfrozen(moved.channel)
    require_open(moved.channel)
    agent_id = context.sender.require_agent()
    return decided(channel, moved.then(lambda it: force_closed(it, context, by=agent_id)), context)


def clock(facts: ChannelFacts, context: Context) -> Decision:
    """The timer: what is due happens, and the timer is armed for what is due next."""
    channel = facts.channel
    if channel is None:
        return Decision()
    moved = by_the_clock(msgspec.structs.replace(channel, clock_at=None), context)
    return decided(channel, moved, context)


def _outcome_of_proposal(
    channel: PaymentChannel, facts: ChannelFacts, request: ProposeTransfer, agent_id: str
) -> dict[str, Any] | None:
    """What became of the very same proposal before; None where it is a new one."""
    asked = (agent_id, request.amount, request.task_id, request.signature)
    pending = channel.pending_proposal
    if pending is not None and pending.nonce == request.nonce:
        has = (pending.from_agent_id, pending.amount, pending.task_id, pending.signature)
        return {"nonce": pending.nonce, "status": "pending"} if has == asked else None
    step = facts.used_at(request.nonce)
    if step is None:
        return None
    details = step.details
    payer = details["from_agent_id"]
    signature = details["signature"] if step.kind is StepKind.VOIDED else details[f"signature_{channel.side(payer)}"]
    has = (payer, details["amount"], details["task_id"], signature)
    return _outcome(step) if has == asked else None


def _outcome_of_acknowledgement(
    channel: PaymentChannel, facts: ChannelFacts, request: AcknowledgeTransfer, agent_id: str
) -> dict[str, Any] | None:
    step = facts.used_at(request.nonce)
    if step is None or step.kind is not StepKind.TRANSFER:
        return None
    details = step.details
    has = (details["to_agent_id"], details["amount"], details[f"signature_{channel.side(agent_id)}"])
    return _outcome(step) if has == (agent_id, request.amount, request.signature) else None


def _outcome_of_rejection(facts: ChannelFacts, request: RejectTransfer, agent_id: str) -> dict[str, Any] | None:
    step = facts.used_at(request.nonce)
    if step is None or step.kind is not StepKind.VOIDED:
        return None
    return _outcome(step) if (step.agent_id, step.details["text"]) == (agent_id, request.reason) else None


def _outcome(step: ChannelStep) -> dict[str, Any]:
    """How a proposal has ended, as it is told to who repeats what ended it."""
    if step.kind is StepKind.TRANSFER:
        return {"nonce": step.nonce, "status": "completed", **signed_state(step)}
    return {"nonce": step.nonce, "status": "voided", "reason": step.details["reason"], "text": step.details["text"]}


def _require_pending(channel: PaymentChannel, nonce: int | None) -> Proposal:
    """The pending proposal that an answer is for.

    Raises:
        Conflict: `state_lost`, `terminal_state`, `channel_not_open`, `wrong_mode`, `nonce_replayed`,
            `no_pending_transfer`.
    """
    require_unfrozen(channel)
    if not channel.is_final and nonce is not None and nonce <= channel.last_nonce:
        raise Conflict(
            "nonce_replayed",
            f"Nonce {nonce} is used up; {channel.last_nonce + 1} is next.",
            expected_nonce=channel.last_nonce + 1,
        )
    require_open(channel)
    require_mode(channel, Mode.ONLINE)
    if channel.pending_proposal is None:
        raise Conflict(
            "no_pending_transfer", "No transfer is proposed at present.", expected_nonce=channel.last_nonce + 1
        )
    return channel.pending_proposal


def _mismatch(proposal: Proposal) -> Conflict:
    return Conflict(
        "proposal_mismatch",
        f"Proposed is {proposal.amount} at nonce {proposal.nonce}.",
        expected_nonce=proposal.nonce,
        expected_amount=proposal.amount,
    )


def _require_next(channel: PaymentChannel, nonce: int) -> None:
    """Refuse a nonce that is not the next one.

    Raises:
        Conflict: `nonce_replayed`, `nonce_gap`, with the expected one.
    """
    try:
        require_next_nonce(last=channel.last_nonce, offered=nonce)
    except (NonceReplayed, NonceGap) as error:
        raise Conflict(error.reason, str(error), **error.context) from error


def _require_closable(channel: PaymentChannel) -> None:
    """Refuse a channel that cannot be closed jointly: one of lost states always can, unless it has ended."""
    if channel.is_final or channel.state_lost is None:
        require_live(channel)
    require_nothing_pending(channel)


def _require_task(facts: ChannelFacts, channel: PaymentChannel) -> None:
    task, parties = facts.task, {channel.agent_a_id, channel.agent_b_id}
    if task is None or {task.client_agent_id, task.provider_agent_id} != parties:
        raise not_found("task of the two")


def _require_memo(memo: str | None, context: Context) -> None:
    chars_max = context.market.limits.memo_chars_max
    if memo is not None and len(memo) > chars_max:
        raise invalid_payload("memo", f"A memo has at most {chars_max} characters.")


def _event(request: Any, decide: Any, loads: str, *, is_rehearsed: bool = False) -> Handler:
    return Handler(
        request,
        decide,
        loads=loads,
        access=Access.WRITE,
        scope="payments",
        rate="chain" if is_rehearsed else "control",
        is_rehearsed=is_rehearsed,
    )


ACCESS = access
JOIN = _event(JoinChannel, join, "payment_join")
HANDLERS = {
    "propose_transfer": _event(ProposeTransfer, propose_transfer, "payment_proposing"),
    "acknowledge_transfer": _event(AcknowledgeTransfer, acknowledge_transfer, "payment_acknowledging"),
    "reject_transfer": _event(RejectTransfer, reject_transfer, "payment_at_nonce"),
    "close": _event(Close, close, "payment"),
    "close_request": _event(RequestClose, close_request, "payment"),
    "dispute": _event(OpenDispute, dispute, "payment_disputing", is_rehearsed=True),
    "withdraw_dispute": _event(Empty, withdraw_dispute, "payment"),
    "submit_transfers": _event(SubmitTransfers, submit_transfers, "payment_handing_in", is_rehearsed=True),
}
FORCE_CLOSE = _event(Empty, force_close, "payment")
TIMERS = {CLOCK: clock}

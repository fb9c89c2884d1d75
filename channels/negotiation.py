"""negotiation:{session_id}: two agents bargain over a price with signed offers.

Who may join: the session's client and provider. Ended sessions may be joined to read.

              offer (alternating, either side opens)
                 ┌────┐
                 ▼    │
    open_negotiation ─► OPEN ──── accept, or an offer equal to the standing one ───► AGREED
                          ├────── reject ──────────────────────────────────────────► REJECTED
                          ├────── the clock ───────────────────────────────────────► EXPIRED
                          └────── a ban, a revoked contact ──────────────────────► CANCELLED

Why sides alternate, and why only the answering side may accept: otherwise a client bids 1 and accepts the midpoint
itself, binding the provider to a price it never saw. Each offer signs the digest of the offer it answers (the first one
the session digest), so whoever offers has signed knowing the midpoint it exposes itself to.

No money moves here. An agreement is consumed once, by the same client, creating a task within a day.
"""

from datetime import datetime, timedelta
from typing import Any

import msgspec

from channels.agents import PricingModel
from channels.changes import Insert, Mail, Timer
from channels.contacts import Kind, require_price_in_scope
from channels.deal_channels import deal_channel, lapses
from channels.errors import Conflict, Expired, Invalid
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.limits import Market
from channels.negotiation_proofs import expected_next, offer_bytes, require_accept_signature, require_offer_signature
from channels.negotiation_state import (
    EXPIRES,
    NegotiationSession,
    Offer,
    Phase,
    agreement_document,
    require_participant,
    signed_offers,
    snapshot,
)
from channels.opening import Opening, require_counterpart, require_room
from channels.told import Audience, Broadcast
from crypto import BadDocument, canonical_json, digest, session_message

__all__ = [
    "ACCESS",
    "EXPIRES",
    "HANDLERS",
    "JOIN",
    "TIMERS",
    "TOPIC",
    "Accept",
    "MakeOffer",
    "NegotiationSession",
    "Offer",
    "OpenNegotiation",
    "Phase",
    "Reject",
    "accept",
    "agreement_document",
    "expire",
    "join",
    "offer",
    "open_negotiation",
    "reject",
    "require_participant",
    "require_text",
    "snapshot",
]

TOPIC = "negotiation:*"


class OpenNegotiation(msgspec.Struct, frozen=True, kw_only=True):
    """Open a session with a provider.

    Args:
        terms: An object of JSON whose only numbers are integers, ≤ 16 KiB.
        private_channel: The two get a private channel of their own, until the session ends without an agreement, or
            the task ends that is made from it.
    """

    provider_agent_id: str
    capability: str
    terms: dict[str, Any] | None = None
    private_channel: bool = False


class MakeOffer(msgspec.Struct, frozen=True, kw_only=True):
    """Offer `amount` minor units. `round`, if given, must be the next one."""

    amount: int
    signature: str
    round: int | None = None


class Accept(msgspec.Struct, frozen=True, kw_only=True):
    """Accept at the midpoint of the two standing offers, `amount` minor units."""

    amount: int
    signature: str


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """End the session without an agreement; `reason` is told to the other side."""

    reason: str = ""


def open_negotiation(opening: Opening, request: OpenNegotiation, context: Context) -> Decision:
    """Open a session, and leave the provider a stored message of it.

    Source: 'open_negotiation' of agents:discovery, and its REST twin.

    Raises:
        Invalid: `invalid_terms`, `same_agent`.
        NotFound: `not_found`.
        Forbidden: `contact_required`, `contact_scope_exceeded`.
        Conflict: `blocked_by_you`, `public_key_required`, `agent_unavailable`, `capability_not_offered`,
            `pricing_model_fixed`, `free_agent`, `too_many_open`; once stored `mailbox_full`.
    """
    terms_digest = _terms_digest(request.terms, context.market)
    provider, price = require_counterpart(opening, kind=Kind.NEGOTIATION, capability=request.capability, keys=True)
    if provider.pricing_model is PricingModel.FIXED:
        raise Conflict("pricing_model_fixed", "This provider does not bargain; create a task at its list price.")
    if price == 0:
        raise Conflict("free_agent", "This capability is free; there is nothing to bargain about. Create a task.")
    limits = context.market.limits
    require_room(opening.open_count, open_max=limits.negotiations_open_max)
    session_id = context.new_id()
    client = opening.client
    assert client.public_key is not None, "require_counterpart has checked both keys"
    assert provider.public_key is not None, "require_counterpart has checked both keys"
    private_channel_id, made = deal_channel(
        is_wanted=request.private_channel,
        client_agent_id=client.id,
        provider_agent_id=provider.id,
        deal=f"negotiation:{session_id}",
        context=context,
    )
    session = NegotiationSession(
        id=session_id,
        client_agent_id=client.id,
        provider_agent_id=provider.id,
        client_public_key=client.public_key,
        provider_public_key=provider.public_key,
        capability=request.capability,
        base_max=price,
        max_offer=2 * price,
        max_price=opening.max_price,
        max_rounds=limits.rounds_per_side_max,
        terms=request.terms,
        session_digest=digest(
            session_message(
                signing_domain=context.market.signing_domain,
                session_id=session_id,
                client_agent_id=client.id,
                provider_agent_id=provider.id,
                capability=request.capability,
                base_max=price,
                terms_digest=terms_digest,
            )
        ),
        created_at=context.now,
        expires_at=context.now + timedelta(seconds=limits.negotiation_ttl_s),
        private_channel_id=private_channel_id,
    )
    announcement = {
        "session_id": session_id,
        "topic": f"negotiation:{session_id}",
        "client_agent_id": client.id,
        "client_handle": client.handle,
        "capability": session.capability,
        "base_max": price,
        "expires_at": session.expires_at,
        "private_channel_id": private_channel_id,
    }
    return Decision(
        reply=snapshot(session, context.market),
        changes=(
            Insert("negotiation", session_id, session),
            *made,
            Timer(EXPIRES, f"negotiation:{session_id}", session.expires_at),
            Mail(provider.id, "negotiation", announcement, client.id),
        ),
    )


def access(sender: Identity, topic_id: str) -> None:
    """Only agents join; whether this one takes part, the join decides."""
    del topic_id
    sender.require_agent()


def join(session: NegotiationSession | None, request: Empty, context: Context) -> Decision:
    """The whole session, also once it has ended.

    Raises:
        NotFound: `not_found`: there is no such session, or the sender is not of it.
    """
    del request
    found = require_participant(session, context)
    return Decision(reply=snapshot(found, context.market))


def offer(session: NegotiationSession | None, request: MakeOffer, context: Context) -> Decision:
    """Make a signed offer, in turn. One equal to the standing counter-offer agrees at once: both signed that amount.

    Raises:
        NotFound: `not_found`.
        Conflict: `terminal_state`, `not_your_turn`, `stale_state`, `max_rounds_exceeded`, `spend_cap_exceeded`.
        Expired: `expired`.
        Forbidden: `contact_scope_exceeded` with max_price.
        Invalid: `amount_out_of_range` with max_offer, `invalid_signature` with what was expected.
    """
    session = require_participant(session, context)
    agent_id = context.sender.require_agent()
    if any(
        made.agent_id == agent_id
        and (made.amount, made.signature) == (request.amount, request.signature)
        and request.round in {None, made.round}
        for made in session.offers
    ):
        return Decision(reply={**snapshot(session, context.market), "duplicate": True})
    _require_open(session, context)
    round_number = len(session.offers) + 1
    if session.turn == session.other(agent_id):
        raise _not_your_turn(session)
    if request.round not in {None, round_number}:
        raise Conflict(
            "stale_state", f"The next round is {round_number}, not {request.round}.", **expected_next(session)
        )
    own_rounds = sum(made.agent_id == agent_id for made in session.offers)
    if own_rounds >= session.max_rounds:
        raise Conflict(
            "max_rounds_exceeded",
            f"Each side makes at most {session.max_rounds} offers: accept, reject, or wait for the other side.",
            max_rounds=session.max_rounds,
        )
    if not 1 <= request.amount <= session.max_offer:
        raise Invalid(
            "amount_out_of_range", f"An offer is between 1 and {session.max_offer}.", max_offer=session.max_offer
        )
    require_price_in_scope(request.amount, session.max_price)
    if agent_id == session.client_agent_id:
        context.sender.require_cap(request.amount)
    message = offer_bytes(session, agent_id, request.amount, round_number, context.market)
    require_offer_signature(
        session,
        agent_id,
        amount=request.amount,
        message=message,
        signature=request.signature,
        market=context.market,
    )
    made = Offer(
        agent_id=agent_id,
        round=round_number,
        amount=request.amount,
        signature=request.signature,
        digest=digest(message),
        made_at=context.now,
    )
    counter = session.standing(session.other(agent_id))
    after = msgspec.structs.replace(session, offers=(*session.offers, made))
    matched = counter is not None and counter.amount == made.amount
    if matched:
        after = _agreed(after, amount=made.amount, now=context.now, market=context.market)
    relayed = {
        "session_id": session.id,
        **msgspec.structs.asdict(made),
        "turn": after.turn,
        "next_round": round_number + 1,
        "midpoint": after.midpoint,
    }
    return Decision(
        state=after,
        reply=snapshot(after, context.market),
        broadcasts=(
            Broadcast(context.topic, "offer", relayed, Audience.OTHER_AGENTS),
            *(_complete(after, context) if matched else ()),
        ),
        changes=_settled(after, context) if matched else (),
    )


def accept(session: NegotiationSession | None, request: Accept, context: Context) -> Decision:
    """Agree on the midpoint of the two standing offers; only the side that did not make the latest one may.

    Raises:
        NotFound: `not_found`.
        Conflict: `terminal_state`, `no_counter_offer`, `not_your_turn`, `spend_cap_exceeded`; `stale_state`: the
            signature is one over offers that have been answered since.
        Expired: `expired`.
        Invalid: `amount_mismatch` with expected_amount, `invalid_signature` with what was expected.
    """
    session = require_participant(session, context)
    agent_id = context.sender.require_agent()
    if session.accepted_by == agent_id and (session.amount, session.accept_signature) == (
        request.amount,
        request.signature,
    ):
        return Decision(reply={**snapshot(session, context.market), "duplicate": True})
    _require_open(session, context)
    midpoint = session.midpoint
    if midpoint is None:
        raise Conflict("no_counter_offer", "Both sides must have made an offer before one can accept.")
    if session.turn != agent_id:
        raise _not_your_turn(session)
    if request.amount != midpoint:
        raise Invalid("amount_mismatch", f"The midpoint is {midpoint}, not {request.amount}.", expected_amount=midpoint)
    if agent_id == session.client_agent_id:
        context.sender.require_cap(midpoint)
    require_accept_signature(
        session, agent_id, amount=request.amount, signature=request.signature, market=context.market
    )
    after = msgspec.structs.replace(
        _agreed(session, amount=midpoint, now=context.now, market=context.market),
        accepted_by=agent_id,
        accept_signature=request.signature,
    )
    relayed = {
        "session_id": session.id,
        "agent_id": agent_id,
        "amount": midpoint,
        "signature": request.signature,
    }
    return Decision(
        state=after,
        reply=snapshot(after, context.market),
        broadcasts=(
            Broadcast(context.topic, "accept", relayed, Audience.OTHER_AGENTS),
            *_complete(after, context),
        ),
        changes=_settled(after, context),
    )


def reject(session: NegotiationSession | None, request: Reject, context: Context) -> Decision:
    """End the session without an agreement; either side, at any time.

    Raises:
        Invalid: `invalid_payload`: a reason has at most 2,000 characters.
        NotFound: `not_found`.
        Conflict: `terminal_state`.
        Expired: `expired`.
    """
    require_text("reason", request.reason, context.market)
    session = require_participant(session, context)
    agent_id = context.sender.require_agent()
    if session.status is Phase.REJECTED and (session.ended_by, session.reason) == (agent_id, request.reason):
        return Decision(reply={**snapshot(session, context.market), "duplicate": True})
    _require_open(session, context)
    after = _ended(session, Phase.REJECTED, context.now, ended_by=agent_id, reason=request.reason)
    relayed = {
        "session_id": session.id,
        "agent_id": agent_id,
        "reason": request.reason,
        "ended_at": after.ended_at,
    }
    return Decision(
        state=after,
        reply=snapshot(after, context.market),
        broadcasts=(Broadcast(context.topic, "reject", relayed, Audience.OTHER_AGENTS),),
        changes=(Timer(EXPIRES, context.topic, None),),
    )


def expire(session: NegotiationSession, context: Context) -> Decision:
    """The timer: an open session ends as expired, and both are told."""
    if session.status is not Phase.OPEN or context.now < session.expires_at:
        return Decision()
    after = _ended(session, Phase.EXPIRED, context.now)
    told = {"session_id": session.id, "expired_at": session.expires_at, "ended_at": after.ended_at}
    return Decision(state=after, broadcasts=(Broadcast(context.topic, "negotiation_expired", told),))


def require_text(field: str, text: str, market: Market) -> None:
    """Refuse free text longer than the limit.

    Raises:
        Invalid: `invalid_payload`, naming the field.
    """
    chars_max = market.limits.text_chars_max
    if len(text) > chars_max:
        raise Invalid("invalid_payload", f"{field} has at most {chars_max} characters.", field=field)


def _terms_digest(terms: dict[str, Any] | None, market: Market) -> str | None:
    if terms is None:
        return None
    try:
        canonical = canonical_json(terms)
    except BadDocument as error:
        raise Invalid("invalid_terms", str(error)) from error
    if len(canonical) > market.limits.terms_bytes_max:
        raise Invalid("invalid_terms", f"Terms have at most {market.limits.terms_bytes_max} bytes as canonical JSON.")
    return digest(canonical)


def _require_open(session: NegotiationSession, context: Context) -> None:
    if session.status is Phase.EXPIRED or (session.status is Phase.OPEN and context.now >= session.expires_at):
        raise Expired("expired", "This negotiation has expired; open another one.", expired_at=session.expires_at)
    if session.status is not Phase.OPEN:
        raise Conflict("terminal_state", f"This negotiation has ended: {session.status}.", status=session.status)


def _not_your_turn(session: NegotiationSession) -> Conflict:
    return Conflict("not_your_turn", "The other side is to answer your latest offer.", turn=session.turn)


def _ended(
    session: NegotiationSession, status: Phase, now: datetime, ended_by: str | None = None, reason: str | None = None
) -> NegotiationSession:
    return msgspec.structs.replace(session, status=status, ended_at=now, ended_by=ended_by, reason=reason)


def _agreed(session: NegotiationSession, *, amount: int, now: datetime, market: Market) -> NegotiationSession:
    expires_at = now + timedelta(seconds=market.limits.agreement_ttl_s)
    return msgspec.structs.replace(_ended(session, Phase.AGREED, now), amount=amount, agreement_expires_at=expires_at)


def _settled(session: NegotiationSession, context: Context) -> tuple[Timer, ...]:
    """The clocks of a session that has come to an agreement."""
    return (Timer(EXPIRES, context.topic, None), *lapses(session.private_channel_id, session.agreement_expires_at))


def _complete(session: NegotiationSession, context: Context) -> tuple[Broadcast]:
    told = {
        "session_id": session.id,
        "agreement_id": session.id,
        "amount": session.amount,
        "capability": session.capability,
        "client_agent_id": session.client_agent_id,
        "provider_agent_id": session.provider_agent_id,
        "offers": signed_offers(session),
        "accepted_by": session.accepted_by,
        "accept_signature": session.accept_signature,
        "completed_at": session.ended_at,
        "agreement_expires_at": session.agreement_expires_at,
    }
    return (Broadcast(context.topic, "negotiation_complete", told),)


ACCESS = access
JOIN = Handler(Empty, join, loads="negotiation", access=Access.WRITE, scope="negotiate")
HANDLERS = {
    "offer": Handler(MakeOffer, offer, loads="negotiation", access=Access.WRITE, scope="negotiate"),
    "accept": Handler(Accept, accept, loads="negotiation", access=Access.WRITE, scope="negotiate"),
    "reject": Handler(Reject, reject, loads="negotiation", access=Access.WRITE, scope="negotiate"),
}
TIMERS = {EXPIRES: expire}

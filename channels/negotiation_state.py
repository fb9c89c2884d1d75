"""What a negotiation is: its session, its offers, and how both parties and a receipt are told of it."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from channels.errors import Conflict, not_found
from channels.handlers import Context
from channels.limits import Market
from crypto import parse_public_key

EXPIRES: Final = "negotiation_expires"
"""The timer that ends an open session."""


class Phase(StrEnum):
    """Where a session stands; all but OPEN are final."""

    OPEN = "open"
    AGREED = "agreed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One signed offer. `digest` is that of the bytes it signs; `round` counts the session's offers from 1."""

    agent_id: str
    round: int
    amount: int
    signature: str
    digest: str
    made_at: datetime


class NegotiationSession(msgspec.Struct, frozen=True, kw_only=True):
    """One session.

    Args:
        client_public_key, provider_public_key: The keys that sign here, as they were at the opening.
        base_max: The provider's list price in minor units, frozen at the opening.
        max_offer: The highest offer: 2 × base_max.
        max_price: The highest offer that the contact of the two is for, where it is narrowed.
        session_digest: Of parties, capability, base_max and terms: what every signature rests on.
        amount: The agreed price in minor units.
        accepted_by: The agent whose `accept` made the agreement; None where equal offers met.
        task_id: The task that has consumed the agreement.
        private_channel_id: The private channel of the two, where one was asked for. It ends with the session, unless
            that ends in an agreement: a task that is made from it takes it over.
    """

    id: str
    client_agent_id: str
    provider_agent_id: str
    client_public_key: str
    provider_public_key: str
    capability: str
    base_max: int
    max_offer: int
    max_rounds: int
    max_price: int | None = None
    terms: dict[str, Any] | None
    session_digest: str
    status: Phase = Phase.OPEN
    offers: tuple[Offer, ...] = ()
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None
    reason: str | None = None
    amount: int | None = None
    accepted_by: str | None = None
    accept_signature: str | None = None
    agreement_expires_at: datetime | None = None
    task_id: str | None = None
    private_channel_id: str | None = None

    @property
    def ends_channel(self) -> bool:
        """Whether the private channel of the two is over with it."""
        return self.status not in {Phase.OPEN, Phase.AGREED}

    def standing(self, agent_id: str) -> Offer | None:
        """The latest offer of one side."""
        return next((offer for offer in reversed(self.offers) if offer.agent_id == agent_id), None)

    def other(self, agent_id: str) -> str:
        """The other party."""
        return self.provider_agent_id if agent_id == self.client_agent_id else self.client_agent_id

    def public_key(self, agent_id: str) -> bytes:
        """The key that an agent signs with here."""
        return parse_public_key(
            self.client_public_key if agent_id == self.client_agent_id else self.provider_public_key
        )

    @property
    def turn(self) -> str | None:
        """The agent to act next; None while either may, and once the session has ended."""
        if self.status is not Phase.OPEN or not self.offers:
            return None
        return self.other(self.offers[-1].agent_id)

    @property
    def midpoint(self) -> int | None:
        """What an accept would agree on now; None before both sides have offered."""
        client, provider = self.standing(self.client_agent_id), self.standing(self.provider_agent_id)
        if client is None or provider is None:
            return None
        return (client.amount + provider.amount) // 2  # Rounds down, in the client's favour.

    def answered_digest(self, round_number: int) -> str:
        """What an offer of that round signs: the digest of the offer before it, at first the session digest."""
        return self.session_digest if round_number == 1 else self.offers[round_number - 2].digest


def snapshot(session: NegotiationSession, market: Market) -> dict[str, Any]:
    """The whole session as both parties see it: join reply, answer of every event, REST."""
    return {
        **{name: getattr(session, name) for name in session.__struct_fields__},
        "session_id": session.id,
        "turn": session.turn,
        "next_round": len(session.offers) + 1,
        "midpoint": session.midpoint,
        "agreement_id": session.id if session.status is Phase.AGREED else None,
        "signing_domain": market.signing_domain,
        "currency": market.currency,
        "exponent": market.exponent,
    }


def require_participant(session: NegotiationSession | None, context: Context) -> NegotiationSession:
    """The session, if the sender is one of its two agents.

    Raises:
        NotFound: `not_found`.
    """
    if session is None or context.sender.agent_id not in {session.client_agent_id, session.provider_agent_id}:
        raise not_found("negotiation")
    return session


def agreement_document(session: NegotiationSession, market: Market) -> dict[str, Any]:
    """The agreement as a receipt's document: all that is needed to verify it offline (crypto/SIGNING.md).

    Raises:
        Conflict: `not_agreed`.
    """
    if session.status is not Phase.AGREED:
        raise Conflict("not_agreed", "This negotiation has not come to an agreement.", status=session.status)
    assert session.ended_at is not None, "an agreed session has ended"
    return {
        "session_id": session.id,
        "agreement_id": session.id,
        "client_agent_id": session.client_agent_id,
        "provider_agent_id": session.provider_agent_id,
        "client_public_key": session.client_public_key,
        "provider_public_key": session.provider_public_key,
        "capability": session.capability,
        "base_max": session.base_max,
        "max_offer": session.max_offer,
        "terms": session.terms,
        "offers": signed_offers(session),
        "amount": session.amount,
        "accepted_by": session.accepted_by,
        "accept_signature": session.accept_signature,
        "currency": market.currency,
        "exponent": market.exponent,
        "completed_at": msgspec.to_builtins(session.ended_at),
    }


def signed_offers(session: NegotiationSession) -> list[dict[str, Any]]:
    """The offers as a receipt and `negotiation_complete` hold them."""
    return [
        {name: getattr(made, name) for name in ("round", "agent_id", "amount", "signature", "digest")}
        for made in session.offers
    ]

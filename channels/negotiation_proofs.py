"""What is signed in a negotiation, and the refusal of what is not.

The signature is looked at last, because it is dearest. One that does not verify is tried against the states before: an
agent that has signed for one of those is told that it is late (`stale_state`), not that its key is wrong.
"""

from typing import Any

import msgspec

from channels.errors import Conflict, Invalid
from channels.limits import Market
from channels.negotiation_state import NegotiationSession
from crypto import BadSignature, accept_message, offer_message, verify_signature


def offer_bytes(session: NegotiationSession, agent_id: str, amount: int, round_number: int, market: Market) -> bytes:
    """The bytes that an offer of that round signs."""
    return offer_message(
        signing_domain=market.signing_domain,
        session_id=session.id,
        agent_id=agent_id,
        round_number=round_number,
        amount=amount,
        answered_digest=session.answered_digest(round_number),
    )


def require_offer_signature(
    session: NegotiationSession, agent_id: str, *, amount: int, message: bytes, signature: str, market: Market
) -> None:
    """Refuse an offer that its agent's key has not signed.

    Raises:
        Conflict: `stale_state`: it was signed for one of the rounds before.
        Invalid: `invalid_signature`. Both say what is expected.
    """
    if _is_signed(session, agent_id, message, signature):
        return
    round_number = len(session.offers) + 1
    for earlier in range(max(1, round_number - 2), round_number):
        if _is_signed(session, agent_id, offer_bytes(session, agent_id, amount, earlier, market), signature):
            raise Conflict(
                "stale_state",
                f"This offer was signed for round {earlier}; sign the next one.",
                **expected_next(session),
            )
    raise Invalid("invalid_signature", "The offer's signature does not verify.", **expected_next(session))


def require_accept_signature(
    session: NegotiationSession, agent_id: str, *, amount: int, signature: str, market: Market
) -> None:
    """Refuse an acceptance that its agent's key has not signed.

    Raises:
        Conflict: `stale_state`: it was signed over earlier offers.
        Invalid: `invalid_signature`. Both say what is expected.
    """
    if _is_signed(session, agent_id, _accept_bytes(session, agent_id, amount, market), signature):
        return
    expected = {**_standing_digests(session), "expected_amount": amount}
    for offers in (session.offers[:-1], session.offers[:-2]):
        earlier = msgspec.structs.replace(session, offers=offers)
        if earlier.midpoint is not None and _is_signed(
            session, agent_id, _accept_bytes(earlier, agent_id, amount, market), signature
        ):
            raise Conflict(
                "stale_state",
                "This acceptance was signed over earlier offers; sign over the standing ones.",
                **expected,
            )
    raise Invalid("invalid_signature", "The acceptance's signature does not verify.", **expected)


def expected_next(session: NegotiationSession) -> dict[str, Any]:
    """What the next offer is for, as refusals repeat it: its round, and the digest that it answers."""
    round_number = len(session.offers) + 1
    return {"expected_round": round_number, "expected_digest": session.answered_digest(round_number)}


def _accept_bytes(session: NegotiationSession, agent_id: str, amount: int, market: Market) -> bytes:
    return accept_message(
        signing_domain=market.signing_domain,
        session_id=session.id,
        agent_id=agent_id,
        amount=amount,
        **_standing_digests(session),
    )


def _standing_digests(session: NegotiationSession) -> dict[str, str]:
    client, provider = session.standing(session.client_agent_id), session.standing(session.provider_agent_id)
    assert client is not None, "there is a midpoint, so both have offered"
    assert provider is not None, "there is a midpoint, so both have offered"
    return {"client_offer_digest": client.digest, "provider_offer_digest": provider.digest}


def _is_signed(session: NegotiationSession, agent_id: str, message: bytes, signature: str) -> bool:
    try:
        verify_signature(public_key=session.public_key(agent_id), message=message, signature=signature)
    except BadSignature:
        return False
    return True

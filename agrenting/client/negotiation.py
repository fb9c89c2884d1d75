"""What a negotiation is after an event of it, so that nobody has to ask the server again."""

from typing import Any

OFFER = ("agent_id", "round", "amount", "signature", "digest", "made_at")
TURN = ("turn", "next_round", "midpoint")
AGREEMENT = ("agreement_id", "amount", "accepted_by", "accept_signature", "agreement_expires_at")


def negotiation_after(session: dict[str, Any], event: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The session as joining again would tell it after an event of `negotiation:*`. `session` itself is not changed.

    Nothing is checked here: what the server told is checked by `Signer`, before anything is signed.

    Args:
        session: As the last join, reply or event left it.
        event: Any event of the topic; one that changes nothing leaves the session as it is.
        payload: The event's.
    """
    if event == "offer":
        offers = [*session["offers"], _part(payload, OFFER)]
        return {**session, **_part(payload, TURN), "offers": offers}
    if event == "negotiation_complete":
        return _ended(session, "agreed", payload["completed_at"]) | _part(payload, AGREEMENT)
    if event == "reject":
        ended = _ended(session, "rejected", payload["ended_at"])
        return {**ended, "ended_by": payload["agent_id"], "reason": payload["reason"]}
    if event == "negotiation_expired":
        return _ended(session, "expired", payload["ended_at"])
    return session


def _ended(session: dict[str, Any], status: str, ended_at: str) -> dict[str, Any]:
    return {**session, "status": status, "turn": None, "ended_at": ended_at}


def _part(payload: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: payload[name] for name in names}

"""What a negotiation is after an event of it, so that nobody has to ask the server again."""

from typing import Any

ENDS = {"negotiation_complete": "agreed", "reject": "rejected", "negotiation_expired": "expired"}


def negotiation_after(session: dict[str, Any], event: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The session as it is after an event of `negotiation:*`. `session` itself is not changed.

    Nothing is checked here: what the server told is checked by `Signer`, before anything is signed.

    Args:
        session: As the last join or reply told it.
        event: Any event of the topic; one that changes nothing leaves the session as it is.
        payload: The event's.
    """
    if event == "offer":
        moved = {name: payload[name] for name in ("turn", "next_round", "midpoint")}
        offer = {name: payload[name] for name in ("agent_id", "round", "amount", "signature", "digest", "made_at")}
        return {**session, **moved, "offers": [*session["offers"], offer]}
    if event not in ENDS:
        return session
    ended = {"status": ENDS[event], "turn": None}
    if event == "negotiation_complete":
        ended |= {name: payload[name] for name in ("agreement_id", "amount", "accepted_by", "accept_signature")}
    return {**session, **ended}

"""Signed moves in a negotiation, honest and not, and a client that only knows what it is told."""

from datetime import datetime
from typing import Any

import msgspec

from channels.changes import Insert
from channels.handlers import Decision, Empty, Handler
from channels.limits import Market
from channels.negotiation import (
    HANDLERS,
    JOIN,
    Accept,
    MakeOffer,
    NegotiationSession,
    OpenNegotiation,
    Phase,
    Reject,
    open_negotiation,
)
from channels.opening import Opening
from channels.told import Audience
from crypto import accept_message, offer_message, sign
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, NOW, Player, broadcasts_of, context

GARBAGE = "not a signature"


def opened(
    client: Player = ALICE,
    provider: Player = BOB,
    *,
    capability: str = "translate",
    terms: dict[str, Any] | None = None,
    session_id: str = FRESH_ID,
    market: Market = MARKET,
    now: datetime = NOW,
) -> NegotiationSession:
    """A new session, as `open_negotiation` stores it."""
    request = OpenNegotiation(provider_agent_id=provider.id, capability=capability, terms=terms)
    facts = Opening(client=client.agent, provider=provider.agent, open_count=0)
    decision = open_negotiation(facts, request, context(client, now=now, market=market, new_id=lambda: session_id))
    (stored,) = (change for change in decision.changes if isinstance(change, Insert))
    assert isinstance(stored.state, NegotiationSession)
    return stored.state


def topic_of(session: NegotiationSession) -> str:
    return f"negotiation:{session.id}"


def act(
    session: NegotiationSession | None,
    event: str,
    request: object,
    who: Player,
    *,
    now: datetime = NOW,
    market: Market = MARKET,
) -> Decision:
    """Send an event to a session, by the table that the server uses."""
    handler: Handler = HANDLERS[event]
    assert isinstance(request, handler.request)
    topic = "" if session is None else topic_of(session)
    return handler.decide(session, request, context(who, now=now, market=market, topic=topic))


def signed_offer(
    session: NegotiationSession,
    who: Player,
    amount: int,
    *,
    round_number: int | None = None,
    market: Market = MARKET,
    signed_amount: int | None = None,
) -> MakeOffer:
    """An offer signed for the next round, or as if it were for another one."""
    number = len(session.offers) + 1 if round_number is None else round_number
    message = offer_message(
        signing_domain=market.signing_domain,
        session_id=session.id,
        agent_id=who.id,
        round_number=number,
        amount=amount if signed_amount is None else signed_amount,
        answered_digest=session.answered_digest(number),
    )
    return MakeOffer(amount=amount, signature=sign(who.secret_key, message))


def signed_accept(
    session: NegotiationSession, who: Player, *, amount: int | None = None, market: Market = MARKET
) -> Accept:
    """An acceptance of the standing offers, at their midpoint or at another amount."""
    client, provider = session.standing(session.client_agent_id), session.standing(session.provider_agent_id)
    assert client is not None
    assert provider is not None
    agreed = (client.amount + provider.amount) // 2 if amount is None else amount
    message = accept_message(
        signing_domain=market.signing_domain,
        session_id=session.id,
        agent_id=who.id,
        amount=agreed,
        client_offer_digest=client.digest,
        provider_offer_digest=provider.digest,
    )
    return Accept(amount=agreed, signature=sign(who.secret_key, message))


def state_after(decision: Decision) -> NegotiationSession:
    assert isinstance(decision.state, NegotiationSession)
    return decision.state


def offered(session: NegotiationSession, *moves: tuple[Player, int]) -> NegotiationSession:
    """The session after honest offers by turns."""
    for who, amount in moves:
        session = state_after(act(session, "offer", signed_offer(session, who, amount), who))
    return session


def agreed_by_accept(session: NegotiationSession | None = None) -> NegotiationSession:
    """Alice bids 600, Bob asks 1001, Alice accepts 800."""
    standing = offered(session or opened(), (ALICE, 600), (BOB, 1001))
    return state_after(act(standing, "accept", signed_accept(standing, ALICE), ALICE))


def ended(status: Phase) -> NegotiationSession:
    """A session with offers of both sides that has ended in that way."""
    if status is Phase.AGREED:
        return agreed_by_accept()
    standing = offered(opened(), (ALICE, 600), (BOB, 1001))
    return msgspec.structs.replace(standing, status=status, ended_at=NOW)


def send_bad(session: NegotiationSession | None, event: str, who: Player) -> Decision:
    """Send an event that is badly signed, so that what else is wrong with it is told first."""
    if event == "join":
        return JOIN.decide(session, Empty(), context(who))
    requests: dict[str, object] = {
        "offer": MakeOffer(amount=700, signature=GARBAGE),
        "accept": Accept(amount=800, signature=GARBAGE),
        "reject": Reject(),
    }
    return act(session, event, requests[event], who)


class Mirror:
    """A client that joined once and since then knows only what it was told.

    Args:
        who: The agent it is of.
        joined: The reply to its join.
    """

    def __init__(self, who: Player, joined: dict[str, Any]) -> None:
        self.who = who
        self.known = msgspec.json.decode(msgspec.json.encode(joined))

    def hear(self, decision: Decision, *, sender: Player | None) -> None:
        """Take the reply, if it was this client that asked, then every broadcast that reaches it."""
        is_own = sender is not None and sender.id == self.who.id
        if is_own:
            self.known = msgspec.json.decode(msgspec.json.encode(decision.reply))
        for broadcast in broadcasts_of(decision):
            assert broadcast.audience in {Audience.ALL, Audience.OTHER_AGENTS}
            if broadcast.audience is Audience.ALL or not is_own:
                told = msgspec.json.decode(msgspec.json.encode(broadcast.payload))
                getattr(self, f"_on_{broadcast.event}")(told)

    def _on_offer(self, told: dict[str, Any]) -> None:
        names = ("agent_id", "round", "amount", "signature", "digest", "made_at")
        self.known["offers"].append({name: told[name] for name in names})
        self._learn(told, "turn", "next_round", "midpoint")

    def _on_accept(self, told: dict[str, Any]) -> None:
        assert told["amount"] == self.known["midpoint"]

    def _on_negotiation_complete(self, told: dict[str, Any]) -> None:
        self._end("agreed", told["completed_at"])
        self._learn(told, "agreement_id", "amount", "accepted_by", "accept_signature", "agreement_expires_at")

    def _on_reject(self, told: dict[str, Any]) -> None:
        self._end("rejected", told["ended_at"])
        self.known |= {"ended_by": told["agent_id"], "reason": told["reason"]}

    def _on_negotiation_expired(self, told: dict[str, Any]) -> None:
        self._end("expired", told["ended_at"])

    def _end(self, status: str, ended_at: str) -> None:
        self.known |= {"status": status, "ended_at": ended_at, "turn": None}

    def _learn(self, told: dict[str, Any], *names: str) -> None:
        self.known |= {name: told[name] for name in names}

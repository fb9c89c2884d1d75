"""A negotiation between two strategies, by the market's rules; and the same by the market itself, to compare with."""

import random
from typing import NamedTuple

import msgspec

from agrenting.client.strategies import (
    Accept,
    Boulware,
    Conceder,
    FixedLimit,
    Move,
    Offer,
    Reject,
    Side,
    Strategy,
    TitForTat,
    Turn,
)
from channels.negotiation import NegotiationSession
from channels.negotiation import Reject as RejectSession
from tests.channels.bargain import act, opened, signed_accept, signed_offer, state_after
from tests.channels.roles import ALICE, BOB

MAX_ROUNDS = 10
KINDS = {"boulware": Boulware, "conceder": Conceder, "tit-for-tat": TitForTat, "fixed": FixedLimit}


class Outcome(NamedTuple):
    """How a negotiation has ended: the price, or None; and the offers of both sides."""

    price: int | None
    client: tuple[int, ...]
    provider: tuple[int, ...]


class Table:
    """Where two bargain.

    Args:
        base: The list price.
        opens: Who makes the first offer.
        max_price: What the contact of the two allows at most.
    """

    def __init__(self, base: int, opens: Side = "client", max_price: int | None = None) -> None:
        self.base = base
        self.max_price = max_price
        self.offers: dict[Side, list[int]] = {"client": [], "provider": []}
        self.side: Side = opens
        self.price: int | None = None
        self.is_over = False

    @property
    def other(self) -> Side:
        return "provider" if self.side == "client" else "client"

    @property
    def turn(self) -> Turn:
        own, others = self.offers[self.side], self.offers[self.other]
        return Turn(
            side=self.side,
            base_max=self.base,
            max_offer=2 * self.base,
            max_price=self.max_price,
            rounds_left=MAX_ROUNDS - len(own),
            round=len(own) + len(others) + 1,
            own=tuple(own),
            others=tuple(others),
        )

    def make(self, move: Move) -> None:
        """One side's move, by the rules."""
        own, others = self.offers[self.side], self.offers[self.other]
        if isinstance(move, Reject):
            self.is_over = True
        elif isinstance(move, Accept):
            assert own
            assert others
            self.price, self.is_over = (own[-1] + others[-1]) // 2, True  # Rounds down, in the client's favour.
        else:
            assert 1 <= move.amount <= self.turn.highest
            assert len(own) < MAX_ROUNDS
            own.append(move.amount)
            if others and others[-1] == move.amount:
                self.price, self.is_over = move.amount, True
            self.side = self.other

    def outcome(self) -> Outcome:
        return Outcome(self.price, tuple(self.offers["client"]), tuple(self.offers["provider"]))


def haggle(client: Strategy, provider: Strategy, base: int, opens: Side = "client") -> Outcome:
    """Two strategies bargain to the end."""
    table = Table(base, opens)
    while not table.is_over:
        table.make((client if table.side == "client" else provider).move(table.turn))
    return table.outcome()


def haggle_for_real(client: Strategy, provider: Strategy, base: int, opens: Side = "client") -> Outcome:
    """The same, with every move signed and decided by the market's own rules."""
    session = msgspec.structs.replace(opened(), base_max=base, max_offer=2 * base)
    side = opens
    while session.turn is not None or not session.offers:
        if session.turn is not None:
            side = "client" if session.turn == ALICE.id else "provider"
        turn = _turn_of(session, side)
        session = _moved(session, side, (client if side == "client" else provider).move(turn))
        if session.ended_at is not None:
            break
    return Outcome(session.amount, _offers_of(session, "client"), _offers_of(session, "provider"))


def zone(chance: random.Random, *, has_one: bool) -> tuple[int, int, int]:
    """A list price, and what client and provider settle for at the worst: with prices for both, or with none."""
    base = chance.randint(100, 100_000)
    lower, upper = sorted(chance.randint(base * 45 // 100, base * 11 // 10) for _ in range(2))
    if lower == upper:
        upper += 1
    return (base, upper, lower) if has_one else (base, lower, upper)


def _turn_of(session: NegotiationSession, side: Side) -> Turn:
    own, others = _offers_of(session, side), _offers_of(session, "provider" if side == "client" else "client")
    return Turn(
        side=side,
        base_max=session.base_max,
        max_offer=session.max_offer,
        rounds_left=session.max_rounds - len(own),
        round=len(session.offers) + 1,
        own=own,
        others=others,
    )


def _offers_of(session: NegotiationSession, side: Side) -> tuple[int, ...]:
    agent_id = session.client_agent_id if side == "client" else session.provider_agent_id
    return tuple(offer.amount for offer in session.offers if offer.agent_id == agent_id)


def _moved(session: NegotiationSession, side: Side, move: Move) -> NegotiationSession:
    who = ALICE if side == "client" else BOB
    if isinstance(move, Offer):
        return state_after(act(session, "offer", signed_offer(session, who, move.amount), who))
    if isinstance(move, Accept):
        return state_after(act(session, "accept", signed_accept(session, who), who))
    return state_after(act(session, "reject", RejectSession(reason=move.reason), who))

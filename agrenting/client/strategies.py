"""Strategies: what an agent offers, accepts and refuses while it bargains. Pure: a move follows from the turn alone.

A deal is made at the midpoint of two standing offers, or at an offer that the other side repeats. So an offer exposes
its maker to two prices: itself, and its midpoint with what it answers. Neither is ever beyond the strategy's limit,
whatever the other side does.

Strategies here have an *aspiration*: the price that they would be content with now. It begins at `first` and ends at
`limit`, and how it gets there is all that one strategy has of its own:

    FixedLimit   is at its limit from the beginning
    Boulware     stays where it began, and gives in at the end
    Conceder     gives in at the beginning
    TitForTat    gives as much as the other side gives

A turn then goes so. A midpoint that is as good as the aspiration is accepted. Else the aspiration is offered, or less
generous by just so much that its midpoint is within the limit; where no offer is, the midpoint is accepted if it is
within the limit, else the session is rejected. Three things make that work between strangers:

- Nobody asks so much that whoever shares a price with it could only reject: a provider at most twice its limit, because
  the lowest answer, 1, would still make that a midpoint beyond the other's limit; clients in the same way.
- With its last offer a side is at its limit. So two of these always agree where their limits leave a price for both,
  but for openings at the edge of what can be offered.
- Who opens at that edge wants the midpoint alone to do the work: it is answered so that the midpoint stays halfway
  between aspiration and limit, not at the limit.

A strategy of your own is any object with `limit` and `move`; `Bargaining` checks each of its moves against its limit.

Source: Faratin, Sierra, Jennings: Negotiation decision functions for autonomous agents (1998), for the time-dependent
curves and tit-for-tat.
"""

from typing import Final, Literal, Protocol

import msgspec

from .amounts import Amount, parse_amount

Side = Literal["client", "provider"]

EDGE_PERCENT: Final = 25
"""An opening this close to the lowest or the highest possible offer, in percent of the list price, is at the edge."""

GESTURES: Final = 20
"""Tit-for-tat begins with one part in so many of the way from `first` to its limit."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy knows when it has to move. Amounts are minor units.

    Args:
        side: Whose turn it is: the client wants to pay little, the provider to get much.
        base_max: The provider's list price at the opening.
        max_offer: The highest offer that the market takes: twice the list price.
        max_price: The highest offer that the contact of the two allows; None: no limit of that kind.
        rounds_left: Offers that this side may still make.
        round: The number that its next offer would have, counting those of both sides from 1.
        own: This side's offers, oldest first; the last one stands.
        others: The other side's, likewise.
        elapsed: The part of the session's time that is over, 0-1.
        exponent: 1 minor unit is 10^−exponent of the currency.
    """

    side: Side
    base_max: int
    max_offer: int
    max_price: int | None = None
    rounds_left: int
    round: int = 1
    own: tuple[int, ...] = ()
    others: tuple[int, ...] = ()
    elapsed: float = 0.0
    exponent: int = 2

    @property
    def midpoint(self) -> int | None:
        """What accepting now would cost; None before both sides have offered."""
        if not self.own or not self.others:
            return None
        return (self.own[-1] + self.others[-1]) // 2  # Rounds down, in the client's favour.

    @property
    def highest(self) -> int:
        """The highest offer that may be made here."""
        return self.max_offer if self.max_price is None else min(self.max_offer, self.max_price)

    @property
    def opening(self) -> int | None:
        """The other side's first offer."""
        return self.others[0] if self.others else None

    def minor(self, amount: Amount) -> int:
        """An amount of a strategy in minor units.

        Raises:
            ValueError: It is none in this currency.
        """
        return parse_amount(amount, self.exponent)

    def is_as_good(self, price: int, than: int) -> bool:
        """Whether this side likes a price at least as much as another one."""
        return price <= than if self.side == "client" else price >= than

    def exposure(self, amount: int) -> int:
        """The worst price, for this side, that an offer could be agreed at: its midpoint, or itself where repeated."""
        if not self.others:
            return amount
        midpoint = (amount + self.others[-1]) // 2  # Rounds down, in the client's favour.
        return amount if self.is_as_good(midpoint, amount) else midpoint


class Offer(msgspec.Struct, frozen=True, tag=True):
    """Offer so much, in minor units."""

    amount: int


class Accept(msgspec.Struct, frozen=True, tag=True):
    """Accept the midpoint."""


class Reject(msgspec.Struct, frozen=True, tag=True):
    """End the session without an agreement; the other side is told why."""

    reason: str = ""


Move = Offer | Accept | Reject


class Strategy(Protocol):
    """How an agent bargains. The same object serves any number of sessions at once, so it keeps nothing of them."""

    @property
    def limit(self) -> Amount:
        """The price that is never crossed: the most that a client pays, the least that a provider takes."""
        ...

    def move(self, turn: Turn) -> Move:
        """What to do now."""
        ...


class AspirationStrategy(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy that is led by an aspiration. For one of your own overwrite `aspiration`; see the module for the rest.

    Args:
        limit: The most that a client pays, the least that a provider takes.
        first: The aspiration that it begins with. Unless given: of a client half of the list price, of a provider
            five quarters of it; never beyond the limit.

    Raises:
        TypeError: An amount is neither minor units as an integer nor major units as text.
        ValueError: An amount is not positive.
    """

    limit: Amount
    first: Amount | None = None

    def __post_init__(self) -> None:
        _require_amount("limit", self.limit)
        if self.first is not None:
            _require_amount("first", self.first)

    def aspiration(self, turn: Turn) -> int:
        """The price that it would be content with now, in minor units; what is beyond the limit counts as the limit."""
        raise NotImplementedError

    def move(self, turn: Turn) -> Move:
        """What to do now: accept a midpoint that is as good as the aspiration, else offer, as the module says."""
        limit, midpoint = turn.minor(self.limit), turn.midpoint
        wanted = self.aspiration(turn)
        aspiration = wanted if turn.is_as_good(wanted, limit) else limit
        is_acceptable = midpoint is not None and turn.is_as_good(midpoint, limit)
        if midpoint is not None and turn.is_as_good(midpoint, aspiration):
            return Accept()
        amount = _next_offer(turn, aspiration=aspiration, limit=limit) if turn.rounds_left > 0 else None
        if amount is not None:
            return Offer(amount)
        return Accept() if is_acceptable else Reject("no price within my limit can be reached")

    def beginning(self, turn: Turn) -> int:
        """`first` in minor units, or what stands for it, within limit and market."""
        limit = turn.minor(self.limit)
        if self.first is not None:
            wanted = turn.minor(self.first)
        elif turn.side == "client":
            wanted = turn.base_max // 2  # Rounds down: a client may begin low.
        else:
            wanted = -(-turn.base_max * 5 // 4)  # Rounds up: a provider may begin high.
        wanted = max(1, min(wanted, turn.highest))
        return wanted if turn.is_as_good(wanted, limit) else limit

    def on_the_way(self, turn: Turn, part: float) -> int:
        """The price so far on the way from `first` to the limit.

        Args:
            turn: The turn.
            part: 0 is `first`, 1 the limit.
        """
        first, limit = self.beginning(turn), turn.minor(self.limit)
        way = int(abs(limit - first) * min(1.0, max(0.0, part)))  # Rounds down: it never goes too far.
        return first + way if turn.side == "client" else first - way


class Boulware(AspirationStrategy, frozen=True, kw_only=True):
    """Stays near where it began for long, and gives in as the rounds, or the time, run out.

    Args:
        limit: The most that a client pays, the least that a provider takes.
        first: The aspiration that it begins with; see `AspirationStrategy`.
        beta: Between 0 and 1: the smaller, the longer it stays.

    Raises:
        TypeError, ValueError: As for `AspirationStrategy`; beta is not positive.
    """

    beta: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.beta)

    def aspiration(self, turn: Turn) -> int:
        """By time: the part of the way is t^(1/beta)."""
        return self.on_the_way(turn, time_spent(turn) ** (1 / self.beta))


class Conceder(AspirationStrategy, frozen=True, kw_only=True):
    """Gives in early: it agrees often and soon, and leaves most of what there is to gain to the other side.

    Args:
        limit: The most that a client pays, the least that a provider takes.
        first: The aspiration that it begins with; see `AspirationStrategy`.
        beta: Above 1: the greater, the sooner it gives in.

    Raises:
        TypeError, ValueError: As for `AspirationStrategy`; beta is not positive.
    """

    beta: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_positive(self.beta)

    def aspiration(self, turn: Turn) -> int:
        """By time: the part of the way is t^(1/beta)."""
        return self.on_the_way(turn, time_spent(turn) ** (1 / self.beta))


class TitForTat(AspirationStrategy, frozen=True, kw_only=True):
    """Gives as much as the other side gives, in prices of the deal; the first step, a small one, is its own.

    An offer that moves by two moves the midpoint by one: that is what is given back. With its last offer it goes to its
    limit, like everybody. Args as for `AspirationStrategy`.
    """

    def aspiration(self, turn: Turn) -> int:
        """By what the other side has given since its opening."""
        limit = turn.minor(self.limit)
        if time_spent(turn) >= 1:
            return limit
        first = self.beginning(turn)
        given = turn.others[-1] - turn.others[0] if turn.others else 0
        given = max(0, given if turn.side == "provider" else -given) // 2  # Rounds down: half of it, in deal prices.
        step = abs(limit - first) // GESTURES if turn.own else 0  # Rounds down: a gesture may be nothing.
        way = min(given + step, abs(limit - first))
        return first + way if turn.side == "client" else first - way


class FixedLimit(AspirationStrategy, frozen=True, kw_only=True):
    """Says its limit, and keeps to it.

    Args:
        limit: The most that a client pays, the least that a provider takes.
        first: Not looked at: it begins with its limit.
    """

    def aspiration(self, turn: Turn) -> int:
        """Its limit."""
        return turn.minor(self.limit)


def time_spent(turn: Turn) -> float:
    """How much of rounds or time is over, whichever is more: 0 at the first own offer, 1 at the last.

    Time counts from the half of the session on: who answers within seconds bargains by rounds alone.
    """
    last = len(turn.own) + turn.rounds_left - 1
    rounds = 1.0 if last <= 0 else min(1.0, len(turn.own) / last)
    return max(rounds, min(1.0, 2 * turn.elapsed - 1))


def _next_offer(turn: Turn, *, aspiration: int, limit: int) -> int | None:
    """What to offer at an aspiration; None where every offer would expose beyond the limit."""
    if turn.others and turn.is_as_good(turn.others[-1], aspiration):
        amount = turn.others[-1]  # To repeat it is to take it.
    elif turn.side == "client":
        asked = max(aspiration, 2 * limit - turn.highest)  # Else the highest answer would be beyond the provider's.
        amount = min(asked, limit, _least_generous(turn, aspiration=aspiration, limit=limit))
    else:
        asked = min(aspiration, 2 * limit - 1)  # Else the lowest answer would be beyond the client's.
        amount = max(asked, limit, _least_generous(turn, aspiration=aspiration, limit=limit))
    amount = max(1, min(amount, turn.highest))
    return amount if turn.is_as_good(turn.exposure(amount), limit) else None


def _least_generous(turn: Turn, *, aspiration: int, limit: int) -> int:
    """The offer whose midpoint is what has to be kept: the limit, or more against who plays with extremes."""
    if not turn.others:
        return limit
    kept = (aspiration + limit) // 2 if _is_at_the_edge(turn) else limit  # Rounds down: either way it is between.
    return 2 * kept - turn.others[-1]


def _is_at_the_edge(turn: Turn) -> bool:
    """Whether the other side has opened near the lowest or the highest possible offer, unprovoked."""
    opening = turn.opening
    if opening is None or len(turn.others) == len(turn.own):  # Then this side has opened: an answer may have to be low.
        return False
    margin = turn.base_max * EDGE_PERCENT // 100  # Rounds down: the edge is narrow rather than wide.
    return opening < margin if turn.side == "provider" else opening > turn.max_offer - margin


def _require_amount(name: str, amount: object) -> None:
    """Refuse what cannot be an amount in any currency; the rest is known once the currency is.

    Raises:
        TypeError: It is neither an integer nor text.
        ValueError: It is not positive.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | str):
        raise TypeError(f'{name} is minor units as an integer, or major units as text such as "8.50"')
    if isinstance(amount, int) and amount < 1:
        raise ValueError(f"{name} is at least 1 minor unit, not {amount}")


def _require_positive(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"beta is above 0, not {beta}")

"""Strategies against each other and against cheats, over thousands of random pairs: limits, agreements, who gains."""

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting.client.errors import BeyondLimit
from agrenting.client.playing import require_within
from agrenting.client.strategies import (
    Accept,
    AspirationStrategy,
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
    time_spent,
)
from tests.agrenting.bargain_model import KINDS, MAX_ROUNDS, Outcome, Table, haggle, haggle_for_real, zone

SIDES: tuple[Side, ...] = ("client", "provider")
PAIRS = [*itertools.product(KINDS, KINDS)]
RUNS = 400


def outcomes(
    client: str, provider: str, *, opens: Side = "client", has_zone: bool = True
) -> Iterator[tuple[float, Outcome]]:
    """Random pairs of limits, the client's part of what there is to gain in each, and how it went."""
    chance = random.Random(f"{client} {provider} {opens} {has_zone}")
    for _ in range(RUNS):
        base, most, least = zone(chance, has_one=has_zone)
        outcome = haggle(KINDS[client](limit=most), KINDS[provider](limit=least), base, opens)
        require_limits(outcome, most=most, least=least)
        share = 0.0 if outcome.price is None else (most - outcome.price) / (most - least)
        yield share, outcome


def require_limits(outcome: Outcome, *, most: int, least: int) -> None:
    """No price, and no offer that could be repeated or accepted, is beyond a limit."""
    assert outcome.price is None or least <= outcome.price <= most
    assert all(amount <= most for amount in outcome.client)
    assert all(amount >= least for amount in outcome.provider)


def mean_share(client: str, provider: str, opens: Side = "client") -> float:
    """The client's mean part of what there was to gain."""
    shares = [share for share, outcome in outcomes(client, provider, opens=opens) if outcome.price is not None]
    return sum(shares) / len(shares)


def turn(side: Side = "client", own: tuple[int, ...] = (), others: tuple[int, ...] = (), **fields: float) -> Turn:
    left = MAX_ROUNDS - len(own)
    return Turn(side=side, base_max=1_000, max_offer=2_000, rounds_left=left, own=own, others=others, **fields)  # type: ignore[arg-type] # Of a turn's numbers.


@pytest.mark.parametrize("opens", SIDES)
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_each_pair_agrees_wherever_there_is_a_price_for_both_and_within_both_limits(
    client: str, provider: str, opens: Side
) -> None:
    assert all(outcome.price is not None for _, outcome in outcomes(client, provider, opens=opens))


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_no_pair_agrees_where_there_is_no_price_for_both(client: str, provider: str) -> None:
    assert all(outcome.price is None for _, outcome in outcomes(client, provider, has_zone=False))


@pytest.mark.parametrize("opens", SIDES)
@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_the_model_is_what_the_market_decides_with_real_signatures(client: str, provider: str, opens: Side) -> None:
    chance = random.Random(f"real {client} {provider} {opens}")
    for has_zone in (True, True, False):
        base, most, least = zone(chance, has_one=has_zone)
        pair = KINDS[client](limit=most), KINDS[provider](limit=least)

        assert haggle_for_real(*pair, base, opens) == haggle(*pair, base, opens)


@pytest.mark.parametrize(("client", "provider"), PAIRS)
def test_limits_far_from_the_list_price_leave_nearly_all_agreements(client: str, provider: str) -> None:
    chance, agreed = random.Random(f"far {client} {provider}"), 0
    for _ in range(RUNS):
        base = chance.randint(100, 100_000)
        least, most = sorted(chance.randint(base * 5 // 100, base * 190 // 100) for _ in range(2))
        outcome = haggle(KINDS[client](limit=most), KINDS[provider](limit=least), base)
        require_limits(outcome, most=most, least=least)
        agreed += outcome.price is not None

    assert agreed / RUNS > 0.93


def test_who_stays_gains_more_than_who_gives_in_against_whoever_moves_by_the_clock() -> None:
    for against in ("boulware", "conceder", "fixed"):
        assert mean_share("boulware", against) > mean_share("conceder", against) + 0.1, against
    for against in ("boulware", "conceder"):
        assert mean_share(against, "conceder") > mean_share(against, "boulware") + 0.05, against


def test_what_there_is_to_gain_is_split_as_the_strategies_say() -> None:
    shares = {(client, provider): mean_share(client, provider) for client, provider in PAIRS}

    assert 0.45 < shares["boulware", "boulware"] < 0.65
    assert 0.4 < shares["conceder", "conceder"] < 0.6
    assert shares["boulware", "conceder"] > shares["conceder", "boulware"] + 0.2
    assert shares["boulware", "fixed"] > 0.9  # Who waits gets all that somebody leaves who says the limit at once,
    assert shares["fixed", "boulware"] < 0.1  # and the other way round.
    assert shares["tit-for-tat", "conceder"] > shares["conceder", "conceder"] + 0.1


def test_who_gives_in_agrees_sooner() -> None:
    def rounds(name: str) -> int:
        return sum(len(outcome.client) + len(outcome.provider) for _, outcome in outcomes(name, name))

    assert rounds("conceder") * 2 < rounds("boulware")


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", KINDS)
def test_mallory_offers_accepts_and_repeats_at_random_and_never_gets_anybody_beyond_a_limit(
    kind: str, side: Side
) -> None:
    chance, agreed = random.Random(f"mallory {kind} {side}"), 0
    for _ in range(2 * RUNS):
        base = chance.randint(1, 5_000)
        limit = chance.randint(1, 2 * base)
        strategy = KINDS[kind](limit=limit)
        table = Table(base, opens=chance.choice(SIDES), max_price=chance.choice((None, limit + base // 10)))
        while not table.is_over:
            played = table.side
            move = strategy.move(table.turn) if played == side else mallory(table, chance)
            if played == side:
                require_within(table.turn, move, limit)
            table.make(move)
        agreed += table.price is not None
        assert table.price is None or (table.price <= limit if side == "client" else table.price >= limit)

    assert agreed > RUNS // 10


def mallory(table: Table, chance: random.Random) -> Move:
    """Anything that the rules allow, and what hurts: extremes, the other side's offer again, its acceptance."""
    own, others, highest = table.turn.own, table.turn.others, table.turn.highest
    moves: list[Move] = [Offer(chance.randint(1, highest)), Offer(1), Offer(highest)]
    if own and others:
        moves.append(Accept())
    if others:
        moves.append(Offer(others[-1]))
    return chance.choice(moves) if len(own) < MAX_ROUNDS else Reject("enough")


@given(
    kind=st.sampled_from(sorted(KINDS)),
    side=st.sampled_from(SIDES),
    base=st.integers(1, 10**9),
    limit=st.integers(1, 2 * 10**9),
    numbers=st.data(),
)
def test_no_turn_whatever_makes_a_strategy_expose_itself_beyond_its_limit(
    kind: str, side: Side, base: int, limit: int, numbers: st.DataObject
) -> None:
    offers = st.lists(st.integers(1, 2 * base), max_size=MAX_ROUNDS)
    own, others = tuple(numbers.draw(offers)), tuple(numbers.draw(offers))
    asked = Turn(
        side=side,
        base_max=base,
        max_offer=2 * base,
        max_price=numbers.draw(st.none() | st.integers(1, 2 * base)),
        rounds_left=MAX_ROUNDS - len(own),
        own=own,
        others=others,
        elapsed=numbers.draw(st.floats(-1, 2)),
    )

    move = KINDS[kind](limit=limit).move(asked)

    require_within(asked, move, limit)
    if isinstance(move, Offer):
        assert 1 <= move.amount <= asked.highest
        assert asked.rounds_left > 0
    if isinstance(move, Accept):
        assert asked.midpoint is not None


def test_who_opens_at_the_edge_and_accepts_at_once_does_not_get_a_limit() -> None:
    asked = Boulware(limit=700).move(turn("provider", others=(1,)))
    offered = Boulware(limit=900).move(turn("client", others=(2_000,)))

    assert isinstance(asked, Offer)
    assert isinstance(offered, Reject)  # With 2,000 standing, every midpoint is beyond 900.
    assert (asked.amount + 1) // 2 > 800  # Halfway between what it wants first and its limit would be 850 and more.


def test_an_answer_that_had_to_be_low_is_no_opening_at_the_edge() -> None:
    provoked = Boulware(limit=700).move(turn("provider", own=(1_250,), others=(100,)))

    assert provoked == Offer(1_300)  # Its midpoint with 100 is the limit, 700: more would end it for an honest client.


def test_what_is_already_as_good_as_wanted_is_taken_by_repeating_it() -> None:
    assert Boulware(limit=900).move(turn("client", others=(450,))) == Offer(450)
    assert FixedLimit(limit=700).move(turn("provider", others=(800,))) == Offer(800)


def test_without_offers_left_a_midpoint_within_the_limit_is_accepted_and_no_other() -> None:
    own = (500,) * MAX_ROUNDS

    assert Boulware(limit=800, beta=0.01).move(turn("client", own=own, others=(1_100,))) == Accept()
    assert isinstance(Boulware(limit=799, beta=0.01).move(turn("client", own=own, others=(1_100,))), Reject)


def test_the_first_wish_is_made_by_side_and_can_be_said() -> None:
    assert Conceder(limit=900).move(turn("client")) == Offer(500)
    assert Conceder(limit=900).move(turn("provider")) == Offer(1_250)
    assert Conceder(limit=400).move(turn("client")) == Offer(400)
    assert Conceder(limit=1_300).move(turn("provider")) == Offer(1_300)
    assert Conceder(limit=900, first=600).move(turn("client")) == Offer(600)
    assert Conceder(limit=900, first=950).move(turn("client")) == Offer(900)
    assert Conceder(limit="9.00", first="6.00").move(turn("client")) == Offer(600)


def test_curves_begin_and_end_at_the_same_and_differ_between() -> None:
    def course(strategy: AspirationStrategy) -> list[int]:
        return [strategy.aspiration(turn("client", own=(1,) * made)) for made in range(MAX_ROUNDS)]

    stubborn, soft = course(Boulware(limit=900)), course(Conceder(limit=900))

    assert (stubborn[0], stubborn[-1]) == (soft[0], soft[-1]) == (500, 900)
    assert stubborn == sorted(stubborn)
    assert soft == sorted(soft)
    assert (stubborn[5], soft[5]) == (521, 855)


def test_tit_for_tat_gives_what_it_is_given_after_a_gesture() -> None:
    strategy = TitForTat(limit=900)

    assert strategy.aspiration(turn("client", others=(1_250,))) == 500
    assert strategy.aspiration(turn("client", own=(500,), others=(1_250,))) == 520
    assert strategy.aspiration(turn("client", own=(500, 520), others=(1_250, 1_050))) == 620
    assert strategy.aspiration(turn("client", own=(500, 520), others=(1_250, 1_400))) == 520
    assert strategy.aspiration(turn("client", own=(500,) * 9, others=(1_250,))) == 900
    assert TitForTat(limit=800).aspiration(turn("provider", own=(1_250,), others=(400, 600))) == 1_128


def test_time_that_runs_out_counts_as_rounds_do() -> None:
    assert time_spent(turn()) == 0
    assert time_spent(turn(elapsed=0.5)) == 0
    assert time_spent(turn(elapsed=0.75)) == 0.5
    assert time_spent(turn(own=(1,) * 9)) == 1
    assert time_spent(Turn(side="client", base_max=1, max_offer=2, rounds_left=1)) == 1
    assert Boulware(limit=900).aspiration(turn("client", elapsed=1.0)) == 900


def test_what_a_contact_allows_at_most_bounds_every_offer() -> None:
    assert turn("provider", max_price=600).highest == 600
    assert Boulware(limit=500).move(turn("provider", max_price=600)) == Offer(600)
    assert isinstance(Boulware(limit=700).move(turn("provider", max_price=600)), Reject)


class Generous:
    """A user's strategy that does not keep its own limit."""

    limit = 700

    def move(self, turn: Turn) -> Move:
        return Offer(900) if turn.midpoint is None else Accept()


@pytest.mark.parametrize(
    ("side", "own", "others", "exposed"),
    [("client", (), (), 900), ("client", (500,), (1_200,), 850), ("client", (), (1_000,), 950)],
)
def test_the_guard_refuses_what_a_strategy_of_a_users_own_exposes(
    side: Side, own: tuple[int, ...], others: tuple[int, ...], exposed: int
) -> None:
    strategy: Strategy = Generous()
    asked = turn(side, own=own, others=others)

    with pytest.raises(BeyondLimit, match=f"700, and its move could be agreed at {exposed}") as refused:
        require_within(asked, strategy.move(asked), 700)

    assert (refused.value.limit, refused.value.exposed) == (700, exposed)


def test_the_guard_sees_that_a_low_midpoint_does_not_make_a_high_offer_safe() -> None:
    with pytest.raises(BeyondLimit, match="agreed at 900"):  # Its midpoint with 100 is 500; but 900 may be repeated.
        require_within(turn("client", own=(200,), others=(100,)), Offer(900), 700)
    require_within(turn("client", own=(200,), others=(100,)), Reject(), 700)


def test_amounts_that_are_none_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="limit is minor units"):
        Boulware(limit=8.5)  # type: ignore[arg-type] # On purpose.
    with pytest.raises(TypeError, match="first is minor units"):
        Boulware(limit=1, first=True)
    with pytest.raises(ValueError, match="at least 1 minor unit"):
        FixedLimit(limit=0)
    with pytest.raises(ValueError, match="beta is above 0"):
        Boulware(limit=1, beta=0)
    with pytest.raises(ValueError, match="beta is above 0"):
        Conceder(limit=1, beta=-1)
    with pytest.raises(NotImplementedError):
        AspirationStrategy(limit=1).move(turn())


def test_strategies_keep_nothing_of_a_session() -> None:
    strategy = TitForTat(limit=900)
    first = strategy.move(turn("client", own=(500,), others=(1_250, 1_100)))
    strategy.move(turn("provider", own=(1_500,), others=(10, 1_999)))

    assert strategy.move(turn("client", own=(500,), others=(1_250, 1_100))) == first
    with pytest.raises(AttributeError):
        strategy.limit = 1_000  # type: ignore[misc] # On purpose.

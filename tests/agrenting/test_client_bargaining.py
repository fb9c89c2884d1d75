"""Sessions played by strategies at the market's own rules, in memory: losses, races, and a server that lies."""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from agrenting.client import playing
from agrenting.client.bargaining import Bargaining
from agrenting.client.errors import (
    BeyondLimit,
    ForgedOffer,
    LyingServer,
    MalformedAnswer,
    RefusedByServer,
    RolledBack,
    WrongAnswer,
    WrongMidpoint,
)
from agrenting.client.kept_topic import JOINED
from agrenting.client.playing import Play, Terms
from agrenting.client.strategies import Accept, Boulware, Conceder, FixedLimit, Move, Offer, Side, Strategy, Turn
from channels.negotiation import Phase
from tests.agrenting.bargain_hall import SOON_S, Hall, Seat
from tests.agrenting.bargain_model import KINDS, haggle, zone
from tests.channels.bargain import opened, signed_accept, signed_offer
from tests.channels.roles import ALICE, BOB, CAROL, Player


@pytest.fixture
def hall(monkeypatch: pytest.MonkeyPatch) -> Hall:
    monkeypatch.setattr(playing, "KeptTopic", Seat)
    monkeypatch.setattr(Seat, "loses", 0)
    return Hall()


def play(hall: Hall, who: Player, strategy: Strategy) -> asyncio.Task[dict[str, Any]]:
    side: Side = "client" if who is ALICE else "provider"
    agent = hall.context(who)
    known = {"id": hall.session.id, "capability": hall.session.capability}
    one = Play(agent, known, strategy, limit=agent.amount(strategy.limit), side=side)
    return asyncio.create_task(one.play())


async def both(hall: Hall, client: Strategy, provider: Strategy) -> tuple[dict[str, Any], dict[str, Any]]:
    async with asyncio.timeout(SOON_S):
        first, second = await asyncio.gather(play(hall, ALICE, client), play(hall, BOB, provider))
    return first, second


@pytest.mark.parametrize("client", KINDS)
@pytest.mark.parametrize("provider", KINDS)
async def test_two_who_are_connected_come_to_what_the_model_says(hall: Hall, client: str, provider: str) -> None:
    strategies = KINDS[client](limit=900), KINDS[provider](limit=700)

    told = await both(hall, *strategies)

    expected = haggle(*strategies, 1_000)
    assert [session["amount"] for session in told] == [expected.price, expected.price]
    assert tuple(hall.amounts[::2]) == expected.client
    assert tuple(hall.amounts[1::2]) == expected.provider
    assert hall.seats == {ALICE.id: [], BOB.id: []}


async def test_lost_replies_change_nothing_and_are_repeated_with_the_very_same_words(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Seat, "loses", 9)
    strategies = Boulware(limit=900), Boulware(limit=700)

    told = await both(hall, *strategies)

    assert told[0]["amount"] == told[1]["amount"] == haggle(*strategies, 1_000).price
    signed = [(who, event, payload["signature"]) for who, event, payload in hall.pushed]
    assert len(signed) == len({*signed}) + 9
    in_round = {(who, payload["round"], payload["amount"]) for who, event, payload in hall.pushed if event == "offer"}
    assert len(in_round) == len(hall.amounts)


async def test_a_session_is_taken_up_where_another_process_has_left_it(hall: Hall) -> None:
    first = play(hall, ALICE, Boulware(limit=900))
    await hall.until_offers(1)
    first.cancel()
    await asyncio.wait((first,))

    told = await both(hall, Boulware(limit=900), Conceder(limit=700))

    assert told[0]["amount"] == haggle(Boulware(limit=900), Conceder(limit=700), 1_000).price


async def test_a_provider_whose_client_does_not_open_does_so_itself(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing, "OPENS_AFTER_S", 0.01)
    playing_bob = play(hall, BOB, FixedLimit(limit=700))
    async with asyncio.timeout(SOON_S):
        await hall.until_offers(1)
        hall.act(ALICE, "offer", as_payload(signed_offer(hall.session, ALICE, 700)))
        session = await playing_bob

    assert (session["status"], session["amount"]) == ("agreed", 700)


async def test_who_is_overtaken_answers_the_offer_that_was_quicker(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "OPENS_AFTER_S", 0.01)
    decide = hall.act

    def quicker(who: Player, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        if not hall.session.offers:
            decide(ALICE, "offer", as_payload(signed_offer(hall.session, ALICE, 800)))
        return decide(who, event, payload)

    monkeypatch.setattr(hall, "act", quicker)
    async with asyncio.timeout(SOON_S):
        session = await play(hall, BOB, FixedLimit(limit=700))

    assert [offer["amount"] for offer in session["offers"]] == [800, 800]
    assert session["amount"] == 800


@pytest.mark.parametrize("status", [Phase.REJECTED, Phase.EXPIRED, Phase.CANCELLED])
async def test_a_session_that_ends_meanwhile_ends_the_play(hall: Hall, status: Phase) -> None:
    playing_bob = play(hall, BOB, Boulware(limit=700))
    await asyncio.sleep(0)
    ended = msgspec.structs.replace(hall.session, status=status, ended_at=hall.session.created_at, reason="so it is")
    events = {Phase.REJECTED: "reject", Phase.EXPIRED: "negotiation_expired", Phase.CANCELLED: "negotiation_cancelled"}
    told = {"agent_id": ALICE.id, "reason": "so it is", "ended_at": "2026-03-01T12:00:00Z"}
    hall.session = ended
    (seat,) = hall.seats[BOB.id]
    seat.events.put_nowait((events[status], told))

    async with asyncio.timeout(SOON_S):
        session = await playing_bob

    assert session["status"] == status


async def test_an_end_that_is_only_told_as_a_refusal_is_looked_up(hall: Hall) -> None:
    class Late(Boulware, frozen=True, kw_only=True):
        def move(self, turn: Turn) -> Move:
            hall.session = msgspec.structs.replace(
                hall.session, status=Phase.REJECTED, ended_at=hall.session.created_at
            )
            return super().move(turn)

    async with asyncio.timeout(SOON_S):
        session = await play(hall, ALICE, Late(limit=900))

    assert (session["status"], session["offers"]) == ("rejected", [])


async def test_a_move_beyond_the_limit_is_not_signed(hall: Hall) -> None:
    class Generous:
        limit = 700

        def move(self, turn: Turn) -> Move:
            return Offer(900)

    with pytest.raises(BeyondLimit):
        await play(hall, ALICE, Generous())

    assert hall.pushed == []
    assert hall.seats[ALICE.id] == []


async def test_a_join_that_is_older_than_a_reply_over_it_is_no_lie(hall: Hall) -> None:
    playing_alice = play(hall, ALICE, FixedLimit(limit=900))
    before = hall.told(ALICE)
    await hall.until_offers(1)
    (seat,) = hall.seats[ALICE.id]
    seat.events.put_nowait((JOINED, before))
    hall.act(BOB, "offer", as_payload(signed_offer(hall.session, BOB, 850)))

    async with asyncio.timeout(SOON_S):
        session = await playing_alice

    assert (session["status"], session["amount"]) == ("agreed", 875)


def without_own(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, "offers": [one for one in told["offers"] if one["agent_id"] != ALICE.id]}


LIES: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], type[LyingServer]]] = [
    (lambda told: {**told, "id": "another"}, WrongAnswer),
    (lambda told: {**told, "capability": "juggle"}, WrongAnswer),
    (lambda told: {**told, "client_agent_id": CAROL.id}, WrongAnswer),
    (lambda told: {**told, "base_max": 2_000, "max_offer": 4_000}, LyingServer),
    (lambda told: {**told, "terms": {"hurry": True}}, LyingServer),
    (lambda told: {name: value for name, value in told.items() if name != "max_rounds"}, LyingServer),
    (without_own, RolledBack),
]


@pytest.mark.parametrize(("lie", "error"), LIES)
async def test_a_lie_about_the_session_ends_the_play_before_anything_more_is_signed(
    hall: Hall, lie: Callable[[dict[str, Any]], dict[str, Any]], error: type[LyingServer]
) -> None:
    hall.lie = lie

    with pytest.raises(error):
        await asyncio.wait_for(play(hall, ALICE, Boulware(limit=900)), SOON_S)

    assert len(hall.pushed) == (1 if lie is without_own else 0)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"amount": 850}, ForgedOffer),
        ({"digest": "0" * 64}, ForgedOffer),
        ({"round": 2, "agent_id": ALICE.id}, ForgedOffer),
    ],
)
async def test_an_offer_that_was_changed_on_its_way_is_not_answered(
    hall: Hall, changed: dict[str, Any], error: type[LyingServer]
) -> None:
    playing_alice = play(hall, ALICE, FixedLimit(limit=900))
    await hall.until_offers(1)
    (seat,) = hall.seats[ALICE.id]
    hall.act(BOB, "offer", as_payload(signed_offer(hall.session, BOB, 1_100)))
    event, payload = seat.events.get_nowait()
    seat.events.put_nowait((event, {**payload, **changed}))

    with pytest.raises(error):
        await asyncio.wait_for(playing_alice, SOON_S)

    assert len(hall.pushed) == 2


async def test_a_forged_offer_is_told_as_a_lie_also_where_it_would_only_be_rejected(hall: Hall) -> None:
    playing_alice = play(hall, ALICE, FixedLimit(limit=500))
    await hall.until_offers(1)
    (seat,) = hall.seats[ALICE.id]
    hall.act(BOB, "offer", as_payload(signed_offer(hall.session, BOB, 900)))
    event, payload = seat.events.get_nowait()
    seat.events.put_nowait((event, {**payload, "amount": 2_000}))

    with pytest.raises(ForgedOffer):
        await asyncio.wait_for(playing_alice, SOON_S)

    assert [event for _, event, _ in hall.pushed] == ["offer", "offer"]


async def test_in_one_round_only_one_offer_is_ever_signed(hall: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fickle:
        """Wants something else each time that it is asked."""

        limit = 900
        wants = 500

        def move(self, turn: Turn) -> Move:
            self.wants += 1
            return Offer(self.wants)

    decide, asked = hall.act, []

    def forgetful(who: Player, event: str, payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(payload)
        if len(asked) == 1:
            hall.seats[ALICE.id][0].events.put_nowait((JOINED, hall.told(ALICE)))
            raise RefusedByServer("stale_state", "", {})
        return decide(who, event, payload)

    monkeypatch.setattr(hall, "act", forgetful)
    playing_alice = play(hall, ALICE, Fickle())
    async with asyncio.timeout(SOON_S):
        await hall.until_offers(1)
    playing_alice.cancel()
    await asyncio.wait((playing_alice,))

    assert asked[0] == asked[1]


@pytest.mark.parametrize("told", [("offer", "text"), ("offer", {}), ("reject", {}), (JOINED, {}), (JOINED, [])])
async def test_what_has_not_the_shape_of_an_event_is_no_answer(hall: Hall, told: tuple[str, Any]) -> None:
    playing_bob = play(hall, BOB, FixedLimit(limit=700))
    await asyncio.sleep(0)
    (seat,) = hall.seats[BOB.id]
    seat.events.put_nowait(told)

    with pytest.raises(MalformedAnswer):
        await asyncio.wait_for(playing_bob, SOON_S)


async def test_a_wrong_midpoint_is_not_accepted(hall: Hall) -> None:
    class Accepting:
        limit = 2_000

        def move(self, turn: Turn) -> Move:
            return Accept() if turn.midpoint is not None else Offer(500)

    hall.lie = lambda told: {**told, "midpoint": 700} if told["midpoint"] else told
    playing_alice = play(hall, ALICE, Accepting())
    await hall.until_offers(1)
    (seat,) = hall.seats[ALICE.id]
    hall.act(BOB, "offer", as_payload(signed_offer(hall.session, BOB, 1_000)))
    event, payload = seat.events.get_nowait()
    seat.events.put_nowait((event, {**payload, "midpoint": 700}))

    with pytest.raises(WrongMidpoint):
        await asyncio.wait_for(playing_alice, SOON_S)

    assert hall.session.status is Phase.OPEN


async def test_a_provider_answers_what_was_announced_and_gets_the_agreement(hall: Hall) -> None:
    bargaining = Bargaining(hall.context(BOB))
    announced = {"session_id": hall.session.id, "capability": "translate", "base_max": 1_000}
    answering = asyncio.create_task(bargaining.answer(announced, FixedLimit(limit=700)))
    await asyncio.sleep(0)
    hall.act(ALICE, "offer", as_payload(signed_offer(hall.session, ALICE, 600)))
    await hall.until_offers(2)
    hall.act(ALICE, "accept", msgspec.to_builtins(signed_accept(hall.session, ALICE)))

    agreement = await asyncio.wait_for(answering, SOON_S)

    assert agreement is not None
    assert (agreement.amount, agreement.client_agent_id, agreement.capability) == (700, ALICE.id, "translate")
    assert [offer.amount for offer in agreement.offers] == [600, 800]
    assert agreement == await bargaining.answer(announced, FixedLimit(limit=700))  # Asked again it tells the same.
    assert "KnownAgreement" not in repr(agreement)


async def test_a_provider_that_finds_no_price_has_no_agreement(hall: Hall) -> None:
    answering = asyncio.create_task(
        Bargaining(hall.context(BOB)).answer(
            {"session_id": hall.session.id, "capability": "translate"}, FixedLimit(limit=700)
        )
    )
    await asyncio.sleep(0)
    hall.act(ALICE, "reject", {"reason": "too dear"})

    assert await asyncio.wait_for(answering, SOON_S) is None


@pytest.fixture
def with_terms(hall: Hall) -> Hall:
    hall.session = opened(terms={"penalty": 1_000_000})
    return hall


def unsure(_terms: dict[str, Any]) -> bool:
    raise ValueError("who knows")


def greedy(terms: dict[str, Any]) -> bool:
    terms["penalty"] = 0
    return True


async def answered(hall: Hall, terms: Terms | None) -> asyncio.Task[Any]:
    announced = {"session_id": hall.session.id, "capability": "translate"}
    answering = asyncio.create_task(Bargaining(hall.context(BOB)).answer(announced, FixedLimit(limit=700), terms=terms))
    await asyncio.sleep(0)
    return answering


@pytest.mark.parametrize(
    "terms", [None, lambda terms: "penalty" not in terms, lambda _terms: 1, unsure], ids=["none", "no", "1", "raises"]
)
async def test_terms_that_nobody_agrees_to_are_rejected_before_anything_is_signed(
    with_terms: Hall, terms: Terms | None
) -> None:
    answering = await answered(with_terms, terms)

    assert await asyncio.wait_for(answering, SOON_S) is None
    assert with_terms.session.status is Phase.REJECTED
    assert with_terms.pushed == [(BOB.id, "reject", {"reason": "these terms are not agreed to"})]


async def test_terms_that_could_not_be_judged_are_logged(with_terms: Hall, caplog: pytest.LogCaptureFixture) -> None:
    await (await answered(with_terms, unsure))

    assert "who knows" in caplog.text


@pytest.mark.parametrize("terms", [lambda terms: terms == {"penalty": 1_000_000}, greedy])
async def test_terms_that_are_agreed_to_are_signed_as_they_were_told(with_terms: Hall, terms: Terms) -> None:
    answering = await answered(with_terms, terms)
    with_terms.act(ALICE, "offer", as_payload(signed_offer(with_terms.session, ALICE, 800)))

    agreement = await asyncio.wait_for(answering, SOON_S)

    assert (agreement.amount, agreement.terms) == (800, {"penalty": 1_000_000})


async def test_terms_are_not_judged_before_the_session_holds(with_terms: Hall) -> None:
    judged: list[dict[str, Any]] = []
    with_terms.lie = lambda told: {**told, "terms": {"penalty": 0}}

    def judge(terms: dict[str, Any]) -> bool:
        judged.append(terms)
        return True

    answering = await answered(with_terms, judge)

    with pytest.raises(LyingServer):
        await asyncio.wait_for(answering, SOON_S)
    assert (judged, with_terms.pushed) == ([], [])


async def test_random_limits_and_losses_on_both_sides_always_end_alike(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(8)
    for _ in range(20):
        one = Hall()
        _, most, least = zone(chance, has_one=chance.random() < 0.7)
        client = chance.choice([*KINDS.values()])(limit=max(1, most * 1_000 // 100_000))
        provider = chance.choice([*KINDS.values()])(limit=max(1, least * 1_000 // 100_000))
        monkeypatch.setattr(Seat, "loses", chance.randint(0, 6))

        told = await both(one, client, provider)

        assert told[0]["status"] == told[1]["status"]
        assert told[0]["amount"] == told[1]["amount"] == haggle(client, provider, 1_000).price


def as_payload(request: Any) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(request)
    return {name: value for name, value in fields.items() if value is not None}

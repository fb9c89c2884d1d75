"""What is over: asking again after it, and requests and contacts that the clock has ended."""

from datetime import timedelta

import msgspec
import pytest

from channels.contact_book import ContactRequest, RequestPhase
from channels.contacts import NO_TIE, Tie
from channels.told import Retied
from tests.channels.book import agent_entity
from tests.channels.roles import NOW, Player, refused
from tests.channels.strangers import (
    ALICE,
    BOB,
    JANE,
    answer,
    ask,
    asked,
    befriended,
    contacts,
    ears,
    handle_of,
    requests,
    strangers,
)
from tests.channels.world import World

MONTH_S = 2_592_000
HOUR_S = 3_600


@pytest.fixture
def world() -> World:
    return strangers()


class TestAskingAgain:
    @pytest.mark.parametrize(("who", "action"), [(BOB, "reject"), (ALICE, "cancel")])
    def test_after_a_no_one_may_ask_again(self, world: World, who: Player, action: str) -> None:
        answer(world, who, action, asked(world))

        assert ask(world)["status"] == "pending"

    def test_after_the_contact_has_ended_one_may_ask_again(self, world: World) -> None:
        befriended(world)
        world.call(BOB, "remove", handle=handle_of(ALICE))

        assert ask(world)["status"] == "pending"

    def test_a_request_that_is_over_by_the_clock_expires_when_the_next_one_is_made(self, world: World) -> None:
        old = asked(world)
        world.advance(MONTH_S, run_timers=False)
        alice, bob = ears(world, ALICE, BOB)

        new = asked(world)

        assert [(made.id, made.status) for made in requests(world)] == [(old, "expired"), (new, "pending")]
        assert (requests(world)[0].responded_by, requests(world)[0].responded_at) == (None, world.now)
        assert alice.payloads("contact_request_updated") == [{"id": old, "status": "expired"}]
        assert bob.events() == ["contact_request_updated", "contact_request_received"]
        assert world.timers.keys() == {(f"contact_request:{new}", "contact_request_expires")}

    def test_just_before_its_end_it_is_pending_still(self, world: World) -> None:
        asked(world)
        world.advance(MONTH_S - 1)

        assert refused(ask, world).reason == "request_pending"

    @pytest.mark.parametrize(("who", "whom"), [(ALICE, BOB), (BOB, ALICE)])
    def test_a_contact_that_is_over_by_the_clock_ends_when_either_asks(
        self, world: World, who: Player, whom: Player
    ) -> None:
        old = befriended(world, expires_at="2026-03-01T13:00:00Z")
        world.advance(HOUR_S, run_timers=False)
        alice, bob = ears(world, ALICE, BOB)

        ask(world, who, whom)

        (contact,) = contacts(world)
        assert (contact.status, contact.ended_by, contact.ended_at) == ("ended", None, world.now)
        assert alice.payloads("contact_removed") == bob.payloads("contact_removed") == [{"id": old.id}]
        assert world.retied[-1] == Retied(who.id, whom.id, NO_TIE)
        assert requests(world)[-1].is_to_stranger
        assert [kind for _, kind in world.timers] == ["contact_request_expires"]

    def test_a_contact_that_is_over_by_the_clock_is_replaced_by_crossing(self, world: World) -> None:
        """However it came about that Bob's request stands there beside the contact."""
        old = befriended(world, expires_at="2026-03-01T13:00:00Z")
        received = ContactRequest(
            id="r",
            requester=agent_entity(BOB.agent).side,
            recipient=agent_entity(ALICE.agent).side,
            inserted_at=NOW,
            expires_at=NOW + timedelta(days=1),
        )
        world.states["contact_request"]["r"] = received
        world.advance(HOUR_S, run_timers=False)

        assert ask(world)["status"] == "approved"

        ended, new = contacts(world)
        assert (ended.id, ended.status, new.status, new.scope) == (old.id, "ended", "active", None)
        assert world.retied[-2:] == [
            Retied(ALICE.id, BOB.id, NO_TIE),
            Retied(BOB.id, ALICE.id, Tie(is_contact=True)),
        ]
        assert world.timers == {}


class TestExpiry:
    def test_the_clock_ends_a_pending_request_and_both_are_told(self, world: World) -> None:
        request_id = asked(world)
        alice, bob, jane = ears(world, ALICE, BOB, JANE)

        world.advance(MONTH_S - 1)
        assert requests(world)[0].status == "pending"
        world.advance(1)

        (request,) = requests(world)
        assert (request.status, request.responded_by, request.responded_at) == ("expired", None, world.now)
        for ear in (alice, bob):
            assert ear.payloads("contact_request_updated") == [{"id": request_id, "status": "expired"}]
        assert (jane.heard, world.timers, world.retied) == ([], {}, [])

    @pytest.mark.parametrize("phase", [phase for phase in RequestPhase if phase is not RequestPhase.PENDING])
    def test_a_timer_that_comes_late_changes_nothing(self, world: World, phase: RequestPhase) -> None:
        request_id = asked(world)
        states = world.states["contact_request"]
        states[request_id] = msgspec.structs.replace(states[request_id], status=phase)
        before = requests(world)

        world.advance(MONTH_S)

        assert requests(world) == before

    def test_of_a_request_that_is_gone_nothing_expires(self, world: World) -> None:
        asked(world)
        world.states["contact_request"].clear()

        world.advance(MONTH_S)

        assert requests(world) == []

"""The gate, where sessions are opened: strangers, contacts and their scopes in negotiations and tasks."""

from typing import Any

import msgspec
import pytest

from channels.contacts import Kind
from channels.errors import Refusal
from tests.channels.bargain import signed_accept, signed_offer
from tests.channels.roles import OTHER_ID, Player, player, refused
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JOHN,
    LONE,
    MALLORY,
    ask,
    asked,
    befriended,
    block,
    strangers,
)
from tests.channels.work import PRICE, agreement, hired, in_phase
from tests.channels.world import World

HOUR_S = 3_600
IN_AN_HOUR = "2026-03-01T13:00:00Z"
BOBS_SIBLING = player("ben", number=0xE, handle="jane/ben", owner_id=BOB.agent.owner_id, **LONE)
ALICES_SIBLING = player("ann", number=0xF, handle="john/ann", owner_id=ALICE.agent.owner_id, **LONE)


@pytest.fixture
def world() -> World:
    return strangers(ALICE, BOB, CAROL, MALLORY, BOBS_SIBLING, ALICES_SIBLING)


def bargain(world: World, who: Player = ALICE, whom: Player = BOB) -> str:
    session_id: str = world.open_negotiation(who, provider_agent_id=whom.id, capability="translate")["id"]
    return session_id


def hire(world: World, who: Player = ALICE, whom: Player = BOB, **payload: Any) -> str:
    if who is not ALICE:
        world.deposit(who, PRICE)
    return hired(world, client=who, provider=whom, **payload)


OPENINGS = pytest.mark.parametrize("open_it", [bargain, hire])


def offer(world: World, session_id: str, who: Player, amount: int) -> Any:
    made = signed_offer(world.states["negotiation"][session_id], who, amount)
    return world.push(who, f"negotiation:{session_id}", "offer", msgspec.structs.asdict(made))


def accept(world: World, session_id: str, who: Player) -> Any:
    made = signed_accept(world.states["negotiation"][session_id], who)
    return world.push(who, f"negotiation:{session_id}", "accept", msgspec.structs.asdict(made))


def told(refusal: Refusal) -> tuple[str, str, dict[str, Any]]:
    return refusal.kind, refusal.reason, refusal.context


def exceeded(**context: Any) -> tuple[str, str, dict[str, Any]]:
    """What stands outside a scope is told like this."""
    return "forbidden", "contact_scope_exceeded", context


@OPENINGS
class TestContacts:
    def test_strangers_open_nothing_and_that_changes_nothing(self, world: World, open_it: Any) -> None:
        before = world.everything()

        refusal = refused(open_it, world)

        assert (refusal.kind, refusal.reason) == ("forbidden", "contact_required")
        assert world.everything() == before

    def test_a_pending_request_grants_nothing(self, world: World, open_it: Any) -> None:
        asked(world)

        assert refused(open_it, world).reason == "contact_required"

    @pytest.mark.parametrize(("who", "whom"), [(ALICE, BOB), (BOB, ALICE)])
    def test_contacts_may_open_both_ways(self, world: World, open_it: Any, who: Player, whom: Player) -> None:
        befriended(world)

        open_it(world, who, whom)

    def test_a_contact_does_not_extend_to_siblings_or_owners(self, world: World, open_it: Any) -> None:
        befriended(world)
        ask(world, JOHN, CAROL)

        for who, whom in ((ALICE, BOBS_SIBLING), (ALICES_SIBLING, BOB), (ALICE, CAROL)):
            assert refused(open_it, world, who, whom).reason == "contact_required"

    def test_an_owners_contact_is_not_its_agents(self, world: World, open_it: Any) -> None:
        befriended(world, JOHN, BOB)

        assert refused(open_it, world).reason == "contact_required"

    def test_siblings_need_no_contact(self, world: World, open_it: Any) -> None:
        open_it(world, ALICE, ALICES_SIBLING)

    def test_after_a_block_there_is_nobody(self, world: World, open_it: Any) -> None:
        befriended(world)
        block(world, BOB, ALICE)

        assert refused(open_it, world).reason == "not_found"
        assert refused(open_it, world, BOB, ALICE).reason == "blocked_by_you"


class TestKinds:
    @pytest.mark.parametrize(
        ("kinds", "open_it", "is_open"),
        [
            (["task"], hire, True),
            (["task"], bargain, False),
            (["negotiation"], bargain, True),
            (["negotiation"], hire, False),
            (["negotiation", "task"], hire, True),
            (["room", "message", "payment_channel"], hire, False),
            ([], bargain, False),
        ],
    )
    def test_what_the_contact_is_for_is_opened_and_nothing_else(
        self, world: World, kinds: list[str], open_it: Any, *, is_open: bool
    ) -> None:
        befriended(world, kinds=kinds)

        if is_open:
            open_it(world)
        else:
            assert told(refused(open_it, world)) == exceeded(kinds=tuple(Kind(kind) for kind in kinds))

    @OPENINGS
    def test_the_scope_does_not_bind_who_approved_it(self, world: World, open_it: Any) -> None:
        befriended(world, kinds=[], max_price=0, max_open=1)

        open_it(world, BOB, ALICE)
        open_it(world, BOB, ALICE)

    @OPENINGS
    def test_it_does_not_bind_where_no_contact_is_needed(self, world: World, open_it: Any) -> None:
        befriended(world, kinds=[], max_price=0, max_open=1)
        befriended(world, ALICE, ALICES_SIBLING, kinds=[], max_price=0, max_open=1)
        world.change_agent(BOB, is_global=True)

        for whom in (BOB, ALICES_SIBLING):
            open_it(world, ALICE, whom)
            open_it(world, ALICE, whom)


class TestMaxOpen:
    @pytest.mark.parametrize("first", [bargain, hire])
    @OPENINGS
    def test_sessions_of_all_kinds_count_together(self, world: World, first: Any, open_it: Any) -> None:
        befriended(world, max_open=2)
        bargain(world)
        first(world)
        before = world.everything()

        assert told(refused(open_it, world)) == exceeded(max_open=2)
        assert world.everything() == before

    def test_what_has_ended_makes_room(self, world: World) -> None:
        befriended(world, max_open=1)
        session_id = bargain(world)
        world.push(BOB, f"negotiation:{session_id}", "reject", {})

        task_id = hire(world)
        assert told(refused(hire, world)) == exceeded(max_open=1)
        world.push(BOB, f"task:{task_id}", "progress", {"percent": 50})
        assert told(refused(hire, world)) == exceeded(max_open=1)
        world.push(BOB, f"task:{task_id}", "complete", {"result": "done"})
        hire(world)

    def test_what_the_other_opened_and_what_is_open_with_others_does_not_count(self, world: World) -> None:
        befriended(world, max_open=1)
        befriended(world, ALICE, CAROL)
        bargain(world, BOB, ALICE)
        bargain(world, ALICE, CAROL)

        bargain(world)


class TestMaxPrice:
    @pytest.mark.parametrize("max_price", [0, PRICE - 1])
    def test_a_task_above_it_is_not_opened(self, world: World, max_price: int) -> None:
        befriended(world, max_price=max_price)
        before = world.everything()

        assert told(refused(hire, world)) == exceeded(max_price=max_price)
        assert world.everything() == before

    def test_a_task_at_it_is_opened(self, world: World) -> None:
        befriended(world, max_price=PRICE)

        hire(world, max_price=10 * PRICE)

    def test_an_agreement_above_it_opens_no_task(self, world: World) -> None:
        """It was made before the contact was what it is now."""
        befriended(world, max_price=799)
        agreement(world)

        assert told(refused(hire, world, negotiation_session_id=OTHER_ID)) == exceeded(max_price=799)
        world.call(ALICE, "remove", handle="jane/bob")
        befriended(world, max_price=800)
        hire(world, negotiation_session_id=OTHER_ID)

    def test_it_bounds_the_offers_of_both_sides(self, world: World) -> None:
        befriended(world, max_price=900)
        session_id = bargain(world)
        assert world.join(BOB, f"negotiation:{session_id}")["max_price"] == 900

        assert told(refused(offer, world, session_id, ALICE, 901)) == exceeded(max_price=900)
        offer(world, session_id, ALICE, 600)
        assert told(refused(offer, world, session_id, BOB, 901)) == exceeded(max_price=900)
        offer(world, session_id, BOB, 900)

        assert accept(world, session_id, ALICE)["amount"] == 750

    def test_what_is_out_of_range_is_told_before_it(self, world: World) -> None:
        befriended(world, max_price=900)
        session_id = bargain(world)

        assert refused(offer, world, session_id, ALICE, 2 * PRICE + 1).reason == "amount_out_of_range"

    def test_it_is_frozen_when_the_negotiation_opens(self, world: World) -> None:
        befriended(world)
        session_id = bargain(world)

        assert world.states["negotiation"][session_id].max_price is None
        offer(world, session_id, ALICE, 2 * PRICE)

    def test_a_contact_without_one_bounds_nothing(self, world: World) -> None:
        befriended(world, max_open=5)
        session_id = bargain(world)

        offer(world, session_id, ALICE, 2 * PRICE)
        hire(world)

    def test_where_the_provider_is_the_requester_it_is_not_bound_as_one(self, world: World) -> None:
        befriended(world, BOB, ALICE, max_price=0)
        session_id = bargain(world)

        offer(world, session_id, ALICE, 600)
        offer(world, session_id, BOB, 2 * PRICE)
        hire(world)


class TestTheClock:
    @OPENINGS
    def test_the_scopes_end_is_the_end_of_the_contact(self, world: World, open_it: Any) -> None:
        befriended(world, expires_at=IN_AN_HOUR)

        world.advance(HOUR_S - 1)
        open_it(world)
        world.advance(1, run_timers=False)
        assert refused(open_it, world).reason == "contact_required"

    def test_a_running_task_goes_on_past_it(self, world: World) -> None:
        befriended(world, expires_at=IN_AN_HOUR)
        task_id = in_phase(world, "in_progress", client=ALICE, provider=BOB)

        world.advance(HOUR_S)

        assert world.task(task_id).status == "in_progress"
        world.require_balance()

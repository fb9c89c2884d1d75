"""The end of a contact, by either of the two, by an owner, or by the clock: what it cuts, and what goes on."""

from datetime import timedelta
from typing import Any

import pytest

from channels.contact_book import Pair
from channels.contacts import NO_TIE, Scope, Tie
from channels.errors import not_found
from channels.handlers import Access, Decision
from channels.ledger import available, escrow
from channels.revocation import RemoveContact, contact_expired, ended_by_clock, remove_contact
from channels.told import Retied
from tests.channels.roles import NOW, Player, context, refused
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    MALLORY,
    MAX,
    answer,
    asked,
    befriended,
    contacts,
    ears,
    handle_of,
    requests,
    strangers,
)
from tests.channels.work import PRICE, PURSE, held, hired
from tests.channels.world import CALLS, THE_HOUSE, Who, World

IN_AN_HOUR = "2026-03-01T13:00:00Z"
HOUR_S = 3_600
SIDES = [ALICE, BOB, JOHN, JANE]
"""Who may end the contact of Alice and Bob."""


@pytest.fixture
def world() -> World:
    return strangers()


def bargaining(world: World, who: Player = ALICE, whom: Player = BOB) -> str:
    """A negotiation that is open; its id."""
    session_id: str = world.open_negotiation(who, provider_agent_id=whom.id, capability="translate")["id"]
    return session_id


def remove(world: World, who: Who, contact_id: str) -> Any:
    return world.call(who, "remove", contact_id=contact_id)


class TestRemoving:
    @pytest.mark.parametrize("who", SIDES, ids=["alice", "bob", "john", "jane"])
    def test_either_party_or_its_owner_ends_it(self, world: World, who: Who) -> None:
        contact = befriended(world)

        reply = remove(world, who, contact.id)

        (ended,) = contacts(world)
        assert reply == {"status": "removed"}
        assert (ended.status, ended.ended_by, ended.ended_at) == ("ended", who.id, NOW)
        assert (world.book.ties(), world.timers) == ({}, {})
        told = world.retied[-1]
        assert (told.tie, {told.a_id, told.b_id}) == (NO_TIE, {ALICE.id, BOB.id})

    @pytest.mark.parametrize(("who", "other"), [(ALICE, BOB), (BOB, ALICE)])
    def test_it_is_ended_by_the_other_ones_handle_too(self, world: World, who: Player, other: Player) -> None:
        befriended(world)

        assert world.call(who, "remove", handle=f"@{handle_of(other)}") == {"status": "removed"}
        assert contacts(world)[0].status == "ended"

    @pytest.mark.parametrize("who", SIDES, ids=["alice", "bob", "john", "jane"])
    def test_both_are_told_and_nobody_else(self, world: World, who: Who) -> None:
        contact = befriended(world)
        alice, bob, john, jane, carol = ears(world, ALICE, BOB, JOHN, JANE, CAROL)

        remove(world, who, contact.id)

        for ear in (alice, bob):
            assert [(heard.event, heard.payload) for heard in ear.heard] == [("contact_removed", {"id": contact.id})]
        assert (john.heard, jane.heard, carol.heard) == ([], [], [])

    def test_its_clock_is_disarmed(self, world: World) -> None:
        contact = befriended(world, expires_at=IN_AN_HOUR)
        assert [*world.timers] == [(f"contact:{contact.id}", "contact_expires")]

        remove(world, ALICE, contact.id)

        assert world.timers == {}

    def test_how_it_is_asked(self) -> None:
        handler = CALLS["remove"]

        assert (handler.request, handler.decide) == (RemoveContact, remove_contact)
        assert (handler.loads, handler.access, handler.scope) == ("contact_removing", Access.WRITE, "contacts")


class TestWhatIsNoContact:
    """There is one answer for all of them, and nothing changes."""

    def _require_missing(self, world: World, who: Who, **named: Any) -> None:
        before = world.everything()
        refusal = refused(world.call, who, "remove", **named)
        assert (refusal.kind, refusal.response()) == ("not_found", not_found("contact").response())
        assert world.everything() == before

    def test_strangers_have_none(self, world: World) -> None:
        asked(world)

        for handle in ("jane/bob", "jane/nobody", "john/alice"):
            self._require_missing(world, ALICE, handle=handle)
        self._require_missing(world, ALICE, contact_id="unknown")

    @pytest.mark.parametrize("who", [CAROL, MALLORY, MAX], ids=["carol", "mallory", "max"])
    def test_nobody_ends_that_of_others(self, world: World, who: Who) -> None:
        contact = befriended(world)

        self._require_missing(world, who, contact_id=contact.id)
        assert contacts(world) == [contact]

    def test_an_agent_does_not_end_its_owners(self, world: World) -> None:
        contact = befriended(world, ALICE, JANE)

        self._require_missing(world, BOB, contact_id=contact.id)

    def test_what_has_ended_ends_once(self, world: World) -> None:
        contact = befriended(world)
        remove(world, ALICE, contact.id)

        self._require_missing(world, ALICE, contact_id=contact.id)
        self._require_missing(world, BOB, handle="john/alice")

    def test_what_is_over_by_the_clock_has_ended_also_without_its_timer(self, world: World) -> None:
        contact = befriended(world, expires_at=IN_AN_HOUR)
        world.advance(HOUR_S, run_timers=False)

        self._require_missing(world, ALICE, contact_id=contact.id)
        self._require_missing(world, ALICE, handle="jane/bob")


def end_by_hand(world: World) -> None:
    world.call(BOB, "remove", handle="john/alice")


def end_by_owner(world: World) -> None:
    remove(world, JOHN, contacts(world)[0].id)


def end_by_clock(world: World) -> None:
    world.advance(1)


def end_on_read(world: World) -> None:
    """Its timer has not run when one of the two acts on it."""
    world.advance(1, run_timers=False)
    asked(world, BOB, ALICE)


def end_by_block(world: World) -> None:
    world.call(BOB, "block", handle="john/alice")


ENDS = pytest.mark.parametrize("end", [end_by_hand, end_by_owner, end_by_clock, end_on_read, end_by_block])


@ENDS
class TestWhatItCuts:
    @pytest.fixture
    def world(self) -> World:
        """Where Alice and Bob are contacts for an hour, and time stands just before its end."""
        world = strangers()
        befriended(world, expires_at=IN_AN_HOUR)
        world.advance(HOUR_S - 1)
        return world

    def test_nothing_new_can_be_opened(self, world: World, end: Any) -> None:
        end(world)

        for open_it in (bargaining, _hire):
            assert refused(open_it, world).reason == ("not_found" if end is end_by_block else "contact_required")

    @pytest.mark.parametrize(("who", "whom"), [(ALICE, BOB), (BOB, ALICE)])
    def test_open_negotiations_of_the_two_are_cancelled_whoever_opened_them(
        self, world: World, end: Any, who: Player, whom: Player
    ) -> None:
        ids = [bargaining(world, who, whom), bargaining(world, who, whom)]
        listeners = [world.listen(who, f"negotiation:{id_}") for id_ in ids]

        end(world)

        for id_, ear in zip(ids, listeners, strict=True):
            session = world.states["negotiation"][id_]
            assert (session.status, session.reason, session.ended_at) == ("cancelled", "contact_revoked", world.now)
            told = {"session_id": id_, "reason": "contact_revoked", "ended_at": ear.heard[0].payload["ended_at"]}
            assert [(heard.event, heard.payload) for heard in ear.heard] == [("negotiation_cancelled", told)]
        assert not [kind for _, kind in world.timers if kind == "negotiation_expires"]

    def test_tasks_that_are_not_started_are_cancelled_and_refunded(self, world: World, end: Any) -> None:
        ids = [_hire(world), _hire(world)]
        ear = world.listen(BOB, f"task:{ids[0]}")
        entries = len(world.entries)

        end(world)

        for id_ in ids:
            task = world.task(id_)
            assert (task.status, task.reason, task.escrow_status) == ("cancelled", "contact_revoked", "refunded")
        (heard,) = ear.heard
        assert (heard.event, heard.payload["task"]["status"]) == ("task_cancelled", "cancelled")
        assert [
            [(posting.account, posting.amount) for posting in entry.postings] for entry in world.entries[entries:]
        ] == [[(escrow(id_), -PRICE), (available(ALICE.id), PRICE)] for id_ in ids]
        assert world.available(ALICE) == PURSE
        assert not [kind for _, kind in world.timers if kind == "task_deadline"]
        world.require_balance()

    def test_running_tasks_go_on_because_money_is_held_for_them(self, world: World, end: Any) -> None:
        task_id = _hire(world)
        world.push(BOB, f"task:{task_id}", "progress", {"percent": 10})
        before = world.task(task_id)

        end(world)

        assert world.task(task_id) == before
        assert held(world, task_id) == PRICE
        world.push(BOB, f"task:{task_id}", "complete", {"result": "done"})
        assert world.task(task_id).status == "completed"
        world.require_balance()

    def test_what_is_paid_as_it_streams_ends_though_it_has_begun(self, world: World, end: Any) -> None:
        world.deposit(ALICE, 1)
        channel_id = world.open_channel(ALICE, counterparty_agent_id=BOB.id, deposit=1)["id"]
        world.rest(BOB, f"payment:{channel_id}", "accept")
        price = {"amount": PRICE, "per": "chunk"}
        begun, waiting = (
            hired(world, provider=BOB, client=ALICE, stream_price=price, channel_id=channel_id) for _ in range(2)
        )
        world.push(BOB, f"task:{begun}", "output_stream", {"chunk": "hello ", "seq": 0})

        end(world)

        for task_id in (begun, waiting):
            assert (world.task(task_id).status, world.task(task_id).reason) == ("cancelled", "contact_revoked")
        world.require_balance()

    def test_what_has_ended_before_stays_as_it_ended(self, world: World, end: Any) -> None:
        session_id, task_id = bargaining(world), _hire(world)
        world.push(BOB, f"negotiation:{session_id}", "reject", {"reason": "no"})
        world.push(ALICE, f"task:{task_id}", "cancel", {"reason": "no"})
        before = (world.states["negotiation"][session_id], world.task(task_id))

        end(world)

        assert (world.states["negotiation"][session_id], world.task(task_id)) == before

    def test_what_either_has_with_others_goes_on(self, world: World, end: Any) -> None:
        befriended(world, ALICE, CAROL)
        befriended(world, CAROL, BOB)
        task_id, session_id = hired(world, provider=CAROL, client=ALICE), bargaining(world, CAROL, BOB)

        end(world)

        assert world.task(task_id).status == "pending"
        assert world.states["negotiation"][session_id].status == "open"
        assert world.book.tie(ALICE.id, CAROL.id).is_contact


def _hire(world: World) -> str:
    return hired(world, provider=BOB, client=ALICE)


class TestTheClock:
    def test_it_ends_a_contact_when_its_scope_says_so(self, world: World) -> None:
        contact = befriended(world, expires_at=IN_AN_HOUR, max_open=1)
        alice, bob = ears(world, ALICE, BOB)

        world.advance(HOUR_S - 1)
        assert (contacts(world), alice.heard) == ([contact], [])
        world.advance(1)

        (ended,) = contacts(world)
        assert (ended.status, ended.ended_by, ended.ended_at) == ("ended", None, world.now)
        for ear in (alice, bob):
            assert [(heard.event, heard.payload) for heard in ear.heard] == [("contact_removed", {"id": contact.id})]
        assert world.retied[-1] == Retied(ALICE.id, BOB.id, NO_TIE)
        assert world.timers == {}

    def test_over_by_the_clock_it_lets_nothing_be_opened_also_without_its_timer(self, world: World) -> None:
        befriended(world, expires_at=IN_AN_HOUR)
        world.advance(HOUR_S, run_timers=False)

        assert world.book.tie(ALICE.id, BOB.id) == NO_TIE
        assert refused(bargaining, world).reason == "contact_required"
        assert refused(_hire, world).reason == "contact_required"

    def test_a_timer_that_comes_early_or_late_does_nothing(self, world: World) -> None:
        befriended(world, expires_at=IN_AN_HOUR)
        pair = world.book.pair(ALICE.id, BOB.id)
        assert pair is not None

        for early in (context(THE_HOUSE), context(THE_HOUSE, now=NOW + timedelta(seconds=HOUR_S - 1))):
            assert contact_expired(pair, None, early) == ended_by_clock(pair, early) == Decision()
        late = context(THE_HOUSE, now=NOW + timedelta(days=1))
        assert contact_expired(None, None, late) == Decision()
        assert contact_expired(Pair(a=pair.a, b=pair.b), None, late) == Decision()
        assert contact_expired(pair, None, late) == ended_by_clock(pair, late) != Decision()

    def test_a_contact_without_an_end_has_none(self, world: World) -> None:
        befriended(world, max_price=5)

        world.advance(10**8)

        assert contacts(world)[0].status == "active"
        assert world.book.tie(ALICE.id, BOB.id) == Tie(is_contact=True, scope=Scope(max_price=5))


def test_the_requests_of_the_two_are_not_touched_by_the_end_of_a_contact(world: World) -> None:
    request_id = asked(world, ALICE, JANE)
    befriended(world)

    end_by_hand(world)

    assert answer(world, JANE, "approve", request_id)["status"] == "approved"
    assert [made.status for made in requests(world)] == ["approved", "approved"]

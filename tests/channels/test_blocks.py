"""Keeping another away: what a block ends, what the blocked one is answered, and how it ends itself."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from channels.contact_book import Block, Pair
from channels.contacts import NO_TIE, Kind, Relation, Tie, exists_for, is_discoverable_by, is_present_to, relation
from channels.errors import not_found
from channels.handlers import Access, Decision
from channels.revocation import BlockEntity, UnblockEntity, block_entity, block_expired, unblock_entity
from channels.told import Retied
from tests.channels.book import agent_entity
from tests.channels.roles import NOW, Player, context, market_with, player, refused
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    LONE,
    answer,
    ask,
    asked,
    befriended,
    block,
    blocks,
    contacts,
    ears,
    requests,
    strangers,
    unblock,
)
from tests.channels.work import hired
from tests.channels.world import CALLS, THE_HOUSE, Who, World

IN_AN_HOUR = "2026-03-01T13:00:00Z"
HOUR_S = 3_600
MONTH_S = 2_592_000
SIBLING = player("ann", number=0xE, handle="john/ann", owner_id=ALICE.agent.owner_id, **LONE)


@pytest.fixture
def world() -> World:
    return strangers()


class TestBlocking:
    def test_the_blocker_is_shown_its_block(self, world: World) -> None:
        reply = block(world, reason="  Spam.  ", expires_at="2026-03-01T15:00:00.1239+02:00")

        (made,) = blocks(world)
        assert reply == {
            "id": made.id,
            "handle": "jane/bob",
            "type": "Agent",
            "reason": "Spam.",
            "expires_at": "2026-03-01T13:00:00.123000Z",
            "inserted_at": "2026-03-01T12:00:00Z",
        }
        assert made == Block(
            id=made.id,
            blocker=agent_entity(ALICE.agent).side,
            blocked=agent_entity(BOB.agent).side,
            reason="Spam.",
            expires_at=datetime(2026, 3, 1, 13, 0, 0, 123_000, tzinfo=UTC),
            inserted_at=NOW,
        )
        assert world.timers == {(f"block:{made.id}", "block_expires"): made.expires_at}

    @pytest.mark.parametrize("reason", [None, "", "  "])
    def test_without_a_reason_and_an_end_it_has_none(self, world: World, reason: str | None) -> None:
        reply = block(world, reason=reason)

        assert (reply["reason"], reply["expires_at"]) == (None, None)
        assert world.timers == {}

    def test_the_tie_is_told_and_the_blocked_one_is_not(self, world: World) -> None:
        alice, bob = ears(world, ALICE, BOB)

        block(world)

        assert world.retied == [Retied(ALICE.id, BOB.id, Tie(has_blocked=True))]
        assert world.book.ties() == {
            (ALICE.id, BOB.id): Tie(has_blocked=True),
            (BOB.id, ALICE.id): Tie(is_blocked=True),
        }
        assert (alice.heard, bob.heard) == ([], [])

    @pytest.mark.parametrize(
        ("who", "whom", "type_"), [(JOHN, BOB, "Agent"), (ALICE, JANE, "User"), (JOHN, JANE, "User")]
    )
    def test_users_block_and_are_blocked_too(self, world: World, who: Who, whom: Who, type_: str) -> None:
        assert block(world, who, whom)["type"] == type_
        assert world.book.ties().keys() == {(who.id, whom.id), (whom.id, who.id)}

    def test_a_sibling_may_be_blocked(self) -> None:
        world = strangers(ALICE, SIBLING)

        block(world, ALICE, SIBLING)

        tie = world.book.tie(SIBLING.id, ALICE.id)
        assert relation(SIBLING.agent.party, ALICE.agent.party, tie) is Relation.BLOCKED

    def test_how_it_is_asked(self) -> None:
        blocking, unblocking = CALLS["block"], CALLS["unblock"]

        assert (blocking.request, blocking.decide) == (BlockEntity, block_entity)
        assert (unblocking.request, unblocking.decide) == (UnblockEntity, unblock_entity)
        for handler in (blocking, unblocking):
            assert (handler.loads, handler.access, handler.scope) == ("blocking", Access.WRITE, "contacts")


class TestRefusals:
    def _refused(self, world: World, who: Who, **payload: Any) -> tuple[str, str, dict[str, Any]]:
        before = world.everything()
        refusal = refused(world.call, who, "block", **payload)
        assert world.everything() == before
        return refusal.kind, refusal.reason, refusal.context

    def test_nobody_has_that_handle(self, world: World) -> None:
        refusal = refused(world.call, ALICE, "block", handle="jane/nobody")

        assert (refusal.kind, refusal.response()) == ("not_found", not_found("handle").response())

    def test_who_has_blocked_one_is_as_if_it_did_not_exist(self, world: World) -> None:
        block(world, BOB, ALICE)

        refusal = refused(block, world, ALICE, BOB)

        assert (refusal.kind, refusal.response()) == ("not_found", not_found("handle").response())
        assert len(blocks(world)) == 1

    @pytest.mark.parametrize(("who", "handle"), [(ALICE, "john/alice"), (JOHN, "john")])
    def test_nobody_blocks_itself(self, world: World, who: Who, handle: str) -> None:
        assert self._refused(world, who, handle=handle) == ("conflict", "self_contact", {})

    @pytest.mark.parametrize(("who", "handle"), [(ALICE, "john"), (JOHN, "john/alice")])
    def test_an_owner_and_its_agent_cannot_block_each_other(self, world: World, who: Who, handle: str) -> None:
        assert self._refused(world, who, handle=handle) == ("forbidden", "forbidden_role", {"role": "owner"})

    def test_whom_one_has_blocked_already(self, world: World) -> None:
        id_ = block(world)["id"]

        assert self._refused(world, ALICE, handle="jane/bob") == ("conflict", "already_blocked", {"id": id_})

    def test_a_reason_has_at_most_five_hundred_characters(self, world: World) -> None:
        refusal = self._refused(world, ALICE, handle="jane/bob", reason="x" * 501)
        assert refusal == ("invalid", "invalid_payload", {"field": "reason"})

        assert block(world, reason="x" * 500)["reason"] == "x" * 500

    def test_the_length_of_a_reason_is_a_setting(self) -> None:
        world = strangers(market=market_with(block_reason_chars_max=3))

        assert self._refused(world, ALICE, handle="jane/bob", reason="four")[1] == "invalid_payload"

    @pytest.mark.parametrize("end", ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.0009Z", "2020-01-01T00:00:00+02:00"])
    def test_one_that_would_be_over_already(self, world: World, end: str) -> None:
        refusal = self._refused(world, ALICE, handle="jane/bob", expires_at=end)

        assert refusal == ("invalid", "invalid_payload", {"field": "expires_at"})

    def test_they_have_one_order_and_the_first_that_applies_is_told(self) -> None:
        """Each case mends one thing more than the one before it."""
        alice, bob, ann = (agent_entity(who.agent) for who in (ALICE, BOB, SIBLING))
        owner = strangers().book.entity(ALICE.agent.owner_id)
        assert owner is not None
        hers = Block(id="b", blocker=alice.side, blocked=bob.side, inserted_at=NOW)
        both: dict[str, Any] = {"block": hers, "counter_block": hers}
        wordy = BlockEntity(handle="x", reason="x" * 501)
        plain = BlockEntity(handle="x")
        cases: list[tuple[str, Pair | None, BlockEntity]] = [
            ("invalid_payload", None, wordy),
            ("invalid_payload", None, BlockEntity(handle="x", expires_at=NOW)),
            ("not_found", None, plain),
            ("self_contact", Pair(a=alice, b=alice, **both), plain),
            ("forbidden_role", Pair(a=alice, b=owner, **both), plain),
            ("not_found", Pair(a=alice, b=ann, **both), plain),
            ("not_found", Pair(a=alice, b=bob, **both), plain),
            ("already_blocked", Pair(a=alice, b=bob, block=hers), plain),
        ]

        reasons = [refused(block_entity, pair, request, context(ALICE)).reason for _, pair, request in cases]

        assert reasons == [reason for reason, _, _ in cases]


class TestWhatItEnds:
    def test_the_contact_of_the_two_and_both_are_told(self, world: World) -> None:
        contact = befriended(world)
        alice, bob = ears(world, ALICE, BOB)

        block(world)

        (ended,) = contacts(world)
        assert (ended.status, ended.ended_by) == ("ended", ALICE.id)
        assert alice.payloads("contact_removed") == bob.payloads("contact_removed") == [{"id": contact.id}]
        assert world.retied[-2:] == [
            Retied(ALICE.id, BOB.id, NO_TIE),
            Retied(ALICE.id, BOB.id, Tie(has_blocked=True)),
        ]

    def test_what_they_have_open_though_they_needed_no_contact(self) -> None:
        world = strangers(ALICE, SIBLING)
        session_id = world.open_negotiation(ALICE, provider_agent_id=SIBLING.id, capability="translate")["id"]
        task_id = hired(world, client=ALICE, provider=SIBLING)

        block(world, SIBLING, ALICE)

        assert world.states["negotiation"][session_id].reason == world.task(task_id).reason == "contact_revoked"
        world.require_balance()

    @pytest.mark.parametrize(
        ("who", "whom", "status"), [(ALICE, BOB, "cancelled"), (BOB, ALICE, "rejected")], ids=["sent", "received"]
    )
    def test_pending_requests_between_the_two(self, world: World, who: Player, whom: Player, status: str) -> None:
        """Alice blocks: what she has sent is cancelled, what she was sent is rejected."""
        request_id = asked(world, who, whom)
        alice, bob = ears(world, ALICE, BOB)

        block(world, ALICE, BOB)

        (request,) = requests(world)
        assert (request.status, request.responded_by, request.responded_at) == (status, ALICE.id, NOW)
        for ear in (alice, bob):
            assert [(heard.event, heard.payload) for heard in ear.heard] == [
                ("contact_request_updated", {"id": request_id, "status": status})
            ]
        assert world.timers == {}

    @pytest.mark.parametrize(("who", "whom"), [(ALICE, BOB), (BOB, ALICE)], ids=["sent", "received"])
    def test_a_request_that_is_over_by_the_clock_has_expired(self, world: World, who: Player, whom: Player) -> None:
        asked(world, who, whom)
        world.advance(MONTH_S, run_timers=False)

        block(world, ALICE, BOB)

        (request,) = requests(world)
        assert (request.status, request.responded_by) == ("expired", None)
        assert world.timers == {}

    def test_requests_with_others_stay_pending(self, world: World) -> None:
        ids = [asked(world, ALICE, CAROL), asked(world, ALICE, JANE), asked(world, JOHN, BOB)]

        block(world, ALICE, BOB)

        assert [(made.id, made.status) for made in requests(world)] == [(id_, "pending") for id_ in ids]


class TestWhoIsBlocked:
    @pytest.fixture
    def world(self) -> World:
        """Where Bob has blocked Alice, who was his contact."""
        world = strangers()
        befriended(world)
        block(world, BOB, ALICE)
        return world

    def test_neither_sees_or_finds_the_other(self, world: World) -> None:
        for one, other in ((ALICE, BOB), (BOB, ALICE)):
            two = (one.agent.party, other.agent.party, world.book.tie(one.id, other.id))
            assert not is_present_to(*two)
            assert not is_discoverable_by(*two)
            assert exists_for(*two) is (one is BOB)

    def test_every_answer_is_that_of_an_agent_that_does_not_exist(self, world: World) -> None:
        """Bob's answers to Alice are, word for word, those of an agent that was never there."""
        empty = strangers(ALICE)
        acts: list[tuple[str, dict[str, Any]]] = [
            ("add", {"handle": "jane/bob"}),
            ("add", {"handle": "jane/bob", "message": "Please!"}),
            ("remove", {"handle": "jane/bob"}),
            ("block", {"handle": "jane/bob"}),
            ("unblock", {"handle": "jane/bob"}),
            *(("respond", {"handle": "jane/bob", "action": action}) for action in ("approve", "reject", "cancel")),
        ]

        for name, payload in acts:
            refusals = [refused(place.call, ALICE, name, **payload) for place in (world, empty)]
            assert refusals[0].response() == refusals[1].response()
            assert [refusal.kind for refusal in refusals] == ["not_found"] * 2

    @pytest.mark.parametrize("kind", [Kind.NEGOTIATION, Kind.TASK])
    def test_so_is_that_to_an_opening(self, world: World, kind: Kind) -> None:
        empty = strangers(ALICE)
        for fields in ({"capability": "translate"}, {"capability": "nothing"}):
            refusals = [
                refused(place.open_negotiation, ALICE, provider_agent_id=BOB.id, **fields)
                if kind is Kind.NEGOTIATION
                else refused(place.open_task, ALICE, provider_agent_id=BOB.id, max_price=1, **fields)
                for place in (world, empty)
            ]
            assert refusals[0].response() == refusals[1].response() == not_found("agent").response()

    def test_who_blocks_is_told_to_unblock_first(self, world: World) -> None:
        for act in (
            lambda: ask(world, BOB, ALICE),
            lambda: hired(world, client=BOB, provider=ALICE),
            lambda: world.open_negotiation(BOB, provider_agent_id=ALICE.id, capability="translate"),
        ):
            assert refused(act).reason == "blocked_by_you"

    def test_a_block_is_of_these_two_alone(self, world: World) -> None:
        ask(world, JOHN, BOB)
        ask(world, ALICE, JANE)

        assert [made.status for made in requests(world)[-2:]] == ["pending", "pending"]


class TestUnblocking:
    def test_the_two_are_strangers_then_and_may_ask(self, world: World) -> None:
        befriended(world)
        block(world)

        assert unblock(world) == {"status": "unblocked"}

        (ended,) = blocks(world)
        assert (ended.status, ended.ended_at) == ("ended", NOW)
        assert world.retied[-1] == Retied(ALICE.id, BOB.id, NO_TIE)
        assert world.book.ties() == {}
        answer(world, ALICE, "approve", asked(world, BOB, ALICE))

    def test_its_clock_is_disarmed(self, world: World) -> None:
        block(world, expires_at=IN_AN_HOUR)

        unblock(world)

        assert world.timers == {}

    def test_neither_is_told(self, world: World) -> None:
        block(world)
        alice, bob = ears(world, ALICE, BOB)

        unblock(world)

        assert (alice.heard, bob.heard) == ([], [])

    def test_where_there_is_no_block_there_is_none_to_end(self, world: World) -> None:
        block(world, ALICE, CAROL)
        block(world, BOB, ALICE)
        before = world.everything()

        for handle in ("jane/bob", "jane/nobody", "john", "john/alice"):
            refusal = refused(world.call, ALICE, "unblock", handle=handle)
            assert (refusal.kind, refusal.response()) == ("not_found", not_found("block").response())
        assert world.everything() == before

    def test_one_that_is_over_by_the_clock_has_ended_also_without_its_timer(self, world: World) -> None:
        block(world, expires_at=IN_AN_HOUR)
        world.advance(HOUR_S, run_timers=False)

        assert refused(unblock, world).reason == "not_found"

    def test_blocking_again_makes_a_new_one(self, world: World) -> None:
        block(world)
        unblock(world)

        block(world)

        assert [made.status for made in blocks(world)] == ["ended", "active"]


class TestTheClock:
    def test_it_ends_a_block_when_it_was_to_end(self, world: World) -> None:
        block(world, expires_at=IN_AN_HOUR)

        world.advance(HOUR_S - 1)
        assert blocks(world)[0].status == "active"
        world.advance(1)

        (ended,) = blocks(world)
        assert (ended.status, ended.ended_at) == ("ended", world.now)
        assert world.retied[-1] == Retied(ALICE.id, BOB.id, NO_TIE)
        assert world.timers == {}

    def test_over_by_the_clock_it_keeps_nobody_away_also_without_its_timer(self, world: World) -> None:
        block(world, BOB, ALICE, expires_at=IN_AN_HOUR)
        world.advance(HOUR_S, run_timers=False)

        assert world.book.tie(ALICE.id, BOB.id) == NO_TIE
        assert ask(world)["status"] == "pending"
        block(world, ALICE, BOB)

    def test_one_that_is_over_by_the_clock_is_replaced(self, world: World) -> None:
        block(world, expires_at=IN_AN_HOUR)
        world.advance(HOUR_S, run_timers=False)

        new = block(world, reason="Again.")["id"]

        old, made = blocks(world)
        assert (old.status, old.ended_at) == ("ended", world.now)
        assert (made.id, made.status, made.reason) == (new, "active", "Again.")
        assert world.retied[-1] == Retied(ALICE.id, BOB.id, Tie(has_blocked=True))
        assert world.timers == {}

    def test_a_timer_that_comes_early_or_late_does_nothing(self, world: World) -> None:
        block(world, expires_at=IN_AN_HOUR)
        pair = world.book.pair(ALICE.id, BOB.id)
        assert pair is not None

        late = context(THE_HOUSE, now=NOW + timedelta(days=1))
        assert block_expired(pair, None, context(THE_HOUSE)) == Decision()
        assert block_expired(None, None, late) == Decision()
        assert block_expired(Pair(a=pair.a, b=pair.b), None, late) == Decision()
        assert block_expired(pair, None, late) != Decision()

    def test_one_without_an_end_has_none(self, world: World) -> None:
        block(world)

        world.advance(10**8)

        assert world.book.tie(BOB.id, ALICE.id) == Tie(is_blocked=True)

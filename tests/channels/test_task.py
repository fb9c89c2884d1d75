from typing import Any

import msgspec
import pytest

from channels.agents import Capability
from channels.changes import Timer
from channels.identity import Identity
from channels.ledger import FEES
from channels.task import deadline_passed
from tests.channels.roles import ALICE, BOB, MALLORY, Player, context, identity_of, market_with, refused
from tests.channels.work import (
    EVENTS,
    FEE,
    HELLO_SHA256,
    PRICE,
    PURSE,
    Mirror,
    close,
    deliver,
    held,
    hired,
    in_phase,
    push,
    stream,
    topic_of,
    world_of,
)
from tests.channels.world import THE_HOUSE, World

WEEK_S = 604_800
RUNNING = ("pending", "in_progress")
FINAL = ("completed", "failed", "cancelled")


@pytest.fixture
def world() -> World:
    return world_of()


@pytest.fixture
def task_id(world: World) -> str:
    return hired(world)


class TestJoining:
    def test_shows_both_sides_the_same_in_every_phase(self, world: World) -> None:
        for phase in (*RUNNING, *FINAL):
            task_id = in_phase(world, phase, input={"text": "hello"})

            joined = [world.join(who, topic_of(task_id)) for who in (ALICE, BOB)]

            assert joined[1].pop("checkpoint") is None, "the provider's own"
            assert joined[0] == joined[1]
            assert (joined[0]["status"], joined[0]["input"]) == (phase, {"text": "hello"})

    def test_tells_a_stranger_no_more_than_that_nothing_is_there(self, world: World, task_id: str) -> None:
        there = refused(world.join, MALLORY, topic_of(task_id))
        nowhere = refused(world.join, MALLORY, topic_of("no-task"))

        assert (there.kind, there.response()) == (nowhere.kind, nowhere.response())
        assert there.reason == "not_found"

    def test_is_for_agents_alone(self, world: World, task_id: str) -> None:
        owner = Identity(kind="user", user_id=ALICE.agent.owner_id, handle="alice", key_id="k")

        refusal = refused(world.join, msgspec.structs.replace(ALICE, identity=owner), topic_of(task_id))

        assert (refusal.kind, refusal.reason) == ("forbidden", "agent_required")

    def test_needs_the_scope_as_every_event_does(self, world: World, task_id: str) -> None:
        reader = msgspec.structs.replace(ALICE, identity=identity_of(ALICE.agent, scopes=frozenset(("discover",))))

        assert refused(world.join, reader, topic_of(task_id)).reason == "missing_scope"
        for event, payload in EVENTS.items():
            assert refused(world.push, reader, topic_of(task_id), event, payload).reason == "missing_scope"

    def test_never_tells_who_owns_the_agents(self, world: World, task_id: str) -> None:
        assert ALICE.agent.owner_id not in str(world.join(BOB, topic_of(task_id)))


class TestProgress:
    def test_starts_the_task_and_is_relayed_to_the_client_alone(self, world: World, task_id: str) -> None:
        alice, bob = (world.listen(who, topic_of(task_id)) for who in (ALICE, BOB))
        world.advance(5)

        reply = push(world, BOB, task_id, "progress", percent=40, message="page 2 of 5")

        assert reply == {
            "task_id": task_id,
            "percent": 40,
            "message": "page 2 of 5",
            "status": "in_progress",
            "started_at": "2026-03-01T12:00:05Z",
            "units": None,
            "paid_up_to": None,
        }
        assert [(heard.event, heard.payload) for heard in alice.heard] == [("progress", reply)]
        assert bob.heard == []

    def test_is_a_new_event_each_time_and_starts_only_once(self, world: World, task_id: str) -> None:
        alice = world.listen(ALICE, topic_of(task_id))
        first = push(world, BOB, task_id, "progress", percent=40)
        world.advance(5)

        again = push(world, BOB, task_id, "progress", percent=40)

        assert again == first == {**again, "message": None}
        assert alice.events() == ["progress", "progress"]

    def test_may_go_back_and_the_latest_is_shown(self, world: World, task_id: str) -> None:
        push(world, BOB, task_id, "progress", percent=100, message="done?")
        push(world, BOB, task_id, "progress", percent=0)

        assert world.join(ALICE, topic_of(task_id))["progress"] == {"percent": 0, "message": None}

    @pytest.mark.parametrize("percent", [-1, 101, 2**80, 1.5, "50", None, True])
    def test_is_0_to_100_per_cent(self, world: World, task_id: str, percent: Any) -> None:
        assert refused(push, world, BOB, task_id, "progress", percent=percent).reason == "invalid_payload"

    def test_has_a_short_message(self) -> None:
        world = world_of(market=market_with(text_chars_max=5))
        task_id = hired(world)

        refusal = refused(push, world, BOB, task_id, "progress", percent=1, message="12345!")

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "message"})
        assert push(world, BOB, task_id, "progress", percent=1, message="12345")["message"] == "12345"


class TestCompleting:
    def test_pays_the_provider_less_the_fee_and_tells_both_the_whole_task(self, world: World, task_id: str) -> None:
        deliver(world, task_id)
        alice, bob = (world.listen(who, topic_of(task_id)) for who in (ALICE, BOB))

        reply = push(world, BOB, task_id, "complete", result={"words": 2})

        assert (reply["status"], reply["escrow_status"], reply["result"]) == ("completed", "released", {"words": 2})
        assert (reply["ended_by"], reply["ended_at"]) == (BOB.id, "2026-03-01T12:00:00Z")
        for listener in (alice, bob):
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_completed", {"task": reply})]
        assert (world.available(BOB), world.accounts[FEES], held(world, task_id)) == (PRICE - FEE, FEE, 0)
        world.require_balance()

    def test_of_verified_output_needs_no_result(self, world: World, task_id: str) -> None:
        deliver(world, task_id)

        assert push(world, BOB, task_id, "complete")["status"] == "completed"

    @pytest.mark.parametrize("result", [0, "", False, [], {}], ids=repr)
    def test_with_any_result_but_null_needs_no_output_and_counts_as_started(
        self, world: World, task_id: str, result: Any
    ) -> None:
        reply = push(world, BOB, task_id, "complete", result=result)

        assert (reply["status"], reply["started_at"]) == ("completed", reply["ended_at"])
        assert reply["result"] == result

    def test_with_nothing_is_refused(self, world: World, task_id: str) -> None:
        push(world, BOB, task_id, "progress", percent=100)

        refusal = refused(push, world, BOB, task_id, "complete", result=None)

        assert (refusal.kind, refusal.reason) == ("conflict", "nothing_delivered")

    def test_with_an_output_of_no_bytes_is_refused_as_nothing(self, world: World, task_id: str) -> None:
        close(world, task_id, "output")

        assert refused(push, world, BOB, task_id, "complete").reason == "nothing_delivered"

    @pytest.mark.parametrize("result", [None, "a result"])
    def test_needs_a_started_output_stream_closed(self, world: World, task_id: str, result: Any) -> None:
        stream(world, task_id, "output", "hello ")

        refusal = refused(push, world, BOB, task_id, "complete", result=result)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "stream_incomplete", {"next_seq": 1})
        close(world, task_id, "output")
        assert push(world, BOB, task_id, "complete", result=result)["status"] == "completed"

    def test_does_not_wait_for_the_input(self, world: World, task_id: str) -> None:
        stream(world, task_id, "input", "hello ")

        assert push(world, BOB, task_id, "complete", result=1)["status"] == "completed"

    def test_has_a_result_of_limited_size(self) -> None:
        world = world_of(market=market_with(result_bytes_max=10))
        task_id = hired(world)

        refusal = refused(push, world, BOB, task_id, "complete", result="9 bytes..")

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "result"})
        assert push(world, BOB, task_id, "complete", result="8 bytes.")["result"] == "8 bytes."

    def test_of_a_free_task_moves_no_money(self, world: World) -> None:
        world.change_agent(BOB, capabilities=(Capability("translate", 0),))
        task_id = hired(world)

        reply = push(world, BOB, task_id, "complete", result=1)

        assert (reply["status"], reply["escrow_status"]) == ("completed", "none")
        assert [entry.kind for entry in world.entries] == ["deposit"]


class TestGivingUp:
    def test_refunds_the_client_and_tells_it_why_and_both_the_whole_task(self, world: World, task_id: str) -> None:
        stream(world, task_id, "output", "hello ")
        alice, bob = (world.listen(who, topic_of(task_id)) for who in (ALICE, BOB))

        reply = push(world, BOB, task_id, "error", type="out_of_memory", details={"mb": 512})

        error = {"type": "out_of_memory", "details": {"mb": 512}}
        assert (reply["status"], reply["escrow_status"], reply["error"]) == ("failed", "refunded", error)
        assert [(heard.event, heard.payload) for heard in alice.heard] == [
            ("error", {"task_id": task_id, "agent_id": BOB.id, **error}),
            ("task_failed", {"task": reply}),
        ]
        assert [(heard.event, heard.payload) for heard in bob.heard] == [("task_failed", {"task": reply})]
        assert (world.available(ALICE), world.available(BOB), held(world, task_id)) == (PURSE, 0, 0)
        world.require_balance()

    @pytest.mark.parametrize("type_", ["", "a" * 65, "Out", "out of memory", "out-of-memory", "broken\n", "é"])
    def test_has_a_plain_type(self, world: World, task_id: str, type_: str) -> None:
        refusal = refused(push, world, BOB, task_id, "error", type=type_)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "type"})

    def test_has_details_of_limited_size(self) -> None:
        world = world_of(market=market_with(result_bytes_max=10))
        task_id = hired(world)

        refusal = refused(push, world, BOB, task_id, "error", type="a" * 64, details="9 bytes..")

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "details"})
        assert push(world, BOB, task_id, "error", type="a" * 64)["error"] == {"type": "a" * 64, "details": None}


class TestCancelling:
    @pytest.mark.parametrize("who", [ALICE, BOB], ids=["client", "provider"])
    @pytest.mark.parametrize("phase", RUNNING)
    def test_by_either_side_refunds_the_client_and_tells_the_other_why(
        self, world: World, who: Player, phase: str
    ) -> None:
        task_id = in_phase(world, phase)
        own, other = (world.listen(p, topic_of(task_id)) for p in ((ALICE, BOB) if who is ALICE else (BOB, ALICE)))

        reply = push(world, who, task_id, "cancel", reason="no time")

        assert (reply["status"], reply["escrow_status"]) == ("cancelled", "refunded")
        assert (reply["ended_by"], reply["reason"]) == (who.id, "no time")
        assert [(heard.event, heard.payload) for heard in other.heard] == [
            ("cancel", {"task_id": task_id, "agent_id": who.id, "reason": "no time"}),
            ("task_cancelled", {"task": reply}),
        ]
        assert own.events() == ["task_cancelled"]
        assert (world.available(ALICE), held(world, task_id)) == (PURSE, 0)
        world.require_balance()

    def test_is_refused_to_the_client_once_output_has_come_that_money_is_held_for(
        self, world: World, task_id: str
    ) -> None:
        stream(world, task_id, "output", "hello ")
        before = world.everything()

        refusal = refused(push, world, ALICE, task_id, "cancel")

        assert (refusal.kind, refusal.reason) == ("conflict", "output_delivered")
        assert refusal.context == {"next_seq": 1, "deadline": world.task(task_id).deadline}
        assert world.everything() == before

    def test_stays_open_to_the_provider_after_its_output(self, world: World, task_id: str) -> None:
        deliver(world, task_id)

        assert push(world, BOB, task_id, "cancel")["escrow_status"] == "refunded"

    def test_stays_open_to_the_client_after_an_output_of_no_bytes(self, world: World, task_id: str) -> None:
        close(world, task_id, "output")

        assert push(world, ALICE, task_id, "cancel")["status"] == "cancelled"

    def test_stays_open_to_the_client_of_a_free_task(self, world: World) -> None:
        world.change_agent(BOB, capabilities=(Capability("translate", 0),))
        task_id = hired(world)
        stream(world, task_id, "output", "hello ")

        reply = push(world, ALICE, task_id, "cancel")

        assert (reply["status"], reply["escrow_status"]) == ("cancelled", "none")

    def test_has_a_short_reason(self) -> None:
        world = world_of(market=market_with(text_chars_max=5))
        task_id = hired(world)

        refusal = refused(push, world, ALICE, task_id, "cancel", reason="12345!")

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "reason"})
        assert push(world, ALICE, task_id, "cancel", reason="12345")["reason"] == "12345"


class TestTheDeadline:
    def test_pays_for_output_that_is_delivered(self, world: World, task_id: str) -> None:
        deliver(world, task_id)
        alice, bob = (world.listen(who, topic_of(task_id)) for who in (ALICE, BOB))

        world.advance(WEEK_S)

        whole = world.join(ALICE, topic_of(task_id))
        assert (whole["status"], whole["result"], whole["ended_by"]) == ("completed", None, None)
        assert whole["ended_at"] == whole["deadline"]
        for listener in (alice, bob):
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_completed", {"task": whole})]
        assert (world.available(BOB), held(world, task_id)) == (PRICE - FEE, 0)

    @pytest.mark.parametrize("delivered", ["nothing", "an open stream", "no bytes"])
    def test_refunds_what_is_not_delivered(self, world: World, task_id: str, delivered: str) -> None:
        if delivered == "an open stream":
            stream(world, task_id, "output", "hello ")
        elif delivered == "no bytes":
            close(world, task_id, "output")
        alice, bob = (world.listen(who, topic_of(task_id)) for who in (ALICE, BOB))

        world.advance(WEEK_S)

        whole = world.join(ALICE, topic_of(task_id))
        assert (whole["status"], whole["ended_by"]) == ("failed", None)
        assert whole["error"] == {"type": "deadline", "details": None}
        assert alice.events() == bob.events() == ["task_failed"]
        assert (world.available(ALICE), held(world, task_id)) == (PURSE, 0)

    def test_decides_by_the_clock_also_before_its_timer_has_run(self, world: World, task_id: str) -> None:
        world.advance(WEEK_S, run_timers=False)
        before = world.everything()

        for event, payload in EVENTS.items():
            refusal = refused(push, world, BOB, task_id, event, **payload)
            assert (refusal.kind, refusal.reason) == ("expired", "expired")
            assert refusal.context == {"expired_at": world.now}
        assert world.everything() == before

    def test_ends_nothing_before_it_has_come(self, world: World, task_id: str) -> None:
        world.advance(WEEK_S - 0.001)

        assert push(world, BOB, task_id, "complete", result=1)["status"] == "completed"

    def test_is_put_off_where_its_timer_runs_too_early(self, world: World, task_id: str) -> None:
        task = world.task(task_id)

        decision = deadline_passed(task, context(THE_HOUSE))

        assert (decision.state, decision.changes) == (None, (Timer("task_deadline", topic_of(task_id), task.deadline),))

    @pytest.mark.parametrize("phase", FINAL)
    def test_leaves_an_ended_task_as_it_is(self, world: World, phase: str) -> None:
        task = world.task(in_phase(world, phase))

        decision = deadline_passed(task, context(THE_HOUSE, now=task.deadline))

        assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())

    @pytest.mark.parametrize("phase", FINAL)
    def test_is_not_waited_for_any_more_after_the_end(self, world: World, phase: str) -> None:
        task_id = in_phase(world, phase)

        assert [*world.timers] == [(topic_of(task_id), "task_retention")]

    def test_alone_takes_every_task_with_money_in_it_to_an_end(self, world: World) -> None:
        tasks = [hired(world), in_phase(world, "in_progress"), hired(world), hired(world)]
        deliver(world, tasks[2])
        stream(world, tasks[3], "output", "hello ")

        world.advance(WEEK_S)

        assert [world.task(task_id).status for task_id in tasks] == ["failed", "failed", "completed", "failed"]
        assert [held(world, task_id) for task_id in tasks] == [0, 0, 0, 0]
        world.require_balance()


@pytest.mark.parametrize("end", ["complete", "error", "cancel", "deadline"])
def test_a_join_and_what_is_told_since_equal_a_fresh_join(world: World, task_id: str, end: str) -> None:
    """The snapshot rule, for both sides, after each of a task's events."""
    alice, bob = Mirror(world, ALICE, task_id), Mirror(world, BOB, task_id)
    steps: list[tuple[Mirror, str, dict[str, Any]]] = [
        (alice, "input_stream", {"chunk": "hello ", "seq": 0}),
        (alice, "input_stream", {"chunk": "d29ybGQ=", "seq": 1, "encoding": "base64"}),
        (alice, "input_complete", {"checksum": HELLO_SHA256, "total_size": 11}),
        (bob, "output_stream", {"chunk": "hello ", "seq": 0}),
        (bob, "progress", {"percent": 50, "message": "half"}),
        (bob, "output_stream", {"chunk": "world", "seq": 1}),
        (bob, "output_complete", {"checksum": HELLO_SHA256, "total_size": 11}),
    ]
    steps += [(bob, end, EVENTS[end])] if end in EVENTS else []

    for side, event, payload in steps:
        world.advance(1)
        side.push(event, payload)
        alice.require_fresh()
        bob.require_fresh()
    world.advance(WEEK_S)

    alice.require_fresh()
    bob.require_fresh()
    assert world.task(task_id).is_final

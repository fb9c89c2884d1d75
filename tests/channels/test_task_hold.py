"""The hold: a completed task's price waits until Alice has looked at it, released it, or the time is over."""

from datetime import timedelta

import pytest

from channels.agents import Capability
from channels.changes import Outcome, Timer
from channels.ledger import FEES, escrow
from channels.task_ends import deadline_passed, hold_passed, retention_passed
from tests.channels.roles import ALICE, BOB, MALLORY, NOW, as_told, context, market_with, refused
from tests.channels.work import (
    FEE,
    GLOBAL_BOB,
    PRICE,
    PURSE,
    Mirror,
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

HOLD_S = 600
WEEK_S = 604_800


@pytest.fixture
def world() -> World:
    return world_of()


@pytest.fixture
def done(world: World) -> str:
    """A task that Bob has completed and whose price is held."""
    return in_phase(world, "completed", hold_seconds=HOLD_S)


class TestHowLong:
    def test_an_hour_unless_it_is_said(self, world: World) -> None:
        task_id = world.open_task(ALICE, provider_agent_id=BOB.id, capability="translate", max_price=PRICE)["id"]

        assert world.task(task_id).hold_seconds == 3_600

    @pytest.mark.parametrize("seconds", [0, 1, WEEK_S])
    def test_what_is_said_is_fixed_and_told_to_the_provider(self, world: World, seconds: int) -> None:
        task_id = hired(world, hold_seconds=seconds)

        assert world.join(BOB, topic_of(task_id))["hold_seconds"] == seconds
        assert world.mail(BOB)[0].payload["hold_seconds"] == seconds

    @pytest.mark.parametrize("seconds", [-1, WEEK_S + 1])
    def test_zero_to_seven_days(self, world: World, seconds: int) -> None:
        refusal = refused(hired, world, hold_seconds=seconds)

        assert (refusal.kind, refusal.reason) == ("invalid", "hold_out_of_range")
        assert refusal.context == {"hold_max_s": WEEK_S}

    def test_the_market_sets_the_limit_and_the_default(self) -> None:
        world = world_of(market=market_with(hold_default_s=5, hold_max_s=10))
        task_id = world.open_task(ALICE, provider_agent_id=BOB.id, capability="translate", max_price=PRICE)["id"]

        assert world.task(task_id).hold_seconds == 5
        assert refused(hired, world, hold_seconds=11).context == {"hold_max_s": 10}


class TestHolding:
    def test_the_price_stays_where_it_is_and_the_task_is_completed(self, world: World) -> None:
        task_id = hired(world, hold_seconds=HOLD_S)
        listeners = [world.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]

        reply = push(world, BOB, task_id, "complete", result=1)

        assert (reply["status"], reply["escrow_status"], reply["ended_by"]) == ("completed", "held", BOB.id)
        assert reply["hold_ends_at"] == as_told(NOW + timedelta(seconds=HOLD_S))
        assert reply["kept_until"] is None
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_completed", {"task": reply})]
        assert (world.available(BOB), held(world, task_id), world.accounts[FEES]) == (0, PRICE, 0)
        assert [*world.timers] == [(topic_of(task_id), "task_hold")]

    def test_it_counts_at_completion(self) -> None:
        world = world_of(ALICE, GLOBAL_BOB)
        task_id = in_phase(world, "completed", hold_seconds=HOLD_S)
        counted = [Outcome(BOB.id, ALICE.agent.owner_id, task_id, is_completed=True)]
        assert world.outcomes == counted

        world.advance(HOLD_S)

        assert world.outcomes == counted

    def test_the_clock_pays_and_tells_both(self, world: World, done: str) -> None:
        listeners = [world.listen(who, topic_of(done)) for who in (ALICE, BOB)]
        world.advance(HOLD_S - 0.001)
        assert held(world, done) == PRICE

        world.advance(0.001)

        whole = world.join(ALICE, topic_of(done))
        assert (whole["status"], whole["escrow_status"]) == ("completed", "released")
        assert whole["kept_until"] == as_told(world.now + timedelta(seconds=WEEK_S))
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_updated", {"task": whole})]
        assert (world.available(BOB), held(world, done), world.accounts[FEES]) == (PRICE - FEE, 0, FEE)
        assert [entry.kind for entry in world.entries] == ["deposit", "hold", "release"]
        world.require_balance()

    def test_the_deadline_holds_what_is_delivered_too(self, world: World) -> None:
        task_id = hired(world, hold_seconds=HOLD_S)
        deliver(world, task_id)

        world.advance(WEEK_S)
        assert (world.task(task_id).status, held(world, task_id)) == ("completed", PRICE)
        world.advance(HOLD_S)

        assert (world.available(BOB), held(world, task_id)) == (PRICE - FEE, 0)

    def test_of_a_free_task_there_is_none(self, world: World) -> None:
        world.change_agent(BOB, capabilities=(Capability("translate", 0),))
        task_id = hired(world, hold_seconds=HOLD_S, max_price=0)

        reply = push(world, BOB, task_id, "complete", result=1)

        assert (reply["escrow_status"], reply["hold_ends_at"]) == ("none", None)
        assert reply["kept_until"] == as_told(NOW + timedelta(seconds=WEEK_S))

    def test_its_timer_is_put_off_where_it_runs_too_early(self, world: World, done: str) -> None:
        task = world.task(done)

        decision = hold_passed(task, context(THE_HOUSE))

        assert (decision.state, decision.changes) == (None, (Timer("task_hold", task.topic, task.hold_ends_at),))

    @pytest.mark.parametrize("phase", ["pending", "in_progress", "completed", "failed", "cancelled"])
    def test_its_timer_leaves_alone_what_is_not_held_for_completion(self, world: World, phase: str) -> None:
        task = world.task(in_phase(world, phase))

        decision = hold_passed(task, context(THE_HOUSE, now=task.deadline))

        assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())

    def test_the_deadline_leaves_it_alone(self, world: World, done: str) -> None:
        task = world.task(done)

        assert deadline_passed(task, context(THE_HOUSE, now=task.deadline)).state is None


class TestReleasing:
    def test_the_client_pays_at_once_and_both_are_told(self, world: World, done: str) -> None:
        listeners = [world.listen(who, topic_of(done)) for who in (ALICE, BOB)]
        world.advance(5)

        reply = push(world, ALICE, done, "release")

        assert (reply["status"], reply["escrow_status"]) == ("completed", "released")
        assert reply["kept_until"] == as_told(world.now + timedelta(seconds=WEEK_S))
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_updated", {"task": reply})]
        assert (world.available(BOB), held(world, done), world.accounts[FEES]) == (PRICE - FEE, 0, FEE)
        assert [*world.timers] == [(topic_of(done), "task_retention")]

    def test_after_the_hold_and_before_its_timer_it_is_the_same(self, world: World, done: str) -> None:
        world.advance(HOLD_S, run_timers=False)

        assert push(world, ALICE, done, "release")["escrow_status"] == "released"
        world.run_timers()
        assert world.available(BOB) == PRICE - FEE

    @pytest.mark.parametrize("by", ["release", "the clock", "no hold"])
    def test_what_is_paid_is_a_duplicate(self, world: World, by: str) -> None:
        task_id = in_phase(world, "completed", hold_seconds=0 if by == "no hold" else HOLD_S)
        if by == "release":
            push(world, ALICE, task_id, "release")
        world.advance(HOLD_S)
        before = world.everything()

        reply = push(world, ALICE, task_id, "release")

        assert (reply["escrow_status"], reply["duplicate"]) == ("released", True)
        assert world.everything() == before

    @pytest.mark.parametrize("phase", ["pending", "in_progress"])
    def test_nothing_is_paid_before_completion(self, world: World, phase: str) -> None:
        task_id = in_phase(world, phase)

        refusal = refused(push, world, ALICE, task_id, "release")

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "not_completed", {"status": phase})

    @pytest.mark.parametrize("phase", ["failed", "cancelled"])
    def test_what_went_back_is_not_held(self, world: World, phase: str) -> None:
        task_id = in_phase(world, phase, hold_seconds=HOLD_S)

        refusal = refused(push, world, ALICE, task_id, "release")

        assert (refusal.kind, refusal.reason) == ("conflict", "not_held")
        assert refusal.context == {"escrow_status": "refunded"}

    def test_only_the_client_may(self, world: World, done: str) -> None:
        before = world.everything()

        refusal = refused(push, world, BOB, done, "release")

        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": "client"})
        assert refused(push, world, MALLORY, done, "release").reason == "not_found"
        assert world.everything() == before

    def test_not_while_it_is_disputed(self, world: World, done: str) -> None:
        push(world, ALICE, done, "dispute", reason="bad words")

        refusal = refused(push, world, ALICE, done, "release")

        assert (refusal.kind, refusal.reason) == ("conflict", "escrow_locked")
        assert refusal.context == {"decides_at": NOW + timedelta(seconds=WEEK_S)}

    def test_what_is_told_keeps_a_snapshot_current(self, world: World) -> None:
        task_id = hired(world, hold_seconds=HOLD_S)
        alice, bob = Mirror(world, ALICE, task_id), Mirror(world, BOB, task_id)

        for side, event, payload in ((bob, "complete", {"result": 1}), (alice, "release", {})):
            side.push(event, payload)
            alice.require_fresh()
            bob.require_fresh()


class TestKeeping:
    @pytest.mark.parametrize("phase", ["failed", "cancelled", "completed"])
    def test_streams_are_kept_for_a_week_after_the_end(self, world: World, phase: str) -> None:
        task_id = hired(world)
        stream(world, task_id, "input", "hello ")
        push(world, BOB, task_id, "checkpoint", state={"at": 1}, seq=1)
        if phase == "failed":
            push(world, BOB, task_id, "error", type="no")
        elif phase == "cancelled":
            push(world, ALICE, task_id, "cancel")
        else:
            push(world, BOB, task_id, "complete", result=1)
        whole = world.join(ALICE, topic_of(task_id))

        world.advance(WEEK_S - 1)
        assert world.chunks[task_id, "input"] == {0: b"hello "}
        world.advance(1)

        assert (task_id, "input") not in world.chunks
        assert task_id not in world.checkpoints
        assert world.join(ALICE, topic_of(task_id)) == whole
        assert world.timers == {}

    def test_a_hold_keeps_them_for_longer(self, world: World, done: str) -> None:
        world.advance(HOLD_S)

        assert world.task(done).kept_until == NOW + timedelta(seconds=HOLD_S + WEEK_S)

    def test_the_timer_is_put_off_where_it_runs_too_early(self, world: World) -> None:
        task = world.task(in_phase(world, "failed"))

        decision = retention_passed(task, context(THE_HOUSE))

        assert decision.changes == (Timer("task_retention", task.topic, task.kept_until),)

    def test_the_timer_leaves_alone_what_has_not_ended(self, world: World, done: str) -> None:
        assert retention_passed(world.task(done), context(THE_HOUSE, now=NOW + timedelta(days=400))).changes == ()


def test_what_waits_in_escrow_is_the_price_and_nothing_else(world: World, done: str) -> None:
    assert world.accounts[escrow(done)] == PRICE
    assert world.available(ALICE) == PURSE - PRICE
    world.require_balance()


def test_a_chunk_ahead_of_a_gap_counts_as_output(world: World) -> None:
    """A client cannot cancel, nor a provider complete, because the first chunk alone is missing."""
    task_id = hired(world)
    push(world, BOB, task_id, "output_stream", chunk="world", seq=1)

    assert refused(push, world, ALICE, task_id, "cancel").reason == "output_delivered"
    assert refused(push, world, BOB, task_id, "complete", result=1).reason == "stream_incomplete"

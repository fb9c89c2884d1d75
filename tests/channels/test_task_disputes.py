"""Disputes: Alice refuses what Bob has delivered, and Olga, the rules or the clock decide."""

from datetime import timedelta
from typing import Any

import pytest

from channels.agents import Capability
from channels.changes import Outcome, Timer
from channels.ledger import FEES, available, escrow
from channels.task_disputes import decision_due
from channels.task_ends import deadline_passed
from tests.channels.roles import ALICE, BOB, MALLORY, NOW, as_told, context, market_with, refused
from tests.channels.work import (
    FEE,
    GLOBAL_BOB,
    HELLO,
    HELLO_SHA256,
    OLGA,
    PRICE,
    PURSE,
    Mirror,
    close,
    decide,
    deliver,
    disputed,
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
WEEK = timedelta(seconds=WEEK_S)
HOLD_S = 600


@pytest.fixture
def world() -> World:
    return world_of(ALICE, GLOBAL_BOB, MALLORY)


@pytest.fixture
def task_id(world: World) -> str:
    """A task that is disputed after one chunk of output."""
    return disputed(world)


def money(world: World, task_id: str) -> tuple[int, int, int, int]:
    """What Alice and Bob can spend, what the platform has earned, and what is held."""
    return world.available(ALICE), world.available(BOB), world.accounts[FEES], held(world, task_id)


def counted(task_id: str, *, is_completed: bool, delta_centi: int = 0, is_correction: bool = False) -> Outcome:
    return Outcome(BOB.id, ALICE.agent.owner_id, task_id, is_completed, delta_centi, is_correction)


class TestDisputing:
    def test_keeps_the_price_where_it_is_and_tells_both(self, world: World) -> None:
        task_id = hired(world)
        stream(world, task_id, "output", "hello ")
        listeners = [world.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]

        reply = push(world, ALICE, task_id, "dispute", reason="bad words")

        assert (reply["status"], reply["escrow_status"], reply["ended_at"]) == ("disputed", "held", None)
        assert reply["dispute"] == {
            "opened_by": ALICE.id,
            "reason": "bad words",
            "opened_at": as_told(NOW),
            "decides_at": as_told(NOW + WEEK),
        }
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_disputed", {"task": reply})]
        assert money(world, task_id) == (PURSE - PRICE, 0, 0, PRICE)
        assert world.timers == {(topic_of(task_id), "task_decision"): NOW + WEEK}
        assert world.outcomes == []

    def test_stops_the_hold_and_leaves_the_end_as_it_was(self, world: World) -> None:
        task_id = in_phase(world, "completed", hold_seconds=HOLD_S)
        world.advance(HOLD_S - 1)

        reply = push(world, ALICE, task_id, "dispute", reason="bad words")

        assert (reply["status"], reply["escrow_status"], reply["ended_at"]) == ("disputed", "held", as_told(NOW))
        assert world.timers == {(topic_of(task_id), "task_decision"): world.now + WEEK}

    def test_a_chunk_ahead_of_a_gap_is_something_delivered(self, world: World) -> None:
        task_id = hired(world)
        push(world, BOB, task_id, "output_stream", chunk="world", seq=1)

        assert push(world, ALICE, task_id, "dispute", reason="bad words")["status"] == "disputed"

    def test_the_market_sets_how_long_it_may_take(self) -> None:
        world = world_of(market=market_with(task_dispute_ttl_s=60))
        task_id = disputed(world)

        assert world.task(task_id).dispute is not None
        world.advance(60)

        assert world.task(task_id).status == "failed"

    @pytest.mark.parametrize("event", ["complete", "error", "progress", "checkpoint", "input_stream", "cancel"])
    def test_nothing_else_goes_on(self, world: World, task_id: str, event: str) -> None:
        payloads: dict[str, dict[str, Any]] = {
            "complete": {"result": 1},
            "error": {"type": "no"},
            "progress": {"percent": 1},
            "checkpoint": {"state": 1, "seq": 1},
            "input_stream": {"chunk": "x", "seq": 0},
        }
        before = world.everything()

        refusal = refused(
            push, world, ALICE if event == "input_stream" else BOB, task_id, event, **payloads.get(event, {})
        )

        assert (refusal.kind, refusal.reason) == ("conflict", "escrow_locked")
        assert refusal.context == {"decides_at": NOW + WEEK}
        assert world.everything() == before

    def test_the_client_cannot_take_it_back_meanwhile(self, world: World, task_id: str) -> None:
        assert refused(push, world, ALICE, task_id, "cancel").reason == "escrow_locked"

    def test_the_provider_finishes_its_output_meanwhile(self, world: World, task_id: str) -> None:
        stream(world, task_id, "output", *HELLO[1:])
        reply = push(world, BOB, task_id, "output_complete", checksum=HELLO_SHA256, total_size=11)

        assert (reply["status"], reply["verified"]) == ("disputed", True)

    def test_the_deadline_stops(self, world: World, task_id: str) -> None:
        task = world.task(task_id)

        assert deadline_passed(task, context(THE_HOUSE, now=task.deadline + WEEK)).state is None

    def test_what_is_told_keeps_a_snapshot_current(self, world: World) -> None:
        for decision, more in (("client", {}), ("provider", {}), ("split", {"client_bps": 1})):
            task_id = hired(world)
            alice, bob = Mirror(world, ALICE, task_id), Mirror(world, BOB, task_id)
            bob.push("output_stream", {"chunk": "hello ", "seq": 0})
            alice.push("dispute", {"reason": "bad words"})
            bob.push("output_stream", {"chunk": "world", "seq": 1})
            bob.push("output_complete", {"checksum": HELLO_SHA256, "total_size": 11})
            decide(world, task_id, decision, **more)
            alice.require_fresh()
            bob.require_fresh()


class TestRefusing:
    def test_a_reason_has_an_end(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")

        refusal = refused(push, world, ALICE, task_id, "dispute", reason="x" * 2_001)
        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "reason"})
        assert refused(push, world, ALICE, task_id, "dispute").reason == "invalid_payload"

    def test_only_the_client_may(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")

        refusal = refused(push, world, BOB, task_id, "dispute", reason="no")

        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": "client"})
        assert refused(push, world, MALLORY, task_id, "dispute", reason="no").reason == "not_found"

    def test_what_has_not_started_is_cancelled_instead(self, world: World) -> None:
        refusal = refused(push, world, ALICE, hired(world), "dispute", reason="no")

        assert (refusal.kind, refusal.reason) == ("conflict", "not_started")

    @pytest.mark.parametrize("phase", ["completed", "failed", "cancelled"])
    def test_what_has_ended_and_holds_nothing_is_over(self, world: World, phase: str) -> None:
        refusal = refused(push, world, ALICE, in_phase(world, phase), "dispute", reason="no")

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "terminal_state", {"status": phase})

    def test_what_was_released_is_over(self, world: World) -> None:
        task_id = in_phase(world, "completed", hold_seconds=HOLD_S)
        push(world, ALICE, task_id, "release")

        assert refused(push, world, ALICE, task_id, "dispute", reason="no").reason == "terminal_state"

    def test_of_what_costs_nothing_there_is_nothing_to_dispute(self, world: World) -> None:
        world.change_agent(GLOBAL_BOB, capabilities=(Capability("translate", 0),))
        task_id = in_phase(world, "in_progress", max_price=0)

        refusal = refused(push, world, ALICE, task_id, "dispute", reason="no")

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "not_held", {"escrow_status": "none"})

    @pytest.mark.parametrize("phase", ["in_progress", "completed"])
    def test_the_clock_decides_also_before_its_timer_has_run(self, world: World, phase: str) -> None:
        task_id = in_phase(world, phase, hold_seconds=HOLD_S)
        ends_at = NOW + timedelta(seconds=HOLD_S) if phase == "completed" else NOW + WEEK
        world.advance((ends_at - NOW).total_seconds(), run_timers=False)

        refusal = refused(push, world, ALICE, task_id, "dispute", reason="no")

        assert (refusal.kind, refusal.reason, refusal.context) == ("expired", "expired", {"expired_at": ends_at})

    def test_the_last_moment_is_soon_enough(self, world: World) -> None:
        task_id = in_phase(world, "completed", hold_seconds=HOLD_S)
        world.advance(HOLD_S - 0.001)

        assert push(world, ALICE, task_id, "dispute", reason="no")["status"] == "disputed"

    def test_once(self, world: World, task_id: str) -> None:
        again = refused(push, world, ALICE, task_id, "dispute", reason="other words")
        decide(world, task_id, "provider")
        after = refused(push, world, ALICE, task_id, "dispute", reason="bad words")

        assert (again.kind, again.reason, again.context) == ("conflict", "dispute_used", {"status": "disputed"})
        assert (after.reason, after.context) == ("dispute_used", {"status": "completed"})

    def test_the_same_again_is_a_duplicate_while_it_stands(self, world: World, task_id: str) -> None:
        whole = world.join(ALICE, topic_of(task_id))
        world.advance(5)
        before = world.everything()

        assert push(world, ALICE, task_id, "dispute", reason="bad words") == {**whole, "duplicate": True}
        assert world.everything() == before


class TestAutomatically:
    def test_where_nothing_was_delivered_the_price_goes_back_at_once(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        listeners = [world.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]
        world.advance(5)

        reply = push(world, ALICE, task_id, "dispute", reason="nothing came")

        assert (reply["status"], reply["escrow_status"]) == ("failed", "refunded")
        assert reply["error"] == {"type": "dispute", "details": None}
        assert (reply["ended_by"], reply["ended_at"]) == (ALICE.id, as_told(world.now))
        assert reply["settlement"] == {
            "decision": "client",
            "decided_by": "automatic",
            "to_client": PRICE,
            "to_provider": 0,
            "fee": 0,
            "reason": None,
            "settled_at": as_told(world.now),
        }
        assert reply["kept_until"] == as_told(world.now + WEEK)
        for listener in listeners:
            assert listener.events() == ["task_disputed", "task_settled"]
            assert listener.payloads("task_disputed")[0]["task"]["status"] == "disputed"
            assert listener.payloads("task_settled") == [{"task": reply}]
        assert money(world, task_id) == (PURSE, 0, 0, 0)
        assert [entry.kind for entry in world.entries] == ["deposit", "hold", "refund"]
        assert [*world.timers] == [(topic_of(task_id), "task_retention")]

    def test_it_counts_nothing_for_the_provider(self, world: World) -> None:
        """What costs the client nothing lowers nobody's reputation."""
        task_id = in_phase(world, "in_progress")

        push(world, ALICE, task_id, "dispute", reason="nothing came")

        assert world.outcomes == []

    def test_an_output_without_bytes_is_nothing(self, world: World) -> None:
        task_id = hired(world)
        close(world, task_id, "output")

        assert push(world, ALICE, task_id, "dispute", reason="nothing came")["status"] == "failed"

    def test_the_same_again_is_a_duplicate(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        first = push(world, ALICE, task_id, "dispute", reason="nothing came")

        assert push(world, ALICE, task_id, "dispute", reason="nothing came") == {**first, "duplicate": True}
        assert refused(push, world, ALICE, task_id, "dispute", reason="no").reason == "dispute_used"


class TestTheOperator:
    @pytest.mark.parametrize("was_completed", [False, True])
    def test_for_the_client(self, world: World, *, was_completed: bool) -> None:
        task_id = self.disputed(world, was_completed=was_completed)
        listeners = [world.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]

        answer = decide(world, task_id, "client", reason=" These are no words. ")

        assert (answer["status"], answer["escrow_status"]) == ("failed", "refunded")
        assert answer["error"] == {"type": "dispute", "details": None}
        assert answer["settlement"] == {
            "decision": "client",
            "decided_by": "operator",
            "to_client": PRICE,
            "to_provider": 0,
            "fee": 0,
            "reason": "These are no words.",
            "settled_at": as_told(world.now),
        }
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_settled", {"task": answer})]
        assert money(world, task_id) == (PURSE, 0, 0, 0)
        assert world.entries[-1].kind == "refund"
        assert world.outcomes[-1] == counted(task_id, is_completed=False, delta_centi=-15, is_correction=was_completed)

    @pytest.mark.parametrize("was_completed", [False, True])
    def test_for_the_provider(self, world: World, *, was_completed: bool) -> None:
        task_id = self.disputed(world, was_completed=was_completed)

        answer = decide(world, task_id, "provider")

        assert (answer["status"], answer["escrow_status"], answer["error"]) == ("completed", "released", None)
        settlement = answer["settlement"]
        assert (settlement["to_client"], settlement["to_provider"], settlement["fee"]) == (0, PRICE, FEE)
        assert money(world, task_id) == (PURSE - PRICE, PRICE - FEE, FEE, 0)
        assert world.entries[-1].kind == "release"
        assert world.outcomes[-1] == counted(task_id, is_completed=True, delta_centi=10, is_correction=was_completed)

    @pytest.mark.parametrize(
        ("client_bps", "to_client", "fee"), [(1, 0, 50), (3_333, 333, 33), (5_000, 500, 25), (9_999, 999, 0)]
    )
    def test_for_both(self, world: World, task_id: str, client_bps: int, to_client: int, fee: int) -> None:
        """The client's part is rounded down, and the fee is taken of the provider's alone."""
        answer = decide(world, task_id, "split", client_bps=client_bps)

        assert (answer["status"], answer["escrow_status"], answer["error"]) == ("completed", "split", None)
        settlement = answer["settlement"]
        to_provider = PRICE - to_client
        assert (settlement["to_client"], settlement["to_provider"], settlement["fee"]) == (to_client, to_provider, fee)
        assert money(world, task_id) == (PURSE - PRICE + to_client, to_provider - fee, fee, 0)
        entry = world.entries[-1]
        assert (entry.kind, entry.task_id) == ("split", task_id)
        moved = {
            escrow(task_id): -PRICE,
            available(ALICE.id): to_client,
            available(BOB.id): to_provider - fee,
            FEES: fee,
        }
        assert {posting.account: posting.amount for posting in entry.postings} == {
            account: amount for account, amount in moved.items() if amount
        }
        assert world.outcomes == [counted(task_id, is_completed=True, delta_centi=-5)]
        world.require_balance()

    def test_ends_every_clock_but_that_of_the_streams(self, world: World, task_id: str) -> None:
        answer = decide(world, task_id, "provider")

        assert answer["kept_until"] == as_told(NOW + WEEK)
        assert (answer["ended_at"], answer["ended_by"]) == (as_told(NOW), None)
        assert world.timers == {(topic_of(task_id), "task_retention"): NOW + WEEK}

    def test_leaves_the_end_of_a_completed_task_as_it_was(self, world: World) -> None:
        task_id = self.disputed(world, was_completed=True)
        world.advance(5)

        answer = decide(world, task_id, "provider")

        assert (answer["ended_at"], answer["ended_by"]) == (as_told(NOW), BOB.id)

    def test_of_one_house_nothing_counts(self) -> None:
        world = world_of(ALICE, BOB)
        for decision in ("client", "provider"):
            decide(world, disputed(world), decision)

        assert world.outcomes == []

    @pytest.mark.parametrize(
        ("payload", "field"),
        [
            ({"decision": "split"}, "client_bps"),
            ({"decision": "split", "client_bps": 0}, "client_bps"),
            ({"decision": "split", "client_bps": 10_000}, "client_bps"),
            ({"decision": "client", "client_bps": 5_000}, "client_bps"),
            ({"decision": "provider", "reason": " "}, "reason"),
            ({"decision": "provider", "reason": "x" * 2_001}, "reason"),
        ],
    )
    def test_says_what_makes_sense(self, world: World, task_id: str, payload: dict[str, Any], field: str) -> None:
        before = world.everything()

        refusal = refused(decide, world, task_id, **payload)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": field})
        assert world.everything() == before

    def test_of_nothing_there_is_nothing_to_decide(self, world: World) -> None:
        assert refused(decide, world, "no-task", "client").reason == "not_found"

    @pytest.mark.parametrize("phase", ["pending", "in_progress", "completed", "failed", "cancelled"])
    def test_only_what_is_disputed_is_decided(self, world: World, phase: str) -> None:
        refusal = refused(decide, world, in_phase(world, phase), "client")

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "not_disputed", {"status": phase})

    def test_once(self, world: World, task_id: str) -> None:
        first = decide(world, task_id, "split", client_bps=5_000)
        before = world.everything()

        assert decide(world, task_id, "split", client_bps=5_000) == {**first, "duplicate": True}
        for other in ({"client_bps": 4_000}, {"client_bps": 5_000, "reason": "Otherwise."}):
            refusal = refused(decide, world, task_id, "split", **other)
            assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "completed"})
        assert refused(decide, world, task_id, "client").reason == "terminal_state"
        assert world.everything() == before

    def test_not_what_was_settled_at_once(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        push(world, ALICE, task_id, "dispute", reason="nothing came")

        assert refused(decide, world, task_id, "client").reason == "terminal_state"

    def test_not_after_its_time_also_before_the_timer_has_run(self, world: World, task_id: str) -> None:
        world.advance(WEEK_S, run_timers=False)

        refusal = refused(decide, world, task_id, "client")

        assert (refusal.kind, refusal.reason, refusal.context) == ("expired", "expired", {"expired_at": world.now})

    @staticmethod
    def disputed(world: World, *, was_completed: bool) -> str:
        if not was_completed:
            return disputed(world)
        task_id = in_phase(world, "completed", hold_seconds=HOLD_S)
        push(world, ALICE, task_id, "dispute", reason="bad words")
        return task_id


class TestTheClock:
    @pytest.mark.parametrize("delivered", ["verified", "a result"])
    def test_what_was_delivered_is_paid(self, world: World, delivered: str) -> None:
        task_id = hired(world, hold_seconds=HOLD_S)
        if delivered == "verified":
            deliver(world, task_id)
        else:
            push(world, BOB, task_id, "complete", result=0)
        push(world, ALICE, task_id, "dispute", reason="bad words")
        listeners = [world.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]

        world.advance(WEEK_S)

        whole = world.join(ALICE, topic_of(task_id))
        assert (whole["status"], whole["escrow_status"]) == ("completed", "released")
        settlement = whole["settlement"]
        assert (settlement["decision"], settlement["decided_by"]) == ("provider", "default")
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_settled", {"task": whole})]
        assert money(world, task_id) == (PURSE - PRICE, PRICE - FEE, FEE, 0)
        assert world.outcomes[-1] == counted(task_id, is_completed=True, is_correction=delivered == "a result")

    def test_what_was_not_goes_back(self, world: World, task_id: str) -> None:
        world.advance(WEEK_S)

        whole = world.join(ALICE, topic_of(task_id))
        assert (whole["status"], whole["error"]) == ("failed", {"type": "dispute", "details": None})
        assert (whole["settlement"]["decision"], whole["settlement"]["decided_by"]) == ("client", "default")
        assert money(world, task_id) == (PURSE, 0, 0, 0)
        assert world.outcomes == [counted(task_id, is_completed=False)]

    def test_what_was_finished_meanwhile_is_delivered(self, world: World, task_id: str) -> None:
        stream(world, task_id, "output", *HELLO[1:])
        close(world, task_id, "output")

        world.advance(WEEK_S)

        assert world.task(task_id).status == "completed"

    def test_it_is_put_off_where_it_runs_too_early(self, world: World, task_id: str) -> None:
        task = world.task(task_id)

        decision = decision_due(task, context(THE_HOUSE))

        assert (decision.state, decision.changes) == (None, (Timer("task_decision", task.topic, NOW + WEEK),))

    def test_it_leaves_alone_what_is_decided(self, world: World, task_id: str) -> None:
        decide(world, task_id, "client")

        assert decision_due(world.task(task_id), context(OLGA, now=NOW + WEEK)).state is None

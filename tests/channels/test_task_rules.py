from typing import Any, ClassVar

import pytest

from channels.changes import Outcome
from channels.handlers import Access
from channels.task import HANDLERS, JOIN
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, Player, refused
from tests.channels.work import (
    EVENTS,
    GLOBAL_BOB,
    PROVIDERS_EVENTS,
    deliver,
    hired,
    in_phase,
    push,
    world_of,
)
from tests.channels.world import World

WEEK_S = 604_800
RUNNING = ("pending", "in_progress")
FINAL = ("completed", "failed", "cancelled")


@pytest.fixture
def world() -> World:
    return world_of()


@pytest.fixture
def task_id(world: World) -> str:
    return hired(world)


def sender_of(event: str) -> Player:
    return BOB if event in PROVIDERS_EVENTS else ALICE


class TestReputation:
    @pytest.fixture
    def world(self) -> World:
        return world_of(ALICE, GLOBAL_BOB)

    @pytest.mark.parametrize(
        ("end", "is_started", "is_completed"),
        [
            ("complete", False, True),
            ("complete", True, True),
            ("error", True, False),
            ("error", False, None),
            ("provider cancels", True, False),
            ("provider cancels", False, None),
            ("client cancels", True, None),
            ("client cancels", False, None),
            ("deadline", True, False),
            ("deadline", False, None),
        ],
    )
    def test_counts_what_the_provider_has_started_and_the_client_did_not_take_back(
        self, world: World, end: str, *, is_started: bool, is_completed: bool | None
    ) -> None:
        task_id = in_phase(world, "in_progress" if is_started else "pending")

        self.end(world, task_id, end)

        counted = [] if is_completed is None else [Outcome(BOB.id, ALICE.agent.owner_id, task_id, is_completed)]
        assert world.outcomes == counted

    def test_counts_as_completed_what_the_deadline_completes(self, world: World) -> None:
        task_id = hired(world)
        deliver(world, task_id)

        world.advance(WEEK_S)

        assert world.outcomes == [Outcome(BOB.id, ALICE.agent.owner_id, task_id, is_completed=True)]

    @pytest.mark.parametrize("end", ["complete", "error", "provider cancels", "deadline"])
    def test_counts_nothing_within_one_house(self, end: str) -> None:
        world = world_of(ALICE, BOB)

        self.end(world, in_phase(world, "in_progress"), end)

        assert world.outcomes == []

    @staticmethod
    def end(world: World, task_id: str, end: str) -> None:
        if end == "complete":
            push(world, BOB, task_id, "complete", result=1)
        elif end == "error":
            push(world, BOB, task_id, "error", type="broken")
        elif end == "deadline":
            world.advance(WEEK_S)
        else:
            push(world, ALICE if end.startswith("client") else BOB, task_id, "cancel")


class TestWhoAndWhen:
    @pytest.mark.parametrize("event", PROVIDERS_EVENTS)
    def test_the_client_may_not_do_the_providers_part(self, world: World, task_id: str, event: str) -> None:
        before = world.everything()

        refusal = refused(push, world, ALICE, task_id, event, **EVENTS[event])

        assert (refusal.kind, refusal.reason) == ("forbidden", "forbidden_role")
        assert refusal.context == {"role": "provider"}
        assert world.everything() == before

    @pytest.mark.parametrize("event", EVENTS)
    def test_a_stranger_finds_no_task(self, world: World, task_id: str, event: str) -> None:
        for who, where in ((MALLORY, task_id), (CAROL, task_id), (BOB, "no-task")):
            refusal = refused(push, world, who, where, event, **EVENTS[event])
            assert (refusal.kind, refusal.reason) == ("not_found", "not_found")

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("phase", FINAL)
    def test_an_ended_task_takes_no_event_and_stays_as_it_is(self, world: World, event: str, phase: str) -> None:
        task_id = in_phase(world, phase)
        before = world.everything()

        refusal = refused(push, world, sender_of(event), task_id, event, **EVENTS[event])

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "terminal_state", {"status": phase})
        assert world.everything() == before

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("phase", RUNNING)
    def test_a_running_task_takes_every_event(self, world: World, event: str, phase: str) -> None:
        task_id = in_phase(world, phase)

        assert push(world, sender_of(event), task_id, event, **EVENTS[event])["status"] != "pending"

    @pytest.mark.parametrize(
        ("event", "invalid"),
        [
            ("progress", {"percent": 1, "message": "x" * 2_001}),
            ("complete", {"result": "x" * 65_536}),
            ("error", {"type": "!"}),
            ("cancel", {"reason": "x" * 2_001}),
        ],
    )
    def test_payload_role_and_end_are_checked_in_this_order(
        self, world: World, event: str, invalid: dict[str, Any]
    ) -> None:
        """Each case mends one thing more than the one before it."""
        task_id = in_phase(world, "completed")
        world.advance(WEEK_S)

        assert refused(push, world, MALLORY, task_id, event, **invalid).reason == "invalid_payload"
        assert refused(push, world, MALLORY, task_id, event, **EVENTS[event]).reason == "not_found"
        if event in PROVIDERS_EVENTS:
            assert refused(push, world, ALICE, task_id, event, **EVENTS[event]).reason == "forbidden_role"
        assert refused(push, world, BOB, task_id, event, **EVENTS[event]).reason == "terminal_state"

    def test_every_event_comes_in_order_with_the_others_and_needs_the_scope(self) -> None:
        for handler in (JOIN, *HANDLERS.values()):
            assert (handler.access, handler.scope) == (Access.WRITE, "tasks")


class TestRepeating:
    CASES: ClassVar[list[tuple[str, Player, dict[str, Any], dict[str, Any]]]] = [
        ("complete", BOB, {"result": {"a": 1, "b": 2}}, {"result": {"b": 2, "a": 1}}),
        ("error", BOB, {"type": "broken", "details": [1]}, {"details": [1], "type": "broken"}),
        ("cancel", BOB, {"reason": "no time"}, {"reason": "no time"}),
        ("cancel", ALICE, {}, {"reason": ""}),
    ]

    @pytest.mark.parametrize("case", CASES)
    def test_the_end_with_equal_fields_is_a_duplicate_and_changes_nothing(
        self, world: World, task_id: str, case: tuple[str, Player, dict[str, Any], dict[str, Any]]
    ) -> None:
        event, who, payload, same = case
        first = push(world, who, task_id, event, **payload)
        world.advance(WEEK_S)
        before = world.everything()

        assert push(world, who, task_id, event, **same) == {**first, "duplicate": True}
        assert world.everything() == before

    @pytest.mark.parametrize(
        ("event", "first", "other"),
        [
            ("complete", {"result": 1}, {"result": True}),
            ("complete", {"result": 1}, {"result": 1.0}),
            ("error", {"type": "a"}, {"type": "b"}),
            ("error", {"type": "a"}, {"type": "a", "details": {}}),
            ("cancel", {"reason": "a"}, {"reason": "b"}),
        ],
    )
    def test_the_end_with_other_fields_is_refused(
        self, world: World, task_id: str, event: str, first: dict[str, Any], other: dict[str, Any]
    ) -> None:
        push(world, BOB, task_id, event, **first)

        assert refused(push, world, BOB, task_id, event, **other).reason == "terminal_state"

    def test_the_other_sides_cancel_is_refused(self, world: World, task_id: str) -> None:
        push(world, ALICE, task_id, "cancel", reason="no time")

        assert refused(push, world, BOB, task_id, "cancel", reason="no time").reason == "terminal_state"

    def test_what_the_clock_has_done_is_not_a_duplicate(self, world: World, task_id: str) -> None:
        delivered = hired(world)
        deliver(world, delivered)
        world.advance(WEEK_S)

        assert refused(push, world, BOB, task_id, "error", type="deadline").reason == "terminal_state"
        assert refused(push, world, BOB, delivered, "complete", result=None).reason == "terminal_state"

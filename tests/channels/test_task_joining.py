"""Joining a task: who gets what of it, and from where on its stored chunks are replayed."""

from typing import Any

import pytest

from channels.chunks import SEQ_MAX
from channels.handlers import Follow
from channels.identity import Identity
from channels.streams import TaskFacts
from channels.task import JOIN, TIMERS
from channels.task_joining import JoinTask
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, Player, context, refused
from tests.channels.streaming import DIRECTIONS, WEEK_S, Witness, digest_over, send_all, witness
from tests.channels.work import close, hired, in_phase, push, stream, topic_of
from tests.channels.world import THE_HOUSE, StoredStreams

SIDES = pytest.mark.parametrize("who", [ALICE, BOB], ids=["client", "provider"])


@pytest.fixture
def world() -> Witness:
    return witness()


@pytest.fixture
def task_id(world: Witness) -> str:
    """A task with three chunks of the input, and of the output one, a gap, and one more."""
    task_id = hired(world)
    stream(world, task_id, "input", "a", "bb", "ccc")
    send_all(world, task_id, "output", {0: b"x", 2: b"z"})
    return task_id


def followed(world: Witness, who: Player, task_id: str, **payload: Any) -> Follow:
    """What a join makes the joining socket follow."""
    world.join(who, topic_of(task_id), payload)
    (follow,) = world.follows
    world.follows.clear()
    assert world.last.follow == follow
    assert isinstance(follow, Follow)
    return follow


class TestResuming:
    @SIDES
    @pytest.mark.parametrize("payload", [{}, {"input_from": None, "output_from": None}], ids=["absent", "null"])
    def test_without_a_place_replays_nothing(
        self, world: Witness, task_id: str, who: Player, payload: dict[str, Any]
    ) -> None:
        assert followed(world, who, task_id, **payload) == Follow(task_id=task_id, replays={}, is_binary=False)

    @SIDES
    @pytest.mark.parametrize(
        ("asked", "replays"),
        [
            ({"input_from": 0}, {"input": 0}),
            ({"input_from": 2}, {"input": 2}),
            ({"output_from": 0}, {"output": 0}),
            ({"input_from": 0, "output_from": 0}, {"input": 0, "output": 0}),
            ({"input_from": 1, "output_from": 1}, {"input": 1, "output": 1}),
        ],
        ids=str,
    )
    def test_replays_each_direction_from_where_it_is_asked(
        self, world: Witness, task_id: str, who: Player, asked: dict[str, int], replays: dict[str, int]
    ) -> None:
        assert followed(world, who, task_id, **asked).replays == replays

    @SIDES
    @pytest.mark.parametrize("beyond", [0, 1, 2, 255, SEQ_MAX - 3])
    def test_from_beyond_the_first_missing_one_replays_all_that_is_not_in_order(
        self, world: Witness, task_id: str, who: Player, beyond: int
    ) -> None:
        """What it has got beyond that was relayed before it was durable, and may be other bytes by now."""
        follow = followed(world, who, task_id, input_from=3 + beyond, output_from=1 + beyond)

        assert follow.replays == {"input": 3, "output": 1}

    @SIDES
    def test_of_streams_without_a_chunk_starts_at_the_first(self, world: Witness, who: Player) -> None:
        follow = followed(world, who, hired(world), input_from=9, output_from=0)

        assert follow.replays == {"input": 0, "output": 0}

    @SIDES
    def test_works_also_after_the_end(self, world: Witness, task_id: str, who: Player) -> None:
        close(world, task_id, "input")
        push(world, BOB, task_id, "error", type="broken")

        assert followed(world, who, task_id, input_from=1, output_from=0).replays == {"input": 1, "output": 0}

    @pytest.mark.parametrize("field", ["input_from", "output_from"])
    @pytest.mark.parametrize("seq", [-1, 2**53, "0", True, 0.5, [0]], ids=repr)
    def test_from_what_is_no_seq_is_refused(self, world: Witness, task_id: str, field: str, seq: Any) -> None:
        assert refused(world.join, BOB, topic_of(task_id), {field: seq}).reason == "invalid_payload"
        assert world.follows == []

    @SIDES
    @pytest.mark.parametrize("is_binary", [True, False])
    def test_says_in_which_form_it_takes_chunks(
        self, world: Witness, task_id: str, who: Player, *, is_binary: bool
    ) -> None:
        assert followed(world, who, task_id, binary=is_binary).is_binary is is_binary

    @pytest.mark.parametrize("binary", ["true", 1, None], ids=repr)
    def test_in_a_form_that_is_neither_is_refused(self, world: Witness, task_id: str, binary: Any) -> None:
        assert refused(world.join, BOB, topic_of(task_id), {"binary": binary}).reason == "invalid_payload"

    def test_changes_nothing(self, world: Witness, task_id: str) -> None:
        before = world.everything()

        for who in (ALICE, BOB):
            world.join(who, topic_of(task_id), {"input_from": 0, "output_from": 0, "binary": True})

        assert world.everything() == before


class TestTheReply:
    @SIDES
    def test_shows_both_streams_up_to_the_first_missing_one(self, world: Witness, task_id: str, who: Player) -> None:
        streams = world.join(who, topic_of(task_id), {"input_from": 0})["streams"]

        chunks = {"input": {0: b"a", 1: b"bb", 2: b"ccc"}, "output": {0: b"x"}}
        for direction in DIRECTIONS:
            sent = chunks[direction]
            assert streams[direction] == {
                "next_seq": len(sent),
                "total_size": sum(map(len, sent.values())),
                "digest": digest_over(sent, until=len(sent)),
                "complete": False,
                "verified": False,
                "checksum": None,
            }

    @SIDES
    def test_shows_the_last_progress(self, world: Witness, task_id: str, who: Player) -> None:
        assert world.join(who, topic_of(task_id))["progress"] is None

        push(world, BOB, task_id, "progress", percent=30, message="on it")

        assert world.join(who, topic_of(task_id))["progress"] == {"percent": 30, "message": "on it"}

    def test_has_the_newest_checkpoint_for_the_provider_only(self, world: Witness, task_id: str) -> None:
        assert world.join(BOB, topic_of(task_id))["checkpoint"] is None
        assert "checkpoint" not in world.join(ALICE, topic_of(task_id))

        push(world, BOB, task_id, "checkpoint", seq=1, state={"at": 1})
        push(world, BOB, task_id, "checkpoint", seq=2, state={"at": 2})

        assert world.join(BOB, topic_of(task_id))["checkpoint"] == {"state": {"at": 2}, "seq": 2}
        assert "checkpoint" not in world.join(ALICE, topic_of(task_id))

    def test_never_tells_the_client_of_a_checkpoint_in_any_phase(self, world: Witness) -> None:
        for phase in ("pending", "in_progress", "completed", "failed", "cancelled"):
            joined = world.join(ALICE, topic_of(in_phase(world, phase)))
            assert not [name for name in joined if "checkpoint" in name]

    def test_shows_what_of_an_ended_task_is_kept_until_when(self, world: Witness) -> None:
        task_id = in_phase(world, "completed")

        assert world.join(ALICE, topic_of(task_id))["kept_until"] == "2026-03-08T12:00:00Z"
        world.advance(WEEK_S)
        assert world.join(ALICE, topic_of(task_id))["status"] == "completed"


class TestWho:
    @pytest.mark.parametrize("who", [CAROL, MALLORY], ids=["carol", "mallory"])
    def test_a_stranger_finds_no_task_and_follows_nothing(self, world: Witness, task_id: str, who: Player) -> None:
        asked = {"input_from": 0, "output_from": 0}
        there = refused(world.join, who, topic_of(task_id), asked)
        nowhere = refused(world.join, who, topic_of("no-task"), asked)

        assert (there.kind, there.response()) == (nowhere.kind, nowhere.response())
        assert there.reason == "not_found"
        assert world.follows == []

    def test_an_operator_has_no_part_in_it_either(self, world: Witness, task_id: str) -> None:
        facts = TaskFacts(task=world.task(task_id), stored=StoredStreams(world, task_id))
        operator = Identity(kind="user", user_id="u", handle="op", key_id="k")

        assert refused(JOIN.decide, facts, JoinTask(), context(operator)).reason == "not_found"


@pytest.mark.parametrize("kind", sorted(TIMERS))
def test_of_a_task_that_is_gone_no_clock_decides_anything(world: Witness, kind: str) -> None:
    facts = TaskFacts(task=None, stored=StoredStreams(world, "no-task"))

    decision = TIMERS[kind](facts, context(THE_HOUSE))

    assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())


def test_facts_go_on_with_the_same_store(world: Witness, task_id: str) -> None:
    facts = TaskFacts(task=world.task(task_id), stored=StoredStreams(world, task_id))
    other = world.task(hired(world))

    then = facts.then(other)

    assert (then.task, then.stored) == (other, facts.stored)

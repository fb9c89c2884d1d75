from typing import Any

import pytest

from channels.changes import StoreCheckpoint
from channels.chunks import SEQ_MAX
from channels.documents import LEVELS_MAX
from channels.streams import Checkpoint
from tests.channels.roles import ALICE, BOB, MALLORY, market_with, refused
from tests.channels.streaming import FINAL, WEEK_S, Witness, witness
from tests.channels.work import close, deliver, hired, in_phase, push, stream, topic_of

HOUR_S = 3_600


@pytest.fixture
def world() -> Witness:
    return witness()


@pytest.fixture
def task_id(world: Witness) -> str:
    return hired(world)


def save(world: Witness, task_id: str, seq: int, state: Any = "here") -> dict[str, Any]:
    """Bob notes how far he is."""
    return push(world, BOB, task_id, "checkpoint", seq=seq, state=state)


class TestSaving:
    def test_starts_the_task_and_is_told_to_nobody_else(self, world: Witness, task_id: str) -> None:
        listeners = [world.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]
        world.advance(5)

        reply = save(world, task_id, 7, {"page": 3})

        assert reply == {
            "task_id": task_id,
            "seq": 7,
            "status": "in_progress",
            "started_at": "2026-03-01T12:00:05Z",
            "units": None,
            "paid_up_to": None,
        }
        assert world.last.changes == (StoreCheckpoint(task_id, 7, {"page": 3}),)
        assert [listener.heard for listener in listeners] == [[], []]

    def test_is_handed_back_to_the_provider_alone_and_the_newest_only(self, world: Witness, task_id: str) -> None:
        save(world, task_id, 0, "secret of page 1")
        save(world, task_id, 1, {"secret": ["of", "page 2"]})

        assert world.join(BOB, topic_of(task_id))["checkpoint"] == {"seq": 1, "state": {"secret": ["of", "page 2"]}}
        joined = world.join(ALICE, topic_of(task_id))
        assert "checkpoint" not in joined
        assert "secret" not in str(joined)
        assert world.checkpoints == {task_id: Checkpoint(seq=1, state={"secret": ["of", "page 2"]})}

    @pytest.mark.parametrize("state", [None, 0, False, "", [], {}, 1.5, {"a": [None, {"b": "é"}]}], ids=repr)
    def test_takes_any_json(self, world: Witness, task_id: str, state: Any) -> None:
        save(world, task_id, 0, state)

        assert world.join(BOB, topic_of(task_id))["checkpoint"] == {"seq": 0, "state": state}

    def test_leaves_progress_and_streams_as_they_are(self, world: Witness, task_id: str) -> None:
        stream(world, task_id, "output", "hello ")
        push(world, BOB, task_id, "progress", percent=10)
        before = world.join(ALICE, topic_of(task_id))

        save(world, task_id, 3)

        assert world.join(ALICE, topic_of(task_id)) == before

    def test_has_a_state_of_limited_size(self) -> None:
        world = witness(market=market_with(checkpoint_bytes_max=10))
        task_id = hired(world)
        before = world.everything()

        refusal = refused(save, world, task_id, 0, "9 bytes..")

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "state"})
        assert world.everything() == before
        assert save(world, task_id, 0, "8 bytes.")["seq"] == 0

    def test_takes_64_kib_and_not_a_byte_more(self, world: Witness, task_id: str) -> None:
        assert refused(save, world, task_id, 0, "a" * 65_535).reason == "invalid_payload"
        assert save(world, task_id, 0, "a" * 65_534)["seq"] == 0

    def test_has_a_state_that_does_not_nest_too_deeply(self, world: Witness, task_id: str) -> None:
        deep: Any = []
        for _ in range(LEVELS_MAX):
            deep = [deep]

        assert refused(save, world, task_id, 0, deep).context == {"field": "state"}
        assert save(world, task_id, 0, deep[0])["seq"] == 0

    @pytest.mark.parametrize("seq", [-1, 2**53, "1", True, 0.5, None], ids=repr)
    def test_has_a_seq_in_range(self, world: Witness, task_id: str, seq: Any) -> None:
        assert refused(save, world, task_id, seq).reason == "invalid_payload"

    @pytest.mark.parametrize("missing", ["seq", "state"])
    def test_needs_both_fields(self, world: Witness, task_id: str, missing: str) -> None:
        payload = {"seq": 1, "state": None}
        del payload[missing]

        assert refused(push, world, BOB, task_id, "checkpoint", **payload).reason == "invalid_payload"


class TestGrowing:
    @pytest.mark.parametrize("seq", [6, 100, SEQ_MAX])
    def test_may_leave_numbers_out(self, world: Witness, task_id: str, seq: int) -> None:
        save(world, task_id, 5)

        assert save(world, task_id, seq)["seq"] == seq
        assert world.task(task_id).checkpoint_seq == seq

    @pytest.mark.parametrize("seq", [0, 4, 5])
    def test_is_refused_where_the_seq_does_not_grow(self, world: Witness, task_id: str, seq: int) -> None:
        save(world, task_id, 5, "page 5")
        before = world.everything()

        refusal = refused(save, world, task_id, seq, "another page")

        assert (refusal.kind, refusal.reason) == ("conflict", "stale_checkpoint")
        assert refusal.context == {"seq": seq, "checkpoint_seq": 5}
        assert world.everything() == before

    @pytest.mark.parametrize("older", [0, 4])
    def test_the_same_state_under_an_older_seq_is_no_repetition(self, world: Witness, task_id: str, older: int) -> None:
        save(world, task_id, older)
        save(world, task_id, 5)

        assert refused(save, world, task_id, older).reason == "stale_checkpoint"

    def test_the_same_again_is_a_duplicate(self, world: Witness, task_id: str) -> None:
        first = save(world, task_id, 5, {"a": 1, "b": 2})
        before = world.everything()

        again = save(world, task_id, 5, {"b": 2, "a": 1})

        assert again == {**first, "duplicate": True}
        assert world.everything() == before

    @pytest.mark.parametrize("state", [True, 1.0, "1", [1]], ids=repr)
    def test_what_is_another_value_in_json_is_no_repetition(self, world: Witness, task_id: str, state: Any) -> None:
        save(world, task_id, 5, 1)

        assert refused(save, world, task_id, 5, state).reason == "stale_checkpoint"

    def test_zero_is_the_first(self, world: Witness, task_id: str) -> None:
        save(world, task_id, 0)

        assert world.task(task_id).checkpoint_seq == 0
        assert save(world, task_id, 0)["duplicate"] is True
        assert refused(save, world, task_id, 0, "other").context == {"seq": 0, "checkpoint_seq": 0}


class TestWhoAndWhen:
    def test_is_the_providers(self, world: Witness, task_id: str) -> None:
        refusal = refused(push, world, ALICE, task_id, "checkpoint", seq=0, state=1)

        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": "provider"})
        assert refused(push, world, MALLORY, task_id, "checkpoint", seq=0, state=1).reason == "not_found"
        assert refused(push, world, BOB, "no-task", "checkpoint", seq=0, state=1).reason == "not_found"

    def test_what_is_too_large_is_refused_whoever_sends_it(self) -> None:
        world = witness(market=market_with(checkpoint_bytes_max=1))

        assert refused(push, world, MALLORY, hired(world), "checkpoint", seq=0, state=12).reason == "invalid_payload"

    @pytest.mark.parametrize("phase", FINAL)
    def test_comes_to_an_end_with_the_task(self, world: Witness, phase: str) -> None:
        task_id = in_phase(world, phase)
        before = world.everything()

        refusal = refused(save, world, task_id, 0)

        assert (refusal.reason, refusal.context) == ("terminal_state", {"status": phase})
        assert world.everything() == before

    def test_is_late_at_the_deadline(self, world: Witness, task_id: str) -> None:
        world.advance(WEEK_S, run_timers=False)

        assert refused(save, world, task_id, 0).reason == "expired"

    def test_is_locked_while_the_task_is_disputed(self, world: Witness, task_id: str) -> None:
        stream(world, task_id, "output", "hello ")
        save(world, task_id, 1)
        push(world, ALICE, task_id, "dispute", reason="no")

        assert refused(save, world, task_id, 2).reason == "escrow_locked"
        assert refused(push, world, BOB, task_id, "progress", percent=1).reason == "escrow_locked"
        assert save(world, task_id, 1)["duplicate"] is True
        assert world.join(BOB, topic_of(task_id))["checkpoint"] == {"seq": 1, "state": "here"}

    @pytest.mark.parametrize("hold_seconds", [0, HOUR_S])
    def test_is_kept_as_long_as_the_streams_and_then_deleted(self, world: Witness, hold_seconds: int) -> None:
        task_id = hired(world, hold_seconds=hold_seconds)
        stream(world, task_id, "input", "hello ")
        close(world, task_id, "input")
        deliver(world, task_id)
        save(world, task_id, 4)
        push(world, BOB, task_id, "complete")

        world.advance(hold_seconds)
        world.advance(WEEK_S - 1)
        assert world.join(BOB, topic_of(task_id))["checkpoint"] == {"seq": 4, "state": "here"}
        assert world.chunks[task_id, "output"] == {0: b"hello ", 1: b"world"}

        world.advance(1)
        assert world.join(BOB, topic_of(task_id))["checkpoint"] is None
        assert world.checkpoints == {}
        assert not world.chunks[task_id, "output"]
        assert not world.chunks[task_id, "input"]
        # Nothing is left to compare with: what came before is as late as all else.
        assert refused(save, world, task_id, 4).reason == "terminal_state"
        assert refused(push, world, BOB, task_id, "output_stream", seq=0, chunk="hello ").reason == "terminal_state"
        assert world.timers == {}

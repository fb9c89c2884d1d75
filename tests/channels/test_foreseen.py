"""What is relayed before it is durable is what is decided then: in every state, however far the writer is behind."""

from typing import Any

import msgspec
import pytest

from channels.chunks import BinaryChunk, SendChunk, binary_chunk
from channels.progress import ReportProgress, SaveCheckpoint
from channels.task_state import Direction
from channels.told import Audience
from tests.channels.foreseeing import (
    CREDIT,
    LIMITS,
    UNIT_BYTES,
    UNIT_PRICE,
    decide,
    foresee,
    paid_as_it_streams,
    without_digests,
)
from tests.channels.played import played
from tests.channels.roles import ALICE, BOB, MALLORY, market_with, refused
from tests.channels.streaming import DIRECTIONS, WEEK_S, receiver_of, send_all, witness
from tests.channels.work import close, deliver, hired, in_phase, push, sender_of, stream
from tests.channels.world import World

PROVIDERS: dict[str, Any] = {
    "output_stream": SendChunk(chunk="hello ", seq=0),
    "progress": ReportProgress(percent=50),
    "checkpoint": SaveCheckpoint(state=None, seq=0),
}
FORESEEN: dict[str, Any] = {"input_stream": SendChunk(chunk="hello ", seq=0), **PROVIDERS}


@pytest.fixture
def world() -> World:
    return witness()


class TestAChunk:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_is_told_as_it_will_be_decided_but_for_the_digest(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        send_all(world, task_id, direction, {0: b"a", 2: b"ccc"})
        request = SendChunk(chunk="bb", seq=1)

        after, told = foresee(world, world.task(task_id), sender_of(direction), f"{direction}_stream", request)

        decision = decide(world, task_id, sender_of(direction), f"{direction}_stream", request)
        assert decision.broadcasts == (told,)
        assert (after.stream(direction).next_seq, after.stream(direction).size) == (3, 6)
        assert without_digests(after) == without_digests(decision.state)
        assert after.stream(direction).digest == world.task(task_id).stream(direction).digest
        assert told is not None
        assert "digest" not in told.payload

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_that_came_as_bytes_goes_on_as_bytes_and_as_base64(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        request = BinaryChunk(seq=0, data=b"\x00\xff\xfe")

        _, told = foresee(world, world.task(task_id), sender_of(direction), f"{direction}_stream", request)

        assert told is not None
        assert told.binary == binary_chunk(0, b"\x00\xff\xfe")
        assert (told.payload["chunk"], told.payload["encoding"]) == (b"\x00\xff\xfe", "base64")
        assert (told.event, told.audience) == (f"{direction}_stream", Audience.OTHER_AGENTS)

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_that_came_as_json_has_no_bytes_to_go_on_as(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        request = SendChunk(chunk="AP/+", seq=0, encoding="base64")

        _, told = foresee(world, world.task(task_id), sender_of(direction), f"{direction}_stream", request)

        assert told is not None
        assert (told.binary, told.payload["chunk"], told.payload["encoding"]) == (None, "AP/+", "base64")

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("seq", [0, 2], ids=["in order", "ahead"])
    def test_that_is_stored_is_not_relayed_again(self, world: World, direction: Direction, seq: int) -> None:
        task_id = in_phase(world, "in_progress")
        send_all(world, task_id, direction, {0: b"a", 2: b"a"})
        sent = (world.task(task_id), sender_of(direction), f"{direction}_stream", SendChunk(chunk="a", seq=seq))

        assert refused(foresee, world, *sent).reason == "seq_conflict"
        assert decide(world, task_id, *sent[1:]).reply["duplicate"] is True

    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize(
        ("chunk", "reason"),
        [
            (SendChunk(chunk="", seq=1), "invalid_payload"),
            (SendChunk(chunk="AB==", seq=1, encoding="base64"), "invalid_payload"),
            (BinaryChunk(seq=0, data=b"b"), "seq_conflict"),
            (BinaryChunk(seq=5, data=b"b"), "seq_out_of_window"),
            (BinaryChunk(seq=1, data=b"123456"), "chunk_too_large"),
            (BinaryChunk(seq=4, data=b"1234"), "stream_too_large"),
        ],
        ids=str,
    )
    def test_that_will_be_refused_is_not_relayed(
        self, direction: Direction, chunk: SendChunk | BinaryChunk, reason: str
    ) -> None:
        world = witness(market=market_with(**LIMITS | {"stream_bytes_max": 4}))
        task_id = in_phase(world, "in_progress")
        send_all(world, task_id, direction, {0: b"a"})
        sent = (sender_of(direction), f"{direction}_stream", chunk)

        assert refused(foresee, world, world.task(task_id), *sent).reason == reason
        assert refused(decide, world, task_id, *sent).reason == reason

    @pytest.mark.parametrize("direction", DIRECTIONS)
    def test_of_a_closed_stream_is_not_relayed(self, world: World, direction: Direction) -> None:
        task_id = in_phase(world, "in_progress")
        stream(world, task_id, direction, "a")
        close(world, task_id, direction)
        sent = (sender_of(direction), f"{direction}_stream", SendChunk(chunk="b", seq=1))

        assert refused(foresee, world, world.task(task_id), *sent).reason == "stream_closed"

    @pytest.mark.parametrize("price", ["per chunk", "per bytes"])
    def test_is_relayed_as_far_as_it_is_paid_and_on_credit(self, price: str) -> None:
        world = played()
        task_id, topic = paid_as_it_streams(world, price)
        push(world, BOB, task_id, "progress", percent=1)
        known = world.task(task_id)
        for seq in range(CREDIT):
            known, _ = foresee(world, known, BOB, "output_stream", BinaryChunk(seq=seq, data=b"1234"))
        next_one = BinaryChunk(seq=CREDIT, data=b"1234")

        assert refused(foresee, world, known, BOB, "output_stream", next_one).reason == "payment_due"

        world.pay(topic, amount=UNIT_PRICE, task_id=task_id)
        known = msgspec.structs.replace(known, paid=world.task(task_id).paid)
        known, told = foresee(world, known, BOB, "output_stream", next_one)
        assert told is None, "what is paid as it streams is told once it is stored"
        assert (known.units, known.paid_up_to) == (CREDIT + 1, 1)
        beyond = BinaryChunk(seq=CREDIT + 1, data=b"1")
        assert refused(foresee, world, known, BOB, "output_stream", beyond).reason == "payment_due"

    def test_ahead_of_a_gap_is_a_unit_too_and_half_a_unit_pays_none(self) -> None:
        world = played()
        task_id, topic = paid_as_it_streams(world, "per chunk")
        push(world, BOB, task_id, "progress", percent=1)
        world.pay(topic, amount=UNIT_PRICE + UNIT_PRICE // 2, task_id=task_id)
        known = world.task(task_id)

        for count, seq in enumerate((9, 5, 7), start=1):
            known, told = foresee(world, known, BOB, "output_stream", BinaryChunk(seq=seq, data=b"1234"))
            assert told is None
            assert (known.units, known.paid_up_to) == (count, 1)
        refusal = refused(foresee, world, known, BOB, "output_stream", BinaryChunk(seq=0, data=b"1"))
        assert (refusal.reason, refusal.context["due"]) == ("payment_due", UNIT_PRICE // 2)

    def test_larger_than_a_unit_is_not_relayed(self) -> None:
        world = played()
        task_id, _ = paid_as_it_streams(world, "per bytes")
        push(world, BOB, task_id, "progress", percent=1)

        refusal = refused(foresee, world, world.task(task_id), BOB, "output_stream", BinaryChunk(seq=0, data=b"12345"))

        assert (refusal.reason, refusal.context) == ("chunk_too_large", {"chunk_bytes_max": UNIT_BYTES})


class TestWhatIsForeseen:
    @pytest.mark.parametrize("event", sorted(PROVIDERS))
    def test_is_never_the_start_of_a_task(self, world: World, event: str) -> None:
        """When it started is the writer's time, and no other."""
        task = world.task(hired(world))

        assert refused(foresee, world, task, BOB, event, PROVIDERS[event]).reason == "not_started"
        started = decide(world, task.id, BOB, event, PROVIDERS[event]).state
        assert (started.status, started.started_at) == ("in_progress", world.now)

    def test_is_the_input_also_before_the_start(self, world: World) -> None:
        after, told = foresee(world, world.task(hired(world)), ALICE, "input_stream", FORESEEN["input_stream"])

        assert told is not None
        assert (after.status, after.started_at) == ("pending", None)
        assert (told.payload["status"], told.payload["started_at"]) == ("pending", None)

    @pytest.mark.parametrize("event", sorted(FORESEEN))
    def test_is_nothing_of_who_may_not_send_it(self, world: World, event: str) -> None:
        task = world.task(in_phase(world, "in_progress"))
        other = receiver_of("input" if event == "input_stream" else "output")

        assert refused(foresee, world, task, other, event, FORESEEN[event]).reason == "forbidden_role"
        assert refused(foresee, world, task, MALLORY, event, FORESEEN[event]).reason == "not_found"

    @pytest.mark.parametrize("event", sorted(FORESEEN))
    def test_is_nothing_after_the_end_or_the_deadline(self, world: World, event: str) -> None:
        who = ALICE if event == "input_stream" else BOB
        ended = hired(world)
        deliver(world, ended)
        push(world, BOB, ended, "complete")
        late = world.task(in_phase(world, "in_progress"))
        refusal = refused(foresee, world, world.task(ended), who, event, FORESEEN[event])
        assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "completed"})

        world.advance(WEEK_S, run_timers=False)

        assert refused(foresee, world, late, who, event, FORESEEN[event]).reason == "expired"

    def test_of_a_disputed_task_is_its_output_alone(self, world: World) -> None:
        task_id = hired(world)
        stream(world, task_id, "output", "a")
        push(world, ALICE, task_id, "dispute", reason="no")
        task = world.task(task_id)

        _, told = foresee(world, task, BOB, "output_stream", SendChunk(chunk="b", seq=1))

        assert told is not None
        assert told.payload["status"] == "disputed"
        for event, who in (("input_stream", ALICE), ("progress", BOB), ("checkpoint", BOB)):
            assert refused(foresee, world, task, who, event, FORESEEN[event]).reason == "escrow_locked"

    def test_of_progress_is_what_the_client_is_told(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        request = ReportProgress(percent=60, message="almost")

        after, told = foresee(world, world.task(task_id), BOB, "progress", request)

        decision = decide(world, task_id, BOB, "progress", request)
        assert (after, (told,)) == (decision.state, decision.broadcasts)

    def test_of_progress_is_nothing_that_is_too_long(self) -> None:
        world = witness(market=market_with(text_chars_max=3))
        task = world.task(in_phase(world, "in_progress"))

        refusal = refused(foresee, world, task, BOB, "progress", ReportProgress(percent=1, message="1234"))

        assert refusal.context == {"field": "message"}

    def test_of_a_checkpoint_is_told_to_nobody(self, world: World) -> None:
        task_id = in_phase(world, "in_progress")
        request = SaveCheckpoint(state="secret", seq=4)

        after, told = foresee(world, world.task(task_id), BOB, "checkpoint", request)

        assert told is None
        assert after == decide(world, task_id, BOB, "checkpoint", request).state
        assert after.checkpoint_seq == 4

    def test_of_a_checkpoint_is_nothing_that_is_stale_or_too_large(self) -> None:
        world = witness(market=market_with(checkpoint_bytes_max=4))
        task_id = in_phase(world, "in_progress")
        push(world, BOB, task_id, "checkpoint", seq=4, state="a")
        task = world.task(task_id)

        for seq in (0, 4):
            refusal = refused(foresee, world, task, BOB, "checkpoint", SaveCheckpoint(state="a", seq=seq))
            assert refusal.reason == "stale_checkpoint"
        refusal = refused(foresee, world, task, BOB, "checkpoint", SaveCheckpoint(state="abc", seq=5))
        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "state"})

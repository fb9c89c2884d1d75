import hashlib
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.task_state import Direction
from crypto import NO_CHUNKS, next_digest
from tests.channels.roles import ALICE, BOB, MALLORY, market_with, refused
from tests.channels.streaming import (
    DIRECTIONS,
    FINAL,
    WEEK_S,
    digest_over,
    finish,
    in_base64,
    receiver_of,
    send,
    send_all,
    send_binary,
)
from tests.channels.work import (
    HELLO,
    HELLO_SHA256,
    close,
    closing,
    hired,
    in_phase,
    sender_of,
    stream,
    topic_of,
    world_of,
)
from tests.channels.world import World

EMPTY_SHA256 = hashlib.sha256().hexdigest()

pytestmark = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture
def world() -> World:
    return world_of()


@pytest.fixture
def task_id(world: World) -> str:
    return hired(world)


def status_after(direction: Direction) -> str:
    """What the first event of a stream makes of a task: the provider's starts it."""
    return "in_progress" if direction == "output" else "pending"


def started_after(direction: Direction) -> str | None:
    return "2026-03-01T12:00:00Z" if direction == "output" else None


class TestSendingAChunk:
    def test_is_stored_acknowledged_and_relayed_to_the_other_side_alone(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        own, other = (world.listen(who, topic_of(task_id)) for who in (sender_of(direction), receiver_of(direction)))

        reply = send(world, task_id, direction)

        assert reply == {
            "task_id": task_id,
            "seq": 0,
            "next_seq": 1,
            "total_size": 6,
            "digest": next_digest(NO_CHUNKS, seq=0, chunk=b"hello "),
            "status": status_after(direction),
            "started_at": started_after(direction),
            "units": None,
            "paid_up_to": None,
        }
        (heard,) = other.heard
        assert heard.event == f"{direction}_stream"
        del reply["digest"]  # Whoever gets the bytes carries it on itself.
        assert heard.payload == {**reply, "chunk": "hello ", "encoding": "utf8"}
        assert own.heard == []
        assert world.chunks == {(task_id, direction): {0: b"hello "}}

    def test_moves_only_its_own_direction(self, world: World, task_id: str, direction: Direction) -> None:
        stream(world, task_id, direction, *HELLO)

        streams = world.join(ALICE, topic_of(task_id))["streams"]
        assert streams.pop(direction)["next_seq"] == 2
        ((_, other),) = streams.items()
        assert (other["next_seq"], other["total_size"]) == (0, 0)

    def test_in_base64_is_any_bytes_and_relayed_as_sent(self, world: World, task_id: str, direction: Direction) -> None:
        listener = world.listen(receiver_of(direction), topic_of(task_id))

        reply = send(world, task_id, direction, chunk="AP/+", encoding="base64")

        assert reply["total_size"] == 3
        assert world.chunks[task_id, direction] == {0: b"\x00\xff\xfe"}
        assert (listener.heard[0].payload["chunk"], listener.heard[0].payload["encoding"]) == ("AP/+", "base64")

    def test_counts_decoded_bytes_not_characters(self, world: World, task_id: str, direction: Direction) -> None:
        assert send(world, task_id, direction, chunk="é€")["total_size"] == 5

    def test_that_does_not_fit_its_encoding_is_refused(self, world: World, task_id: str, direction: Direction) -> None:
        before = world.everything()

        refusal = refused(send, world, task_id, direction, chunk="AB==", encoding="base64")

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "chunk"})
        assert world.everything() == before

    @pytest.mark.parametrize("encoding", ["utf8", "base64"])
    def test_that_is_empty_is_refused(self, world: World, task_id: str, direction: Direction, encoding: str) -> None:
        refusal = refused(send, world, task_id, direction, chunk="", encoding=encoding)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "chunk"})

    @pytest.mark.parametrize(
        "wrong",
        [{"seq": -1}, {"seq": 2**53}, {"seq": "0"}, {"seq": True}, {"seq": 0.5}, {"chunk": 7}, {"encoding": "hex"}],
        ids=repr,
    )
    def test_of_another_type_is_refused(
        self, world: World, task_id: str, direction: Direction, wrong: dict[str, Any]
    ) -> None:
        assert refused(send, world, task_id, direction, **wrong).reason == "invalid_payload"

    def test_again_with_the_same_bytes_is_a_duplicate_and_not_relayed(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        stream(world, task_id, direction, *HELLO)
        before = world.everything()

        reply = send(world, task_id, direction)
        recoded = send(world, task_id, direction, chunk=in_base64(b"hello "), encoding="base64")
        in_binary = send_binary(world, task_id, direction, seq=0, data=b"hello ")

        assert reply == recoded == in_binary
        assert (reply["duplicate"], reply["seq"], reply["next_seq"], reply["total_size"]) == (True, 0, 2, 11)
        assert world.everything() == before

    def test_again_with_other_bytes_is_a_conflict(self, world: World, task_id: str, direction: Direction) -> None:
        stream(world, task_id, direction, *HELLO)

        refusal = refused(send, world, task_id, direction, chunk="HELLO ")

        assert (refusal.kind, refusal.reason) == ("conflict", "seq_conflict")
        assert refusal.context == {"seq": 0, "next_seq": 2}

    def test_as_large_as_may_be_is_taken_and_a_byte_more_is_not(self, direction: Direction) -> None:
        world = world_of(market=market_with(chunk_bytes_max=4))
        task_id = hired(world)
        assert send(world, task_id, direction, chunk="éé")["next_seq"] == 1

        refusal = refused(send, world, task_id, direction, chunk="ééa", seq=1)

        assert (refusal.kind, refusal.reason) == ("too_large", "chunk_too_large")
        assert refusal.context == {"chunk_bytes_max": 4}

    def test_up_to_the_streams_size_is_taken_and_a_byte_more_is_not(self, direction: Direction) -> None:
        world = world_of(market=market_with(stream_bytes_max=7))
        task_id = hired(world)
        send(world, task_id, direction)

        refusal = refused(send, world, task_id, direction, chunk="wo", seq=1)

        assert (refusal.kind, refusal.reason) == ("too_large", "stream_too_large")
        assert refusal.context == {"stream_bytes_max": 7}
        assert send(world, task_id, direction, chunk="w", seq=1)["total_size"] == 7

    def test_to_a_closed_stream_is_refused(self, world: World, task_id: str, direction: Direction) -> None:
        send(world, task_id, direction)
        close(world, task_id, direction)

        for payload in ({"seq": 1}, {"seq": 0, "chunk": "other"}):
            refusal = refused(send, world, task_id, direction, **payload)
            assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "stream_closed", {"next_seq": 1})


class TestClosingAStream:
    def test_verifies_it_and_tells_the_other_side_alone(self, world: World, task_id: str, direction: Direction) -> None:
        stream(world, task_id, direction, *HELLO)
        own, other = (world.listen(who, topic_of(task_id)) for who in (sender_of(direction), receiver_of(direction)))

        reply = finish(world, task_id, direction, checksum=HELLO_SHA256, total_size=11)

        assert reply == {
            "task_id": task_id,
            "checksum": HELLO_SHA256,
            "total_size": 11,
            "next_seq": 2,
            "digest": digest_over({0: b"hello ", 1: b"world"}, until=2),
            "complete": True,
            "verified": True,
            "status": status_after(direction),
            "started_at": started_after(direction),
            "units": None,
            "paid_up_to": None,
        }
        (heard,) = other.heard
        assert (heard.event, heard.payload) == (f"{direction}_complete", reply)
        assert own.heard == []

    @pytest.mark.parametrize("form", ["sha256:{}", "{}"])
    @pytest.mark.parametrize("is_upper", [False, True], ids=["lower", "upper"])
    def test_takes_every_form_of_a_checksum_and_keeps_one(
        self, world: World, task_id: str, direction: Direction, form: str, *, is_upper: bool
    ) -> None:
        stream(world, task_id, direction, *HELLO)
        checksum = form.format(HELLO_SHA256.upper() if is_upper else HELLO_SHA256)

        first = finish(world, task_id, direction, checksum=checksum)
        again = finish(world, task_id, direction, checksum=checksum)

        assert first["checksum"] == HELLO_SHA256
        assert again == {**first, "duplicate": True}

    def test_without_a_chunk_closes_an_empty_one(self, world: World, task_id: str, direction: Direction) -> None:
        reply = finish(world, task_id, direction, checksum=EMPTY_SHA256, total_size=0)

        assert (reply["verified"], reply["next_seq"], reply["status"]) == (True, 0, status_after(direction))

    @pytest.mark.parametrize("total_size", [-1, 0, 10, 12, 10**30])
    def test_of_another_size_is_refused_and_leaves_it_open(
        self, world: World, task_id: str, direction: Direction, total_size: int
    ) -> None:
        stream(world, task_id, direction, *HELLO)
        before = world.everything()

        refusal = refused(finish, world, task_id, direction, total_size=total_size)

        assert (refusal.kind, refusal.reason) == ("invalid", "size_mismatch")
        assert refusal.context == {"expected_size": 11, "offered_size": total_size, "next_seq": 2}
        assert world.everything() == before

    @pytest.mark.parametrize(
        ("checksum", "offered"),
        [(EMPTY_SHA256, EMPTY_SHA256), ("", None), (HELLO_SHA256[:-1], None), (f"md5:{HELLO_SHA256}", None)],
    )
    def test_with_another_checksum_is_refused_and_can_be_repaired(
        self, world: World, task_id: str, direction: Direction, checksum: str, offered: str | None
    ) -> None:
        stream(world, task_id, direction, HELLO[0])

        refusal = refused(finish, world, task_id, direction, checksum=checksum)

        assert (refusal.kind, refusal.reason) == ("invalid", "checksum_mismatch")
        here = closing(world, task_id, direction)["checksum"]
        assert refusal.context == {"expected_checksum": here, "offered_checksum": offered, "next_seq": 1}
        stream(world, task_id, direction, HELLO[1])
        assert finish(world, task_id, direction)["verified"] is True

    @pytest.mark.parametrize("wrong", [{"total_size": 10}, {"checksum": EMPTY_SHA256}], ids=["size", "checksum"])
    def test_a_second_time_with_other_fields_is_refused(
        self, world: World, task_id: str, direction: Direction, wrong: dict[str, Any]
    ) -> None:
        stream(world, task_id, direction, *HELLO)
        close(world, task_id, direction)

        refusal = refused(finish, world, task_id, direction, **wrong)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "stream_closed", {"next_seq": 2})


class TestWhoAndWhen:
    def test_the_other_side_may_not_send_or_close(self, world: World, task_id: str, direction: Direction) -> None:
        before = world.everything()

        for act in (send, finish):
            refusal = refused(act, world, task_id, direction, receiver_of(direction))
            assert (refusal.kind, refusal.reason) == ("forbidden", "forbidden_role")
            assert refusal.context == {"role": "client" if direction == "input" else "provider"}
        assert world.everything() == before

    def test_a_stranger_finds_no_task(self, world: World, task_id: str, direction: Direction) -> None:
        for act in (send, finish):
            assert refused(act, world, task_id, direction, MALLORY).reason == "not_found"

    def test_an_unknown_task_is_not_found(self, world: World, direction: Direction) -> None:
        for act in (send, finish):
            assert refused(act, world, "no-task", direction).reason == "not_found"

    def test_payload_role_end_and_seq_are_checked_in_this_order(self, world: World, direction: Direction) -> None:
        """Each case mends one thing more than the one before it."""
        task_id = in_phase(world, "cancelled")
        other = receiver_of(direction)

        assert refused(send, world, task_id, direction, MALLORY, chunk="", seq=9).reason == "invalid_payload"
        assert refused(send, world, task_id, direction, MALLORY, seq=9).reason == "not_found"
        assert refused(send, world, task_id, direction, other, seq=9).reason == "forbidden_role"
        assert refused(send, world, task_id, direction, seq=9).reason == "terminal_state"

    def test_seq_goes_before_size(self, direction: Direction) -> None:
        world = world_of(market=market_with(chunk_bytes_max=1, stream_bytes_max=1))
        task_id = hired(world)

        assert refused(send, world, task_id, direction, seq=256).reason == "seq_out_of_window"
        assert refused(send, world, task_id, direction, seq=255).reason == "chunk_too_large"
        assert refused(send, world, task_id, direction).reason == "chunk_too_large"

    @pytest.mark.parametrize("phase", FINAL)
    def test_an_ended_task_takes_nothing_more(self, world: World, direction: Direction, phase: str) -> None:
        task_id = in_phase(world, phase)
        before = world.everything()

        for act in (send, finish):
            refusal = refused(act, world, task_id, direction)
            assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "terminal_state", {"status": phase})
        assert world.everything() == before

    def test_what_took_effect_is_a_duplicate_also_after_the_end(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        stream(world, task_id, direction, *HELLO)
        close(world, task_id, direction)
        world.push(BOB, topic_of(task_id), "error", {"type": "broken"})

        for reply in (send(world, task_id, direction), finish(world, task_id, direction)):
            assert (reply["duplicate"], reply["next_seq"], reply["status"]) == (True, 2, "failed")

    def test_what_comes_at_the_deadline_is_late_also_before_the_timer_has_run(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        world.advance(WEEK_S, run_timers=False)

        for act in (send, finish):
            refusal = refused(act, world, task_id, direction)
            assert (refusal.kind, refusal.reason) == ("expired", "expired")
            assert refusal.context == {"expired_at": world.now}

    def test_a_disputed_task_lets_the_output_alone_be_finished(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        for each in DIRECTIONS:
            stream(world, task_id, each, HELLO[0])
        world.push(ALICE, topic_of(task_id), "dispute", {"reason": "it is late"})
        other = world.listen(receiver_of(direction), topic_of(task_id))
        before = world.everything()

        if direction == "input":
            for act in (partial(send, seq=1), finish):
                refusal = refused(act, world, task_id, direction)
                assert (refusal.kind, refusal.reason) == ("conflict", "escrow_locked")
                assert refusal.context == {"decides_at": world.now + timedelta(seconds=WEEK_S)}
            assert send(world, task_id, direction)["duplicate"] is True
            assert world.everything() == before
            return
        assert send(world, task_id, direction, chunk=HELLO[1], seq=1)["status"] == "disputed"
        assert finish(world, task_id, direction)["verified"] is True
        assert other.events() == ["output_stream", "output_complete"]

    def test_of_a_disputed_task_is_late_once_the_clock_decides(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        """Else a provider could win by finishing while the timer is late."""
        for each in DIRECTIONS:
            stream(world, task_id, each, HELLO[0])
        world.advance(3_600)  # So that the dispute is decided after what was the deadline.
        world.push(ALICE, topic_of(task_id), "dispute", {"reason": "it is late"})
        world.advance(WEEK_S - 0.001, run_timers=False)
        if direction == "output":
            assert send(world, task_id, direction, chunk=HELLO[1], seq=1)["next_seq"] == 2
        world.advance(0.001, run_timers=False)
        before = world.everything()

        for act in (partial(send, seq=2), finish):
            refusal = refused(act, world, task_id, direction)
            if direction == "input":
                assert refusal.reason == "escrow_locked"
            else:
                assert (refusal.kind, refusal.context) == ("expired", {"expired_at": world.now})
        assert world.everything() == before

    def test_what_comes_just_before_the_deadline_is_in_time(
        self, world: World, task_id: str, direction: Direction
    ) -> None:
        world.advance(WEEK_S - 0.001)

        assert send(world, task_id, direction)["next_seq"] == 1


@given(chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_whatever_bytes_flow_the_checksum_is_that_of_all_of_them(direction: Direction, chunks: list[bytes]) -> None:
    world = world_of()
    task_id = hired(world)

    send_all(world, task_id, direction, dict(enumerate(chunks)))
    reply = finish(world, task_id, direction)

    whole = b"".join(chunks)
    assert world.chunks[task_id, direction] == dict(enumerate(chunks))
    assert (reply["checksum"], reply["total_size"]) == (hashlib.sha256(whole).hexdigest(), len(whole))
    assert reply["next_seq"] == len(chunks)

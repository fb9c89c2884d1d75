"""Chunks out of order: what is taken ahead of a gap, what repairs it, and what is said of the part before it."""

import hashlib
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.changes import StoreChunk
from channels.chunks import SEQ_MAX
from channels.task_state import Direction
from crypto import NO_CHUNKS
from tests.channels.roles import market_with, refused
from tests.channels.streaming import (
    DIRECTIONS,
    Witness,
    digest_over,
    finish,
    receiver_of,
    send,
    send_all,
    send_binary,
    witness,
)
from tests.channels.work import close, hired, stream, topic_of

WINDOW = 256
THREE = {0: b"one", 1: b"two", 2: b"three"}

pytestmark = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture
def world() -> Witness:
    return witness()


@pytest.fixture
def task_id(world: Witness) -> str:
    return hired(world)


def acknowledged(reply: dict[str, Any]) -> tuple[int, int, str]:
    """What a reply says of the part before the first missing chunk."""
    return reply["next_seq"], reply["total_size"], reply["digest"]


def stored_by(world: Witness) -> StoreChunk:
    """What the last decision stores."""
    (change,) = world.last.changes
    assert isinstance(change, StoreChunk)
    return change


class TestAheadOfAGap:
    def test_a_chunk_is_stored_and_relayed_but_acknowledges_nothing(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        listener = world.listen(receiver_of(direction), topic_of(task_id))

        reply = send(world, task_id, direction, chunk="three", seq=2)

        assert (reply["seq"], *acknowledged(reply)) == (2, 0, 0, NO_CHUNKS)
        assert world.chunks[task_id, direction] == {2: b"three"}
        assert stored_by(world).in_order is None
        (heard,) = listener.heard
        told = {name: heard.payload[name] for name in ("seq", "chunk", "next_seq", "total_size")}
        assert told == {"seq": 2, "chunk": "three", "next_seq": 0, "total_size": 0}

    def test_a_chunk_counts_as_stored_in_the_state_but_not_as_in_order(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        send_all(world, task_id, direction, {5: b"12345", 0: b"1", 3: b"123"})

        state = world.task(task_id).stream(direction)

        assert (state.next_seq, state.size, state.ahead) == (1, 1, ((3, 3), (5, 5)))
        assert (state.stored_count, state.stored_size) == (3, 9)

    def test_a_join_tells_only_the_part_before_the_gap(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        send_all(world, task_id, direction, {2: b"three", 0: b"one"})

        joined = world.join(receiver_of(direction), topic_of(task_id))

        assert acknowledged(joined["streams"][direction]) == (1, 3, digest_over(THREE, until=1))

    def test_what_fills_the_gap_acknowledges_all_up_to_the_next_one(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        chunks = {seq: bytes([seq]) * (seq + 1) for seq in range(6)}
        send_all(world, task_id, direction, {seq: chunks[seq] for seq in (5, 1, 2)})
        listener = world.listen(receiver_of(direction), topic_of(task_id))

        reply = send_binary(world, task_id, direction, seq=0, data=chunks[0])

        assert (reply["seq"], *acknowledged(reply)) == (0, 3, 6, digest_over(chunks, until=3))
        assert stored_by(world) == StoreChunk(
            task_id, direction, 0, chunks[0], "binary", (0, (chunks[0], chunks[1], chunks[2]))
        )
        assert [heard.payload["seq"] for heard in listener.heard] == [0], "what lay ahead has been relayed before"

    def test_the_order_does_not_change_what_is_there_in_the_end(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        states = set()
        for order in permutations(THREE):
            other = hired(world)
            send_all(world, other, direction, {seq: THREE[seq] for seq in order})
            states.add(world.task(other).stream(direction))
            assert finish(world, other, direction)["verified"] is True

        assert [(state.next_seq, state.size, state.ahead) for state in states] == [(3, 11, ())]
        assert {state.digest for state in states} == {digest_over(THREE, until=3)}


class TestTheWindow:
    @pytest.mark.parametrize("next_seq", [0, 2])
    def test_reaches_255_beyond_the_first_missing_one(
        self, world: Witness, task_id: str, direction: Direction, next_seq: int
    ) -> None:
        stream(world, task_id, direction, *("a",) * next_seq)
        before = world.everything()
        for seq in (next_seq + WINDOW, next_seq + WINDOW + 1, SEQ_MAX):
            refusal = refused(send, world, task_id, direction, seq=seq)
            assert (refusal.kind, refusal.reason) == ("conflict", "seq_out_of_window")
            assert refusal.context == {"seq": seq, "next_seq": next_seq}
            assert str(next_seq + WINDOW - 1) in refusal.message
        assert world.everything() == before

        assert send(world, task_id, direction, seq=next_seq + WINDOW - 1)["next_seq"] == next_seq

    def test_moves_with_the_first_missing_one_and_not_with_the_last_one_here(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        send(world, task_id, direction, seq=WINDOW - 1)
        assert refused(send, world, task_id, direction, seq=WINDOW).reason == "seq_out_of_window"

        send(world, task_id, direction, seq=0)

        assert send(world, task_id, direction, seq=WINDOW)["next_seq"] == 1
        assert refused(send, world, task_id, direction, seq=WINDOW + 1).reason == "seq_out_of_window"

    def test_may_be_filled_from_its_far_end(self, world: Witness, task_id: str, direction: Direction) -> None:
        chunks = {seq: seq.to_bytes(2, "big") for seq in range(WINDOW)}
        send_all(world, task_id, direction, {seq: chunks[seq] for seq in reversed(range(1, WINDOW))})
        assert len(world.task(task_id).stream(direction).ahead) == WINDOW - 1

        reply = send_binary(world, task_id, direction, seq=0, data=chunks[0])

        assert acknowledged(reply) == (WINDOW, 2 * WINDOW, digest_over(chunks, until=WINDOW))
        assert finish(world, task_id, direction)["verified"] is True

    def test_is_a_setting_of_the_server(self, direction: Direction) -> None:
        world = witness(market=market_with(stream_window=1))
        task_id = hired(world)

        assert refused(send, world, task_id, direction, seq=1).reason == "seq_out_of_window"
        assert send(world, task_id, direction)["next_seq"] == 1
        assert send(world, task_id, direction, seq=1)["next_seq"] == 2


class TestRepeating:
    @pytest.mark.parametrize("seq", [0, 1, 4], ids=["first", "last in order", "ahead"])
    def test_the_same_bytes_in_any_form_is_a_duplicate_with_what_is_next(
        self, world: Witness, task_id: str, direction: Direction, seq: int
    ) -> None:
        chunks = {0: b"aaaa", 1: b"bbbb", 4: b"eeee"}
        send_all(world, task_id, direction, chunks)
        before = world.everything()
        listener = world.listen(receiver_of(direction), topic_of(task_id))

        replies = [
            send(world, task_id, direction, chunk=chunks[seq].decode(), seq=seq),
            send_binary(world, task_id, direction, seq=seq, data=chunks[seq]),
        ]

        for reply in replies:
            assert reply["duplicate"] is True
            assert (reply["seq"], *acknowledged(reply)) == (seq, 2, 8, digest_over(chunks, until=2))
        assert listener.heard == []
        world.listeners.remove(listener)
        assert world.everything() == before

    @pytest.mark.parametrize("seq", [0, 1, 4], ids=["first", "last in order", "ahead"])
    @pytest.mark.parametrize("data", [b"other", b"X", b"a" * 5])
    def test_with_other_bytes_is_a_conflict(
        self, world: Witness, task_id: str, direction: Direction, seq: int, data: bytes
    ) -> None:
        send_all(world, task_id, direction, {0: b"aaaa", 1: b"bbbb", 4: b"eeee"})
        before = world.everything()

        refusal = refused(send_binary, world, task_id, direction, seq=seq, data=data)

        assert (refusal.kind, refusal.reason) == ("conflict", "seq_conflict")
        assert refusal.context == {"seq": seq, "next_seq": 2}
        assert world.everything() == before

    def test_what_is_larger_than_allowed_now_is_a_duplicate_all_the_same(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        """It is stored: a lowered limit does not keep a sender from resuming."""
        send_all(world, task_id, direction, {0: b"aaaa", 2: b"cccc"})
        world.market = market_with(chunk_bytes_max=1, stream_bytes_max=1, stream_window=1)

        for seq, text in ((0, "aaaa"), (2, "cccc")):
            assert send(world, task_id, direction, seq=seq, chunk=text)["duplicate"] is True
        assert refused(send, world, task_id, direction, seq=0).reason == "seq_conflict"
        assert refused(send, world, task_id, direction, seq=2).reason == "seq_conflict"


class TestLimits:
    def test_of_a_stream_counts_its_chunks_too(self, direction: Direction) -> None:
        world = witness(market=market_with(stream_chunks_max=2))
        task_id = hired(world)
        send(world, task_id, direction, chunk="a", seq=0)
        send(world, task_id, direction, chunk="c", seq=2)

        refusal = refused(send, world, task_id, direction, chunk="b", seq=1)

        assert (refusal.reason, refusal.context) == ("stream_too_large", {"stream_chunks_max": 2})

    def test_of_a_stream_counts_what_lies_ahead(self, direction: Direction) -> None:
        world = witness(market=market_with(stream_bytes_max=10))
        task_id = hired(world)
        send(world, task_id, direction, chunk="1234567", seq=5)
        before = world.everything()

        for seq in (0, 4, 6):
            refusal = refused(send, world, task_id, direction, chunk="1234", seq=seq)
            assert (refusal.kind, refusal.reason) == ("too_large", "stream_too_large")
            assert refusal.context == {"stream_bytes_max": 10}
        assert world.everything() == before

        assert send(world, task_id, direction, chunk="123", seq=0)["total_size"] == 3
        assert refused(send, world, task_id, direction, chunk="1", seq=1).reason == "stream_too_large"

    def test_of_a_stream_counts_what_lay_ahead_once(self, direction: Direction) -> None:
        world = witness(market=market_with(stream_bytes_max=10))
        task_id = hired(world)
        send_all(world, task_id, direction, {1: b"456", 0: b"123"})

        assert send(world, task_id, direction, chunk="7890", seq=2)["total_size"] == 10
        assert finish(world, task_id, direction)["verified"] is True

    def test_of_a_chunk_goes_before_that_of_the_stream(self, direction: Direction) -> None:
        world = witness(market=market_with(stream_bytes_max=3, chunk_bytes_max=2))
        task_id = hired(world)

        assert refused(send, world, task_id, direction, chunk="1234").reason == "chunk_too_large"
        send(world, task_id, direction, chunk="12", seq=9)
        assert refused(send, world, task_id, direction, chunk="123", seq=8).reason == "chunk_too_large"
        assert refused(send, world, task_id, direction, chunk="12", seq=8).reason == "stream_too_large"

    def test_counts_bytes_also_of_a_binary_chunk(self, direction: Direction) -> None:
        world = witness(market=market_with(chunk_bytes_max=3))
        task_id = hired(world)

        assert refused(send_binary, world, task_id, direction, seq=0, data=b"1234").reason == "chunk_too_large"
        assert send_binary(world, task_id, direction, seq=0, data=b"123")["total_size"] == 3


class TestClosingWithGaps:
    @pytest.mark.parametrize(
        ("stored", "missing"),
        [
            ([1], [0]),
            ([0, 2], [1]),
            ([3], [0, 1, 2]),
            ([0, 1, 3, 6, 7], [2, 4, 5]),
            ([WINDOW - 1], [*range(WINDOW - 1)]),
            ([1, WINDOW - 1], [0, *range(2, WINDOW - 1)]),
        ],
        ids=["first", "one", "some", "several gaps", "all but the last", "a window"],
    )
    def test_names_exactly_what_is_missing_and_leaves_it_open(
        self, world: Witness, task_id: str, direction: Direction, stored: list[int], missing: list[int]
    ) -> None:
        send_all(world, task_id, direction, dict.fromkeys(stored, b"x"))
        before = world.everything()

        refusal = refused(finish, world, task_id, direction)

        assert (refusal.kind, refusal.reason) == ("conflict", "missing_chunks")
        assert refusal.context == {"missing": missing, "next_seq": missing[0]}
        assert str(len(missing)) in refusal.message
        assert world.everything() == before

        send_all(world, task_id, direction, dict.fromkeys(missing, b"y"))
        reply = finish(world, task_id, direction)
        whole = b"".join(b"x" if seq in stored else b"y" for seq in range(max(stored) + 1))
        assert (reply["checksum"], reply["total_size"]) == (hashlib.sha256(whole).hexdigest(), len(whole))

    def test_goes_before_size_and_checksum(self, world: Witness, task_id: str, direction: Direction) -> None:
        send_all(world, task_id, direction, {0: b"one", 2: b"three"})

        # What would fit the part before the gap closes nothing either: more is here.
        for size, checksum in ((3, hashlib.sha256(b"one").hexdigest()), (99, "none")):
            refusal = refused(finish, world, task_id, direction, total_size=size, checksum=checksum)
            assert (refusal.reason, refusal.context) == ("missing_chunks", {"missing": [1], "next_seq": 1})

    def test_of_a_size_too_few_can_be_repaired_by_more(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        send_all(world, task_id, direction, {0: b"one"})
        whole = {"total_size": 6, "checksum": hashlib.sha256(b"onetwo").hexdigest()}
        refusal = refused(finish, world, task_id, direction, **whole)
        assert refusal.context == {"expected_size": 3, "offered_size": 6, "next_seq": 1}

        send(world, task_id, direction, chunk="two", seq=refusal.context["next_seq"])

        assert finish(world, task_id, direction, **whole)["verified"] is True

    def test_a_closed_one_takes_no_chunk_wherever_it_belongs(
        self, world: Witness, task_id: str, direction: Direction
    ) -> None:
        send_all(world, task_id, direction, THREE)
        close(world, task_id, direction)

        for seq in (3, 3 + WINDOW - 1, 3 + WINDOW):
            refusal = refused(send, world, task_id, direction, seq=seq)
            assert (refusal.reason, refusal.context) == ("stream_closed", {"next_seq": 3})
        assert send(world, task_id, direction, chunk="two", seq=1)["duplicate"] is True


@given(order=st.permutations(range(9)), data=st.data())
def test_at_every_point_the_acknowledgement_is_over_the_part_before_the_first_gap(
    direction: Direction, order: list[int], data: st.DataObject
) -> None:
    world = witness()
    task_id = hired(world)
    sent: dict[int, bytes] = {}

    for seq in order:
        sent[seq] = data.draw(st.binary(min_size=1, max_size=5))
        reply = send_binary(world, task_id, direction, seq=seq, data=sent[seq])

        next_seq = next(seq for seq in range(10) if seq not in sent)
        size = sum(len(sent[seq]) for seq in range(next_seq))
        assert acknowledged(reply) == (next_seq, size, digest_over(sent, until=next_seq))
        state = world.task(task_id).stream(direction)
        assert state.ahead == tuple(sorted((seq, len(chunk)) for seq, chunk in sent.items() if seq >= next_seq))
    assert world.chunks[task_id, direction] == sent

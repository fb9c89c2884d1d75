"""Bytes that somebody has are those of a task's receipt, or they are refused; no more of them is read than needed."""

from collections.abc import Iterator, Sequence
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import ReceiptError, verify_chunks, verify_stream

from .bargains import agreement, copy_of
from .hires import HONEST, INPUT, OUTPUT, stream, task

Direction = Literal["input", "output"]

COMPLETED, OPEN = HONEST["completed"], HONEST["failed"]
SENT: dict[Direction, tuple[bytes, ...]] = {"input": INPUT, "output": OUTPUT}
EMPTY = task(streams={"input": stream(is_closed=True), "output": stream(OUTPUT, is_closed=True)})


def refusal_of_stream(receipt: object, direction: Direction, *blocks: bytes) -> ReceiptError:
    with pytest.raises(ReceiptError) as refusal:
        verify_stream(receipt, direction=direction, blocks=blocks)
    assert str(refusal.value).endswith(".")
    return refusal.value


def refusal_of_chunks(receipt: object, direction: Direction, *chunks: bytes) -> ReceiptError:
    with pytest.raises(ReceiptError) as refusal:
        verify_chunks(receipt, direction=direction, chunks=chunks)
    assert str(refusal.value).endswith(".")
    return refusal.value


# -------------------------------------------------------------------------------------------------------------- honest


@pytest.mark.parametrize("direction", SENT)
def test_the_bytes_of_a_closed_stream_are_proved_however_they_are_cut(direction: Direction) -> None:
    whole = b"".join(SENT[direction])

    for blocks in (SENT[direction], [whole], [bytes([byte]) for byte in whole], [b"", whole, b""]):
        said = verify_stream(COMPLETED, direction=direction, blocks=blocks)
        assert said.startswith(f"The {direction} here is that of the receipt: {len(whole)} bytes with the SHA-256 ")


@pytest.mark.parametrize("direction", SENT)
def test_the_chunks_of_a_stream_are_proved_with_both_digests(direction: Direction) -> None:
    said = verify_chunks(COMPLETED, direction=direction, chunks=SENT[direction])

    summed = COMPLETED["document"]["streams"][direction]
    assert "cut into the same 2 chunks" in said
    assert f"running digest {summed['digest']}; its SHA-256 is {summed['checksum']}." in said


@pytest.mark.parametrize("direction", SENT)
def test_the_chunks_of_a_stream_that_was_not_closed_are_proved_by_the_running_digest(direction: Direction) -> None:
    assert verify_chunks(OPEN, direction=direction, chunks=SENT[direction]).endswith("; it was not closed.")


def test_nothing_is_proved_to_be_nothing() -> None:
    assert "0 bytes" in verify_stream(EMPTY, direction="input", blocks=[])
    assert "0 chunks" in verify_chunks(EMPTY, direction="input", chunks=[])


@given(chunks=st.lists(st.binary(min_size=1, max_size=20), max_size=8), cut=st.integers(1, 200))
def test_every_honest_stream_is_proved(chunks: list[bytes], cut: int) -> None:
    receipt = task(streams={"input": stream(chunks, is_closed=True), "output": stream(OUTPUT, is_closed=True)})
    whole = b"".join(chunks)

    verify_stream(receipt, direction="input", blocks=(whole[:cut], whole[cut:]))
    verify_chunks(receipt, direction="input", chunks=chunks)


# ----------------------------------------------------------------------------------------------------------- dishonest


@pytest.mark.parametrize(
    ("blocks", "check"),
    [
        ([b"hello worle"], "stream_checksum"),
        ([b"world", b"hello "], "stream_checksum"),
        ([b"hello worl"], "stream_size"),
        ([b"hello world\n"], "stream_size"),
        ([], "stream_size"),
    ],
)
def test_other_bytes_are_refused(blocks: Sequence[bytes], check: str) -> None:
    assert refusal_of_stream(COMPLETED, "input", *blocks).check == check
    assert refusal_of_chunks(COMPLETED, "input", *blocks).check == check


@pytest.mark.parametrize("chunks", [[b"hello world"], [b"hello", b" world"], [b"hello ", b"worl", b"d"]])
def test_the_same_bytes_in_other_chunks_are_refused(chunks: Sequence[bytes]) -> None:
    refusal = refusal_of_chunks(COMPLETED, "input", *chunks)

    assert refusal.check == "stream_digest"
    assert f"of {len(chunks)} chunks" in str(refusal)


def test_an_empty_chunk_more_is_another_cut() -> None:
    assert refusal_of_chunks(COMPLETED, "input", *INPUT, b"").check == "stream_digest"


def test_other_bytes_of_a_stream_that_was_not_closed_are_refused() -> None:
    assert refusal_of_chunks(OPEN, "output", b"hallo ", b"wald").check == "stream_digest"
    assert refusal_of_chunks(OPEN, "output", b"hallo ").check == "stream_size"


def test_the_other_direction_is_another_stream() -> None:
    assert refusal_of_stream(COMPLETED, "output", *INPUT).check == "stream_size"


@pytest.mark.parametrize("direction", SENT)
def test_a_stream_that_was_not_closed_has_no_checksum_to_compare_with(direction: Direction) -> None:
    refusal = refusal_of_stream(OPEN, direction, *SENT[direction])

    assert refusal.check == "stream_open"
    assert "was not closed" in str(refusal)


def test_nothing_is_read_once_there_is_too_much() -> None:
    def endless() -> Iterator[bytes]:
        yield from (b"hello world", b"!")
        pytest.fail("the stream was too long already")

    with pytest.raises(ReceiptError, match="more than the 11 bytes"):
        verify_stream(COMPLETED, direction="input", blocks=endless())
    with pytest.raises(ReceiptError, match="more than the 11 bytes"):
        verify_chunks(COMPLETED, direction="input", chunks=endless())


def test_only_a_task_has_streams() -> None:
    bargain = agreement([1000, 1501])

    assert refusal_of_stream(bargain, "input").check == "kind"
    assert refusal_of_chunks(bargain, "output").check == "kind"


def test_what_is_no_receipt_has_no_streams() -> None:
    broken, contradictory = copy_of(COMPLETED), copy_of(COMPLETED)
    broken["document"]["streams"] = []
    contradictory["document"]["streams"]["input"]["complete"] = False

    assert refusal_of_stream(None, "input").check == "shape"
    assert refusal_of_stream({**COMPLETED, "document": {}}, "input").check == "shape"
    assert refusal_of_stream(broken, "input").check == "shape"
    assert refusal_of_stream(contradictory, "input").check == "stream"

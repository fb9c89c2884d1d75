"""A stream's checksum is that of its bytes, however they were cut."""

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import NO_CHUNKS, ChecksumMismatch, SizeMismatch, StreamChecksum, checksum_of, next_digest

HELLO_WORLD = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
CHUNKS = st.lists(st.binary(max_size=100), max_size=20)


@given(CHUNKS)
def test_chunk_by_chunk_it_equals_the_checksum_of_the_whole(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)

    checksum = checksum_of(chunks)

    assert checksum.hexdigest() == hashlib.sha256(whole).hexdigest()
    assert checksum.size == len(whole)
    assert checksum.count == len(chunks)
    checksum.require(checksum=hashlib.sha256(whole).hexdigest(), total_size=len(whole))


@given(before=CHUNKS, after=CHUNKS)
def test_a_copy_goes_on_by_itself(before: list[bytes], after: list[bytes]) -> None:
    original = checksum_of(before)
    copy = original.copy()

    for chunk in after:
        copy.update(chunk)

    expected = checksum_of([*before, *after])
    assert (copy.count, copy.size, copy.hexdigest()) == (expected.count, expected.size, expected.hexdigest())
    untouched = checksum_of(before)
    assert (original.count, original.size, original.hexdigest()) == (len(before), untouched.size, untouched.hexdigest())


def test_a_new_checksum_is_that_of_nothing() -> None:
    checksum = StreamChecksum()

    assert (checksum.count, checksum.size) == (0, 0)
    assert checksum.hexdigest() == hashlib.sha256().hexdigest()


@pytest.mark.parametrize(
    "declared", [HELLO_WORLD, HELLO_WORLD.upper(), f"sha256:{HELLO_WORLD}", f"sha256:{HELLO_WORLD.upper()}"]
)
def test_a_declaration_is_taken_in_either_case_and_with_the_prefix(declared: str) -> None:
    checksum_of([b"hello ", b"world"]).require(checksum=declared, total_size=11)


@pytest.mark.parametrize("declared", [HELLO_WORLD, "nonsense"])
@pytest.mark.parametrize("total_size", [0, 10, 12, -1, 10**30])
def test_another_size_is_refused_before_the_checksum_is_looked_at(declared: str, total_size: int) -> None:
    with pytest.raises(SizeMismatch, match="11 bytes") as refusal:
        checksum_of([b"hello ", b"world"]).require(checksum=declared, total_size=total_size)

    assert refusal.value.reason == "size_mismatch"
    assert refusal.value.context == {"expected_size": 11, "offered_size": total_size}


def test_other_bytes_are_refused_and_both_checksums_told() -> None:
    declared = hashlib.sha256(b"hello, world").hexdigest()

    with pytest.raises(ChecksumMismatch, match=HELLO_WORLD) as refusal:
        checksum_of([b"hello ", b"world"]).require(checksum=f"sha256:{declared.upper()}", total_size=11)

    assert refusal.value.reason == "checksum_mismatch"
    assert refusal.value.context == {"expected_checksum": HELLO_WORLD, "offered_checksum": declared}


@pytest.mark.parametrize(
    "declared",
    [
        "",
        "sha256:",
        HELLO_WORLD[:-1],
        HELLO_WORLD + "0",
        HELLO_WORLD + "\n",
        f"SHA256:{HELLO_WORLD}",
        f"sha256:sha256:{HELLO_WORLD}",
        f"sha512:{HELLO_WORLD}",
        HELLO_WORLD.replace("b", "g"),
        HELLO_WORLD.replace("9", "٩"),
        "sha256:" * 100_000,
    ],
)
def test_a_text_that_is_no_checksum_is_refused_and_not_repeated(declared: str) -> None:
    with pytest.raises(ChecksumMismatch, match="64 hex digits") as refusal:
        checksum_of([b"hello ", b"world"]).require(checksum=declared, total_size=11)

    assert refusal.value.context == {"expected_checksum": HELLO_WORLD, "offered_checksum": None}
    assert len(str(refusal.value)) < 100


def digest_of(chunks: list[bytes]) -> str:
    """The running digest over all of them."""
    digest = NO_CHUNKS
    for seq, chunk in enumerate(chunks):
        digest = next_digest(digest, seq=seq, chunk=chunk)
    return digest


@given(CHUNKS)
def test_the_running_digest_is_a_chain_over_seq_and_bytes(chunks: list[bytes]) -> None:
    head = bytes(32)
    for seq, chunk in enumerate(chunks):
        head = hashlib.sha256(head + struct.pack(">Q", seq) + chunk).digest()

    assert digest_of(chunks) == head.hex()


@given(before=CHUNKS, after=CHUNKS)
def test_the_running_digest_goes_on_from_its_head_alone(before: list[bytes], after: list[bytes]) -> None:
    head = digest_of(before)
    for seq, chunk in enumerate(after, start=len(before)):
        head = next_digest(head, seq=seq, chunk=chunk)

    assert head == digest_of([*before, *after])


@pytest.mark.parametrize(
    "other",
    [
        [b"hello ", b"world", b""],
        [b"", b"hello ", b"world"],
        [b"hello", b" world"],
        [b"hello world"],
        [b"world", b"hello "],
        [b"hello "],
        [],
    ],
)
def test_the_running_digest_tells_other_chunks_apart_even_of_the_same_bytes(other: list[bytes]) -> None:
    assert digest_of(other) != digest_of([b"hello ", b"world"])


def test_the_same_chunk_at_another_seq_makes_another_digest() -> None:
    assert next_digest(NO_CHUNKS, seq=0, chunk=b"x") != next_digest(NO_CHUNKS, seq=1, chunk=b"x")
    assert len(next_digest(NO_CHUNKS, seq=2**53 - 1, chunk=b"x")) == len(NO_CHUNKS) == 64

"""Stored streams: pages within their bounds, checksums that are carried on or rebuilt, checkpoints, and their end."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agrenting.db import streams
from agrenting.db.commit import GroupCommit, StorageUnavailable
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.streams import StoredStreams
from agrenting.db.transaction import WriterTx
from channels.changes import StoreCheckpoint, StoreChunk
from channels.errors import Invalid
from channels.streams import Checkpoint
from channels.task_state import StreamState
from crypto import StreamChecksum

SCHEMA = (
    "CREATE TABLE chunks (task_id, direction, seq, chunk, encoding, PRIMARY KEY (task_id, direction, seq))",
    "CREATE TABLE checkpoints (task_id PRIMARY KEY, seq, state)",
)


@pytest.fixture
def tx() -> Iterator[WriterTx]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for table in SCHEMA:
            connection.execute(table)
        yield WriterTx(connection, {})


def send(tx: WriterTx, seq: int, data: bytes, *, in_order: tuple[bytes, ...] | None = None, task: str = "1") -> None:
    """Store a chunk of the output; `in_order` are the bytes from it on that follow on each other now, if any do."""
    streams.append(tx, StoreChunk(task, "output", seq, data, "utf8", None if in_order is None else (seq, in_order)))


def checksum_of(*chunks: bytes) -> str:
    whole = StreamChecksum()
    for chunk in chunks:
        whole.update(chunk)
    return whole.hexdigest()


def checksum(tx: WriterTx, next_seq: int, task: str = "1") -> StreamChecksum:
    return StoredStreams(tx, task).checksum("output", StreamState(next_seq=next_seq))


def kept(tx: WriterTx) -> set[tuple[str, str]]:
    """The streams whose checksum is in memory."""
    return set(tx.memory.get("checksums", {}))


# Pages.


def page(tx: WriterTx, first: int = 0, *, rows_max: int = 100, bytes_max: int = 1_000) -> list[int]:
    found = streams.page(tx, task_id="1", direction="output", first=first, rows_max=rows_max, bytes_max=bytes_max)
    return [one.seq for one in found]


def test_a_page_has_so_many_chunks_at_most_in_order_and_of_this_stream_alone(tx: WriterTx) -> None:
    for seq in (3, 0, 2, 1, 4):
        send(tx, seq, b"abcd")
    send(tx, 0, b"other", task="2")
    streams.append(tx, StoreChunk("1", "input", 9, b"words", "utf8", None))

    assert page(tx, rows_max=3) == [0, 1, 2]
    assert page(tx, 3, rows_max=3) == [3, 4]
    assert page(tx, 5) == []


@pytest.mark.parametrize(
    ("bytes_max", "expected"), [(1, [0]), (10, [0]), (19, [0]), (20, [0, 1]), (29, [0, 1]), (30, [0, 1, 2])]
)
def test_a_page_has_so_many_bytes_at_most_but_one_chunk_always(
    tx: WriterTx, bytes_max: int, expected: list[int]
) -> None:
    for seq in range(5):
        send(tx, seq, b"x" * 10)

    assert page(tx, bytes_max=bytes_max) == expected


def test_a_chunk_that_is_larger_than_a_page_comes_alone(tx: WriterTx) -> None:
    for seq, size in enumerate((5, 5_000, 5)):
        send(tx, seq, b"x" * size)

    assert [page(tx, first) for first in (0, 1, 2)] == [[0], [1], [2]]


def test_a_page_goes_on_over_a_gap(tx: WriterTx) -> None:
    for seq in (1, 5, 255):
        send(tx, seq, b"abcd")

    assert page(tx) == [1, 5, 255]
    assert page(tx, 2) == [5, 255]
    assert page(tx, 256) == []


def test_a_chunk_comes_back_as_it_was_sent(tx: WriterTx) -> None:
    streams.append(tx, StoreChunk("1", "output", 0, b"\x00\xff", "binary", None))
    streams.append(tx, StoreChunk("1", "output", 1, b"a", "base64", None))

    found = list(streams.read(tx, task_id="1", direction="output", first=0))

    assert found == [(0, b"\x00\xff", "binary"), (1, b"a", "base64")]
    assert StoredStreams(tx, "1").chunk("output", 0) == b"\x00\xff"
    assert StoredStreams(tx, "1").chunk("input", 0) is None


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 40), unique=True, max_size=30),
    st.integers(0, 45),
    st.integers(1, 7),
    st.integers(1, 120),
)
def test_pages_one_after_another_are_the_whole_stream(
    seqs: list[int], first: int, rows_max: int, bytes_max: int
) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(SCHEMA[0])
        tx = WriterTx(connection, {})
        for seq in seqs:
            send(tx, seq, b"x" * seq)
        found: list[int] = []
        start = first
        while seqs_of_page := page(tx, start, rows_max=rows_max, bytes_max=bytes_max):
            assert len(seqs_of_page) <= rows_max
            assert len(seqs_of_page) == 1 or sum(seqs_of_page) <= bytes_max
            found += seqs_of_page
            start = seqs_of_page[-1] + 1

        assert found == sorted(seq for seq in seqs if seq >= first)


def test_reading_a_whole_stream_needs_little_of_it_at_a_time(tx: WriterTx, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = streams.page

    def noting(*args: object, **options: object) -> list[streams.StoredChunk]:
        found = real(*args, **options)  # type: ignore[arg-type] # They are passed on as they come.
        sizes.append(sum(len(one.data) for one in found))
        return found

    monkeypatch.setattr(streams, "page", noting)
    for seq in range(40):
        send(tx, seq, b"x" * 100)

    read = list(streams.read(tx, task_id="1", direction="output", first=5, bytes_at_once=1_000))

    assert [one.seq for one in read] == list(range(5, 40))
    assert sizes == [1_000, 1_000, 1_000, 500, 0]


# Checksums.


def test_a_checksum_is_carried_on_from_chunk_to_chunk_without_reading_any(tx: WriterTx) -> None:
    for seq, data in enumerate((b"one", b"two", b"three")):
        send(tx, seq, data, in_order=(data,))
    tx.run("DELETE FROM chunks")  # They are not looked at.

    assert checksum(tx, 3).hexdigest() == checksum_of(b"one", b"two", b"three")


def test_one_that_is_not_in_memory_is_rebuilt_up_to_the_first_missing_chunk(tx: WriterTx) -> None:
    for seq, data in enumerate((b"one", b"two")):
        send(tx, seq, data, in_order=(data,))
    send(tx, 3, b"ahead")
    tx.memory.clear()  # As after a restart.

    assert checksum(tx, 2).hexdigest() == checksum_of(b"one", b"two")
    assert checksum(tx, 2).count == 2


def test_what_comes_out_of_order_is_counted_once_the_missing_one_is_there(tx: WriterTx) -> None:
    send(tx, 0, b"one", in_order=(b"one",))
    send(tx, 2, b"three")
    send(tx, 3, b"four")
    assert checksum(tx, 1).hexdigest() == checksum_of(b"one")

    send(tx, 1, b"two", in_order=(b"two", b"three", b"four"))

    assert checksum(tx, 4).hexdigest() == checksum_of(b"one", b"two", b"three", b"four")
    tx.memory.clear()
    assert checksum(tx, 4).hexdigest() == checksum_of(b"one", b"two", b"three", b"four")


def test_one_that_was_let_go_in_the_middle_is_not_carried_on_from_there(tx: WriterTx) -> None:
    send(tx, 0, b"one", in_order=(b"one",))
    tx.memory.clear()
    send(tx, 1, b"two", in_order=(b"two",))
    send(tx, 2, b"three", in_order=(b"three",))

    assert kept(tx) == set()
    assert checksum(tx, 3).hexdigest() == checksum_of(b"one", b"two", b"three")


def test_one_of_another_length_than_the_stream_is_not_trusted(tx: WriterTx) -> None:
    send(tx, 0, b"one", in_order=(b"one",))
    tx.run("INSERT INTO chunks VALUES ('1', 'output', 1, x'74776f', 'utf8')")  # By another process.

    assert checksum(tx, 2).hexdigest() == checksum_of(b"one", b"two")


def test_a_stream_that_begins_again_after_it_was_dropped_begins_with_nothing(tx: WriterTx) -> None:
    send(tx, 0, b"one", in_order=(b"one",))
    assert not streams.drop(tx, "1")
    assert streams.drop(tx, "1")
    assert kept(tx) == set()
    send(tx, 0, b"two", in_order=(b"two",))

    assert checksum(tx, 1).hexdigest() == checksum_of(b"two")


def test_a_checksum_is_rebuilt_once_also_for_who_is_refused_then(tx: WriterTx, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else everybody would wait for the writer again with each wrong checksum."""
    for seq, data in enumerate((b"one", b"two")):
        send(tx, seq, data)
    tx.keep()
    later = WriterTx(tx._connection, {})  # noqa: SLF001 - the unit after it, on the same connection
    first = checksum(later, 2)
    later.undo()  # What a refusal does.
    monkeypatch.setattr(streams, "page", lambda *_, **__: pytest.fail("it is read again"))

    assert checksum(later, 2) is first


async def test_a_rebuilt_checksum_is_let_go_where_what_it_was_made_of_does_not_become_durable(tmp_path: Path) -> None:
    failed: list[Callable[[], None]] = []
    with closing(sqlite3.connect(tmp_path / "empty.sqlite3")) as connection:
        memory: dict[str, Any] = {}
        connection.execute("CREATE TABLE chunks (task_id, direction, seq, chunk, encoding)")
        other = WriterTx(connection, memory, failed)
        StoredStreams(other, "1").checksum("output", StreamState())
        assert memory["checksums"]

        for undo in failed:
            undo()

        assert not memory["checksums"]


def test_only_so_many_checksums_are_kept_the_longest_unused_go_first(
    tx: WriterTx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CHECKSUMS_MAX", 2)
    for task in ("1", "2"):
        send(tx, 0, b"a", in_order=(b"a",), task=task)
    send(tx, 1, b"b", in_order=(b"b",), task="1")
    send(tx, 0, b"a", in_order=(b"a",), task="3")

    assert kept(tx) == {("1", "output"), ("3", "output")}
    assert checksum(tx, 1, "2").hexdigest() == checksum_of(b"a")
    assert checksum(tx, 2, "1").hexdigest() == checksum_of(b"a", b"b")


async def test_what_does_not_become_durable_is_not_in_the_checksum(tmp_path: Path) -> None:
    """Refused, or a commit that fails: also a chunk that fills a gap, and one of a batch of several."""
    path = tmp_path / "market.sqlite3"
    migrate(path)
    connection = open_writer(path, busy_timeout_s=0.05)
    commits = GroupCommit(connection, batch_max=100)

    def storing(*chunks: tuple[int, bytes, tuple[bytes, ...] | None], refused: bool = False) -> None:
        def run(tx: WriterTx) -> None:
            for seq, data, in_order in chunks:
                send(tx, seq, data, in_order=in_order)
            if refused:
                raise Invalid("x", "No.")

        writes.append(commits.write(run))

    writes: list[object] = []

    async def done() -> list[object]:
        found = await asyncio.gather(*writes, return_exceptions=True)  # type: ignore[call-overload] # Each answers what it likes.
        writes.clear()
        return [type(one) for one in found]

    storing((0, b"one", (b"one",)), (2, b"three", None))
    assert await done() == [type(None)]
    storing((1, b"xxx", (b"xxx", b"three")), refused=True)
    assert await done() == [Invalid]
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        storing((1, b"two", (b"two", b"three")), (3, b"four", (b"four",)))
        assert await done() == [StorageUnavailable]
        other.execute("ROLLBACK")
    storing((1, b"2nd", (b"2nd", b"three")), (3, b"4th", (b"4th",)))
    assert await done() == [type(None)]

    found = await commits.write(lambda tx: checksum(tx, 4).hexdigest())
    assert found == checksum_of(b"one", b"2nd", b"three", b"4th")
    await commits.close()
    connection.close()


# Checkpoints, and the end.


def test_the_newest_checkpoint_takes_the_place_of_the_one_before(tx: WriterTx) -> None:
    assert StoredStreams(tx, "1").checkpoint() is None
    state = {"line": 3, "words": ["ä", None, 1.5, 2**53 - 1]}
    streams.keep_checkpoint(tx, StoreCheckpoint("1", 3, "before"))
    streams.keep_checkpoint(tx, StoreCheckpoint("2", 8, None))
    streams.keep_checkpoint(tx, StoreCheckpoint("1", 7, state))

    assert StoredStreams(tx, "1").checkpoint() == Checkpoint(seq=7, state=state)
    assert StoredStreams(tx, "2").checkpoint() == Checkpoint(seq=8, state=None)
    assert tx.all("SELECT count(*) FROM checkpoints") == [(2,)]


def test_what_is_dropped_is_gone_both_ways_and_nothing_else_is(tx: WriterTx) -> None:
    for task in ("1", "2"):
        send(tx, 0, b"a", in_order=(b"a",), task=task)
        streams.append(tx, StoreChunk(task, "input", 0, b"b", "utf8", (0, (b"b",))))
        streams.keep_checkpoint(tx, StoreCheckpoint(task, 1, {}))
    tries = 0
    while not streams.drop(tx, "1"):
        tries += 1

    assert tries == 2
    assert {row[0] for row in tx.all("SELECT task_id FROM chunks")} == {"2"}
    assert tx.all("SELECT task_id FROM checkpoints") == [("2",)]
    assert kept(tx) == {("2", "input"), ("2", "output")}


def test_a_long_stream_is_dropped_in_parts(tx: WriterTx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "DROPPED_ROWS", 4)
    for seq in (*range(9), 200):
        send(tx, seq, b"a")
    left: list[int] = []
    while not streams.drop(tx, "1"):
        left += [row[0] for row in tx.all("SELECT count(*) FROM chunks")]

    assert left == [6, 2, 0]


def test_a_task_that_has_ended_keeps_its_chunks_and_no_checksum(tx: WriterTx) -> None:
    send(tx, 0, b"a", in_order=(b"a",))
    send(tx, 0, b"a", in_order=(b"a",), task="2")
    streams.forget(tx, task_id="1")

    assert kept(tx) == {("2", "output")}
    assert page(tx) == [0]

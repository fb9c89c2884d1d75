"""Stored chunks and checkpoints, and the running checksums of streams that are under way.

A checksum is kept in memory between chunks and rebuilt from the stored ones when it is not there: after a restart, or
when a transaction that it had gone ahead with was rolled back. It is used by the writer thread alone.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import msgspec

from agrenting.db.transaction import Tx, WriterTx
from channels.changes import StoreCheckpoint, StoreChunk
from channels.streams import Checkpoint
from channels.task_state import Direction, StreamState
from crypto import StreamChecksum

CHECKSUMS_MAX: Final = 4_096
ROWS_AT_ONCE: Final = 512
DROPPED_ROWS: Final = 4_096
DROPPED_BYTES: Final = 4_194_304
"""What is deleted of a stream in one transaction at most."""

Checksums = OrderedDict[tuple[str, str], StreamChecksum]


class StoredChunk(NamedTuple):
    """One chunk as it is kept."""

    seq: int
    data: bytes
    encoding: Literal["utf8", "base64", "binary"]


class StoredStreams:
    """What is stored of one task beside its state. Source: `channels.streams.Stored`."""

    __slots__ = ("_task_id", "_tx")

    def __init__(self, tx: Tx, task_id: str) -> None:
        self._tx = tx
        self._task_id = task_id

    def chunk(self, direction: Direction, seq: int) -> bytes | None:
        """One chunk."""
        row = self._tx.one(
            "SELECT chunk FROM chunks WHERE task_id = :task_id AND direction = :direction AND seq = :seq",
            task_id=self._task_id,
            direction=direction,
            seq=seq,
        )
        return None if row is None else row[0]

    def checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint."""
        row = self._tx.one("SELECT seq, state FROM checkpoints WHERE task_id = :task_id", task_id=self._task_id)
        return None if row is None else Checkpoint(seq=row[0], state=msgspec.json.decode(row[1]))

    def checksum(self, direction: Direction, stream: StreamState) -> StreamChecksum:
        """Over the chunks before the first missing one. Do not change it."""
        tx = self._tx
        kept = _kept(tx).get((self._task_id, direction)) if isinstance(tx, WriterTx) else None
        if kept is not None and kept.count == stream.next_seq:
            return kept
        checksum = StreamChecksum()
        for one in read(tx, task_id=self._task_id, direction=direction, first=0):
            if one.seq != checksum.count:
                break
            checksum.update(one.data)
        if isinstance(tx, WriterTx):  # Rebuilt once, also for who is refused then: everybody waits for the writer.
            key, others = (self._task_id, direction), _kept(tx)

            def undo() -> None:
                others.pop(key, None)

            tx.on_failed_commit(undo)
            _keep(tx, key, checksum)
        return checksum


def append(tx: WriterTx, change: StoreChunk) -> None:
    """Store a chunk, and carry the checksum on over those that are in order now."""
    tx.run(
        "INSERT INTO chunks (task_id, direction, seq, chunk, encoding)"
        " VALUES (:task_id, :direction, :seq, :chunk, :encoding)",
        task_id=change.task_id,
        direction=change.direction,
        seq=change.seq,
        chunk=change.chunk,
        encoding=change.encoding,
    )
    if change.in_order is None:
        return
    first, chunks = change.in_order
    key, kept = (change.task_id, change.direction), _kept(tx)
    checksum = kept.get(key) if first else StreamChecksum()
    if checksum is None or checksum.count != first:
        return  # It is rebuilt when the stream is closed.

    def undo() -> None:
        kept.pop(key, None)

    tx.on_rollback(undo)
    for chunk in chunks:
        checksum.update(chunk)
    _keep(tx, key, checksum)


def keep_checkpoint(tx: WriterTx, change: StoreCheckpoint) -> None:
    """Keep a task's newest checkpoint, in place of the one before."""
    tx.run(
        "INSERT INTO checkpoints (task_id, seq, state) VALUES (:task_id, :seq, :state)"
        " ON CONFLICT (task_id) DO UPDATE SET seq = excluded.seq, state = excluded.state",
        task_id=change.task_id,
        seq=change.seq,
        state=msgspec.json.encode(change.state).decode(),
    )


def drop(tx: WriterTx, task_id: str) -> bool:
    """Delete a task's checkpoint and some of its chunks, which nobody asks for any more; whether all are gone.

    A long stream goes in parts, so that everybody else's changes need not wait for it.
    """
    tx.run("DELETE FROM checkpoints WHERE task_id = :task_id", task_id=task_id)
    forget(tx, task_id=task_id)
    for direction in ("input", "output"):
        last = _last_of_page(tx, task_id, direction, first=0, rows_max=DROPPED_ROWS, bytes_max=DROPPED_BYTES)
        if last >= 0:
            tx.run(
                "DELETE FROM chunks WHERE task_id = :task_id AND direction = :direction AND seq <= :last",
                task_id=task_id,
                direction=direction,
                last=last,
            )
            return False
    return True


def forget(tx: WriterTx, *, task_id: str) -> None:
    """Let go of a task's checksums: it has ended."""
    for direction in ("input", "output"):
        _kept(tx).pop((task_id, direction), None)


def page(tx: Tx, *, task_id: str, direction: str, first: int, rows_max: int, bytes_max: int) -> list[StoredChunk]:
    """Stored chunks from seq `first` on, in order: at least one, if there is one, and not more than these bounds."""
    last = _last_of_page(tx, task_id, direction, first=first, rows_max=rows_max, bytes_max=bytes_max)
    rows = tx.all(
        "SELECT seq, chunk, encoding FROM chunks WHERE task_id = :task_id AND direction = :direction"
        " AND seq BETWEEN :first AND :last ORDER BY seq",
        task_id=task_id,
        direction=direction,
        first=first,
        last=last,
    )
    return [StoredChunk(*row) for row in rows]


def _last_of_page(tx: Tx, task_id: str, direction: str, *, first: int, rows_max: int, bytes_max: int) -> int:
    """The last seq of a page that begins at `first`; below that where there is no chunk."""
    last, left = first - 1, bytes_max
    for seq, size in tx.all(
        "SELECT seq, length(chunk) FROM chunks WHERE task_id = :task_id AND direction = :direction AND seq >= :first"
        " ORDER BY seq LIMIT :limit",
        task_id=task_id,
        direction=direction,
        first=first,
        limit=rows_max,
    ):
        left -= size
        if left < 0 and last >= first:
            break
        last = seq
    return last


def read(tx: Tx, *, task_id: str, direction: str, first: int, bytes_at_once: int = 1_048_576) -> Iterator[StoredChunk]:
    """Every stored chunk from seq `first` on, in order, of which no more than that is in memory at a time."""
    while chunks := page(
        tx, task_id=task_id, direction=direction, first=first, rows_max=ROWS_AT_ONCE, bytes_max=bytes_at_once
    ):
        yield from chunks
        first = chunks[-1].seq + 1


def _keep(tx: WriterTx, key: tuple[str, str], checksum: StreamChecksum) -> None:
    kept = _kept(tx)
    kept[key] = checksum
    kept.move_to_end(key)
    while len(kept) > CHECKSUMS_MAX:
        kept.popitem(last=False)


def _kept(tx: WriterTx) -> Checksums:
    kept: Checksums = tx.memory.setdefault("checksums", OrderedDict())
    return kept

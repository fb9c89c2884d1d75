"""Stored chunks, and the running checksums of streams that are under way.

A checksum is kept in memory between chunks and rebuilt from the stored ones when it is not there: after a restart, or
when a transaction that it had gone ahead with was rolled back. It is used by the writer thread alone.
"""

from collections import OrderedDict
from typing import Final

from agrenting.db.transaction import Tx, WriterTx
from crypto import StreamChecksum

CHECKSUMS_MAX: Final = 4_096

Checksums = OrderedDict[tuple[str, str], StreamChecksum]


def append(tx: WriterTx, *, task_id: str, direction: str, seq: int, chunk: bytes) -> None:
    """Store the next chunk and carry the checksum on."""
    checksum = running_checksum(tx, task_id, direction)
    assert checksum.count == seq, "chunks are appended in order"
    tx.run(
        "INSERT INTO chunks (task_id, direction, seq, chunk) VALUES (:task_id, :direction, :seq, :chunk)",
        task_id=task_id,
        direction=direction,
        seq=seq,
        chunk=chunk,
    )
    key, kept = (task_id, direction), _kept(tx)

    def undo() -> None:
        kept.pop(key, None)

    tx.on_rollback(undo)
    checksum.update(chunk)
    kept[key] = checksum
    kept.move_to_end(key)
    while len(kept) > CHECKSUMS_MAX:
        kept.popitem(last=False)


def running_checksum(tx: WriterTx, task_id: str, direction: str) -> StreamChecksum:
    """The checksum over the chunks stored so far. Do not change it."""
    checksum = _kept(tx).get((task_id, direction))
    if checksum is None:
        checksum = StreamChecksum()
        for (chunk,) in tx.all(
            "SELECT chunk FROM chunks WHERE task_id = :task_id AND direction = :direction ORDER BY seq",
            task_id=task_id,
            direction=direction,
        ):
            checksum.update(chunk)
    return checksum


def forget(tx: WriterTx, *, task_id: str) -> None:
    """Let go of a task's checksums: it has ended."""
    for direction in ("input", "output"):
        _kept(tx).pop((task_id, direction), None)


def _kept(tx: WriterTx) -> Checksums:
    kept: Checksums = tx.memory.setdefault("checksums", OrderedDict())
    return kept


def chunk(tx: Tx, *, task_id: str, direction: str, seq: int) -> bytes | None:
    """One stored chunk, or None."""
    row = tx.one(
        "SELECT chunk FROM chunks WHERE task_id = :task_id AND direction = :direction AND seq = :seq",
        task_id=task_id,
        direction=direction,
        seq=seq,
    )
    return None if row is None else row[0]


def chunks(tx: Tx, *, task_id: str, direction: str, first: int, limit: int) -> list[tuple[int, bytes]]:
    """Stored chunks from seq `first` on, in order."""
    rows = tx.all(
        "SELECT seq, chunk FROM chunks WHERE task_id = :task_id AND direction = :direction AND seq >= :first"
        " ORDER BY seq LIMIT :limit",
        task_id=task_id,
        direction=direction,
        first=first,
        limit=limit,
    )
    return [(row[0], row[1]) for row in rows]

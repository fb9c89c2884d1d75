"""What `agrenting verify` does: receipts and histories are checked offline, with public keys alone.

No database, no server and no settings are needed. A receipt is one JSON document; a history is JSON Lines, and is read
line by line, however long it is. So are files that a task's receipt is held against: block by block.
"""

import argparse
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import msgspec

from agrenting.commands import Answer, CommandError
from agrenting.config import Settings
from channels.strictness import TooLoose, require_strict
from crypto import (
    ReceiptError,
    ReceiptReport,
    parse_public_key,
    verify_chunks,
    verify_history,
    verify_receipt,
    verify_stream,
)

RECEIPT_BYTES_MAX = 4_194_304
LINE_BYTES_MAX = 1_048_576
BLOCK_BYTES = 65_536
CHUNK_BYTES_MAX = 16_777_216
"""A chunk is read whole."""

ROLES = ("platform", "client", "provider", "opener", "counterparty")
HISTORY_ROLES = ("platform", "opener", "counterparty")
HISTORY = "payment_history"
TASK = "task"
Direction = Literal["input", "output"]
DIRECTIONS: tuple[Direction, ...] = ("input", "output")


class Files(msgspec.Struct, frozen=True):
    """The files that a task's receipt is held against.

    Args:
        paths: Of the streams whose bytes are there, by direction.
        chunk_bytes: The size of all chunks but the last, to check the running digests too; None for checksums alone.
    """

    paths: dict[Direction, Path]
    chunk_bytes: int | None = None


def verify(chosen: argparse.Namespace, _settings: Settings) -> Answer:
    """Check receipts and histories offline, and files against the receipt of a task.

    Raises:
        CommandError: `--chunk-bytes` has no meaning so.
    """
    keys = {role: parse_public_key(given) for role in ROLES if (given := getattr(chosen, f"{role}_key")) is not None}
    files = _files(chosen)
    documents = [_verify(Path(name), keys, files) for name in chosen.files]
    is_good = all(document["ok"] for document in documents)
    lines: list[str] = []
    for document in documents:
        verdict = "good" if document["ok"] else f"BAD: {document['error']}"
        lines.append(f"{document['file']}: {verdict}")
        lines += [f"  · {check}" for check in document.get("checks", ())]
        lines += [f"  ! {doubt}" for doubt in document.get("unproven", ())]
    return Answer("\n".join(lines), {"ok": is_good, "documents": documents}, exit_code=0 if is_good else 1)


def _files(chosen: argparse.Namespace) -> Files:
    paths: dict[Direction, Path] = {}
    for direction in DIRECTIONS:
        given: str | None = getattr(chosen, direction)
        if given is not None:
            paths[direction] = Path(given)
    if chosen.chunk_bytes is not None:
        if not paths:
            raise CommandError("--chunk-bytes says how the file of --input or --output is cut; name one of them")
        if not 1 <= chosen.chunk_bytes <= CHUNK_BYTES_MAX:
            raise CommandError(f"--chunk-bytes is from 1 to {CHUNK_BYTES_MAX}")
    return Files(paths, chosen.chunk_bytes)


def _verify(path: Path, keys: dict[str, bytes], files: Files) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            first = file.readline(LINE_BYTES_MAX + 1)
            if _begins_history(first):
                _require_files_fit(files, kind=HISTORY)
                report = _verify_history(_read_lines(first, file), keys)
            else:
                report = _verify_receipt(_unwrapped(_parsed(_read_receipt(first, file))), keys, files)
    except (OSError, ReceiptError, CommandError) as error:
        return {"file": str(path), "ok": False, "error": " ".join(str(error).split())}
    return {"file": str(path), "ok": True, **msgspec.to_builtins(report)}


def _verify_receipt(receipt: object, keys: dict[str, bytes], files: Files) -> ReceiptReport:
    report = verify_receipt(receipt, **{f"{role}_key": key for role, key in keys.items()})
    _require_files_fit(files, kind=report.kind)
    proved = [_verify_file(receipt, direction, path, files.chunk_bytes) for direction, path in files.paths.items()]
    return dataclasses.replace(report, checks=(*report.checks, *proved))


def _require_files_fit(files: Files, *, kind: str) -> None:
    """Refuse files where the document is of a kind that has no streams."""
    if files.paths and kind != TASK:
        option = min(files.paths)
        raise CommandError(f"--{option} goes with the receipt of a task; this is of kind {kind}")


def _verify_file(receipt: object, direction: Direction, path: Path, chunk_bytes: int | None) -> str:
    with path.open("rb") as file:
        if chunk_bytes is None:
            return verify_stream(receipt, direction=direction, blocks=_blocks(file, BLOCK_BYTES))
        return verify_chunks(receipt, direction=direction, chunks=_blocks(file, chunk_bytes))


def _blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The file's bytes, so many at a time; fewer at the end."""
    while block := file.read(size):
        yield block


def _verify_history(lines: Iterator[object], keys: dict[str, bytes]) -> ReceiptReport:
    for role in keys.keys() - set(HISTORY_ROLES):
        raise ReceiptError(f"A payment channel's history has no {role}, whose key is expected.", check="pinned_key")
    return verify_history(lines, **{f"{role}_key": key for role, key in keys.items()})


def _begins_history(first: bytes) -> bool:
    """Whether a file with that first line is a history; a receipt that stands on one line is none."""
    try:
        value = msgspec.json.decode(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and cast("dict[str, Any]", value).get("kind") == HISTORY


def _read_lines(first: bytes, file: BinaryIO) -> Iterator[object]:
    """Each line of a file as JSON, one at a time."""
    number, raw = 1, first
    while raw:
        if len(raw) > LINE_BYTES_MAX:
            raise CommandError(f"Line {number}: longer than {LINE_BYTES_MAX} bytes")
        yield _parsed(raw, place=f"Line {number}: ")
        number, raw = number + 1, file.readline(LINE_BYTES_MAX + 1)


def _read_receipt(first: bytes, file: BinaryIO) -> bytes:
    raw = first + file.read(RECEIPT_BYTES_MAX + 1 - len(first))
    if len(raw) > RECEIPT_BYTES_MAX:
        raise CommandError(f"larger than {RECEIPT_BYTES_MAX} bytes")
    return raw


def _parsed(raw: bytes, *, place: str = "") -> object:
    try:
        require_strict(raw)
    except TooLoose as error:
        raise CommandError(f"{place}{error}") from error
    return msgspec.json.decode(raw)


def _unwrapped(document: object) -> object:
    """A receipt itself, also where it was saved as REST wraps it: `{"data": receipt}`."""
    if not isinstance(document, dict):
        return document
    fields = cast("dict[str, object]", document)
    return fields["data"] if "data" in fields and "kind" not in fields else fields

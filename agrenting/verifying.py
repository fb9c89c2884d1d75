"""What `agrenting verify` does: receipts and histories are checked offline, with public keys alone.

No database, no server and no settings are needed. A receipt is one JSON document; a history is JSON Lines, and is read
line by line, however long it is.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from agrenting.commands import Answer, CommandError
from agrenting.config import Settings
from channels.strictness import TooLoose, require_strict
from crypto import ReceiptError, ReceiptReport, parse_public_key, verify_history, verify_receipt

RECEIPT_BYTES_MAX = 4_194_304
LINE_BYTES_MAX = 1_048_576
ROLES = ("platform", "client", "provider", "opener", "counterparty")
HISTORY_ROLES = ("platform", "opener", "counterparty")


def verify(chosen: argparse.Namespace, _settings: Settings) -> Answer:
    """Check receipts and histories offline."""
    keys = {role: parse_public_key(given) for role in ROLES if (given := getattr(chosen, f"{role}_key")) is not None}
    documents = [_verify(Path(name), keys) for name in chosen.files]
    is_good = all(document["ok"] for document in documents)
    lines: list[str] = []
    for document in documents:
        verdict = "good" if document["ok"] else f"BAD: {document['error']}"
        lines.append(f"{document['file']}: {verdict}")
        lines += [f"  · {check}" for check in document.get("checks", ())]
        lines += [f"  ! {doubt}" for doubt in document.get("unproven", ())]
    return Answer("\n".join(lines), {"ok": is_good, "documents": documents}, exit_code=0 if is_good else 1)


def _verify(path: Path, keys: dict[str, bytes]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            first = file.readline(LINE_BYTES_MAX + 1)
            if _begins_history(first):
                report = _verify_history(_read_lines(first, file), keys)
            else:
                pins = {f"{role}_key": key for role, key in keys.items()}
                report = verify_receipt(_unwrapped(_parsed(_read_receipt(first, file))), **pins)
    except (OSError, ReceiptError, CommandError) as error:
        return {"file": str(path), "ok": False, "error": " ".join(str(error).split())}
    return {"file": str(path), "ok": True, **msgspec.to_builtins(report)}


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
    return isinstance(value, dict) and cast("dict[str, Any]", value).get("kind") == "payment_history"


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

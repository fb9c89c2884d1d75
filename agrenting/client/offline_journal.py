"""The file in which an agent keeps an offline payment channel: all that it and the other party have signed, in order.

Each line is one thing that was signed or told, behind the digest of all lines up to it. A line is on disk before the
signature in it is given away, so a line without its end was never acted on, and is dropped. Anything else that does not
fit is damage. The whole chain of transfers is kept: a server that was restored from an older copy needs it again.

There is no secret in it. Keep it as long as the channel is open: it is the money.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from ._crypto import canonical_digest
from .channel_states import Count, Opening, Proposal, SignedState
from .errors import BrokenRecord
from .private_files import PRIVATE_MODE, sync_folder

NO_LINES: Final = "0" * 64
"""The digest before the first line."""


class Opened(msgspec.Struct, frozen=True, kw_only=True, tag="opened"):
    """The first line: whose file it is, the channel's parties and keys, and what each has deposited."""

    agent_id: str
    opening: Opening
    deposit_a: Count
    deposit_b: Count


class Offered(msgspec.Struct, frozen=True, kw_only=True, tag="offered"):
    """The agent has signed a payment."""

    proposal: Proposal


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done"):
    """Both have signed a payment."""

    state: SignedState


class CloseSigned(msgspec.Struct, frozen=True, kw_only=True, tag="close_signed"):
    """The agent has signed a close at a nonce; the digest is that of its message."""

    nonce: Count
    digest: str


Entry = Opened | Offered | Done | CloseSigned


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line: `digest` is that of the digest before and the entry."""

    digest: str
    entry: msgspec.Raw


class Journal:
    """One file of entries, which only grows.

    Args:
        path: Its folder must be there.

    Raises:
        BrokenRecord: The file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = NO_LINES
        self._size = 0
        self.entries: list[Entry] = []
        """All of them, in order."""
        encoded = path.read_bytes() if path.exists() else b""
        for line in encoded.splitlines(keepends=True):
            if line.endswith(b"\n"):
                self._read(line)

    def append(self, entry: Entry) -> None:
        """Add an entry; once this returns it survives a crash and a loss of power.

        Raises:
            BrokenRecord: Somebody else has written the file meanwhile: two must not sign for one agent.
            OSError: It cannot be written.
        """
        fields = msgspec.to_builtins(entry)
        digest = _digest(self._digest, fields)
        line = msgspec.json.encode(_Line(digest=digest, entry=msgspec.Raw(msgspec.json.encode(fields)))) + b"\n"
        is_new = not self._path.exists()
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, PRIVATE_MODE)
        with os.fdopen(descriptor, "r+b") as file:
            self._require_unchanged(file.seek(0, os.SEEK_END))
            file.truncate(self._size)
            file.seek(self._size)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self._path.parent)
        self._digest = digest
        self._size += len(line)
        self.entries.append(entry)

    def _require_unchanged(self, size: int) -> None:
        """Refuse a file that others have written. What is behind the last whole line was never acted on."""
        if size == self._size:
            return
        if size < self._size or Journal(self._path)._digest != self._digest:  # noqa: SLF001 - its own kind
            raise BrokenRecord(f"{self._path} was written by somebody else meanwhile")

    def _read(self, line: bytes) -> None:
        try:
            told = msgspec.json.decode(line, type=_Line)
            fields = msgspec.json.decode(told.entry)
            entry = msgspec.convert(fields, Entry)
        except msgspec.DecodeError as error:
            raise BrokenRecord(f"{self._path} is no journal of a payment channel: {error}") from error
        digest = _digest(self._digest, fields)
        if told.digest != digest:
            raise BrokenRecord(f"{self._path} is damaged: the digest of line {len(self.entries) + 1} does not fit")
        self._digest = digest
        self._size += len(line)
        self.entries.append(entry)


def _digest(before: str, fields: object) -> str:
    return canonical_digest([before, fields])

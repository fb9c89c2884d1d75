"""The file in which an agent keeps what it has signed in one payment channel.

It is written before a signature is given away, as a whole and at once: a crash leaves the old one or the new one. There
is no secret in it; the checksum tells what was damaged, not who meant it.
"""

import os
from pathlib import Path
from typing import Final

import msgspec

from ._crypto import canonical_digest
from .channel_states import Count, Opening, Standing
from .errors import BrokenRecord

PRIVATE_MODE: Final = 0o600


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was signed: its nonce, and the SHA-256 of its bytes."""

    nonce: Count
    digest: str


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent knows of one channel.

    Args:
        agent_id, public_key: Whose it is.
        opening: Parties and keys, as they were told first; None before that.
        last_nonce: The highest that is known to be used up.
        deposit_a, deposit_b: All that each is known to have deposited.
        standing: The newest state that both have signed.
        signed: The transfer that was signed last.
        closed: The close that was signed last, as long as the nonce has not moved since.
    """

    agent_id: str
    public_key: str
    opening: Opening | None = None
    last_nonce: Count = 0
    deposit_a: Count = 0
    deposit_b: Count = 0
    standing: Standing = Standing()
    signed: Signed | None = None
    closed: Signed | None = None


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """The file. `checksum`: of the record's canonical JSON."""

    checksum: str
    record: Record


class RecordFile:
    """One record on disk.

    Args:
        path: Its folder must be there.
        fresh: What is known where there is no file yet.

    Raises:
        BrokenRecord: The file is damaged, or another agent's.
    """

    def __init__(self, path: Path, fresh: Record) -> None:
        self._path = path
        self._bytes = self._read()
        self.record = fresh if self._bytes is None else self._decoded(self._bytes)
        if (self.record.agent_id, self.record.public_key) != (fresh.agent_id, fresh.public_key):
            raise BrokenRecord(f"{path} is the record of {self.record.agent_id}, or of another key")

    def store(self, record: Record) -> None:
        """Replace the record; once this returns it survives a crash and a loss of power.

        Raises:
            BrokenRecord: Somebody else has written the file meanwhile: two must not sign for one agent.
            OSError: It cannot be written. The record is as before.
        """
        if record == self.record and self._bytes is not None:
            return
        if self._read() != self._bytes:
            raise BrokenRecord(f"{self._path} was written by somebody else meanwhile")
        encoded = msgspec.json.encode(_File(checksum=_checksum(record), record=record))
        new = self._path.with_name(f"{self._path.name}.new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE), "wb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        _sync_folder(self._path.parent)
        self._bytes, self.record = encoded, record

    def _read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def _decoded(self, encoded: bytes) -> Record:
        try:
            file = msgspec.json.decode(encoded, type=_File)
        except msgspec.DecodeError as error:
            raise BrokenRecord(f"{self._path} is no record of a payment channel: {error}") from error
        if file.checksum != _checksum(file.record):
            raise BrokenRecord(f"{self._path} is damaged: its checksum does not fit")
        return file.record


def _checksum(record: Record) -> str:
    return canonical_digest(msgspec.to_builtins(record))


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where folders can be synchronised."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

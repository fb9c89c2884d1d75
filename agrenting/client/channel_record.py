"""The file in which an agent keeps what it has signed in one payment channel.

It is written before a signature is given away, as a whole and at once: a crash leaves the old one or the new one. There
is no secret in it; the checksum tells what was damaged, not who meant it.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from ._crypto import CryptoError, canonical_digest
from .channel_states import Count, Opening, Standing, ToldChannel, Transfer
from .errors import BrokenRecord

PRIVATE_MODE: Final = 0o600

ENDED: Final = frozenset({"closed", "declined", "expired"})
"""States of a channel in which nothing moves any more."""


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was signed: its nonce, and the SHA-256 of its bytes."""

    nonce: Count
    digest: str


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """The transfer that the agent has signed last as its payer, and what has become of it.

    Args:
        transfer: What was signed.
        memo: What went with it; not signed.
        is_paid: Whether both have signed it; None while that is open.
    """

    transfer: Transfer
    memo: str | None = None
    is_paid: bool | None = None

    def decided(self, states: Iterable[Transfer], *, is_over: bool) -> "Payment":
        """The same, once it is known what has become of it.

        Args:
            states: Transfers that both have signed.
            is_over: Whether its nonce is used up, or the channel has ended, and all of `states` was told.
        """
        if self.is_paid is not None:
            return self
        if any(state.nonce == self.transfer.nonce and state.terms == self.transfer for state in states):
            return msgspec.structs.replace(self, is_paid=True)
        return msgspec.structs.replace(self, is_paid=False) if is_over else self

    def is_raised_by(self, transfer: Transfer) -> bool:
        """Whether another transfer is the same payment, over balances that deposits alone have raised meanwhile."""
        mine = self.transfer
        same = msgspec.structs.replace(transfer, balance_a=mine.balance_a, balance_b=mine.balance_b)
        return same == mine and transfer.balance_a >= mine.balance_a and transfer.balance_b >= mine.balance_b


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
        payment: The last transfer of which the agent itself is the payer.
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
    payment: Payment | None = None

    def payment_after(self, told: ToldChannel) -> Payment | None:
        """The own payment, once it is known what has become of it; also one that a lost record does not know.

        Args:
            told: The channel, checked. What it tells has not been taken into the record yet.
        """
        payment, pending = self.payment, told.pending_proposal
        if pending is not None and pending.from_agent_id == self.agent_id:
            is_known = payment is not None and payment.transfer.nonce >= pending.nonce
            return payment if is_known else Payment(transfer=pending.terms)
        if payment is None:
            return None
        is_over = told.last_nonce >= payment.transfer.nonce or told.status in ENDED
        return payment.decided(told.states_after(self.standing.nonce), is_over=is_over and told.is_whole)


class _File(msgspec.Struct, frozen=True, kw_only=True):
    """The file. `checksum`: of the record's canonical JSON."""

    checksum: str
    record: msgspec.Raw


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
        fields = msgspec.to_builtins(record)
        file_of = _File(checksum=canonical_digest(fields), record=msgspec.Raw(msgspec.json.encode(fields)))
        encoded = msgspec.json.encode(file_of)
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
            fields = msgspec.json.decode(file.record)
            # Over what stands there: a record that an earlier version has written lacks what was added since.
            is_whole = file.checksum == canonical_digest(fields)
            record = msgspec.convert(fields, Record)
        except (msgspec.DecodeError, CryptoError) as error:
            raise BrokenRecord(f"{self._path} is no record of a payment channel: {error}") from error
        if not is_whole:
            raise BrokenRecord(f"{self._path} is damaged: its checksum does not fit")
        return record


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where folders can be synchronised."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

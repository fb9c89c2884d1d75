"""Idempotency keys: a request that is repeated with its key is answered again and done once.

The answer is stored in the transaction of the effect, so neither exists without the other, whatever crashes between.
Secrets in it are null: they are not kept. A refusal has no effect and is not stored.
"""

import hashlib
import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

import msgspec

from agrenting.api.errors import Malformed
from agrenting.db import idempotency as rows
from agrenting.db.transaction import WriterTx
from channels.errors import Conflict, Invalid

HEADERS: Final = ("idempotency-key", "x-idempotency-key")
KEY: Final = re.compile(r"[\x20-\x7e]{1,255}")


class Replay(msgspec.Struct, frozen=True):
    """What the first request of a key was answered."""

    status: int
    body: bytes


class KeyedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that carries a key.

    Args:
        caller: Who asks; the same key of somebody else is another one.
        path: Where; the same key elsewhere is another one.
        key: 1-255 printable ASCII characters.
        fingerprint: SHA-256 of the canonical body.
    """

    caller: str
    path: str
    key: str
    fingerprint: str

    def find(self, tx: WriterTx, now: datetime) -> Replay | None:
        """The answer that this request has had; None for the first of its key.

        Raises:
            Invalid: `idempotency_mismatch`: the key was used for another body.
        """
        found = rows.find(tx, caller=self.caller, path=self.path, key=self.key, now=now)
        if found is None:
            return None
        fingerprint, status, body = found
        if fingerprint != self.fingerprint:
            raise Invalid("idempotency_mismatch", "This idempotency key was used with another body; take a new key.")
        return Replay(status, body.encode())

    def keep(self, tx: WriterTx, replay: Replay, *, now: datetime, ttl_s: int) -> None:
        """Store the answer."""
        rows.keep(
            tx,
            caller=self.caller,
            path=self.path,
            key=self.key,
            fingerprint=self.fingerprint,
            status_code=replay.status,
            body=replay.body.decode(),
            expires_at=now + timedelta(seconds=ttl_s),
        )


class InFlight:
    """The requests with keys that are being decided in this process."""

    def __init__(self) -> None:
        self._running: set[tuple[str, str, str]] = set()

    @contextmanager
    def claim(self, request: KeyedRequest | None) -> Generator[None]:
        """Hold a key while its request runs; a request without one holds nothing.

        Raises:
            Conflict: `idempotency_pending`.
        """
        if request is None:
            yield
            return
        name = (request.caller, request.path, request.key)
        if name in self._running:
            raise Conflict("idempotency_pending", "A request with this idempotency key is still running; try again.")
        self._running.add(name)
        try:
            yield
        finally:
            self._running.discard(name)


def parse_key(offered: list[str], *, is_required: bool) -> str | None:
    """The idempotency key of a request.

    Args:
        offered: The values of both headers.
        is_required: Whether this address is only served with a key.

    Raises:
        Malformed: `idempotency_key_required`.
        Invalid: `invalid_idempotency_key`.
    """
    if not offered:
        if is_required:
            raise Malformed("idempotency_key_required", "Send an Idempotency-Key header: this moves money.")
        return None
    if len({*offered}) > 1 or not KEY.fullmatch(offered[0]):
        raise Invalid("invalid_idempotency_key", "An idempotency key is one, of 1-255 printable ASCII characters.")
    return offered[0]


def fingerprint_of(body: bytes) -> str:
    """SHA-256 of a JSON body, however its members are ordered and spaced; of nothing for an empty one."""
    canonical = msgspec.json.encode(msgspec.json.decode(body), order="deterministic") if body else b""
    return hashlib.sha256(canonical).hexdigest()

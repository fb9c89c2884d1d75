"""Idempotency keys: what a request with one has answered, stored in the transaction of its effect."""

from datetime import datetime

from agrenting.clock import to_ms
from agrenting.db.transaction import Tx, WriterTx


def find(tx: Tx, *, caller: str, path: str, key: str, now: datetime) -> tuple[str, int, str] | None:
    """What a key has been used for: fingerprint, status and body; None if it is new, or has been forgotten."""
    row = tx.one(
        "SELECT fingerprint, status_code, body FROM idempotency_keys"
        " WHERE caller = :caller AND path = :path AND key = :key AND expires_at > :now",
        caller=caller,
        path=path,
        key=key,
        now=to_ms(now),
    )
    return None if row is None else (row[0], row[1], row[2])


def keep(
    tx: WriterTx,
    *,
    caller: str,
    path: str,
    key: str,
    fingerprint: str,
    status_code: int,
    body: str,
    expires_at: datetime,
) -> None:
    """Remember what a request answered; one that has run out under the same key makes room."""
    tx.run(
        "INSERT INTO idempotency_keys (caller, path, key, fingerprint, status_code, body, expires_at)"
        " VALUES (:caller, :path, :key, :fingerprint, :status_code, :body, :expires_at)"
        " ON CONFLICT (caller, path, key) DO UPDATE SET fingerprint = excluded.fingerprint,"
        " status_code = excluded.status_code, body = excluded.body, expires_at = excluded.expires_at",
        caller=caller,
        path=path,
        key=key,
        fingerprint=fingerprint,
        status_code=status_code,
        body=body,
        expires_at=to_ms(expires_at),
    )

"""The histories of payment channels: only ever appended, and what is asked of them."""

from collections.abc import Iterable
from typing import Final

import msgspec

from agrenting.clock import to_ms
from agrenting.db.transaction import Tx, WriterTx
from channels.changes import Stepped
from channels.channel_steps import ChannelStep

_decode: Final = msgspec.json.Decoder(ChannelStep).decode
_AT_ONCE: Final = 500
"""Nonces in one question: a database takes no more than some hundreds of values."""


def append(tx: WriterTx, channel_id: str, step: ChannelStep) -> None:
    """Append a step. Its number and its nonce are taken once, whatever happens."""
    tx.run(
        "INSERT INTO channel_steps (channel_id, number, kind, nonce, state, created_at)"
        " VALUES (:channel_id, :number, :kind, :nonce, :state, :created_at)",
        channel_id=channel_id,
        number=step.number,
        kind=step.kind,
        nonce=step.nonce,
        state=msgspec.json.encode(step).decode(),
        created_at=to_ms(step.at),
    )
    tx.happened.append(Stepped(channel_id, step))


def at_nonces(tx: Tx, channel_id: str, nonces: Iterable[int]) -> tuple[ChannelStep, ...]:
    """The steps that have consumed some nonces, in order."""
    wanted = sorted(set(nonces))
    found: list[ChannelStep] = []
    for first in range(0, len(wanted), _AT_ONCE):
        values = {f"n{index}": nonce for index, nonce in enumerate(wanted[first : first + _AT_ONCE])}
        names = ", ".join(f":{name}" for name in values)
        rows = tx.all(
            f"SELECT state FROM channel_steps WHERE channel_id = :channel_id AND nonce IN ({names}) ORDER BY nonce",
            channel_id=channel_id,
            **values,
        )
        found += [_decode(row[0]) for row in rows]
    return tuple(found)


def from_nonce(tx: Tx, channel_id: str, nonce: int, *, limit: int) -> tuple[ChannelStep, ...]:
    """The steps that have consumed a nonce and those after it, in order."""
    rows = tx.all(
        "SELECT state FROM channel_steps WHERE channel_id = :channel_id AND nonce >= :nonce"
        " ORDER BY nonce LIMIT :limit",
        channel_id=channel_id,
        nonce=nonce,
        limit=limit,
    )
    return tuple(_decode(row[0]) for row in rows)


def history(tx: Tx, channel_id: str, *, after: int, limit: int) -> tuple[ChannelStep, ...]:
    """The steps after a number, in order."""
    rows = tx.all(
        "SELECT state FROM channel_steps WHERE channel_id = :channel_id AND number > :after"
        " ORDER BY number LIMIT :limit",
        channel_id=channel_id,
        after=after,
        limit=limit,
    )
    return tuple(_decode(row[0]) for row in rows)

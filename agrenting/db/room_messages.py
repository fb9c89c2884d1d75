"""What was written in chat rooms: kept, and found by who reads it. Every list begins at a key of an index.

A page by number is counted from the first one, so only COUNTED_MAX of a list are reached by numbers.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

import msgspec

from agrenting.clock import to_ms
from agrenting.db import states
from agrenting.db.transaction import Row, Tx, WriterTx
from channels.room_deliveries import PENDING, UNPROCESSED
from channels.room_state import Delivery, DeliveryStatus, RoomMessage

COUNTED_MAX: Final = 10_000
SCANNED_MAX: Final = 500
"""Rows that one page looks at where only some types are asked for; the next page goes on behind them."""

StatusAsked = Literal["pending", "processing", "processed", "failed", "all"]

STATUSES: Final[dict[StatusAsked | None, tuple[DeliveryStatus, ...]]] = {
    None: UNPROCESSED,
    "pending": PENDING,
    "processing": (DeliveryStatus.PROCESSING,),
    "processed": (DeliveryStatus.PROCESSED,),
    "failed": (DeliveryStatus.FAILED,),
    "all": tuple(DeliveryStatus),
}
"""What is asked for → where a reader stands with it; without anything asked, what is not processed."""

_TYPE: Final = "CASE WHEN is_text THEN 'text' ELSE json_extract(state, '$.message_type') END"

_decode: Final = msgspec.json.Decoder(RoomMessage).decode
_encode: Final = msgspec.json.Encoder().encode


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A text or an event, and how far its readers are."""

    message: RoomMessage
    deliveries: tuple[Delivery, ...] = ()


class Types(msgspec.Struct, frozen=True, kw_only=True):
    """Which types of messages are asked for: only these, or all but these."""

    names: frozenset[str]
    is_excluding: bool = False

    def has(self, type_: str) -> bool:
        """Whether a type is asked for."""
        return (type_ in self.names) is not self.is_excluding


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What was found of a list.

    Args:
        ids: In order.
        rest: The place from which to look on, where not all was looked at; None otherwise.
    """

    ids: Sequence[str]
    rest: str | None = None


def store(tx: WriterTx, message: RoomMessage) -> None:
    """Keep what was written."""
    tx.run(
        "INSERT INTO room_messages (id, room_id, sender_id, is_text, state, created_at)"
        " VALUES (:id, :room_id, :sender_id, :is_text, :state, :created_at)",
        id=message.id,
        room_id=message.room_id,
        sender_id=message.sender_id,
        is_text=message.is_text,
        state=_encode(message).decode(),
        created_at=to_ms(message.inserted_at),
    )


def load(tx: Tx, message_id: str) -> RoomMessage | None:
    """The text or event of an id."""
    row = tx.one("SELECT state FROM room_messages WHERE id = :id", id=message_id)
    return None if row is None else _decode(row[0])


def mentioning(
    tx: Tx,
    room_id: str,
    reader_id: str,
    *,
    statuses: Sequence[DeliveryStatus],
    beyond: str,
    is_newest_first: bool = False,
    limit: int,
) -> Found:
    """The texts of a room that mention a reader.

    Args:
        tx: Any transaction.
        room_id: The room.
        reader_id: An agent or a user.
        statuses: Where the reader stands with them.
        beyond: Those behind this id in the order; empty for the first.
        is_newest_first: The order.
        limit: At most so many.
    """
    sign, direction = ("<", "DESC") if is_newest_first else (">", "ASC")
    # Of each status the index has them in order; so each gives as many as are needed at most.
    parts = " UNION ALL ".join(
        f"SELECT * FROM (SELECT message_id FROM room_deliveries WHERE recipient_id = :reader_id AND room_id = :room_id"
        f" AND status = '{status.value}' AND (:beyond = '' OR message_id {sign} :beyond)"
        f" ORDER BY message_id {direction} LIMIT :limit)"
        for status in statuses
    )
    rows = tx.all(
        f"{parts} ORDER BY message_id {direction} LIMIT :limit",
        reader_id=reader_id,
        room_id=room_id,
        beyond=beyond,
        limit=limit,
    )
    return Found(ids=[row[0] for row in rows])


def known_to(tx: Tx, room_id: str, reader_id: str, *, after: str, limit: int) -> Found:
    """What an agent or a user has written in a room, and the texts that mention it, oldest first."""
    own = tx.all(
        "SELECT id FROM room_messages WHERE sender_id = :reader_id AND room_id = :room_id AND id > :after"
        " ORDER BY id LIMIT :limit",
        reader_id=reader_id,
        room_id=room_id,
        after=after,
        limit=limit,
    )
    heard = mentioning(tx, room_id, reader_id, statuses=STATUSES["all"], beyond=after, limit=limit)
    return Found(ids=sorted([*(row[0] for row in own), *heard.ids])[:limit])


def of_room(
    tx: Tx, room_id: str, *, types: Types | None, since: datetime | None, before: str, limit: int, scanned_max: int
) -> Found:
    """Everything that was written in a room, newest first.

    Args:
        tx: Any transaction.
        room_id: The room.
        types: Only some; None for all.
        since: Not what is older; None for no such bound.
        before: Only what is older than this id; empty for the newest.
        limit: At most so many.
        scanned_max: Rows to look at, where only some are asked for.
    """
    scanned, type_ = (limit, "NULL") if types is None else (scanned_max, _TYPE)
    rows = tx.all(
        f"SELECT id, created_at, {type_} FROM room_messages WHERE room_id = :room_id"
        " AND (:before = '' OR id < :before) ORDER BY id DESC LIMIT :limit",
        room_id=room_id,
        before=before,
        limit=scanned,
    )
    recent = [row for row in rows if since is None or row[1] >= to_ms(since)]
    ids = [row[0] for row in recent if types is None or types.has(row[2])]
    is_cut = types is not None and len(recent) == scanned and len(ids) < limit
    return Found(ids=ids[:limit], rest=recent[-1][0] if is_cut else None)


def written(tx: Tx, ids: Sequence[str], *, reader_id: str | None, bytes_max: int) -> list[Written]:
    """What has these ids, in their order.

    Args:
        tx: Any transaction.
        ids: Of texts and events.
        reader_id: How far this reader is with them; None: how far each is.
        bytes_max: Ends the list with the one that goes beyond so much, with how far its readers are.
    """
    found: list[Written] = []
    size = 0
    for id_ in ids:
        row = tx.one("SELECT state FROM room_messages WHERE id = :id", id=id_)
        assert row is not None, "nothing that was written goes away"
        message = _decode(row[0])
        deliveries = _deliveries(tx, message, reader_id)
        found.append(
            Written(message=message, deliveries=tuple(states.decode("room_delivery", one) for one in deliveries))
        )
        size += sum(len(one[0].encode()) for one in (row, *deliveries))
        if size > bytes_max:
            break
    return found


def _deliveries(tx: Tx, message: RoomMessage, reader_id: str | None) -> list[Row]:
    if not message.is_text:
        return []
    if reader_id is not None:
        return tx.all("SELECT state FROM room_deliveries WHERE id = :id", id=f"{message.id}:{reader_id}")
    return tx.all("SELECT state FROM room_deliveries WHERE message_id = :id ORDER BY id", id=message.id)

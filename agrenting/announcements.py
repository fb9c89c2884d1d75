"""Announcements: what a process that does not serve leaves for the one that does, in the transaction that it tells of.

The command line decides on the same database; a running server has to tell its sockets, or close some.
"""

import msgspec

from agrenting.db.transaction import WriterTx
from channels.told import Saved, Told


class Announcement(msgspec.Struct, frozen=True):
    """What a running server has to tell: broadcasts and changed ties; and whose sockets it closes, by socket id or key.

    Sockets of a dead key are closed whoever they act as: a user's key opens sockets of the user's agents too.
    """

    broadcasts: tuple[Told, ...] = ()
    disconnects: tuple[str, ...] = ()
    dead_keys: tuple[str, ...] = ()


decode = msgspec.json.Decoder(Announcement).decode


def announce(tx: WriterTx, announcement: Announcement, *, now_ms: int) -> None:
    """Leave an announcement for whoever serves this database; of states that were saved, only which they are."""
    told = tuple(Saved(one.topic) if isinstance(one, Saved) else one for one in announcement.broadcasts)
    announcement = msgspec.structs.replace(announcement, broadcasts=told)
    tx.run(
        "INSERT INTO announcements (body, created_at) VALUES (:body, :now)",
        body=msgspec.json.encode(announcement).decode(),
        now=now_ms,
    )

"""Who sits in which private channel: a row for each member of those that are there; and what else stands by them."""

from typing import Final

from agrenting.db.transaction import Tx, WriterTx
from channels.private_state import PRIVATE_IDLE, PrivateChannel

_SEATED: Final = """
SELECT c.id, json_extract(m.value, '$.agent_id'), json_extract(m.value, '$.instance_id')
FROM private_channels c, json_each(c.state, '$.members') m WHERE c.status = 'open'
"""

_ENDLESS: Final = """
SELECT id FROM private_channels c WHERE status = 'open' AND json_extract(state, '$.deal') IS NULL
AND json_array_length(state, '$.members') = 0
AND NOT EXISTS (SELECT 1 FROM timers WHERE topic = c.id AND kind = :idle)
"""
_LEFT_BEHIND: Final = """
SELECT DISTINCT channel_id FROM private_contexts
WHERE channel_id NOT IN (SELECT id FROM private_channels WHERE status = 'open')
"""

Seat = tuple[str, str]
"""An agent's id and its instance's."""


def doctor(tx: Tx) -> list[str]:
    """Every difference between private channels and what stands by them; none is good.

    That is a row for each member; the clock of a channel in which nobody sits, unless its deal ends it; and contexts
    of channels that are there, and of no others.
    """
    listed = "SELECT channel_id, agent_id, instance_id FROM private_members"
    return [
        *(f"{row[0]} has {row[1]} as a member, and no row of it" for row in tx.all(f"{_SEATED} EXCEPT {listed}")),
        *(f"{row[0]} does not have {row[1]}, and a row of it" for row in tx.all(f"{listed} EXCEPT {_SEATED}")),
        *(f"{row[0]} has no member, and no clock that ends it" for row in tx.all(_ENDLESS, idle=PRIVATE_IDLE)),
        *(f"{row[0]} is not there, and contexts of it" for row in tx.all(_LEFT_BEHIND)),
    ]


def index(tx: WriterTx, channel: PrivateChannel) -> None:
    """Bring the rows up to who sits there now."""
    before = set(seats_of(tx, channel.id))
    after = {(one.agent_id, one.instance_id) for one in channel.members} if channel.is_open else set[Seat]()
    for agent_id, instance_id in sorted(before - after):
        tx.run(
            "DELETE FROM private_members WHERE channel_id = :channel_id AND agent_id = :agent_id"
            " AND instance_id = :instance_id",
            channel_id=channel.id,
            agent_id=agent_id,
            instance_id=instance_id,
        )
    for agent_id, instance_id in sorted(after - before):
        tx.run(
            "INSERT INTO private_members (channel_id, agent_id, instance_id)"
            " VALUES (:channel_id, :agent_id, :instance_id)",
            channel_id=channel.id,
            agent_id=agent_id,
            instance_id=instance_id,
        )


def seats_of(tx: Tx, channel_id: str) -> list[Seat]:
    """The members of a channel."""
    rows = tx.all(
        "SELECT agent_id, instance_id FROM private_members WHERE channel_id = :channel_id", channel_id=channel_id
    )
    return [(agent_id, instance_id) for agent_id, instance_id in rows]

"""Pages of what agents have: negotiations, tasks and payment channels, newest first.

Each page begins at a key of an index, so page 1,000 costs what page 1 costs.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from agrenting.db import states
from agrenting.db.parties import IS_HELD, ROLES, SIDES_OF, UNFINISHED
from agrenting.db.transaction import Tx


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a list is wanted: `limit` rows after the id `after`, but for the first `offset` of those."""

    after: str = ""
    offset: int = 0
    limit: int


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a list.

    Args:
        rows: In order, as many as were asked for, if there are.
        total_count: Items of the whole list.
    """

    rows: Sequence[Any]
    total_count: int


def of_agent(
    tx: Tx, store: str, agent_id: str, *, role: str | None, status: str | None, before: str, limit: int
) -> list[Any]:
    """An agent's negotiations, tasks or payment channels, newest first.

    Args:
        tx: Any transaction.
        store: One of ROLES.
        agent_id: A party.
        role: Only those where that is its part; None for both.
        status: Only those of this status; None for all.
        before: Only those whose id is less.
        limit: At most so many.
    """
    # One index for each side; nobody is both sides of one, so nothing comes twice.
    sides = [
        f"SELECT * FROM (SELECT id, state FROM {states.STORES[store].table} WHERE {column} = :agent_id AND id < :before"
        " AND (:status IS NULL OR status = :status) ORDER BY id DESC LIMIT :limit)"
        for name, column in ROLES[store].items()
        if role in {None, name}
    ]
    rows = tx.all(
        f"SELECT state FROM ({' UNION ALL '.join(sides)}) ORDER BY id DESC LIMIT :limit",
        agent_id=agent_id,
        before=before,
        status=status,
        limit=limit,
    )
    return [states.decode(store, row) for row in rows]


def disputed_tasks(tx: Tx, *, after: str, limit: int) -> list[Any]:
    """The tasks that wait for an operator, oldest first, after id `after`."""
    rows = tx.all(
        "SELECT state FROM tasks WHERE status = 'disputed' AND id > :after ORDER BY id LIMIT :limit",
        after=after,
        limit=limit,
    )
    return [states.decode("task", row) for row in rows]


def open_of_agent(tx: Tx, store: str, agent_id: str) -> list[str]:
    """The ids of what an agent has that has not ended: negotiations, tasks or payment channels.

    Tasks whose price is still held have not.
    """
    one, other = SIDES_OF[store]
    is_held = f" OR ({IS_HELD})" if store == "task" else ""
    rows = tx.all(
        f"SELECT id FROM {states.STORES[store].table} WHERE ({one} = :agent_id OR {other} = :agent_id)"
        f" AND (status IN ({UNFINISHED[store]}){is_held}) ORDER BY id",
        agent_id=agent_id,
    )
    return [row[0] for row in rows]

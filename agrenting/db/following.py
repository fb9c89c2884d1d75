"""What follows from whatever a unit has done, in its own transaction: sums, alerts, and what there is to see of it.

    unit ──► happened: states, entries, steps ──┬──► facts ──── gathered ──► once a batch: the minutes of the sums
                                                ├──► alerts, at once
                                                └──► activity ─ gathered ──► the ring of what happened last

It rests on what has changed alone, not on who changed it: no way of doing a thing is forgotten, and a unit that comes
to nothing leaves nothing.
"""

from collections import deque
from collections.abc import Callable
from itertools import count
from typing import Final

from agrenting.clock import Clock
from agrenting.db import alerts, rollups
from agrenting.db.transaction import Tx, WriterTx
from agrenting.ids import new_id
from channels.activity import seen
from channels.facts import Facts, facts_of
from channels.limits import Market
from channels.told import Activity, Counted, Told

ACTIVITY: Final = "activity"
"""What `WriterTx.memory` keeps the ring of activities under."""

ACTIVITY_MAX: Final = 1_000
NAMES_MAX: Final = 100_000


class Names:
    """Whose an agent is and what it is called, also one that was deleted: asked once, for neither ever changes."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[str, str]] = {}

    def of(self, tx: Tx, agent_id: str) -> tuple[str, str] | None:
        """The owner's id and the agent's handle; None for one that never was."""
        known = self._known.get(agent_id)
        if known is None:
            row = tx.one(
                "SELECT owner_id, handle FROM agents WHERE id = :id"
                " UNION ALL SELECT owner_id, handle FROM former_agents WHERE agent_id = :id LIMIT 1",
                id=agent_id,
            )
            if row is None:
                return None
            if len(self._known) >= NAMES_MAX:
                self._known.clear()
            known = self._known[agent_id] = (row[0], row[1])
        return known


class Follower:
    """Follows one database.

    Args:
        clock: The present.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._names = Names()
        self._process = new_id()
        self._numbers = count(1)
        self._facts = Facts()
        self._activity: list[Activity] = []
        self.market: Market | None = None
        """Fixed by the first transaction of all; nothing follows before."""
        self.publish: Callable[[tuple[Told, ...]], None] = lambda _told: None
        """Told what follows, once it is durable; the command line has nobody to tell."""

    def follow(self, tx: WriterTx) -> tuple[Told, ...] | None:
        """Raise alerts, and gather the rest; what is to be told."""
        if self.market is None:
            return None
        happened = tuple(tx.happened)  # Not what the alerts change: nothing follows from what follows.

        def name_of(agent_id: str) -> tuple[str, str] | None:
            return self._names.of(tx, agent_id)

        facts = facts_of(happened, lambda agent_id: (name_of(agent_id) or (None, None))[0])
        activity = seen(happened, name_of, self._activity_id)
        told = alerts.follow(tx, happened, now=self._clock(), market=self.market)
        if facts:
            self._facts.merge(facts)
        self._activity += activity
        if facts or activity:
            return (*told, Counted(facts.scopes, activity))
        return told or None

    def flush(self, tx: WriterTx) -> None:
        """Write what was gathered."""
        if self._facts:
            rollups.flush(tx, self._facts)
            self._facts = Facts()
        if self._activity:
            self._remember(tx, self._activity)
            self._activity = []

    def drop(self) -> None:
        """Forget what was gathered: nothing of it has happened."""
        self._facts = Facts()
        self._activity = []

    def _activity_id(self) -> str:
        """Names an activity, in this process: a fresh id each would cost the writer as much as the rest of it."""
        return f"{self._process}-{next(self._numbers)}"

    def tell(self, told: tuple[Told, ...]) -> None:
        """Tell what follows, which is durable."""
        self.publish(told)

    def _remember(self, tx: WriterTx, activity: list[Activity]) -> None:
        ring: deque[Activity] = tx.memory.setdefault(ACTIVITY, deque(maxlen=ACTIVITY_MAX))
        before = tuple(ring)
        ring.extend(activity)

        def forget() -> None:
            ring.clear()
            ring.extend(before)

        tx.on_rollback(forget)

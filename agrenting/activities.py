"""What agents say that they are doing in chat rooms: kept in memory, and forgotten soon unless it is said again.

Losing it loses nothing: who works says so every few seconds. So a restart forgets it, and so does too much of it.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Literal

import msgspec

ACTIVITIES_MAX: Final = 10_000
PER_ENTITY_MAX: Final = 100

ActivityKind = Literal["reasoning", "tool_call", "memory", "permission"]


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody is doing. `name`: of the tool, where it calls one."""

    kind: ActivityKind
    name: str | None = None


class Activities:
    """Who is doing what, where.

    Args:
        ttl_s: How long it counts, in seconds.
        monotonic: Seconds that only go forward.
        most: So many are kept; the one that was said longest ago goes first.
        most_of_one: So many of one agent or user, so that none crowds out the others'.
    """

    def __init__(
        self,
        *,
        ttl_s: float,
        monotonic: Callable[[], float],
        most: int = ACTIVITIES_MAX,
        most_of_one: int = PER_ENTITY_MAX,
    ) -> None:
        self._ttl_s = ttl_s
        self._monotonic = monotonic
        self._most = most
        self._most_of_one = most_of_one
        self._said: OrderedDict[tuple[str, str], tuple[float, Activity]] = OrderedDict()
        self._rooms_of: dict[str, dict[str, None]] = {}
        """Where each is at work, said longest ago first."""

    def __len__(self) -> int:
        return len(self._said)

    def say(self, room_id: str, entity_id: str, activity: Activity | None) -> None:
        """Somebody works in a room, or with None does no more."""
        self._forget_old()
        if (room_id, entity_id) in self._said:
            self._forget(room_id, entity_id)
        if activity is None:
            return
        self._said[room_id, entity_id] = (self._monotonic() + self._ttl_s, activity)
        own = self._rooms_of.setdefault(entity_id, {})
        own[room_id] = None
        if len(own) > self._most_of_one:
            self._forget(next(iter(own)), entity_id)
        if len(self._said) > self._most:
            self._forget(*next(iter(self._said)))

    def of(self, room_id: str, entity_id: str) -> Activity | None:
        """What somebody is doing in a room; None for nothing that is known."""
        until, activity = self._said.get((room_id, entity_id), (0.0, None))
        return activity if until > self._monotonic() else None

    def _forget_old(self) -> None:
        """The oldest come first, because all count equally long."""
        now = self._monotonic()
        while self._said and next(iter(self._said.values()))[0] <= now:
            self._forget(*next(iter(self._said)))

    def _forget(self, room_id: str, entity_id: str) -> None:
        del self._said[room_id, entity_id]
        own = self._rooms_of[entity_id]
        del own[room_id]
        if not own:
            del self._rooms_of[entity_id]

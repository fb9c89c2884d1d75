"""Pulse: what analytics topics tell by themselves, once a second at most, however much happens.

    durable ─► touch ─► which scopes have changed, and what there is to see ─── beat ──► metrics_updated, activity
                                                                          └─ 30 s ──► global_stats

What is told is read when it is told, so it is the newest; what is gathered meanwhile is a set of scopes, and of each
scope that somebody listens to the last activities. Nothing queues: where a beat takes long, the next one comes later.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import structlog

from agrenting.db import analytics as figures
from channels.activity import SHOWN_MAX, scopes_of, shown
from channels.analytics import ACTIVITY, GLOBAL_STATS, METRICS_UPDATED
from channels.scopes import GLOBAL, topic_of
from channels.told import Activity, Broadcast, Counted

if TYPE_CHECKING:
    from agrenting.hub import Hub

log = structlog.get_logger(__name__)

BEAT_S: Final = 1.0
STATS_EVERY_S: Final = 30.0
BENCHMARKS: Final = "benchmarks"
REST_FACTOR: Final = 4
"""How many times as long as a beat took the pause after it is at least: a fifth of the time, and no more, is its."""


class Seen:
    """What there is to see of one scope since the last beat: how much it was, and the last of it."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.count = 0
        self.last: deque[Activity] = deque(maxlen=SHOWN_MAX)

    def add(self, activity: Activity) -> None:
        """One more."""
        self.count += 1
        self.last.append(activity)

    @property
    def told(self) -> dict[str, Any]:
        """As it is pushed: oldest first, and how many before them are left out."""
        return {"items": [shown(one) for one in self.last], "skipped": self.count - len(self.last)}


class Pulse:
    """Tells the analytics topics of one hub what has changed.

    Args:
        hub: Its topics, its engine, and its clock.
    """

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._touched: set[str] = set()
        self._seen: dict[str, Seen] = {}
        self._stats: dict[str, Any] | None = None
        self._failing: set[str] = set()
        self._stats_due_at = hub.monotonic() + STATS_EVERY_S

    def touch(self, counted: Counted) -> None:
        """Something has been counted, durably. Told within a second to whoever listens then."""
        # Also of scopes that nobody listens to: who joins in the very batch of a change was answered without it.
        self._touched |= counted.scopes
        for activity in counted.activity:
            for scope in scopes_of(activity):
                if topic_of(scope) in self._hub.topics:
                    self._seen.setdefault(scope, Seen()).add(activity)

    async def run_for_ever(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Beat once a second, until cancelled; less often where a beat takes long.

        Args:
            pause: Waits so many seconds.
        """
        while True:
            began = self._hub.monotonic()
            try:
                await self.beat()
            except Exception:
                log.exception("pulse_failed")
            await pause(max(BEAT_S, REST_FACTOR * (self._hub.monotonic() - began)))

    async def beat(self) -> None:
        """Tell what has changed since the last beat, to whoever listens now."""
        seen, self._seen = self._seen, {}
        for scope, what in seen.items():
            self._tell(scope, ACTIVITY, what.told, is_asked_for=True)
        touched, self._touched = self._touched, set()
        for scope in touched:
            if not await self._try(scope, self._tell_metrics(scope)):
                self._touched.add(scope)  # The next beat tells it.
        if self._hub.monotonic() >= self._stats_due_at:
            self._stats_due_at = self._hub.monotonic() + STATS_EVERY_S
            await self._try(GLOBAL_STATS, self._tell_stats())
        await self._try(BENCHMARKS, self._refresh())

    async def _try(self, what: str, telling: Awaitable[None]) -> bool:
        """Whether something could be told. What cannot takes nothing else with it, and is logged when it begins."""
        try:
            await telling
        except Exception:
            if what not in self._failing:
                self._failing.add(what)
                log.exception("pulse_failed", what=what)
            return False
        self._failing.discard(what)
        return True

    async def _refresh(self) -> None:
        """Look again at one large group whose numbers are old: who asks for them does not wait for that."""
        engine = self._hub.engine
        market, now = engine.market, engine.clock()
        capability = figures.GROUPS.due(market)
        if capability is not None:
            await engine.read(lambda tx: figures.GROUPS.refresh(tx, capability, market=market, now=now))

    async def _tell_metrics(self, scope: str) -> None:
        """The numbers of one scope, read once for all who listen."""
        if topic_of(scope) not in self._hub.topics:
            return
        engine = self._hub.engine
        now = engine.clock()
        told = await engine.read(lambda tx: figures.metrics(tx, scope, now=now, market=engine.market))
        self._tell(scope, METRICS_UPDATED, {**told, "updated_at": now})

    async def _tell_stats(self) -> None:
        """The whole market, if it is not as it was told last."""
        if topic_of(GLOBAL) not in self._hub.topics:
            self._stats = None
            return
        engine = self._hub.engine
        now = engine.clock()
        told = await engine.read(lambda tx: figures.global_stats(tx, now=now, market=engine.market))
        before, self._stats = self._stats, {**told, "at": None}
        if self._stats != before:
            self._tell(GLOBAL, GLOBAL_STATS, told)

    def _tell(self, scope: str, event: str, payload: dict[str, Any], *, is_asked_for: bool = False) -> None:
        """Push an event. Who does not read is spared it: the next one says it all anew."""
        broadcast = Broadcast(topic_of(scope), event, payload, is_spare=True, is_asked_for=is_asked_for)
        self._hub.publish((broadcast,), None, None)

"""Deadlines: what happens at its time unless something comes first."""

import asyncio
import heapq
from collections.abc import Callable, Hashable
from itertools import count
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

SWEEP_MIN_S: Final = 0.05
"""They are not looked at more often than this, however many there are."""

SLACK: Final = 64
"""So many entries that do not hold any more may stand beside as many as there are of those that do."""


class Deadlines(Generic[K]):
    """Times by key, and a timer for the next of them.

    Args:
        monotonic: Seconds that only grow.
        loop: Whose timer it is.
        ring: Called when one may be due; it takes them.
    """

    def __init__(
        self, *, monotonic: Callable[[], float], loop: asyncio.AbstractEventLoop, ring: Callable[[], None]
    ) -> None:
        self._monotonic = monotonic
        self._loop = loop
        self._ring = ring
        self._dues: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        """By time; an entry holds only while it is what stands in `_dues`."""
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0

    def __contains__(self, key: K) -> bool:
        return key in self._dues

    def __len__(self) -> int:
        """How many entries are kept, those included that hold no more."""
        return len(self._heap)

    def set(self, key: K, after_s: float) -> None:
        """Something happens so many seconds from now; what was to happen under the key does not."""
        due = self._dues[key] = self._monotonic() + after_s
        if len(self._heap) > 2 * len(self._dues) + SLACK:
            self._heap = [(at, next(self._numbers), kept) for kept, at in self._dues.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (due, next(self._numbers), key))
        self._arm(due)

    def drop(self, key: K) -> None:
        """It does not happen. Once more is nothing."""
        self._dues.pop(key, None)

    def take(self) -> list[K]:
        """What is due now, the earliest first; it is no more among those to come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, taken = self._monotonic(), list[K]()
        while self._heap:
            at, _number, key = self._heap[0]
            if self._dues.get(key) != at:
                heapq.heappop(self._heap)
            elif at <= now:
                heapq.heappop(self._heap)
                del self._dues[key]
                taken.append(key)
            else:
                self._arm(at)
                break
        return taken

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            if self._timer_due <= due:
                return
            self._timer.cancel()
        self._timer_due = due
        self._timer = self._loop.call_later(max(SWEEP_MIN_S, due - self._monotonic()), self._ring)

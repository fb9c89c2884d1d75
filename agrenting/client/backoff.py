"""Waiting before something is tried again: after a loss, after an end, and where the server says that it is too much.

A delay is drawn evenly from 0 up to a limit that doubles with each attempt (full jitter), so that a thousand agents
that have lost one server at the same moment do not come back at the same moment.

Source: AWS architecture blog, "Exponential backoff and jitter".
"""

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import msgspec

from .errors import RefusedByServer

T = TypeVar("T")

PATIENCE_S: Final = 60.0
"""How long refusals that say "not now" are waited for, before they are raised."""

NOT_NOW: Final = frozenset(("rate_limited", "unavailable", "conflict", "draining", "join timeout", "503"))
"""Reasons of refusals that have changed nothing and are over soon."""


class Backoff(msgspec.Struct, frozen=True):
    """How long to wait before each attempt.

    Args:
        first_s: The most that is waited before the first one, in seconds.
        most_s: The most that is waited before any.
        chance: Gives numbers from 0 to 1; tests hand in their own.
    """

    first_s: float = 0.2
    most_s: float = 20.0
    chance: Callable[[], float] = random.random

    def ceiling(self, attempt: int) -> float:
        """The most that is waited before an attempt; the first one is 0."""
        return min(self.most_s, self.first_s * 2.0 ** min(attempt, 64))

    def delay(self, attempt: int) -> float:
        """Seconds to wait before an attempt."""
        return self.chance() * self.ceiling(attempt)


BACKOFF: Final = Backoff()
"""What is used where nothing else is said."""


class Attempts:
    """How often in a row something did not last.

    What has lasted at least as long as the next wait could have been has lasted: then it begins from the first attempt.
    So what ends again and again is begun anew at most about as often as it is waited for.

    Args:
        backoff: How long to wait.
        clock: Seconds, from anywhere; tests hand in their own.
    """

    def __init__(self, backoff: Backoff = BACKOFF, clock: Callable[[], float] = time.monotonic) -> None:
        self._backoff = backoff
        self._clock = clock
        self._count = 0
        self._began_at: float | None = None

    def began(self) -> None:
        """It has begun: from now on it counts how long it lasts."""
        self._began_at = self._clock()

    def next_delay(self, more: int = 0) -> float:
        """It has ended, or could not begin: seconds to wait before the next attempt.

        Args:
            more: As how many attempts more it counts, where it is known to take longer.
        """
        began_at, self._began_at = self._began_at, None
        if began_at is not None and self._clock() - began_at >= self._backoff.ceiling(self._count + more):
            self._count = 0
        delay = self._backoff.delay(self._count + more)
        self._count += 1
        return delay


def retry_after_s(refusal: RefusedByServer) -> float | None:
    """What the server says how long to wait; None where it does not say."""
    told: Any = refusal.context.get("retry_after")
    if isinstance(told, int | float) and not isinstance(told, bool) and 0 <= told < math.inf:
        return float(told)
    return None


async def patiently(
    ask: Callable[[], Awaitable[T]], *, patience_s: float = PATIENCE_S, backoff: Backoff = BACKOFF
) -> T:
    """Ask again while the answer is that it is too much, or that it cannot be done just now: nothing has happened.

    Args:
        ask: Asks, each time anew.
        patience_s: How long, in seconds. A refusal that would take longer is raised at once.
        backoff: How long to wait where the server does not say.

    Raises:
        RefusedByServer: It is no such refusal, or it has lasted too long.
    """
    until = time.monotonic() + patience_s
    attempt = 0
    while True:
        try:
            return await ask()
        except RefusedByServer as refusal:
            if refusal.reason not in NOT_NOW:
                raise
            # The jitter comes on top: who was told to wait for a second must not come before it is over.
            delay = (retry_after_s(refusal) or 0.0) + backoff.delay(attempt)
            if time.monotonic() + delay > until:
                raise
        await asyncio.sleep(delay)
        attempt += 1

"""Time, as the server reads it and as the database keeps it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Answers the present, UTC. Tests hand in their own."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_clock() -> datetime:
    """The present, in whole milliseconds, as the database keeps it."""
    return from_ms(time.time_ns() // 1_000_000)


def to_ms(moment: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """The moment of so many milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def day_of(moment: datetime) -> str:
    """The UTC day, `2026-01-31`: spending caps and reputation count by it."""
    return moment.date().isoformat()

"""Periods: over which time analytics are asked, and in which intervals a time series is cut.

    1h                  60 minutes, up to the end of the present one
    24h                 24 hours, up to the end of the present one
    7d 30d 90d 365d     so many UTC days, up to the end of today
    all                 from the day in which the data begins, up to the end of today

Every range is half-open and begins and ends with a bucket of the roll-ups, so that sums over it are exact.
"""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import msgspec

from channels.errors import Invalid

Interval = Literal["minute", "hour", "day"]

PERIODS: Final = ("1h", "24h", "7d", "30d", "90d", "365d", "all")
ALIASES: Final = {"day": "24h", "week": "7d", "month": "30d", "year": "365d"}
PERIOD_DEFAULT: Final = "24h"
POINTS_MAX: Final = 1_000
"""Points of a time series; and days of the revenue of all time."""

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400
ALL_S: Final = 0
"""The span of the one bucket that holds all time."""

INTERVALS_S: Final[dict[Interval, int]] = {"minute": MINUTE_S, "hour": HOUR_S, "day": DAY_S}
"""The length of each interval in seconds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BUCKETS: Final = {"1h": 60, "24h": 24, "7d": 7, "30d": 30, "90d": 90, "365d": 365}
_SPANS_S: Final = {"1h": MINUTE_S, "24h": HOUR_S}


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A period as it stands now: `since` belongs to it, `until` does not.

    Args:
        period: Its name.
        since, until: Whole buckets of `span_s`.
        span_s: The coarsest buckets of the roll-ups that it consists of, in seconds; ALL_S for all time.
    """

    period: str
    since: datetime
    until: datetime
    span_s: int


def parse_period(text: str) -> str:
    """The name of a period, by its name or an alias.

    Raises:
        Invalid: `invalid_period`, with the names there are.
    """
    name = ALIASES.get(text, text)
    if name not in PERIODS:
        raise Invalid(
            "invalid_period",
            f"A period is one of {', '.join((*PERIODS, *ALIASES))}.",
            periods=[*PERIODS, *ALIASES],
        )
    return name


def range_of(period: str, *, now: datetime, begins: datetime | None = None) -> Range:
    """A period as it stands at `now`.

    Args:
        period: Its name, as `parse_period` answers it.
        now: The server's clock.
        begins: When the data begins, for `all`; None where there is none yet.
    """
    if period == "all":
        since = floor(now if begins is None else min(begins, now), DAY_S)
        return Range(period=period, since=since, until=_end(now, DAY_S), span_s=ALL_S)
    span_s = _SPANS_S.get(period, DAY_S)
    until = _end(now, span_s)
    return Range(period=period, since=until - timedelta(seconds=span_s * _BUCKETS[period]), until=until, span_s=span_s)


def interval_of(period: str, interval: Interval | None) -> Interval:
    """The interval that is asked for, or the one that suits the period."""
    if interval is not None:
        return interval
    match period:
        case "1h":
            return "minute"
        case "24h":
            return "hour"
        case _:
            return "day"


def in_intervals(over: Range, interval: Interval) -> Range:
    """A range as a time series cuts it: whole intervals, of which the first may begin before the period does.

    Of all time the newest intervals are taken.

    Raises:
        Invalid: `too_many_points`, with how many they would be and how many may be. Minutes are kept for hours only,
            so they are too many for every period but `1h`.
    """
    points = _count(_aligned(over, interval))
    if points > POINTS_MAX and (over.period != "all" or interval == "minute"):
        raise Invalid(
            "too_many_points",
            f"These would be {points} points, and {POINTS_MAX} is the most: ask for a shorter period, or a longer"
            " interval.",
            points=points,
            max=POINTS_MAX,
        )
    return newest(over, interval)


def newest(over: Range, interval: Interval) -> Range:
    """The newest whole intervals of a range: as many as a time series has points at most."""
    cut = _aligned(over, interval)
    since = cut.until - timedelta(seconds=cut.span_s * min(_count(cut), POINTS_MAX))
    return msgspec.structs.replace(cut, since=since)


def starts_of(over: Range, *, now: datetime) -> list[datetime]:
    """The begin of each interval of a range that has begun by now, in order."""
    step = timedelta(seconds=over.span_s)
    starts = (over.since + number * step for number in range(_count(over)))
    return [start for start in starts if start <= now]


def floor(moment: datetime, span_s: int) -> datetime:
    """The begin of the bucket that a moment is in."""
    return moment - (moment - _EPOCH) % timedelta(seconds=span_s)


def _aligned(over: Range, interval: Interval) -> Range:
    """A range that begins and ends with whole intervals."""
    span_s = INTERVALS_S[interval]
    until = _end(over.until - timedelta(microseconds=1), span_s)
    return msgspec.structs.replace(over, since=floor(over.since, span_s), until=until, span_s=span_s)


def _count(over: Range) -> int:
    return (over.until - over.since) // timedelta(seconds=over.span_s)


def _end(moment: datetime, span_s: int) -> datetime:
    """The end of the bucket that a moment is in."""
    return floor(moment, span_s) + timedelta(seconds=span_s)

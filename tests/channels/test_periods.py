"""Periods: whole buckets, half-open, UTC; and how a time series cuts them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.periods import (
    ALIASES,
    INTERVALS_S,
    PERIODS,
    POINTS_MAX,
    Interval,
    floor,
    in_intervals,
    interval_of,
    newest,
    parse_period,
    range_of,
    starts_of,
)
from tests.channels.roles import refused

NOW = datetime(2026, 3, 5, 13, 27, 31, 250_000, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - naive bounds, aware moments
LENGTHS = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "365d": timedelta(days=365),
}


def at(text: str) -> datetime:
    return datetime.fromisoformat(text + "Z")


@pytest.mark.parametrize(
    ("period", "since", "until", "span_s"),
    [
        ("1h", "2026-03-05T12:28", "2026-03-05T13:28", 60),
        ("24h", "2026-03-04T14:00", "2026-03-05T14:00", 3_600),
        ("7d", "2026-02-27T00:00", "2026-03-06T00:00", 86_400),
        ("30d", "2026-02-04T00:00", "2026-03-06T00:00", 86_400),
        ("90d", "2025-12-06T00:00", "2026-03-06T00:00", 86_400),
        ("365d", "2025-03-06T00:00", "2026-03-06T00:00", 86_400),
        ("all", "2026-03-05T00:00", "2026-03-06T00:00", 0),
    ],
)
def test_a_period_is_whole_buckets_of_which_the_last_is_the_present(
    period: str, since: str, until: str, span_s: int
) -> None:
    over = range_of(period, now=NOW)

    assert (over.since, over.until, over.span_s) == (at(since), at(until), span_s)


@given(now=MOMENTS)
@pytest.mark.parametrize("period", LENGTHS)
def test_now_is_in_every_period_and_its_end_is_not(period: str, now: datetime) -> None:
    over = range_of(period, now=now)

    assert over.since <= now < over.until
    assert over.until - over.since == LENGTHS[period]
    assert {floor(over.since, over.span_s), floor(over.until, over.span_s)} == {over.since, over.until}
    assert over.until - now <= timedelta(seconds=over.span_s)


def test_all_begins_with_the_day_of_the_first_data() -> None:
    assert range_of("all", now=NOW, begins=at("2026-01-02T03:04")).since == at("2026-01-02T00:00")


def test_all_never_begins_in_the_future() -> None:
    assert range_of("all", now=NOW, begins=NOW + timedelta(days=3)).since == at("2026-03-05T00:00")


@pytest.mark.parametrize(("alias", "period"), ALIASES.items())
def test_an_alias_is_a_period(alias: str, period: str) -> None:
    assert (parse_period(alias), parse_period(period)) == (period, period)


@pytest.mark.parametrize("text", ["", "1H", "2h", "24", "forever", " 1h", "minute", "ALL"])
def test_no_other_word_is_a_period(text: str) -> None:
    refusal = refused(parse_period, text)

    assert refusal.reason == "invalid_period"
    assert refusal.context == {"periods": [*PERIODS, *ALIASES]}


@pytest.mark.parametrize(
    ("period", "interval"), [("1h", "minute"), ("24h", "hour"), ("7d", "day"), ("365d", "day"), ("all", "day")]
)
def test_an_interval_suits_its_period_unless_another_is_asked_for(period: str, interval: Interval) -> None:
    assert interval_of(period, None) == interval
    assert interval_of(period, "hour") == "hour"


@pytest.mark.parametrize(
    ("period", "interval", "since", "until"),
    [
        ("1h", "minute", "2026-03-05T12:28", "2026-03-05T13:28"),
        ("1h", "hour", "2026-03-05T12:00", "2026-03-05T14:00"),
        ("1h", "day", "2026-03-05T00:00", "2026-03-06T00:00"),
        ("24h", "day", "2026-03-04T00:00", "2026-03-06T00:00"),
        ("30d", "hour", "2026-02-04T00:00", "2026-03-06T00:00"),
    ],
)
def test_a_series_is_cut_into_whole_intervals_that_hold_the_period(
    period: str, interval: Interval, since: str, until: str
) -> None:
    over = in_intervals(range_of(period, now=NOW), interval)

    assert (over.since, over.until, over.span_s) == (at(since), at(until), INTERVALS_S[interval])


@pytest.mark.parametrize(
    ("period", "interval", "points"),
    [("24h", "minute", 1_440), ("7d", "minute", 10_080), ("90d", "hour", 2_160), ("365d", "hour", 8_760)],
)
def test_more_points_than_there_may_be_are_refused(period: str, interval: Interval, points: int) -> None:
    refusal = refused(in_intervals, range_of(period, now=NOW), interval)

    assert refusal.reason == "too_many_points"
    assert refusal.context == {"points": points, "max": POINTS_MAX}


def test_all_time_has_no_minutes_however_short_it_is() -> None:
    assert refused(in_intervals, range_of("all", now=NOW, begins=NOW), "minute").reason == "too_many_points"


@pytest.mark.parametrize("interval", ["hour", "day"])
def test_of_all_time_the_newest_intervals_are_taken(interval: Interval) -> None:
    over = in_intervals(range_of("all", now=NOW, begins=at("2001-01-01T00:00")), interval)

    assert over.until == at("2026-03-06T00:00")
    assert over.until - over.since == timedelta(seconds=POINTS_MAX * INTERVALS_S[interval])


def test_what_is_short_enough_is_whole() -> None:
    over = range_of("7d", now=NOW)

    assert newest(over, "day") == over


def test_only_intervals_that_have_begun_have_a_point() -> None:
    over = in_intervals(range_of("7d", now=NOW), "hour")
    starts = starts_of(over, now=NOW)

    assert (starts[0], starts[-1], len(starts)) == (over.since, at("2026-03-05T13:00"), 6 * 24 + 14)


def test_an_interval_has_begun_at_its_very_begin() -> None:
    over = in_intervals(range_of("1h", now=at("2026-03-05T13:00")), "minute")

    assert starts_of(over, now=at("2026-03-05T13:00"))[-1] == at("2026-03-05T13:00")


@given(now=MOMENTS, begins=MOMENTS)
@pytest.mark.parametrize("period", PERIODS)
@pytest.mark.parametrize("interval", ["hour", "day"])
def test_there_is_a_point_for_now_and_never_too_many(
    period: str, interval: Interval, now: datetime, begins: datetime
) -> None:
    over = newest(range_of(period, now=now, begins=begins), interval)
    starts = starts_of(over, now=now)

    assert 1 <= len(starts) <= POINTS_MAX
    assert starts[-1] == floor(now, over.span_s)

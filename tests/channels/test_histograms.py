"""The latency histogram: exact where it is short, and never more than 1/32 off."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.histograms import bucket_of, percentile, value_of

DURATIONS = st.integers(min_value=0, max_value=2**45)


@given(st.integers(min_value=0, max_value=31))
def test_short_durations_are_exact(duration_ms: int) -> None:
    assert value_of(bucket_of(duration_ms)) == duration_ms


@given(DURATIONS)
def test_a_duration_is_told_at_most_a_32nd_off(duration_ms: int) -> None:
    assert 32 * abs(value_of(bucket_of(duration_ms)) - duration_ms) <= duration_ms


@given(DURATIONS)
def test_a_longer_duration_has_no_lower_bucket_and_no_bucket_is_left_out(duration_ms: int) -> None:
    assert bucket_of(duration_ms + 1) - bucket_of(duration_ms) in {0, 1}


@given(DURATIONS)
def test_what_a_bucket_stands_for_lies_in_it(duration_ms: int) -> None:
    bucket = bucket_of(duration_ms)
    assert bucket_of(value_of(bucket)) == bucket


@pytest.mark.parametrize(
    ("duration_ms", "bucket"), [(0, 0), (31, 31), (32, 32), (33, 32), (34, 33), (63, 47), (64, 48), (67, 48), (68, 49)]
)
def test_every_power_of_two_has_16_buckets(duration_ms: int, bucket: int) -> None:
    assert bucket_of(duration_ms) == bucket


def test_a_negative_duration_cannot_be() -> None:
    with pytest.raises(AssertionError):
        bucket_of(-1)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile({}, 0.5) is None


@given(
    st.lists(st.integers(min_value=0, max_value=31), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.5, 0.95, 0.99, 1.0]),
)
def test_a_percentile_is_that_of_the_nearest_rank(durations_ms: list[int], fraction: float) -> None:
    rank = max(1, math.ceil(round(fraction * 1_000) * len(durations_ms) / 1_000))
    counts = Counter(map(bucket_of, durations_ms))
    assert percentile(counts, fraction) == sorted(durations_ms)[rank - 1]


@given(st.lists(DURATIONS, min_size=1, max_size=60), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_of_long_durations_is_at_most_a_32nd_off(durations_ms: list[int], fraction: float) -> None:
    rank = math.ceil(round(fraction * 1_000) * len(durations_ms) / 1_000)
    exact = sorted(durations_ms)[rank - 1]
    told = percentile(Counter(map(bucket_of, durations_ms)), fraction)
    assert told is not None
    assert 32 * abs(told - exact) <= exact


def test_a_percentile_of_many_is_found_among_few_buckets() -> None:
    counts = {bucket_of(10): 949_999, bucket_of(20): 40_001, bucket_of(30): 10_000}
    assert [percentile(counts, fraction) for fraction in (0.5, 0.95, 0.99)] == [10, 20, 20]

"""Latencies as counts in buckets: small enough to be kept for every minute, fine enough for percentiles.

    milliseconds  0 … 31          one bucket each
                  32 … 63         16 buckets of 2
                  64 … 127        16 buckets of 4
                  2^k … 2^(k+1)-1 16 buckets of 2^(k-4)

A bucket stands for its middle, so what is told of it is at most 1/32 off, and exact below 32 ms. Histograms add up: the
one of a day is the sum of those of its minutes.
"""

from collections.abc import Mapping
from itertools import accumulate
from typing import Final

_EXACT_BITS: Final = 5
"""Below 2^5 ms every millisecond has a bucket of its own."""

_PARTS_BITS: Final = 4
"""Above, every power of two has 2^4 buckets."""

_PARTS: Final = 1 << _PARTS_BITS
_EXACT: Final = 1 << _EXACT_BITS
_PER_MILLE: Final = 1_000


def bucket_of(duration_ms: int) -> int:
    """The bucket of a duration, 0 or more."""
    assert duration_ms >= 0, "nothing ends before it begins"
    if duration_ms < _EXACT:
        return duration_ms
    shift = duration_ms.bit_length() - _EXACT_BITS
    return (shift << _PARTS_BITS) + (duration_ms >> shift)  # Rounds down, to the bucket that it lies in.


def value_of(bucket: int) -> int:
    """The duration that a bucket stands for: its middle, in milliseconds."""
    if bucket < _EXACT:
        return bucket
    shift = (bucket >> _PARTS_BITS) - 1
    least = ((bucket & (_PARTS - 1)) + _PARTS) << shift
    return least + (1 << shift) // 2  # Widths are powers of two, so only that of one millisecond has no middle.


def percentile(counts: Mapping[int, int], fraction: float) -> int | None:
    """The percentile by nearest rank: the least duration that so many of all are not above; None where there are none.

    Args:
        counts: Bucket → how many, none below 0.
        fraction: 0-1, counted in thousandths: 0.95 is the 95th percentile.
    """
    total = sum(counts.values())
    if total == 0:
        return None
    rank = max(1, -(-total * round(fraction * _PER_MILLE) // _PER_MILLE))  # Rounds up: nearest rank.
    buckets = sorted(counts)
    seen = accumulate(counts[bucket] for bucket in buckets)
    return value_of(next(bucket for bucket, up_to in zip(buckets, seen, strict=True) if up_to >= rank))

"""Token buckets: so many a second for ever, and so many at once."""

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from channels.errors import RateLimited

KEPT_MAX: Final = 100_000


class TokenBucket:
    """Fills at `per_s` up to `burst`; each taking costs so many tokens.

    Args:
        per_s: Tokens a second.
        burst: Tokens at most; a bucket starts full.
        now: Monotonic seconds.
    """

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = now

    def take(self, cost: float, now: float) -> float:
        """Take `cost` tokens: 0 if they were there, else the seconds until they are, and none is taken."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens >= cost:
            self._tokens -= cost
            return 0.0
        return (cost - self._tokens) / self._per_s

    def charge(self, cost: float, now: float) -> None:
        """Take `cost` tokens, there or not: below zero nothing more is taken until it has filled again."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s) - cost
        self._at = now

    def wait_s(self, cost: float, now: float) -> float:
        """The seconds until `cost` tokens are there; none is taken."""
        tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        return max(0.0, (cost - tokens) / self._per_s)


class Buckets:
    """Token buckets of one class, by key: an agent, or an address. The longest unused are forgotten."""

    def __init__(self, *, per_s: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._per_s = per_s
        self._burst = burst
        self._monotonic = monotonic
        self._kept: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, key: str, cost: float = 1.0) -> None:
        """Take `cost` tokens of `key`.

        Raises:
            RateLimited: `rate_limited`, with retry_after in seconds.
        """
        now = self._monotonic()
        wait_s = self._bucket(key, now).take(cost, now)
        if wait_s:
            raise too_often(wait_s)

    def charge(self, key: str, cost: float) -> None:
        """Take `cost` tokens of `key`, there or not: what has happened already, and has to be paid for."""
        now = self._monotonic()
        self._bucket(key, now).charge(cost, now)

    def require(self, key: str, cost: float = 1.0) -> None:
        """Refuse a key that has not so many tokens; none is taken.

        Raises:
            RateLimited: `rate_limited`, with retry_after in seconds.
        """
        bucket = self._kept.get(key)
        wait_s = 0.0 if bucket is None else bucket.wait_s(cost, self._monotonic())
        if wait_s:
            raise too_often(wait_s)

    def _bucket(self, key: str, now: float) -> TokenBucket:
        bucket = self._kept.get(key)
        if bucket is None:
            bucket = self._kept[key] = TokenBucket(self._per_s, self._burst, now)
            if len(self._kept) > KEPT_MAX:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(key)
        return bucket


def too_often(wait_s: float) -> RateLimited:
    """The refusal of one more than the rate allows."""
    retry_after = max(1, math.ceil(wait_s))  # Rounds up, so that a retry then is not refused again.
    return RateLimited("rate_limited", f"Too often; try again in {retry_after} s.", retry_after=retry_after)

"""How long is waited before something is tried again, and for which refusals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting.client import RefusedByServer
from agrenting.client.backoff import Attempts, Backoff, patiently, retry_after_s

AT_ONCE = Backoff(chance=lambda: 0.0)
FULL = Backoff(first_s=0.2, most_s=20.0, chance=lambda: 1.0)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_delay_lies_between_nothing_and_a_limit_that_doubles(attempt: int, chance: float) -> None:
    backoff = Backoff(first_s=0.2, most_s=20.0, chance=lambda: chance)

    assert 0 <= backoff.delay(attempt) <= min(20.0, 0.2 * 2 ** min(attempt, 20))


def test_the_limit_doubles_up_to_the_most() -> None:
    assert [FULL.delay(attempt) for attempt in range(9)] == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0]


def test_what_ends_again_and_again_is_waited_for_longer_and_longer() -> None:
    clock = Clock()
    attempts = Attempts(FULL, clock)
    delays: list[float] = []

    for _ in range(4):
        attempts.began()
        clock.now_s += 0.1
        delays.append(attempts.next_delay())

    assert delays == [0.2, 0.4, 0.8, 1.6]


def test_what_has_lasted_begins_from_the_first_attempt() -> None:
    clock = Clock()
    attempts = Attempts(FULL, clock)
    for _ in range(4):
        attempts.next_delay()

    attempts.began()
    clock.now_s += 3.2

    assert attempts.next_delay() == 0.2
    assert attempts.next_delay() == 0.4  # It did not begin in between.


def test_what_is_known_to_take_longer_counts_as_more_attempts() -> None:
    assert Attempts(FULL, Clock()).next_delay(more=4) == 3.2


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(3, 3.0), (0.5, 0.5), (0, 0.0), (None, None), ("3", None), (-1, None), (True, None), (float("inf"), None)],
)
def test_only_a_number_of_seconds_says_how_long_to_wait(told: object, seconds: float | None) -> None:
    assert retry_after_s(RefusedByServer("rate_limited", "", {"retry_after": told})) == seconds


class Counter:
    """Refuses so often, and then answers."""

    def __init__(self, refusals: int, reason: str = "rate_limited", **context: object) -> None:
        self.left = refusals
        self.asked = 0
        self.refusal = RefusedByServer(reason, "", context)

    async def ask(self) -> str:
        self.asked += 1
        if self.left:
            self.left -= 1
            raise self.refusal
        return "done"


@pytest.mark.parametrize("reason", ["rate_limited", "unavailable", "conflict", "draining", "join timeout"])
async def test_what_is_too_much_just_now_is_asked_again(reason: str) -> None:
    counter = Counter(3, reason)

    assert await patiently(counter.ask, backoff=AT_ONCE) == "done"
    assert counter.asked == 4


async def test_another_refusal_is_raised_at_once() -> None:
    counter = Counter(1, "forbidden_role")

    with pytest.raises(RefusedByServer, match="forbidden_role"):
        await patiently(counter.ask, backoff=AT_ONCE)
    assert counter.asked == 1


async def test_a_wait_beyond_the_patience_is_not_begun() -> None:
    counter = Counter(1, retry_after=61)

    with pytest.raises(RefusedByServer, match="rate_limited"):
        await patiently(counter.ask, patience_s=60, backoff=AT_ONCE)
    assert counter.asked == 1

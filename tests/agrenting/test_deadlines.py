"""Deadlines: each at its time, none that was dropped, and a timer for the next of them."""

import asyncio

import pytest

from agrenting.deadlines import Deadlines


class Time:
    """A loop that only notes its timers, and a clock of ours."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[float] = []
        self.cancelled = 0

    def call_later(self, delay: float, _ring: object) -> "Time":
        self.timers.append(round(self.now + delay, 6))
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def deadlines(self) -> Deadlines[str]:
        loop: asyncio.AbstractEventLoop = self  # type: ignore[assignment] # what is needed of one
        return Deadlines(monotonic=lambda: self.now, loop=loop, ring=lambda: None)


@pytest.fixture
def time() -> Time:
    return Time()


def test_each_is_taken_once_when_it_is_due(time: Time) -> None:
    deadlines = time.deadlines()
    deadlines.set("b", 2.0)
    deadlines.set("a", 1.0)
    assert time.timers == [2.0, 1.0], "the nearer one gets the timer"
    assert time.cancelled == 1
    deadlines.set("c", 9.0)
    assert time.timers == [2.0, 1.0], "and keeps it"
    assert deadlines.take() == []
    time.now = 1.0
    assert deadlines.take() == ["a"]
    assert "a" not in deadlines
    assert "b" in deadlines
    assert time.timers[-1] == 2.0
    time.now = 3.0
    assert deadlines.take() == ["b"]
    assert deadlines.take() == []


def test_what_is_set_again_or_dropped_does_not_happen_at_its_first_time(time: Time) -> None:
    deadlines = time.deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    deadlines.set("b", 1.0)
    deadlines.drop("b")
    deadlines.drop("b")
    time.now = 1.0
    assert deadlines.take() == []
    time.now = 5.0
    assert deadlines.take() == ["a"]


def test_what_is_overdue_is_not_looked_for_without_a_pause(time: Time) -> None:
    deadlines = time.deadlines()
    deadlines.set("a", 0.0)
    assert time.timers == [0.05]


def test_what_does_not_hold_any_more_is_not_kept_for_ever(time: Time) -> None:
    deadlines = time.deadlines()
    for number in range(1_000):
        deadlines.set(f"{number % 10}", 1.0 + number)
    for number in range(5):
        deadlines.drop(f"{number}")
    assert len(deadlines) < 100
    time.now = 2_000.0
    assert deadlines.take() == ["5", "6", "7", "8", "9"]
    assert len(deadlines) == 0


def test_a_dropped_one_leaves_the_timer_to_the_next(time: Time) -> None:
    deadlines = time.deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("b", 7.0)
    deadlines.drop("a")
    time.now = 1.0
    assert deadlines.take() == []
    assert time.timers == [1.0, 7.0]

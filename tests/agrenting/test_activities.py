"""What agents say that they are doing is forgotten soon, and never too much of it is kept."""

import pytest

from agrenting.activities import Activities, Activity

THINKING = Activity(kind="reasoning")
CALLING = Activity(kind="tool_call", name="Bash")


class Seconds:
    """Seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def activities(seconds: Seconds) -> Activities:
    return Activities(ttl_s=10, monotonic=seconds, most=3)


def test_who_says_nothing_does_nothing_that_is_known(activities: Activities) -> None:
    assert activities.of("room", "bob") is None


def test_what_was_said_last_counts_in_that_room_alone(activities: Activities) -> None:
    activities.say("room", "bob", THINKING)
    activities.say("room", "bob", CALLING)

    assert activities.of("room", "bob") == CALLING
    assert activities.of("other", "bob") is activities.of("room", "carol") is None
    assert len(activities) == 1


def test_it_ends_when_that_is_said(activities: Activities) -> None:
    activities.say("room", "bob", THINKING)
    activities.say("room", "bob", None)
    activities.say("room", "carol", None)

    assert activities.of("room", "bob") is None
    assert len(activities) == 0


def test_it_is_forgotten_unless_it_is_said_again(activities: Activities, seconds: Seconds) -> None:
    activities.say("room", "bob", THINKING)
    activities.say("room", "carol", THINKING)
    seconds.now += 9.5
    activities.say("room", "bob", THINKING)
    seconds.now += 0.5

    assert activities.of("room", "carol") is None
    assert activities.of("room", "bob") == THINKING


def test_what_is_over_does_not_stay_in_memory(activities: Activities, seconds: Seconds) -> None:
    for name in ("bob", "carol", "dave"):
        activities.say("room", name, THINKING)
    seconds.now += 10
    activities.say("room", "erin", THINKING)

    assert len(activities) == 1


def test_of_too_many_the_one_is_forgotten_that_was_said_longest_ago(activities: Activities) -> None:
    for name in ("bob", "carol", "dave"):
        activities.say("room", name, THINKING)
    activities.say("room", "bob", CALLING)
    activities.say("room", "erin", THINKING)

    assert len(activities) == 3
    assert activities.of("room", "carol") is None
    assert activities.of("room", "bob") == CALLING


def test_one_that_works_everywhere_crowds_out_nobody_but_itself(seconds: Seconds) -> None:
    activities = Activities(ttl_s=10, monotonic=seconds, most=100, most_of_one=2)
    activities.say("room", "bob", THINKING)
    for room in ("1", "2", "1", "3"):
        activities.say(room, "mallory", THINKING)

    assert len(activities) == 3
    assert activities.of("room", "bob") == activities.of("1", "mallory") == activities.of("3", "mallory") == THINKING
    assert activities.of("2", "mallory") is None

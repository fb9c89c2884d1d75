"""Lanes when things go wrong, or change from outside: what is taken back, what others save, what is forgotten, bugs.

Alice and Bob write lines, the test is the writer's clock: nothing is durable before it says so.
"""

from contextlib import suppress

import pytest

from agrenting import lanes
from tests.agrenting.lane_stage import ALICE, BOB, TOPIC, Sheet, Stage


@pytest.fixture
def stage() -> Stage:
    """A topic whose state is known, because a first line is stored."""
    stage = Stage()
    stage.write("first")
    stage.release()
    stage.published.clear()
    stage.answers.clear()
    return stage


# What is taken back.


def test_what_was_relayed_and_is_refused_after_all_is_taken_back_once_for_each_who_sent_it(stage: Stage) -> None:
    for line, sender in (("a", ALICE), ("b", BOB), ("c", ALICE), ("d", ALICE), ("e", BOB)):
        stage.write(line, sender)
    stage.foreign(room=2)
    stage.release()

    assert stage.outcomes == {"a": "ok", "b": "full", "c": "full", "d": "full", "e": "full"}
    assert sorted(stage.published[5:]) == [("alice", "unsaid"), ("bob", "unsaid")]
    stage.release_all()
    assert stage.said.count("unsaid") == 2


def test_one_whose_lines_all_are_stored_is_not_taken_back(stage: Stage) -> None:
    stage.write("a", BOB)
    stage.write("b")
    stage.foreign(room=2)
    stage.release()

    assert stage.published == [("bob", "a"), ("alice", "b"), ("alice", "unsaid")]


def test_a_refused_one_that_nobody_had_got_is_not_taken_back(stage: Stage) -> None:
    stage.other("room", room=1)
    stage.write("a")
    stage.release()

    assert stage.outcomes == {"room": "ok", "a": "full"}
    assert stage.said == ["room"]


def test_what_nobody_was_told_of_is_not_taken_back_and_the_next_one_is_foreseen_anew(stage: Stage) -> None:
    stage.write("quiet a")
    stage.foreign(room=1)
    stage.release()
    stage.write("b")

    assert stage.said == []
    stage.release()
    assert stage.outcomes == {"quiet a": "full", "b": "full"}
    assert stage.said == []


def test_after_something_was_taken_back_the_next_ones_are_foreseen_on_what_is_stored(stage: Stage) -> None:
    for line in ("a", "b"):
        stage.write(line)
    stage.foreign(room=2)
    stage.release()
    stage.published.clear()
    stage.write("c")
    assert stage.said == []  # Not relayed: it is known by now that there is no room.
    stage.release()
    stage.foreign(room=9)
    stage.hear_of_it()
    stage.write("d")
    stage.release()
    stage.write("e")

    assert stage.said == ["d", "e"]
    assert stage.outcomes == {"a": "ok", "b": "full", "c": "full", "d": "ok"}


def test_where_the_disk_fails_all_that_was_relayed_is_taken_back_and_every_sender_hears_of_it(stage: Stage) -> None:
    for line, sender in (("a", ALICE), ("b", BOB), ("c", ALICE)):
        stage.write(line, sender)
    stage.release(fails=True)

    assert stage.answers == [(line, "StorageUnavailable") for line in "abc"]
    assert sorted(stage.published[3:]) == [("alice", "unsaid"), ("bob", "unsaid")]
    assert stage.stored.lines == ("first",)


def test_after_the_disk_has_failed_nothing_is_relayed_ahead_until_something_is_stored_again(stage: Stage) -> None:
    stage.write("a")
    stage.release(fails=True)
    stage.published.clear()
    stage.write("b")
    assert stage.said == []
    stage.release()
    stage.write("c")

    assert stage.said == ["b", "c"]


def test_what_was_relayed_behind_one_that_was_not_stored_is_not_relayed_again(stage: Stage) -> None:
    stage.write("a")
    stage.take()
    stage.write("b")
    stage.commit(fails=True)
    stage.settle()
    stage.write("c")
    assert stage.said == ["a", "b", "unsaid"]
    stage.release()

    assert stage.outcomes == {"a": "StorageUnavailable", "b": "ok", "c": "ok"}
    assert stage.said == ["a", "b", "unsaid", "c"]


def test_where_the_disk_fails_what_nobody_has_got_is_only_answered() -> None:
    stage = Stage()
    stage.write("a")
    stage.release(fails=True)

    assert stage.answers == [("a", "StorageUnavailable")]
    assert stage.said == []


# States that others save.


def test_what_another_topic_saves_is_what_the_next_line_is_foreseen_on(stage: Stage) -> None:
    stage.payment(room=1)
    stage.release()
    stage.write("a")
    assert stage.said == []
    stage.release()
    stage.payment(room=9)
    stage.release()
    stage.write("b")

    assert stage.said == ["b"]
    assert stage.outcomes == {"a": "full"}


def test_what_was_relayed_before_another_saved_is_stored_first_before_anything_is_foreseen_anew(stage: Stage) -> None:
    stage.write("a")
    stage.payment(room=3)
    stage.take()
    stage.write("b")
    stage.commit()
    stage.settle()
    stage.write("c")
    assert stage.said == ["a", "b"]  # Where c stands is not known: b was foreseen on another state.
    stage.release(1)

    assert stage.outcomes == {"a": "ok", "b": "ok", "c": "full"}
    assert stage.said == ["a", "b"]


def test_what_another_process_saved_is_known_with_the_next_batch(stage: Stage) -> None:
    stage.foreign(room=2)
    stage.hear_of_it()
    for line in ("a", "b"):
        stage.write(line)
    assert stage.said == []

    stage.release()

    assert stage.outcomes == {"a": "ok", "b": "full"}
    assert stage.said == ["a"]
    lane = stage.lane()
    assert lane is not None
    assert lane.state == lane.stored == Sheet(("first", "a"), 2)


def test_a_state_saved_of_a_topic_without_a_lane_is_not_kept() -> None:
    stage = Stage()
    stage.lanes.saved(TOPIC, Sheet())

    assert stage.lane() is None


# Lanes are forgotten.


def test_lanes_that_are_idle_are_forgotten_beyond_so_many_the_longest_unused_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes, "LANES_MAX", 2)
    stage = Stage()
    for topic in ("sheet:1", "sheet:2", "sheet:1", "sheet:3"):
        stage.write("a", topic=topic)
        stage.release()

    assert stage.lane("sheet:2") is None
    assert stage.lane("sheet:1") is not None
    assert stage.lane("sheet:3") is not None
    stage.write("b", topic="sheet:1")
    assert stage.said[-1] == "b"
    stage.write("c", topic="sheet:2")
    assert stage.said[-1] == "b"  # What was known of it is forgotten.


@pytest.mark.parametrize("busy", ["line", "other"])
def test_a_lane_is_not_forgotten_while_something_of_it_is_under_way(monkeypatch: pytest.MonkeyPatch, busy: str) -> None:
    monkeypatch.setattr(lanes, "LANES_MAX", 1)
    stage = Stage()
    stage.write("first")
    stage.release()
    if busy == "line":
        stage.write("a")
    else:
        stage.other("complete", room=7)
    for number in range(2, 9):
        stage.write("b", topic=f"sheet:{number}")
    kept = stage.lane()
    assert kept is not None

    stage.release_all()
    assert stage.lane() is kept
    for number in range(9, 12):
        stage.write("c", topic=f"sheet:{number}")
        stage.release_all()

    assert stage.lane() is None
    assert sum(stage.lane(f"sheet:{number}") is not None for number in range(1, 12)) <= 2


# Bugs.


def test_a_bug_in_one_event_takes_no_other_with_it(stage: Stage) -> None:
    """Not foreseen, decided: the writer meets the bug, and the others of its batch are stored."""
    stage.other("complete")
    for line in ("a", "bug here", "b"):
        stage.write(line)
    stage.take()
    stage.commit()
    stage.settle()

    assert stage.outcomes == {"complete": "ok", "a": "ok", "bug here": "RuntimeError", "b": "ok"}
    assert stage.said == ["complete", "a", "b"]


def test_a_bug_in_foresight_is_answered_by_the_writer_and_takes_no_other_with_it(stage: Stage) -> None:
    for line in ("a", "bug here", "b"):
        stage.write(line)
    stage.release()

    assert stage.outcomes == {"a": "ok", "bug here": "RuntimeError", "b": "ok"}
    assert stage.said == ["a", "b"]


def test_a_bug_in_foresight_when_what_waits_is_looked_at_again_leaves_the_others(stage: Stage) -> None:
    stage.other("complete")
    for line in ("a", "bug here", "b"):
        stage.write(line)
    stage.release(1)
    stage.release_all()

    assert stage.outcomes == {"complete": "ok", "a": "ok", "bug here": "RuntimeError", "b": "ok"}
    assert stage.said == ["complete", "a", "b"]


def test_one_who_cannot_be_answered_leaves_the_others_of_the_batch_answered(stage: Stage) -> None:
    """As with units: what is durable is told to everybody else, and the lane goes on."""
    stage.deaf = "deaf"
    for line in ("a", "deaf", "b"):
        stage.write(line)
    stage.take()
    stage.commit()
    with suppress(OSError):  # The writer may report it; that is not what is tried here.
        stage.settle()
    lane = stage.lane()

    assert stage.outcomes == {"a": "ok", "b": "ok"}
    assert lane is not None
    assert lane.is_idle
    assert lane.state == lane.stored == stage.stored

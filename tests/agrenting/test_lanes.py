"""Lanes: what is relayed ahead of the writer, in which order, what is batched, and what is taken back.

Alice and Bob write lines, the test is the writer's clock: nothing is durable before it says so.
"""

import pytest
from structlog.testing import capture_logs

from agrenting import lanes
from tests.agrenting.lane_stage import BOB, Sheet, Stage


@pytest.fixture
def stage() -> Stage:
    """A topic whose state is known, because a first line is stored."""
    stage = Stage()
    stage.write("first")
    stage.release()
    stage.published.clear()
    stage.answers.clear()
    return stage


def test_what_is_not_known_is_not_relayed_before_it_is_durable() -> None:
    stage = Stage()
    stage.write("a")
    stage.take()
    stage.commit()
    assert stage.said == []

    stage.settle()

    assert stage.published == [("alice", "a")]
    assert stage.answers == [("a", "ok")]


def test_what_the_known_state_allows_is_relayed_at_once_and_answered_once_it_is_durable(stage: Stage) -> None:
    stage.write("a")
    stage.write("b", BOB)
    assert stage.published == [("alice", "a"), ("bob", "b")]

    stage.take()
    stage.commit()
    assert stage.answers == []
    stage.settle()

    assert stage.answers == [("a", "ok"), ("b", "ok")]
    assert stage.published == [("alice", "a"), ("bob", "b")]
    assert stage.stored.lines == ("first", "a", "b")


def test_what_is_published_once_durable_is_told_before_its_answer() -> None:
    stage = Stage()
    stage.write("a")
    stage.release()

    assert stage.told == ["a", "a: ok"]


def test_what_nobody_is_told_of_changes_what_the_next_one_is_foreseen_on(stage: Stage) -> None:
    stage.other("room", room=2)
    stage.release()
    stage.published.clear()
    stage.write("quiet a")
    stage.write("b")

    assert stage.said == []  # The second has no room any more, though nobody was told of the first.
    stage.release()
    assert stage.outcomes == {"room": "ok", "quiet a": "ok", "b": "full"}
    assert stage.said == []


def test_what_is_not_to_be_told_ahead_is_told_once_it_is_durable(stage: Stage) -> None:
    stage.write("late a")
    stage.write("late b")
    assert stage.said == []

    stage.release()

    assert stage.told[-4:] == ["late a", "late a: ok", "late b", "late b: ok"]


def test_behind_what_cannot_be_foreseen_nothing_is_relayed_until_the_writer_has_decided_it(stage: Stage) -> None:
    stage.write("read it again")
    stage.take()
    stage.write("a")
    stage.write("b")
    assert stage.said == []

    stage.commit()
    stage.settle()

    assert stage.said == ["a", "b"]  # Ahead of the writer again.
    assert stage.outcomes == {"read it again": "ok"}
    stage.release()
    assert stage.outcomes == {"read it again": "ok", "a": "ok", "b": "ok"}
    assert stage.said == ["a", "b"]


def test_what_the_writer_alone_can_say_is_published_once_it_is_durable_and_the_next_one_after_it() -> None:
    stage = Stage(Sheet(has_begun=False))
    stage.write("first", BOB)
    stage.release()
    stage.write("a")
    stage.write("b", BOB)
    assert stage.published == [("bob", "first")]
    stage.take()
    stage.write("c")
    stage.commit()
    stage.settle()

    assert stage.published[1:] == [("alice", "a"), ("bob", "b"), ("alice", "c")]
    assert stage.outcomes == {"first": "ok", "a": "ok", "b": "ok"}


def test_what_cannot_be_foreseen_stops_those_behind_it_also_when_what_waits_is_looked_at_again(stage: Stage) -> None:
    stage.other("room", room=2)
    for line in ("a", "b", "note c"):
        stage.write(line)
    with capture_logs() as logs:
        stage.release(1)
    assert logs == []
    assert stage.said == ["room", "a"]  # b has no room: the note waits for what becomes of it.

    stage.release()

    assert stage.said == ["room", "a", "note c"]
    assert stage.outcomes == {"room": "ok", "a": "ok", "b": "full", "note c": "ok"}


def test_what_the_writer_takes_against_expectation_is_not_told_after_what_came_behind_it(stage: Stage) -> None:
    """There was no room when it was foreseen; a payment that was under way has made some."""
    stage.other("room", room=1)
    stage.release()
    stage.published.clear()
    stage.payment(room=5)
    stage.write("a")
    stage.write("note b")
    stage.release()

    assert stage.said == ["a", "note b"]
    assert stage.outcomes == {"room": "ok", "a": "ok", "note b": "ok"}


# Other events of the topic.


def test_behind_another_event_of_the_topic_nothing_is_relayed_ahead(stage: Stage) -> None:
    stage.other("complete")
    stage.write("a")
    assert stage.said == []

    stage.release()

    assert stage.said == ["complete", "a"]
    assert stage.outcomes == {"complete": "ok", "a": "ok"}


def test_what_was_relayed_before_another_event_came_is_not_said_again(stage: Stage) -> None:
    stage.write("a")
    stage.other("complete")
    stage.write("b")
    assert stage.said == ["a"]

    stage.release()

    assert stage.said == ["a", "complete", "b"]


def test_once_the_other_event_is_durable_what_waits_is_relayed_in_order_though_the_writer_is_not_there(
    stage: Stage,
) -> None:
    stage.other("complete")
    stage.write("a")
    stage.write("b", BOB)
    stage.release(1)
    assert stage.published == [("carol", "complete"), ("alice", "a"), ("bob", "b")]
    stage.write("c")
    assert stage.said == ["complete", "a", "b", "c"]

    stage.release_all()

    assert stage.said == ["complete", "a", "b", "c"]
    assert stage.stored.lines == ("first", "a", "b", "c")


@pytest.mark.parametrize("refused", [False, True])
def test_an_event_that_changes_nothing_lets_what_waits_go_on_as_well(stage: Stage, refused: bool) -> None:  # noqa: FBT001 - a parameter of the test
    stage.other("release", refused=refused)
    stage.write("a")
    stage.release(1)

    assert stage.said[-1] == "a"
    assert stage.outcomes == {"release": "no" if refused else "ok"}


def test_of_two_other_events_what_waits_waits_for_the_last_one(stage: Stage) -> None:
    stage.other("one", room=50)
    stage.write("a")
    stage.other("two", room=60)
    stage.write("b")
    stage.release(1)
    assert stage.said == ["one"]
    stage.release(1)
    assert stage.said == ["one", "a"]

    stage.release(1)

    assert stage.said == ["one", "a", "two", "b"]


def test_what_the_other_event_has_changed_decides_what_is_relayed_afterwards(stage: Stage) -> None:
    stage.other("room", room=2)
    for line in ("a", "b"):
        stage.write(line)
    stage.release(1)
    assert stage.said == ["room", "a"]

    stage.release()

    assert stage.outcomes == {"room": "ok", "a": "ok", "b": "full"}
    assert stage.said == ["room", "a"]


def test_an_event_of_a_topic_without_a_stream_makes_no_lane() -> None:
    stage = Stage()
    stage.other("complete", room=5)
    stage.release()

    assert stage.lane() is None
    assert stage.outcomes == {"complete": "ok"}


def test_an_event_that_was_under_way_before_the_first_line_is_heard_before_it() -> None:
    """The lane begins with the line: it has not counted what came before it, and must not run ahead of that."""
    stage = Stage()
    stage.payment(room=50)
    stage.other("join")
    stage.write("a")
    stage.release(1)  # The payment alone says what the state is; the join is still to be decided.
    assert stage.said == []

    stage.release_all()

    assert stage.said == ["join", "a"]


# Batches.


def test_what_waits_together_shares_a_unit_until_the_writer_takes_it(stage: Stage) -> None:
    for line in ("a", "b", "c"):
        stage.write(line)
    assert len(stage.waiting) == 1
    stage.take()
    stage.write("d")
    stage.write("e")
    assert len(stage.waiting) == 1

    stage.commit()
    stage.settle()
    stage.release()

    assert stage.stored.lines == ("first", "a", "b", "c", "d", "e")
    assert [line for line, _ in stage.answers] == ["a", "b", "c", "d", "e"]


def test_a_batch_ends_where_another_event_of_the_topic_comes(stage: Stage) -> None:
    stage.write("a")
    stage.other("complete", room=1)
    stage.write("b")
    stage.write("c")
    assert len(stage.waiting) == 3

    stage.release()

    assert stage.outcomes == {"a": "ok", "complete": "ok", "b": "full", "c": "full"}


def test_a_batch_takes_so_many_and_no_more(stage: Stage) -> None:
    lines = [str(number) for number in range(lanes.BATCH_MAX + 1)]
    for line in lines:
        stage.write(line)
    assert len(stage.waiting) == 2
    stage.write("last")
    assert len(stage.waiting) == 2

    stage.release()

    assert stage.stored.lines == ("first", *lines, "last")
    assert stage.said == [*lines, "last"]


def test_each_topic_has_batches_of_its_own(stage: Stage) -> None:
    stage.write("a")
    stage.write("b", topic="sheet:2")
    stage.write("c")

    assert len(stage.waiting) == 2


def test_a_refused_one_leaves_the_others_of_its_batch(stage: Stage) -> None:
    for line in ("a", "read one", "b"):
        stage.write(line)
    stage.foreign(room=2)
    stage.release()

    assert stage.answers == [("a", "ok"), ("read one", "ok"), ("b", "full")]
    assert stage.stored.lines == ("first", "a")

"""How the server is to run the events of a task: what each is given, counts as, and may be relayed ahead of."""

from channels.handlers import RATES_IN_BYTES, Access
from channels.task import HANDLERS, JOIN, TIMERS, TOPIC

STREAMED = {"input_stream", "output_stream"}
AHEAD = {*STREAMED, "progress", "checkpoint"}
CLOSING = {"input_complete", "output_complete"}


def test_every_event_waits_its_turn_and_needs_the_scope() -> None:
    """Also a join: what it replays is cut exactly between what is stored and what is live."""
    assert TOPIC == "task:*"
    for handler in (JOIN, *HANDLERS.values()):
        assert (handler.access, handler.scope, handler.is_rehearsed) == (Access.WRITE, "tasks", False)


def test_what_comes_often_is_relayed_ahead_of_the_writer_and_nothing_that_moves_money_is() -> None:
    assert {event for event, handler in HANDLERS.items() if handler.foresees is not None} == AHEAD
    assert JOIN.foresees is None


def test_what_may_be_decided_together_is_given_the_same_facts() -> None:
    with_facts = {event for event, handler in HANDLERS.items() if handler.loads == "task_facts"}

    assert with_facts == AHEAD | CLOSING
    assert {handler.loads for event, handler in HANDLERS.items() if event not in with_facts} == {"task"}
    assert JOIN.loads == "task_facts"


def test_chunks_alone_come_in_binary_frames_and_count_by_their_bytes() -> None:
    assert {event for event, handler in HANDLERS.items() if handler.binary is not None} == STREAMED
    assert {event for event, handler in HANDLERS.items() if handler.rate in RATES_IN_BYTES} == STREAMED
    assert {handler.rate for event, handler in HANDLERS.items() if event not in STREAMED} == {"control"}
    assert JOIN.rate == "control"


def test_every_clock_of_a_task_has_what_it_does() -> None:
    assert {*TIMERS} == {"task_deadline", "task_hold", "task_decision", "task_retention"}

"""The success rate of a provider's last ten tasks, held against a model that keeps every task for ever."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels.alert_rules import ENDS_MAX, Ends, Over, Raise, counts, is_rate_low, noted, verdict_on_rate
from channels.alerts import AlertType
from channels.task_state import Phase, Task
from tests.channels.alarmed import a_task, name_of
from tests.channels.roles import BOB, NOW

Move = tuple[int, Phase]
"""How many tasks back, 0 for a new one; and what becomes of it."""

FAILED, COMPLETED = (0, Phase.FAILED), (0, Phase.COMPLETED)
NEW = st.tuples(st.just(0), st.sampled_from([Phase.COMPLETED, Phase.FAILED, Phase.FAILED, Phase.CANCELLED]))
LATER = st.tuples(st.integers(0, 14), st.sampled_from([Phase.DISPUTED, Phase.COMPLETED, Phase.FAILED]))
MOVES = st.lists(st.one_of(NEW, NEW, LATER), max_size=120)
ALLOWED = {
    Phase.IN_PROGRESS: {Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED, Phase.DISPUTED},
    Phase.COMPLETED: {Phase.DISPUTED},
    Phase.DISPUTED: {Phase.COMPLETED, Phase.FAILED},
}


class Model:
    """Every task there ever was, and the order in which they ended first."""

    def __init__(self) -> None:
        self.tasks: dict[int, Task] = {}
        self.ended: list[int] = []
        self.outcome: dict[int, bool] = {}

    def move(self, back: int, status: Phase) -> tuple[Task, Task] | None:
        """What becomes of a task, before and after; None where that cannot be."""
        number = len(self.tasks) - back
        before = self.tasks.get(number, a_task(id=str(number)))
        if status not in ALLOWED.get(before.status, set()):
            return None
        ended_at = before.ended_at
        if status in {Phase.COMPLETED, Phase.FAILED}:
            ended_at = ended_at or NOW
            self.outcome[number] = status is Phase.COMPLETED
            if number not in self.ended:
                self.ended.append(number)
        after = a_task(status, id=str(number), ended_at=ended_at)
        self.tasks[number] = after
        return before, after

    @property
    def is_low(self) -> bool:
        last = self.ended[-10:]
        return len(last) == 10 and sum(self.outcome[number] for number in last) < 5


def ends_of(outcomes: str) -> Ends:
    """Ends as a word: c completed, f failed."""
    return tuple((str(number), letter == "c") for number, letter in enumerate(outcomes))


@given(moves=MOVES)
@example(moves=[FAILED] * 11)
@example(moves=[COMPLETED] * 5 + [FAILED] * 6 + [COMPLETED] * 5)
@example(moves=[COMPLETED] * 5 + [FAILED] * 5 + [(10, Phase.DISPUTED), (10, Phase.FAILED), COMPLETED])
def test_the_last_ten_are_those_of_the_model_and_the_condition_begins_and_ends_with_it(moves: list[Move]) -> None:
    model, ends, is_raised = Model(), Ends(), False
    for back, status in moves:
        moved = model.move(back, status)
        if moved is None or not counts(*moved):
            continue
        now = noted(ends, *moved)
        verdict = verdict_on_rate(ends, now, agent_id=BOB.id, name_of=name_of)
        ends = now

        assert ends == tuple((str(one), model.outcome[one]) for one in model.ended[-10:])
        assert [type(one) for one in verdict] == (
            [] if model.is_low is is_raised else [Raise if model.is_low else Over]
        )
        is_raised = model.is_low


@pytest.mark.parametrize(
    ("outcomes", "is_low"),
    [
        ("", False),
        ("fffffffff", False),
        ("ffffffffff", True),
        ("cccccfffff", False),
        ("ccccffffff", True),
        ("ffffffcccc", True),
        ("cfcfcfcfcf", False),
    ],
)
def test_fewer_than_half_of_ten_is_low(outcomes: str, is_low: bool) -> None:  # noqa: FBT001 - a column of the table
    assert is_rate_low(ends_of(outcomes)) is is_low


@pytest.mark.parametrize(
    ("source", "target", "is_counted"),
    [
        (Phase.IN_PROGRESS, Phase.COMPLETED, True),
        (Phase.PENDING, Phase.FAILED, True),
        (Phase.PENDING, Phase.CANCELLED, False),
        (Phase.IN_PROGRESS, Phase.DISPUTED, False),
        (Phase.COMPLETED, Phase.DISPUTED, False),
        (Phase.DISPUTED, Phase.FAILED, True),
        (Phase.COMPLETED, Phase.COMPLETED, False),
    ],
)
def test_what_counts_is_how_work_ends(source: Phase, target: Phase, is_counted: bool) -> None:  # noqa: FBT001 - as above
    assert counts(a_task(source), a_task(target)) is is_counted


def test_a_task_that_ends_otherwise_after_a_dispute_keeps_its_place() -> None:
    ends = ends_of("cccccfffff")

    after = noted(ends, a_task(Phase.DISPUTED, id="2", ended_at=NOW), a_task(Phase.FAILED, id="2", ended_at=NOW))

    assert after == ends_of("ccfccfffff")


def test_a_task_that_ended_long_ago_and_ends_otherwise_now_is_not_among_the_last() -> None:
    ends = ends_of("cccccfffff")

    after = noted(ends, a_task(Phase.DISPUTED, id="old", ended_at=NOW), a_task(Phase.FAILED, id="old", ended_at=NOW))

    assert after == ends


def test_no_more_than_ten_are_kept() -> None:
    after = noted(ends_of("f" * ENDS_MAX), a_task(id="new"), a_task(Phase.COMPLETED, id="new", ended_at=NOW))

    assert len(after) == ENDS_MAX
    assert after[-1] == ("new", True)


def test_a_low_rate_is_over_once_half_of_the_last_ten_completed() -> None:
    verdict = verdict_on_rate(ends_of("ccccffffff"), ends_of("cccccfffff"), agent_id=BOB.id, name_of=name_of)

    assert verdict == (Over(AlertType.SUCCESS_RATE_LOW, f"agent:{BOB.id}"),)


def test_a_low_rate_says_how_low() -> None:
    (found,) = verdict_on_rate(ends_of("ccccfffff"), ends_of("ccccffffff"), agent_id=BOB.id, name_of=name_of)

    assert isinstance(found, Raise)
    assert (found.type, found.severity, found.agent_id) == ("success_rate_low", "warning", BOB.id)
    assert found.subject == f"agent:{BOB.id}"
    assert found.message == (
        "Success rate low: 4 of the last 10 tasks of bob/bot completed. The other 6 failed. Take it out of the market"
        " until the cause is found: each failure lowers its reputation."
    )
    assert found.data == {"completed": 4, "failed": 6, "success_rate": 0.4}

"""Lanes under any interleaving of two senders, other events, states that others save, failures and the writer's steps.

Whatever happens, each of the two hears what the other has written once and in the order in which it came, and what it
has heard is stored, or it was told to join again.
"""

from typing import Any, Final

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.agrenting.lane_stage import ALICE, BOB, Sheet, Stage

KINDS: Final = ("line", "line", "line", "note", "quiet", "read")
ROOMS: Final = st.integers(0, 12)

STEPS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.sampled_from((ALICE, BOB)), st.sampled_from(KINDS)),
        st.tuples(st.just("write"), st.sampled_from((ALICE, BOB)), st.sampled_from(KINDS)),
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.just("commit"), st.sampled_from((False, False, False, True))),
        st.tuples(st.just("settle")),
        st.tuples(st.just("release"), st.integers(1, 4)),
        st.tuples(st.just("other"), st.one_of(st.none(), ROOMS), st.booleans()),
        st.tuples(st.just("payment"), ROOMS),
        st.tuples(st.just("foreign"), ROOMS),
        st.tuples(st.just("hear")),
    ),
    max_size=40,
)


class Watched(Stage):
    """A stage whose events are numbered in the order in which they come, and which notes what it is told and when."""

    def __init__(self, sheet: Sheet) -> None:
        super().__init__(sheet)
        self.count = 0
        self.sender_of: dict[str, str] = {}
        self.ahead: list[str] = []
        """What was published before it was settled."""
        self.has_news = False

    def do(self, step: tuple[Any, ...]) -> None:
        """One step."""
        what, *given_ = step
        self.count += 1
        name = f"{given_[1] if what == 'write' else what} {self.count}"
        match what:
            case "write":
                self.sender_of[name] = given_[0].agent_id
                self.write(name, given_[0])
            case "other":
                self.sender_of[name] = "carol"
                self.other(name, given_[0], refused=given_[1])
            case "payment":
                self.payment(given_[0])
            case "foreign":
                self.settle()  # What is durable before is told before: the news of it comes through the writer.
                self.foreign(given_[0])
                self.has_news = True
            case "hear":
                self.hear()
            case "take" if not self.taken:
                self.take(given_[0])
            case "commit":
                self.commit(fails=given_[0])
            case "settle":
                self.settle()
            case "release" if not self.taken:
                self.release(given_[0])

    def hear(self) -> None:
        """Hear what others have done."""
        if self.has_news:
            self.settle()
            self.hear_of_it()
            self.has_news = False

    def finish(self) -> None:
        """Until nothing is under way, and everything is heard."""
        self.release_all()
        self.hear()

    def _say(self, told: tuple[Any, ...], sender_id: str | None, socket: Any) -> None:
        before = len(self.published)
        super()._say(told, sender_id, socket)
        for _who, what in self.published[before:]:
            if what != "unsaid" and self.sender_of[what] != "carol" and what not in self.outcomes:
                self.ahead.append(what)


def number_of(name: str) -> int:
    """When an event came."""
    return int(name.rpartition(" ")[2])


def require_order(stage: Watched) -> None:
    """What is told is told in the order in which it came."""
    numbers = [number_of(what) for what in stage.said if what != "unsaid"]
    assert numbers == sorted(numbers)


def require_truth(stage: Watched) -> None:
    """What was accepted was told once, or taken back; what was refused was taken back from whoever had got it."""
    told = [what for what in stage.said if what != "unsaid"]
    assert len(told) == len(set(told)), f"told twice: {told}"
    for name, outcome in stage.outcomes.items():
        sender = stage.sender_of[name]
        if outcome != "ok":
            if name in told:
                later = stage.published[stage.published.index((sender, name)) :]
                assert (sender, "unsaid") in later, f"{name} was relayed, {outcome}, and not taken back"
        elif not name.startswith(("quiet", "read")):
            assert name in told, f"{name} was stored and never told"
    for who, what in stage.published:
        assert what != "unsaid" or any(
            stage.sender_of[name] == who and name in told and outcome != "ok"
            for name, outcome in stage.outcomes.items()
        ), f"{who} was taken back for nothing"


def require_stored(stage: Watched) -> None:
    """What was answered with ok is stored, in the order in which it came, and nothing else is."""
    lines = [
        name
        for name, outcome in sorted(stage.outcomes.items(), key=lambda one: number_of(one[0]))
        if outcome == "ok" and name.startswith(("line", "quiet"))
    ]
    assert list(stage.stored.lines) == lines


def require_known(stage: Watched) -> None:
    """The lane knows what is stored, at the latest once another line was."""
    lane = stage.lane()
    if lane is None:
        return
    assert lane.is_idle
    assert lane.state in (None, stage.stored)
    assert lane.stored in (None, stage.stored)
    stage.do(("write", BOB, "note"))
    stage.finish()
    assert lane.state == lane.stored == stage.stored
    stage.do(("write", BOB, "note"))
    assert stage.said[-1] == f"note {stage.count}", "what is known allows it, and it is not relayed at once"
    stage.finish()


@settings(max_examples=400, deadline=None)
@given(STEPS)
@example(  # Two batches are relayed, the first of them is not stored.
    [
        ("write", ALICE, "line"),
        ("release", 1),
        ("write", ALICE, "line"),
        ("take", 1),
        ("write", ALICE, "line"),
        ("commit", True),
        ("settle",),
        ("write", BOB, "line"),
    ]
)
@example(  # What is saved by others while something is under way that was relayed before.
    [
        ("write", ALICE, "line"),
        ("release", 1),
        ("write", BOB, "line"),
        ("payment", 2),
        ("take", 2),
        ("write", BOB, "line"),
        ("commit", False),
        ("settle",),
        ("write", ALICE, "line"),
    ]
)
def test_whatever_happens_is_heard_once_in_order_and_is_stored_or_taken_back(steps: list[tuple[Any, ...]]) -> None:
    stage = Watched(Sheet(has_begun=False))
    for step in steps:
        stage.do(step)
    stage.finish()

    assert set(stage.outcomes) == set(stage.sender_of), "somebody was never answered"
    assert [name for name, _ in stage.answers] == sorted(stage.outcomes, key=number_of), "answers come in order"
    require_order(stage)
    require_truth(stage)
    require_stored(stage)
    require_known(stage)
    require_order(stage)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from((ALICE, BOB)), st.integers(0, 3)), min_size=1, max_size=30))
def test_undisturbed_every_line_is_relayed_before_it_is_durable(lines: list[tuple[Any, int]]) -> None:
    stage = Watched(Sheet())
    stage.do(("write", BOB, "line"))
    stage.release_all()
    stage.ahead.clear()
    for sender, released in lines:
        stage.do(("write", sender, "line"))
        assert stage.ahead[-1] == f"line {stage.count}"
        if released:
            stage.do(("release", released))
    stage.finish()

    assert stage.said == [f"line {number_of(one)}" for one in stage.sender_of]
    assert len(stage.ahead) == len(lines)

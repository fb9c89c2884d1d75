"""The pulse: what is told by itself, when, to whom, and how little it costs however much happens."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from agrenting.db import analytics as figures
from agrenting.pulse import BEAT_S, REST_FACTOR, STATS_EVERY_S, Pulse
from channels.activity import SHOWN_MAX
from channels.limits import Market
from channels.told import Activity, Broadcast, Counted, Partaker

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ALICES, BOBS = "agent:alice", "agent:bob"


class Stage:
    """A hub as the pulse sees one, whose clock and whose numbers the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.topics: dict[str, Any] = {}
        self.told: list[Broadcast] = []
        self.reads: list[str] = []
        self.seconds = 1_000.0
        self.agents = 1
        self.failing = False
        self.broken: set[str] = set()
        self.reading: Callable[[], None] = lambda: None
        self.engine = SimpleNamespace(clock=self.clock, market=Market(signing_domain="pulse.test"), read=self.read)
        self.pulse = Pulse(self)  # type: ignore[arg-type] # A hub as far as the pulse looks at it.
        monkeypatch.setattr(figures, "metrics", self.metrics)
        monkeypatch.setattr(figures, "global_stats", self.stats)

    def monotonic(self) -> float:
        return self.seconds

    def clock(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    async def read(self, question: Callable[[Any], Any]) -> Any:
        await asyncio.sleep(0)
        if self.failing:
            raise OSError("the disk is gone")
        return question(None)

    def metrics(self, _tx: Any, scope: str, **_asked: Any) -> Any:
        if scope in self.broken:
            raise OverflowError("integer overflow")
        self.reads.append(scope)
        self.reading()
        return {"scope": scope}

    def stats(self, _tx: Any, *, now: datetime, market: Any) -> Any:
        self.reads.append("stats")
        return {"total_agents": self.agents, "at": now, "currency": market.currency}

    def publish(self, told: tuple[Broadcast, ...], sender_id: None, socket: None) -> None:
        assert (sender_id, socket) == (None, None)
        self.told += told

    def listen(self, *scopes: str) -> None:
        self.topics |= {f"analytics:{scope}": object() for scope in scopes}

    def count(self, *scopes: str, activity: tuple[Activity, ...] = ()) -> None:
        self.pulse.touch(Counted(frozenset(scopes), activity))

    async def beat(self, seconds: float = BEAT_S) -> list[tuple[str, str]]:
        """What a beat tells, so many seconds later: topic and event."""
        self.seconds += seconds
        self.told = []
        await self.pulse.beat()
        return [(one.topic, one.event) for one in self.told]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(monkeypatch)


def activity(number: int, kind: str = "offer") -> Activity:
    """Alice and Bob have done something."""
    return Activity(
        id=str(number),
        at=NOW,
        kind=kind,
        topic="negotiation:1",
        agents=(Partaker("alice", "alice/bot"), Partaker("bob", "bob/bot")),
        owners=("a", None),
    )


async def test_who_listens_is_told_once_however_much_was_counted(stage: Stage) -> None:
    stage.listen(ALICES)
    for _ in range(1_000):
        stage.count(ALICES, BOBS, "global")

    assert await stage.beat() == [(f"analytics:{ALICES}", "metrics_updated")]
    assert stage.told[0].payload == {"scope": ALICES, "updated_at": stage.clock()}
    assert stage.reads == [ALICES]


async def test_where_nothing_was_counted_nothing_is_told_and_nothing_is_read(stage: Stage) -> None:
    stage.listen(ALICES, "global")

    assert await stage.beat() == []
    assert stage.reads == []


async def test_what_was_told_is_not_told_again(stage: Stage) -> None:
    stage.listen(ALICES)
    stage.count(ALICES)
    await stage.beat()

    assert await stage.beat() == []


async def test_who_joins_after_the_change_and_before_the_beat_is_told(stage: Stage) -> None:
    stage.count(ALICES)
    stage.listen(ALICES)

    assert await stage.beat() == [(f"analytics:{ALICES}", "metrics_updated")]


async def test_what_is_counted_while_a_beat_reads_is_told_by_the_next(stage: Stage) -> None:
    stage.listen(ALICES)
    stage.count(ALICES)
    stage.reading = lambda: stage.count(ALICES)
    await stage.beat()
    stage.reading = lambda: None

    assert await stage.beat() == [(f"analytics:{ALICES}", "metrics_updated")]


async def test_what_cannot_be_read_is_told_by_the_next_beat(stage: Stage) -> None:
    stage.listen(ALICES, BOBS)
    stage.count(ALICES, BOBS)
    stage.failing = True
    assert await stage.beat() == []
    stage.failing = False

    assert sorted(await stage.beat()) == [(f"analytics:{scope}", "metrics_updated") for scope in (ALICES, BOBS)]


async def test_a_scope_that_cannot_be_read_takes_nothing_else_with_it(stage: Stage) -> None:
    stage.listen(ALICES, BOBS, "global")
    stage.broken = {ALICES}
    for _ in range(2):
        stage.count(ALICES, BOBS)
        assert (f"analytics:{BOBS}", "metrics_updated") in await stage.beat(STATS_EVERY_S / 2)
    assert ("analytics:global", "global_stats") in [(one.topic, one.event) for one in stage.told]
    stage.broken = set()

    assert await stage.beat() == [(f"analytics:{ALICES}", "metrics_updated")]


async def test_one_large_group_is_looked_at_again_in_a_beat(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    due = ["sing", "translate"]
    groups = SimpleNamespace(
        due=lambda market: due[0] if due and market.signing_domain == "pulse.test" else None,
        refresh=lambda _tx, capability, **_asked: looked.append(due.pop(due.index(capability))),
    )
    monkeypatch.setattr(figures, "GROUPS", groups)
    for _ in range(3):
        await stage.beat()

    assert looked == ["sing", "translate"]


async def test_a_socket_that_does_not_read_is_spared_all_of_it(stage: Stage) -> None:
    stage.listen(ALICES, "global")
    stage.count(ALICES, "global", activity=(activity(1),))
    await stage.beat(STATS_EVERY_S)

    assert {one.event for one in stage.told} == {"metrics_updated", "activity", "global_stats"}
    assert all(one.is_spare for one in stage.told)


class TestActivity:
    async def test_is_told_to_whoever_asked_where_they_take_part(self, stage: Stage) -> None:
        stage.listen(ALICES, BOBS, "user:a", "user:b", "global")
        stage.count(activity=(activity(1), activity(2)))

        assert sorted(await stage.beat()) == [
            (f"analytics:{scope}", "activity") for scope in (ALICES, BOBS, "global", "user:a")
        ]
        assert all(one.is_asked_for for one in stage.told)
        assert [item["id"] for item in stage.told[0].payload["items"]] == ["1", "2"]
        assert stage.told[0].payload["skipped"] == 0

    async def test_of_very_much_the_last_is_told_and_how_much_was_left_out(self, stage: Stage) -> None:
        stage.listen(ALICES)
        stage.count(activity=tuple(map(activity, range(SHOWN_MAX + 7))))
        await stage.beat()
        (told,) = stage.told

        assert [item["id"] for item in told.payload["items"]] == [str(number) for number in range(7, SHOWN_MAX + 7)]
        assert told.payload["skipped"] == 7

    async def test_is_told_once(self, stage: Stage) -> None:
        stage.listen(ALICES)
        stage.count(activity=(activity(1),))
        await stage.beat()

        assert await stage.beat() == []

    async def test_is_not_kept_where_nobody_listens(self, stage: Stage) -> None:
        stage.count(activity=(activity(1),))
        stage.listen(ALICES)

        assert await stage.beat() == []


class TestTheStatistics:
    async def test_are_told_every_half_minute_if_they_have_changed(self, stage: Stage) -> None:
        stage.listen("global")
        told: list[bool] = []
        for second in range(int(4 * STATS_EVERY_S)):
            stage.agents = 1 if second < 70 else 2
            told.append(bool(await stage.beat()))

        assert [second + 1 for second, is_told in enumerate(told) if is_told] == [30, 90]

    async def test_that_time_has_passed_is_no_change(self, stage: Stage) -> None:
        stage.listen("global")

        assert await stage.beat(STATS_EVERY_S) == [("analytics:global", "global_stats")]
        assert await stage.beat(STATS_EVERY_S) == []

    async def test_are_not_read_where_nobody_listens_and_told_anew_to_who_comes(self, stage: Stage) -> None:
        stage.listen("global")
        await stage.beat(STATS_EVERY_S)
        stage.topics.clear()
        stage.reads.clear()
        await stage.beat(STATS_EVERY_S)
        assert stage.reads == []
        stage.listen("global")

        assert await stage.beat(STATS_EVERY_S) == [("analytics:global", "global_stats")]


async def test_it_beats_on_after_a_beat_that_failed(stage: Stage) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        stage.failing = False
        if stage.told:
            raise asyncio.CancelledError

    stage.listen(ALICES)
    stage.count(ALICES)
    stage.failing = True
    with pytest.raises(asyncio.CancelledError):
        await stage.pulse.run_for_ever(rest)

    assert rests == [BEAT_S, BEAT_S]
    assert [one.topic for one in stage.told] == [f"analytics:{ALICES}"]


async def test_a_beat_that_takes_long_is_followed_by_a_longer_rest(stage: Stage) -> None:
    rests: list[float] = []

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            raise asyncio.CancelledError

    def dawdle() -> None:
        stage.seconds += 3.0

    stage.listen(ALICES)
    stage.count(ALICES)
    stage.reading = dawdle
    with pytest.raises(asyncio.CancelledError):
        await stage.pulse.run_for_ever(rest)

    assert rests == [REST_FACTOR * 3.0, BEAT_S]

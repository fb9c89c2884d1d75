"""Figures of a small market: what was counted in which minute, summed up plainly."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from channels.activity import SHOWN_MAX
from channels.analytics_answers import Earned, Kind, Stats, Sums
from channels.benchmarks import Group, Median, Own
from channels.facts import SUMS
from channels.histograms import bucket_of
from channels.periods import Range, floor
from channels.told import Activity, Partaker
from tests.channels.roles import ALICE, BOB, NOW

STATS = Stats(
    total_agents=3,
    online_agents=1,
    total_tasks=7,
    active_tasks=2,
    tasks_per_minute=0.2,
    volume_24h=950,
    system_load=0.25,
)


class Counted:
    """What the handlers ask, answered from a list."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, datetime, str, int]] = []
        """Scope, time, column, number."""
        self.times: list[tuple[str, datetime, int]] = []
        """Scope, time, milliseconds."""
        self.money: list[tuple[str, str, datetime, str, int, int]] = []
        """Scope, kind, time, name, gross, fees."""
        self.stars: list[tuple[str, datetime, int]] = []
        """Agent, time, hundredths."""
        self.owners = {who.id: who.agent.owner_id for who in (ALICE, BOB)}
        self.shared: list[tuple[Own, Group]] = []
        self.happened: list[Activity] = []

    # What was counted.

    def count(self, scope: str, at: datetime, **columns: int) -> None:
        """Count."""
        self.rows += [(scope, at, name, number) for name, number in columns.items()]

    def took(self, scope: str, at: datetime, milliseconds: int) -> None:
        """A task was completed."""
        self.times.append((scope, at, milliseconds))
        self.count(scope, at, tasks_completed=1, executions=1, execution_ms=milliseconds)

    def paid(self, scope: str, at: datetime, *, gross: int, fees: int, capability: str, by: str) -> None:
        """Money was earned."""
        self.count(scope, at, revenue_gross=gross, fees=fees)
        self.money.append((scope, "capability", at, capability, gross, fees))
        self.money.append((scope, "counterparty", at, by, gross, fees))

    # What is asked.

    def owner_of(self, agent_id: str) -> str | None:
        return self.owners.get(agent_id)

    def begins(self, scope: str) -> datetime | None:
        return min((at for one, at, _, _ in self.rows if one == scope), default=None)

    def sums(self, scope: str, over: Range | None = None) -> Sums:
        found: dict[str, int] = {name: 0 for name in SUMS}  # noqa: C420 - fromkeys keeps their literal types
        for one, at, name, number in self.rows:
            if one == scope and (over is None or over.since <= at < over.until):
                found[name] += number
        return found

    def latencies(self, scope: str, over: Range) -> Mapping[int, int]:
        return self._histogram([ms for one, at, ms in self.times if one == scope and over.since <= at < over.until])

    def series(self, scope: str, over: Range, columns: Sequence[str]) -> Mapping[datetime, Sums]:
        found: dict[datetime, dict[str, int]] = {}
        for one, at, name, number in self.rows:
            if one == scope and over.since <= at < over.until:
                row = found.setdefault(floor(at, over.span_s), dict.fromkeys(columns, 0))
                if name in row:
                    row[name] += number
        return found

    def latency_series(self, scope: str, over: Range) -> Mapping[datetime, Mapping[int, int]]:
        found: dict[datetime, list[int]] = {}
        for one, at, milliseconds in self.times:
            if one == scope and over.since <= at < over.until:
                found.setdefault(floor(at, over.span_s), []).append(milliseconds)
        return {start: self._histogram(times) for start, times in found.items()}

    def earned(self, scope: str, kind: Kind, over: Range, limit: int) -> list[Earned]:
        found: dict[str, tuple[int, int]] = {}
        for one, of, at, name, gross, fees in self.money:
            if (one, of) == (scope, kind) and over.since <= at < over.until:
                before = found.get(name, (0, 0))
                found[name] = (before[0] + gross, before[1] + fees)
        ordered = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
        return [Earned(name, *parts) for name, parts in ordered[:limit]]

    def heatmap(self, scope: str, over: Range) -> list[list[int]]:
        matrix = [[0] * 24 for _ in range(7)]
        for one, at, name, number in self.rows:
            if (one, name) == (scope, "tasks_started") and over.since <= at < over.until:
                matrix[at.weekday()][at.hour] += number
        return matrix

    def reputation(self, scope: str) -> float | None:
        return None if scope == "global" else 3.75

    def reputations(self, agent_id: str, over: Range) -> tuple[int | None, Mapping[datetime, int]]:
        own = sorted((at, centi) for one, at, centi in self.stars if one == agent_id)
        before = [centi for at, centi in own if at < over.since]
        changed = {floor(at, over.span_s): centi for at, centi in own if over.since <= at < over.until}
        return (before[-1] if before else None), changed

    def handles(self, agent_ids: Sequence[str]) -> Mapping[str, str]:
        return {who.id: who.agent.handle for who in (ALICE, BOB) if who.id in agent_ids}

    def groups(self, agent_id: str) -> list[tuple[Own, Group]]:
        return self.shared

    def stats(self) -> Stats:
        return STATS

    def activity(self) -> Sequence[Activity]:
        return self.happened

    @staticmethod
    def _histogram(times: list[int]) -> dict[int, int]:
        found: dict[int, int] = {}
        for milliseconds in times:
            found[bucket_of(milliseconds)] = found.get(bucket_of(milliseconds), 0) + 1
        return found


def group(owners: int, *, agents: int = 9, priced: int | None = None, price: float = 1_000.5) -> Group:
    """A group of agents of so many owners; as many have prices, unless said otherwise, and none has done anything."""
    return Group(
        capability="translate",
        owners=owners,
        agents=agents,
        price=Median(owners if priced is None else priced, price),
        success_rate=Median(0, None),
        execution_time=Median(owners, 20.5),
        computed_at=NOW,
    )


def own(capability: str = "translate") -> Own:
    """What Bob has."""
    return Own(capability=capability, price=900, success_rate=None, execution_time=12)


def activities(count: int) -> list[Activity]:
    """So many things that happened between Alice and Bob."""
    return [
        Activity(
            id=f"{number:08d}-0000-4000-8000-000000000000",
            at=NOW + timedelta(seconds=number),
            kind="offer",
            topic="negotiation:1",
            agents=(Partaker(ALICE.id, ALICE.agent.handle), Partaker(BOB.id, BOB.agent.handle)),
            owners=(ALICE.agent.owner_id, BOB.agent.owner_id),
            capability="translate",
            amount=number,
        )
        for number in range(count)
    ]


MANY = SHOWN_MAX + 3

"""Counting: what each thing that happens adds to the sums of analytics, in which minute, and for whom.

    tasks          by the provider's side: opened at created_at, started at started_at, ended at ended_at
                   by the client's side: hired at created_at
    money          released and split prices at their ledger entry, transfers that pay a task at their step
    negotiations   of either side: started at created_at, completed at ended_at of an agreement
    transfers      of both sides, at their step
    messages       of the receiver, at inserted_at
    reputation     at the end, or the settlement, of the task that has changed it; at first at the agent's created_at

Everything counts in the minute of the time that the source itself bears, so the sums can be made again from the
sources. Scopes are `agent:{id}`, `user:{id}` of its owner, and `global`. Each of them counts what happens once in each
of the columns: of a deal between two agents of one owner `tasks_total` and `tasks_hired` count one, and
`negotiations_started` one, too.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import add
from typing import Final, NamedTuple, Protocol, TypeVar

from channels.histograms import bucket_of
from channels.task_state import FINAL, Phase

SUMS: Final = (
    "tasks_total",
    "tasks_started",
    "tasks_completed",
    "tasks_failed",
    "tasks_cancelled",
    "execution_ms",
    "executions",
    "revenue_gross",
    "revenue_streamed",
    "fees",
    "spend",
    "tasks_hired",
    "negotiations_started",
    "negotiations_completed",
    "transfers_in",
    "transfers_out",
    "transfers_in_amount",
    "transfers_out_amount",
    "messages_in",
)
"""What is counted in each minute of each scope, in this order. Money is in minor units."""

(
    TASKS_TOTAL,
    TASKS_STARTED,
    TASKS_COMPLETED,
    TASKS_FAILED,
    TASKS_CANCELLED,
    EXECUTION_MS,
    EXECUTIONS,
    REVENUE_GROSS,
    REVENUE_STREAMED,
    FEES_PAID,
    SPEND,
    TASKS_HIRED,
    NEGOTIATIONS_STARTED,
    NEGOTIATIONS_COMPLETED,
    TRANSFERS_IN,
    TRANSFERS_OUT,
    TRANSFERS_IN_AMOUNT,
    TRANSFERS_OUT_AMOUNT,
    MESSAGES_IN,
) = range(len(SUMS))

GLOBAL: Final = "global"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_MS: Final = 60_000
ENDED: Final = {
    Phase.COMPLETED: TASKS_COMPLETED,
    Phase.FAILED: TASKS_FAILED,
    Phase.CANCELLED: TASKS_CANCELLED,
}
_MILLISECOND: Final = timedelta(milliseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_OPENED: Final = ((TASKS_TOTAL, 1),)
_HIRED: Final = ((TASKS_HIRED, 1),)
_STARTED: Final = ((TASKS_STARTED, 1),)
_RECEIVED: Final = ((MESSAGES_IN, 1),)
_BEGUN: Final = ((NEGOTIATIONS_STARTED, 1),)
_AGREED: Final = ((NEGOTIATIONS_COMPLETED, 1),)
_ZEROS: Final = (0,) * len(SUMS)

Amounts = tuple[tuple[int, int], ...]
"""Which columns grow, and by how much."""

Bucket = tuple[str, int]
"""A scope, and the start of a minute in milliseconds since 1970."""

OwnerOf = Callable[[str], str | None]
"""An agent's id → its owner's; None for one that nobody knows any more."""


Scopes = tuple[str, ...]

Key = TypeVar("Key")


class TaskLife(Protocol):
    """What is counted of a task: of `Task`, and of whatever has been read of one."""

    @property
    def client_agent_id(self) -> str:
        """Who has hired."""
        ...

    @property
    def provider_agent_id(self) -> str:
        """Who works."""
        ...

    @property
    def capability(self) -> str:
        """What for."""
        ...

    @property
    def status(self) -> Phase:
        """How it stands."""
        ...

    @property
    def created_at(self) -> datetime:
        """When it was opened."""
        ...

    @property
    def started_at(self) -> datetime | None:
        """When the provider began."""
        ...

    @property
    def ended_at(self) -> datetime | None:
        """When it ended first."""
        ...


class Parts(NamedTuple):
    """A price as it was divided, in minor units: what the provider earned, and the platform's part of that."""

    gross: int
    fees: int


class Facts:
    """What is to be added to the sums.

    Units only note what they count; the rows of each scope are made of that when they are asked for, once for a whole
    batch: a unit has few notes, and many rows come of them.

    Attributes:
        reputations: By scope and minute: the last one, in hundredths of a star.
        totals: By capability, provider and its owner: completed, failed, execution_ms, executions.
    """

    __slots__ = ("_counts", "_durations", "_earnings", "_latencies", "_revenue", "_sums", "reputations", "totals")

    def __init__(self) -> None:
        self._counts: list[tuple[Scopes, int, Amounts]] = []
        self._earnings: list[tuple[Scopes, int, str, str, Parts]] = []
        self._durations: list[tuple[Scopes, int, int, int]] = []
        self._sums: dict[Bucket, list[int]] = {}
        self._revenue: dict[tuple[str, int, str, str], list[int]] = {}
        self._latencies: dict[tuple[str, int, int], int] = {}
        self.reputations: dict[Bucket, int] = {}
        self.totals: dict[tuple[str, str, str], list[int]] = {}

    def __bool__(self) -> bool:
        """Whether there is anything to add: a minute with a part of it has a row of sums, too."""
        return bool(self._counts or self._sums)

    @property
    def scopes(self) -> frozenset[str]:
        """Whose sums change."""
        noted = chain.from_iterable(scopes for scopes, _, _ in self._counts)
        return frozenset(chain(noted, (scope for scope, _ in self._sums)))

    @property
    def sums(self) -> dict[Bucket, list[int]]:
        """By scope and minute: one number for each of SUMS."""
        sums, noted, self._counts = self._sums, self._counts, []
        for scopes, minute, amounts in noted:
            for scope in scopes:
                row = sums.get((scope, minute))
                if row is None:
                    row = sums[scope, minute] = list(_ZEROS)
                for column, amount in amounts:
                    row[column] += amount
        return sums

    @property
    def revenue(self) -> dict[tuple[str, int, str, str], list[int]]:
        """By scope, minute, kind (`capability` or `counterparty`) and name: gross and fees."""
        noted, self._earnings = self._earnings, []
        for scopes, minute, capability, client_id, parts in noted:
            for scope in scopes:
                _add(self._revenue, (scope, minute, "capability", capability), parts)
                _add(self._revenue, (scope, minute, "counterparty", client_id), parts)
        return self._revenue

    @property
    def latencies(self) -> dict[tuple[str, int, int], int]:
        """By scope, minute and bucket: how many tasks took so long."""
        noted, self._durations = self._durations, []
        for scopes, minute, bucket, count in noted:
            for scope in scopes:
                self._latencies[scope, minute, bucket] = self._latencies.get((scope, minute, bucket), 0) + count
        return self._latencies

    def add(self, scopes: Scopes, minute: int, amounts: Amounts) -> None:
        """Add to columns of a minute, once in each scope."""
        self._counts.append((scopes, minute, amounts))

    def add_row(self, scope: str, start: int, row: Iterable[int]) -> None:
        """Add to all columns of a bucket."""
        _add(self._sums, (scope, start), row)

    def add_earned(self, scopes: Scopes, minute: int, task: TaskLife, parts: Parts) -> None:
        """Add to what was earned by capability and by counterparty, which the market as a whole does not keep."""
        own = tuple(scope for scope in scopes if scope != GLOBAL)
        self._earnings.append((own, minute, task.capability, task.client_agent_id, parts))

    def add_duration(self, scopes: Scopes, minute: int, duration_ms: int, *, sign: int) -> None:
        """Add to how many tasks took how long, or with a sign of -1 take one away."""
        self._durations.append((scopes, minute, bucket_of(duration_ms), sign))

    def merge(self, other: "Facts") -> None:
        """Add what others add. What they say of a reputation is newer."""
        self._counts += other._counts  # noqa: SLF001 - one of its own kind
        self._earnings += other._earnings  # noqa: SLF001 - one of its own kind
        self._durations += other._durations  # noqa: SLF001 - one of its own kind
        self.reputations |= other.reputations
        for bucket, amounts in other._sums.items():  # noqa: SLF001 - one of its own kind
            _add(self._sums, bucket, amounts)
        for part, amounts in other._revenue.items():  # noqa: SLF001 - one of its own kind
            _add(self._revenue, part, amounts)
        for one, amounts in other.totals.items():
            _add(self.totals, one, amounts)
        for key, count in other._latencies.items():  # noqa: SLF001 - one of its own kind
            self._latencies[key] = self._latencies.get(key, 0) + count


def _add(rows: dict[Key, list[int]], key: Key, amounts: Iterable[int]) -> None:
    row = rows.get(key)
    rows[key] = list(amounts) if row is None else list(map(add, row, amounts))


def minute_of(moment: datetime) -> int:
    """The start of a moment's minute, in milliseconds since 1970."""
    return (moment - EPOCH) // _MINUTE * MINUTE_MS


def scopes_of(agent_id: str, owner_of: OwnerOf) -> Scopes:
    """What counts what an agent does: itself, its owner, and the market."""
    owner_id = owner_of(agent_id)
    if owner_id is None:
        return (f"agent:{agent_id}", GLOBAL)
    return (f"agent:{agent_id}", f"user:{owner_id}", GLOBAL)


def scopes_of_both(one_id: str, other_id: str, owner_of: OwnerOf) -> Scopes:
    """What counts what two agents do together, each once."""
    return tuple(dict.fromkeys((*scopes_of(one_id, owner_of), *scopes_of(other_id, owner_of))))


def count_opened(facts: Facts, task: TaskLife, providers: Scopes) -> None:
    """A task was opened, as its provider sees it."""
    facts.add(providers, minute_of(task.created_at), _OPENED)


def count_hired(facts: Facts, at: datetime, clients: Scopes) -> None:
    """A task was opened, as its client sees it."""
    facts.add(clients, minute_of(at), _HIRED)


def count_started(facts: Facts, task: TaskLife, providers: Scopes) -> None:
    """The provider has begun."""
    if task.started_at is not None:
        facts.add(providers, minute_of(task.started_at), _STARTED)


def count_end(facts: Facts, task: TaskLife, providers: Scopes, *, owner_id: str | None, sign: int = 1) -> None:
    """A task has ended as it says, if it has; with a sign of -1 it has not ended so after all."""
    if task.status not in FINAL or task.ended_at is None:
        return
    minute, took = minute_of(task.ended_at), execution_ms_of(task)
    ended = (ENDED[task.status], sign)
    facts.add(providers, minute, (ended,) if took is None else (ended, (EXECUTION_MS, sign * took), (EXECUTIONS, sign)))
    if took is not None:
        facts.add_duration(providers, minute, took, sign=sign)
    if task.status is not Phase.CANCELLED:
        completed, failed = (sign, 0) if task.status is Phase.COMPLETED else (0, sign)
        totals = (completed, failed, 0, 0) if took is None else (completed, failed, sign * took, sign)
        _add(facts.totals, (task.capability, task.provider_agent_id, owner_id or ""), totals)


def execution_ms_of(task: TaskLife) -> int | None:
    """How long a completed task took, from its start to its end; None for every other one."""
    if task.status is not Phase.COMPLETED or task.started_at is None or task.ended_at is None:
        return None
    return max(0, (task.ended_at - task.started_at) // _MILLISECOND)  # A clock that was put back has no say.


def count_earned(
    facts: Facts, task: TaskLife, at: datetime, parts: Parts, providers: Scopes, *, is_streamed: bool = False
) -> None:
    """A provider has earned some of a task's price; by capability and counterparty that is told of its own scopes."""
    minute = minute_of(at)
    earned = ((REVENUE_GROSS, parts.gross), (FEES_PAID, parts.fees))
    facts.add(providers, minute, (*earned, (REVENUE_STREAMED, parts.gross)) if is_streamed else earned)
    facts.add_earned(providers, minute, task, parts)


def count_spent(facts: Facts, at: datetime, amount: int, clients: Scopes) -> None:
    """A client has paid so much for a task."""
    facts.add(clients, minute_of(at), ((SPEND, amount),))


def count_transfer(facts: Facts, at: datetime, amount: int, *, payers: Scopes, payees: Scopes) -> None:
    """A transfer of a payment channel was executed."""
    minute = minute_of(at)
    facts.add(payees, minute, ((TRANSFERS_IN, 1), (TRANSFERS_IN_AMOUNT, amount)))
    facts.add(payers, minute, ((TRANSFERS_OUT, 1), (TRANSFERS_OUT_AMOUNT, amount)))


def count_session(facts: Facts, started_at: datetime | None, agreed_at: datetime | None, parties: Scopes) -> None:
    """A negotiation was started, or agreed on, or both."""
    if started_at is not None:
        facts.add(parties, minute_of(started_at), _BEGUN)
    if agreed_at is not None:
        facts.add(parties, minute_of(agreed_at), _AGREED)


def count_message(facts: Facts, at: datetime, receivers: Scopes) -> None:
    """A mailbox has got a message."""
    facts.add(receivers, minute_of(at), _RECEIVED)


def count_reputation(facts: Facts, scope: str, at: datetime, reputation_centi: int) -> None:
    """An agent's reputation, in hundredths of a star, is another one from then on."""
    minute = minute_of(at)
    facts.add((scope,), minute, ())
    facts.reputations[scope, minute] = reputation_centi

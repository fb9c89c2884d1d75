"""The sums of analytics, made again from what they were made of: tasks, ledger, transfers, negotiations, messages.

Agent by agent, owner by owner, and what they do together at last for the market; memory grows with the hours in which
something happened and not with how much did. What a deleted agent's reputation was nobody knows any more, and messages
are deleted some time after their end: everything else can be made again, whatever has been folded.
"""

from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from typing import Final, Literal, NamedTuple

import msgspec

from agrenting.clock import from_ms
from agrenting.db import rollups, states
from agrenting.db.transaction import Row, Tx, WriterTx
from channels import counting
from channels.agents import Agent
from channels.counting import GLOBAL, Facts, Parts
from channels.ledger import FEES
from channels.negotiation_state import Phase as SessionPhase
from channels.task_disputes import DELTAS_CENTI
from channels.task_state import Phase

PAGE_ROWS: Final = 1_000

_AGENTS: Final = """
SELECT p.id, coalesce(a.owner_id, f.owner_id) AS owner_id, a.id IS NOT NULL FROM (
    SELECT id FROM agents UNION SELECT agent_id FROM former_agents
    UNION SELECT DISTINCT client_agent_id FROM tasks UNION SELECT DISTINCT provider_agent_id FROM tasks
    UNION SELECT DISTINCT client_agent_id FROM negotiations UNION SELECT DISTINCT provider_agent_id FROM negotiations
    UNION SELECT DISTINCT agent_a_id FROM payment_channels UNION SELECT DISTINCT agent_b_id FROM payment_channels
    UNION SELECT DISTINCT to_agent_id FROM messages
) p LEFT JOIN agents a ON a.id = p.id LEFT JOIN former_agents f ON f.agent_id = p.id ORDER BY owner_id, p.id
"""
_EARNED: Final = """
SELECT t.id, e.created_at, sum(p.amount), sum(CASE WHEN p.account = :fees THEN p.amount ELSE 0 END)
FROM tasks t CROSS JOIN ledger_entries e ON e.task_id = t.id AND e.kind IN ('release', 'split')
CROSS JOIN postings p ON p.entry_id = e.id AND p.account IN (:fees, 'agent:' || t.provider_agent_id || ':available')
WHERE t.{side} = :agent_id AND t.id >= :first AND t.id <= :last GROUP BY e.id
"""
"""In this order, from an agent's tasks on: another one would look through all fees for each agent."""


class _Settlement(msgspec.Struct, frozen=True):
    decision: Literal["provider", "client", "split"]
    decided_by: str
    settled_at: datetime


class _Task(msgspec.Struct, frozen=True):
    """What counts of a task: the rest of its state is passed over."""

    id: str
    client_agent_id: str
    provider_agent_id: str
    capability: str
    status: Phase
    is_countable: bool | int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    channel_id: str | None = None
    settlement: _Settlement | None = None


class _Session(msgspec.Struct, frozen=True):
    status: SessionPhase
    created_at: datetime
    ended_at: datetime | None = None


class _Transfer(msgspec.Struct, frozen=True):
    amount: int
    from_agent_id: str
    to_agent_id: str
    task_id: str | None = None


class _Step(msgspec.Struct, frozen=True):
    number: int
    at: datetime
    details: _Transfer


class Known(NamedTuple):
    """An agent that there is or was.

    Args:
        id: Its id.
        owner_id: Its owner's; None where nobody knows any more.
        is_there: Whether it has not been deleted.
    """

    id: str
    owner_id: str | None
    is_there: bool


class Move(NamedTuple):
    """What a task has done to a reputation at one moment: completed and failed tasks, and hundredths of a star."""

    at: datetime
    completed: int
    failed: int
    delta_centi: int


Earned = tuple[str, datetime, Parts]
"""A task's id, when its price was paid, and its parts."""

_ALL, _SELF, _OWNER, _MARKET = "all", "self", "owner", "market"
"""What every scope counts of what an agent does, and what only the agent, its owner or the market does."""

_task: Final = msgspec.json.Decoder(_Task).decode
_session: Final = msgspec.json.Decoder(_Session).decode
_step: Final = msgspec.json.Decoder(_Step).decode


def all_facts(tx: Tx, *, minutes_since: int | None = None) -> Iterator[tuple[str, Facts]]:
    """What every scope counts, one after the other: each agent, its owner behind its agents, and the market at last.

    Args:
        tx: Any transaction.
        minutes_since: From this start of an hour on, in milliseconds since 1970, by the minute; all else by the hour.
    """
    agents = [Known(row[0], row[1], bool(row[2])) for row in tx.all(_AGENTS)]
    owners = {agent.id: agent.owner_id for agent in agents}
    market = Facts()
    for owner_id, group in groupby(agents, key=lambda agent: agent.owner_id):
        owner = Facts()
        for agent in group:
            own = _Sources(tx, agent, owners).facts()
            yield f"agent:{agent.id}", _counted_by(f"agent:{agent.id}", own, _SELF, minutes_since)
            owner.merge(_counted_by(f"user:{owner_id}", own, _OWNER, minutes_since))
            market.merge(_counted_by(GLOBAL, own, _MARKET, minutes_since))
        if owner_id is not None:
            yield f"user:{owner_id}", owner
    yield GLOBAL, market


def rebuild(tx: WriterTx, *, now: datetime) -> None:
    """Make all sums again from their sources, in place of those that there are; what is not past yet by the minute."""
    for table in ("rollups", "rollup_revenue", "rollup_latencies", "capability_totals"):
        tx.run(f"DELETE FROM {table}")
    minutes_since = rollups.folded_before(now)
    for _, facts in all_facts(tx, minutes_since=minutes_since):
        past, present = Facts(), Facts()
        for (scope, start), row in facts.sums.items():
            (present if start >= minutes_since else past).sums[scope, start] = row
        for bucket, reputation in facts.reputations.items():
            (present if bucket[1] >= minutes_since else past).reputations[bucket] = reputation
        for part, amounts in facts.revenue.items():
            (present if part[1] >= minutes_since else past).revenue[part] = amounts
        for key, count in facts.latencies.items():
            (present if key[1] >= minutes_since else past).latencies[key] = count
        rollups.add_coarse(tx, past)
        present.totals = facts.totals
        rollups.flush(tx, present)


def _counted_by(scope: str, own: Facts, also: str, minutes_since: int | None) -> Facts:
    """What a scope counts of an agent's doing: all of it, and what is kept apart for scopes of its kind."""
    made = Facts()

    def at(start: int) -> int:
        is_present = minutes_since is not None and start >= minutes_since
        return start if is_present else rollups.start_of(start, rollups.HOUR)

    for (whose, start), row in own.sums.items():
        if whose in {_ALL, also}:
            made.add_row(scope, at(start), row)
    for (_, start, bucket), count in own.latencies.items():
        key = (scope, at(start), bucket)
        made.latencies[key] = made.latencies.get(key, 0) + count
    if scope != GLOBAL:
        for (_, start, kind, name), (gross, fees) in own.revenue.items():
            parts = made.revenue.setdefault((scope, at(start), kind, name), [0, 0])
            parts[0] += gross
            parts[1] += fees
    if also == _SELF:
        made.totals = own.totals
        for (_, start), reputation in sorted(own.reputations.items()):
            made.reputations[scope, at(start)] = reputation
    return made


class _Sources:
    """What one agent has done, read from what there is of it.

    Args:
        tx: Any transaction.
        agent: Whose.
        owners: Agent → owner, of all.
    """

    def __init__(self, tx: Tx, agent: Known, owners: dict[str, str | None]) -> None:
        self._tx = tx
        self._agent = agent
        self._owners = owners
        self._facts = Facts()
        self._moves: list[Move] = []
        self._last_task: _Task | None = None
        rows = tx.all("SELECT task_id FROM outcomes WHERE provider_agent_id = :id", id=agent.id)
        self._outcomes = {row[0] for row in rows}

    def facts(self) -> Facts:
        """All of it, by the minute."""
        self._count_work()
        self._count_hires()
        self._count_sessions()
        self._count_transfers()
        for (created_ms,) in self._tx.all("SELECT created_at FROM messages WHERE to_agent_id = :id", id=self._agent.id):
            counting.count_message(self._facts, from_ms(created_ms), (_ALL,))
        self._count_reputation()
        return self._facts

    def _count_work(self) -> None:
        """As a provider."""
        for rows in self._pages("SELECT id, state FROM tasks WHERE provider_agent_id = :agent_id"):
            tasks = {row[0]: _task(row[1]) for row in rows}
            for task in tasks.values():
                counting.count_opened(self._facts, task, (_ALL,))
                counting.count_started(self._facts, task, (_ALL,))
                counting.count_end(self._facts, task, (_ALL,), owner_id=self._agent.owner_id)
                if task.id in self._outcomes or task.settlement is not None:
                    self._moves += _moves_of(task, is_counted=task.id in self._outcomes)
            for task_id, at, parts in self._earned("provider_agent_id", rows):
                counting.count_earned(self._facts, tasks[task_id], at, parts, (_ALL,))

    def _count_hires(self) -> None:
        """As a client."""
        for rows in self._pages("SELECT id, created_at FROM tasks WHERE client_agent_id = :agent_id"):
            for _, created_ms in rows:
                counting.count_hired(self._facts, from_ms(created_ms), (_ALL,))
            for _, at, parts in self._earned("client_agent_id", rows):
                counting.count_spent(self._facts, at, parts.gross, (_ALL,))

    def _earned(self, side: Literal["client_agent_id", "provider_agent_id"], rows: list[Row]) -> Iterator[Earned]:
        found = self._tx.all(
            _EARNED.format(side=side), agent_id=self._agent.id, first=rows[0][0], last=rows[-1][0], fees=FEES
        )
        for task_id, at_ms, gross, fees in found:
            yield task_id, from_ms(at_ms), Parts(gross, fees)

    def _count_sessions(self) -> None:
        """Of both sides: one between two agents of one owner counts once for that owner, each once for the market."""
        for side, other in (("client", "provider"), ("provider", "client")):
            pages = self._pages(
                f"SELECT id, {other}_agent_id, state FROM negotiations WHERE {side}_agent_id = :agent_id"
            )
            for _, other_id, state in (row for rows in pages for row in rows):
                is_first = side == "client"
                is_of_another = self._owners.get(other_id) != self._agent.owner_id
                scopes = (_SELF, *((_OWNER,) if is_first or is_of_another else ()), *((_MARKET,) if is_first else ()))
                session = _session(state)
                agreed_at = session.ended_at if session.status is SessionPhase.AGREED else None
                counting.count_session(self._facts, session.created_at, agreed_at, scopes)

    def _count_transfers(self) -> None:
        channels = self._tx.all(
            "SELECT id FROM payment_channels WHERE agent_a_id = :id UNION ALL"
            " SELECT id FROM payment_channels WHERE agent_b_id = :id",
            id=self._agent.id,
        )
        for (channel_id,) in channels:
            after = 0
            while rows := self._tx.all(
                "SELECT number, state FROM channel_steps WHERE channel_id = :channel_id AND number > :after"
                " AND kind = 'transfer' ORDER BY number LIMIT :limit",
                channel_id=channel_id,
                after=after,
                limit=PAGE_ROWS,
            ):
                after = rows[-1][0]
                for _, state in rows:
                    self._count_transfer(channel_id, _step(state))

    def _count_transfer(self, channel_id: str, step: _Step) -> None:
        transfer = step.details
        is_payer = transfer.from_agent_id == self._agent.id
        payers: counting.Scopes = (_ALL,) if is_payer else ()
        payees: counting.Scopes = () if is_payer else (_ALL,)
        counting.count_transfer(self._facts, step.at, transfer.amount, payers=payers, payees=payees)
        task = None if transfer.task_id is None else self._task_of(transfer.task_id)
        if task is None or (task.channel_id, task.client_agent_id) != (channel_id, transfer.from_agent_id):
            return
        if is_payer:
            counting.count_spent(self._facts, step.at, transfer.amount, payers)
        else:
            parts = Parts(transfer.amount, 0)
            counting.count_earned(self._facts, task, step.at, parts, payees, is_streamed=True)

    def _task_of(self, task_id: str) -> _Task | None:
        if self._last_task is None or self._last_task.id != task_id:
            row = self._tx.one("SELECT state FROM tasks WHERE id = :id", id=task_id)
            self._last_task = None if row is None else _task(row[0])
        return self._last_task

    def _count_reputation(self) -> None:
        """What it was from the beginning on, if the agent is there still."""
        agent: Agent | None = states.load(self._tx, "agent", self._agent.id) if self._agent.is_there else None
        if agent is None:
            return
        completed = failed = delta_centi = 0
        for move in [Move(agent.created_at, 0, 0, 0), *sorted(self._moves)]:
            completed, failed = completed + move.completed, failed + move.failed
            delta_centi += move.delta_centi
            then = msgspec.structs.replace(
                agent, tasks_completed=completed, tasks_failed=failed, dispute_delta_centi=delta_centi
            )
            counting.count_reputation(self._facts, _ALL, move.at, then.reputation_centi)

    def _pages(self, question: str) -> Iterator[list[Row]]:
        after = ""
        while rows := self._tx.all(
            f"{question} AND id > :after ORDER BY id LIMIT :limit",
            agent_id=self._agent.id,
            after=after,
            limit=PAGE_ROWS,
        ):
            yield rows
            after = rows[-1][0]


def _moves_of(task: _Task, *, is_counted: bool) -> list[Move]:
    """When a task has changed its provider's reputation: at its end, and at the settlement that corrects that."""
    settlement = task.settlement
    is_completed = task.status is not Phase.FAILED and task.status is not Phase.CANCELLED
    if settlement is None or settlement.decided_by == "automatic":
        return [_move(task.ended_at, is_completed=is_completed)] if is_counted and task.ended_at is not None else []
    is_operators = settlement.decided_by == "operator" and task.is_countable
    delta_centi = DELTAS_CENTI[settlement.decision] if is_operators else 0
    moves: list[Move] = []
    if is_counted and task.ended_at is not None:
        was_completed = is_completed or task.ended_at < settlement.settled_at
        moves.append(_move(task.ended_at, is_completed=was_completed))
        if was_completed and not is_completed:
            moves.append(Move(settlement.settled_at, -1, 1, delta_centi))
            return moves
    if delta_centi:
        moves.append(Move(settlement.settled_at, 0, 0, delta_centi))
    return moves


def _move(at: datetime, *, is_completed: bool) -> Move:
    return Move(at, int(is_completed), int(not is_completed), 0)

"""What the sums of analytics must be, from the source tables alone, counted without any of the code under test.

Every count is a row `(agent, moment, column, amount)`; whose owner an agent is, and which minute a moment lies in, is
looked at last.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

Row = tuple[str, int, str, int]
Sums = dict[str, Counter[str]]

EARNED = """
SELECT l.created_at, t.provider_agent_id, t.client_agent_id, json_extract(t.state, '$.capability'),
    sum(p.amount), sum(CASE p.account WHEN 'platform:fees' THEN p.amount ELSE 0 END)
FROM ledger_entries l JOIN tasks t ON t.id = l.task_id JOIN postings p ON p.entry_id = l.id
WHERE l.kind IN ('release', 'split') AND (p.account = 'platform:fees'
    OR p.account = 'agent:' || t.provider_agent_id || ':available')
GROUP BY l.id
"""
STREAMED = """
SELECT s.created_at, t.provider_agent_id, t.client_agent_id, json_extract(t.state, '$.capability'),
    json_extract(s.state, '$.details.amount'), 0
FROM channel_steps s JOIN tasks t ON t.id = json_extract(s.state, '$.details.task_id')
WHERE s.kind = 'transfer' AND json_extract(t.state, '$.channel_id') = s.channel_id
    AND json_extract(s.state, '$.details.from_agent_id') = t.client_agent_id
"""
TRANSFERS = """
SELECT created_at, json_extract(state, '$.details.from_agent_id'), json_extract(state, '$.details.to_agent_id'),
    json_extract(state, '$.details.amount') FROM channel_steps WHERE kind = 'transfer'
"""


def ms_of(text: str) -> int:
    """A time as JSON has it, in milliseconds since 1970."""
    return round(datetime.fromisoformat(text).timestamp() * 1_000)


class Oracle:
    """All counts of a database as it is now."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.owners: dict[str, str] = dict(
            connection.execute(
                "SELECT id, owner_id FROM agents UNION SELECT agent_id, owner_id FROM former_agents"
            ).fetchall()
        )
        self.tasks = [json.loads(row[0]) for row in connection.execute("SELECT state FROM tasks")]
        self.sessions = [json.loads(row[0]) for row in connection.execute("SELECT state FROM negotiations")]
        self.rows = list(self._rows())
        self.took = [
            (task["provider_agent_id"], ms_of(task["ended_at"]), ms_of(task["ended_at"]) - ms_of(task["started_at"]))
            for task in self.tasks
            if task["status"] == "completed"
        ]
        self.earned = [
            (provider, at, kind, name, gross, fees)
            for at, provider, client, capability, gross, fees in (*self._all(EARNED), *self._all(STREAMED))
            for kind, name in (("capability", capability), ("counterparty", client))
        ]

    def scopes(self) -> list[str]:
        """Every scope that there is."""
        return [
            "global",
            *(f"agent:{id_}" for id_ in self.owners),
            *sorted({f"user:{id_}" for id_ in self.owners.values()}),
        ]

    def has(self, scope: str, agent_id: str) -> bool:
        """Whether a scope counts what an agent does."""
        return scope in {"global", f"agent:{agent_id}", f"user:{self.owners[agent_id]}"}

    def sums(self, scope: str, *, since: int, until: int) -> dict[str, int]:
        """What a scope counts in a time, but for columns of 0."""
        found: Counter[str] = Counter()
        for agent_id, at, name, amount in self.rows:
            if since <= at < until and self.has(scope, agent_id):
                found[name] += amount
        for session in self.sessions:
            if any(self.has(scope, session[side]) for side in ("client_agent_id", "provider_agent_id")):
                found["negotiations_started"] += since <= ms_of(session["created_at"]) < until
                if session["status"] == "agreed":
                    found["negotiations_completed"] += since <= ms_of(session["ended_at"]) < until
        return {name: amount for name, amount in found.items() if amount}

    def latencies(self, scope: str, bucket_of: Callable[[int], int], *, since: int, until: int) -> dict[int, int]:
        """How many completed tasks took how long."""
        return dict(
            Counter(
                bucket_of(took) for agent_id, at, took in self.took if since <= at < until and self.has(scope, agent_id)
            )
        )

    def revenue(self, scope: str, kind: str, *, since: int, until: int) -> list[tuple[str, int, int]]:
        """What was earned by capability or counterparty, largest first."""
        found: dict[str, tuple[int, int]] = {}
        for agent_id, at, of, name, gross, fees in self.earned:
            if of == kind and since <= at < until and self.has(scope, agent_id):
                before = found.get(name, (0, 0))
                found[name] = (before[0] + gross, before[1] + fees)
        return sorted(((name, *parts) for name, parts in found.items()), key=lambda row: (-row[1], row[0]))

    def heatmap(self, scope: str, *, since: int, until: int) -> list[list[int]]:
        """Starts by weekday and hour."""
        matrix = [[0] * 24 for _ in range(7)]
        for task in self.tasks:
            if task.get("started_at") and self.has(scope, task["provider_agent_id"]):
                at = datetime.fromisoformat(task["started_at"])
                if since <= ms_of(task["started_at"]) < until:
                    matrix[at.weekday()][at.hour] += 1
        return matrix

    def totals(self) -> dict[tuple[str, str], tuple[int, int, int, int]]:
        """By capability and agent: completed, failed, execution_ms, executions."""
        found: dict[tuple[str, str], list[int]] = {}
        for task in self.tasks:
            if task["status"] not in {"completed", "failed"}:
                continue
            row = found.setdefault((task["capability"], task["provider_agent_id"]), [0, 0, 0, 0])
            row[task["status"] == "failed"] += 1
            if task["status"] == "completed":
                row[2] += ms_of(task["ended_at"]) - ms_of(task["started_at"])
                row[3] += 1
        return {key: (row[0], row[1], row[2], row[3]) for key, row in found.items()}

    def _all(self, sql: str) -> list[Any]:
        return self.connection.execute(sql).fetchall()

    def _rows(self) -> Iterator[Row]:
        for task in self.tasks:
            provider = task["provider_agent_id"]
            yield provider, ms_of(task["created_at"]), "tasks_total", 1
            yield task["client_agent_id"], ms_of(task["created_at"]), "tasks_hired", 1
            if task.get("started_at"):
                yield provider, ms_of(task["started_at"]), "tasks_started", 1
            if task["status"] in {"completed", "failed", "cancelled"}:
                ended = ms_of(task["ended_at"])
                yield provider, ended, f"tasks_{task['status']}", 1
                if task["status"] == "completed":
                    yield provider, ended, "execution_ms", ended - ms_of(task["started_at"])
                    yield provider, ended, "executions", 1
        for is_streamed, sql in ((False, EARNED), (True, STREAMED)):
            for at, provider, client, _capability, gross, fees in self._all(sql):
                yield provider, at, "revenue_gross", gross
                yield provider, at, "fees", fees
                yield client, at, "spend", gross
                if is_streamed:
                    yield provider, at, "revenue_streamed", gross
        for at, payer, payee, amount in self._all(TRANSFERS):
            yield payee, at, "transfers_in", 1
            yield payee, at, "transfers_in_amount", amount
            yield payer, at, "transfers_out", 1
            yield payer, at, "transfers_out_amount", amount
        for at, receiver in self._all("SELECT created_at, to_agent_id FROM messages"):
            yield receiver, at, "messages_in", 1

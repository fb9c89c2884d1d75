"""What views must show, computed from the source tables alone: tasks, ledger, channel steps, negotiations, messages.

None of the roll-ups is read here, and no code of ours but the database's file: each number is a question of its own.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import Any, Final, NamedTuple, ParamSpec

Arguments = ParamSpec("Arguments")

DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}
OPEN: Final = ("pending", "in_progress", "disputed")
PAID: Final = "entry.kind IN ('release', 'split')"
PART: Final = "(posting.account = 'platform:fees' OR posting.account LIKE 'agent:' || tasks.provider_agent_id || ':%')"
"""Of what a task paid, all but what went back to the client."""


class Span(NamedTuple):
    """A half-open time, in milliseconds since 1970."""

    since: int
    until: int


def span_of(period: str, now: datetime) -> Span:
    """What a period means at a moment: whole minutes, hours or days, the present one included."""
    match period:
        case "1h":
            end = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
            return _span(end - timedelta(hours=1), end)
        case "24h":
            end = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
            return _span(end - timedelta(hours=24), end)
        case "all":
            return Span(0, 2**62)
        case _:
            end = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            return _span(end - timedelta(days=DAYS[period]), end)


def buckets_of(span: Span, interval_s: int) -> list[Span]:
    """A time in intervals."""
    step = interval_s * 1_000
    return [Span(start, start + step) for start in range(span.since, span.until, step)]


def _span(since: datetime, until: datetime) -> Span:
    return Span(int(since.timestamp() * 1_000), int(until.timestamp() * 1_000))


class Books:
    """The database's file, read beside the server that writes it.

    Args:
        folder: The data folder.
    """

    def __init__(self, folder: Path) -> None:
        self._file = sqlite3.connect(f"file:{folder / 'agrenting.sqlite3'}?mode=ro", uri=True)
        self._file.create_function("ms", 1, _milliseconds, deterministic=True)

    def close(self) -> None:
        """No more questions."""
        self._file.close()

    def one(self, question: str, *values: Any) -> Any:
        """The one value of the one row."""
        (value,) = self._file.execute(question, values).fetchone()
        return value

    def rows(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """All rows."""
        return self._file.execute(question, values).fetchall()

    # Whose numbers.

    def agents_of(self, user_id: str) -> tuple[str, ...]:
        """A user's agents."""
        return tuple(row[0] for row in self.rows("SELECT id FROM agents WHERE owner_id = ?", user_id))

    def everybody(self) -> tuple[str, ...]:
        """Every agent."""
        return tuple(row[0] for row in self.rows("SELECT id FROM agents"))

    # Numbers of some agents over a time.

    def metrics(self, agents: Sequence[str], span: Span) -> dict[str, Any]:
        """Every number that a view shows of some agents; see the names."""
        completed = self._ended(agents, span, "completed")
        failed = self._ended(agents, span, "failed")
        gross, fees = self.earned(agents, span)
        took = self._executions(agents, span)
        into, out_of = self._transfers("to", agents, span), self._transfers("from", agents, span)
        return {
            "tasks_total": self._tasks("provider", agents, span),
            "tasks_hired": self._tasks("client", agents, span),
            "tasks_completed": completed,
            "tasks_failed": failed,
            "tasks_cancelled": self._ended(agents, span, "cancelled"),
            "tasks_active": self.active(agents),
            "success_rate": completed / (completed + failed) if completed + failed else None,
            "avg_execution_time_ms": sum(took) // len(took) if took else None,
            "revenue_gross": gross,
            "fees": fees,
            "revenue_net": gross - fees,
            "spend": self._spent(agents, span),
            "negotiations_started": self._negotiations(agents, span, "created_at"),
            "negotiations_completed": self._negotiations(agents, span, "ended_at", "AND status = 'agreed'"),
            "transfers_in": into[0],
            "transfers_in_amount": into[1],
            "transfers_out": out_of[0],
            "transfers_out_amount": out_of[1],
            "messages_in": self._messages(agents, span),
        }

    def active(self, agents: Sequence[str]) -> int:
        """Tasks that they work on right now."""
        return int(self.one(
            f"SELECT count(*) FROM tasks WHERE status IN {OPEN} AND provider_agent_id IN {_marks(agents)}", *agents
        ))  # fmt: skip

    def _tasks(self, side: str, agents: Sequence[str], span: Span) -> int:
        return int(self.one(
            f"SELECT count(*) FROM tasks WHERE {side}_agent_id IN {_marks(agents)} "
            "AND created_at >= ? AND created_at < ?", *agents, *span
        ))  # fmt: skip

    def _ended(self, agents: Sequence[str], span: Span, status: str) -> int:
        return int(self.one(
            f"SELECT count(*) FROM tasks WHERE provider_agent_id IN {_marks(agents)} AND status = ? "
            "AND ms(state ->> 'ended_at') >= ? AND ms(state ->> 'ended_at') < ?", *agents, status, *span
        ))  # fmt: skip

    def _executions(self, agents: Sequence[str], span: Span) -> list[int]:
        """How long each completed task took."""
        return [
            int((datetime.fromisoformat(ended) - datetime.fromisoformat(started)) / timedelta(milliseconds=1))
            for started, ended in self.rows(
                f"SELECT state ->> 'started_at', state ->> 'ended_at' FROM tasks WHERE status = 'completed' "
                f"AND provider_agent_id IN {_marks(agents)} AND state ->> 'started_at' IS NOT NULL "
                "AND ms(state ->> 'ended_at') >= ? AND ms(state ->> 'ended_at') < ?", *agents, *span
            )
        ]  # fmt: skip

    def earned(self, agents: Sequence[str], span: Span) -> tuple[int, int]:
        """What tasks paid to them before the fee, and the fee."""
        net, fees = self.rows(
            "SELECT coalesce(sum(posting.amount) FILTER (WHERE posting.account LIKE 'agent:%'), 0), "
            "coalesce(sum(posting.amount) FILTER (WHERE posting.account = 'platform:fees'), 0) "
            "FROM ledger_entries AS entry JOIN postings AS posting ON posting.entry_id = entry.id "
            f"JOIN tasks ON tasks.id = entry.task_id WHERE {PAID} "
            f"AND tasks.provider_agent_id IN {_marks(agents)} "
            f"AND {PART} AND entry.created_at >= ? AND entry.created_at < ?", *agents, *span
        )[0]  # fmt: skip
        return net + fees + self._streamed("provider", agents, span), fees

    def _spent(self, agents: Sequence[str], span: Span) -> int:
        """What their tasks paid to those who worked on them, and to the market."""
        paid = self.one(
            "SELECT coalesce(sum(posting.amount), 0) "
            "FROM ledger_entries AS entry JOIN postings AS posting ON posting.entry_id = entry.id "
            f"JOIN tasks ON tasks.id = entry.task_id WHERE {PAID} AND tasks.client_agent_id IN {_marks(agents)} "
            f"AND {PART} AND entry.created_at >= ? AND entry.created_at < ?", *agents, *span
        )  # fmt: skip
        return int(paid) + self._streamed("client", agents, span)

    def _streamed(self, side: str, agents: Sequence[str], span: Span) -> int:
        """Transfers that pay a task as it streams."""
        return int(self.one(
            "SELECT coalesce(sum(step.state ->> '$.details.amount'), 0) FROM channel_steps AS step "
            "JOIN tasks ON tasks.id = step.state ->> '$.details.task_id' WHERE step.kind = 'transfer' "
            f"AND tasks.{side}_agent_id IN {_marks(agents)} AND step.created_at >= ? AND step.created_at < ?",
            *agents, *span
        ))  # fmt: skip

    def _transfers(self, side: str, agents: Sequence[str], span: Span) -> tuple[int, int]:
        """How many transfers, and their sum."""
        count, amount = self.rows(
            "SELECT count(*), coalesce(sum(state ->> '$.details.amount'), 0) FROM channel_steps "
            f"WHERE kind = 'transfer' AND state ->> '$.details.{side}_agent_id' IN {_marks(agents)} "
            "AND created_at >= ? AND created_at < ?", *agents, *span
        )[0]  # fmt: skip
        return count, amount

    def _negotiations(self, agents: Sequence[str], span: Span, at: str, condition: str = "") -> int:
        marks = _marks(agents)
        return int(self.one(
            f"SELECT count(*) FROM negotiations WHERE (client_agent_id IN {marks} OR provider_agent_id IN {marks}) "
            f"AND ms(state ->> '{at}') >= ? AND ms(state ->> '{at}') < ? {condition}", *agents, *agents, *span
        ))  # fmt: skip

    def _messages(self, agents: Sequence[str], span: Span) -> int:
        return int(self.one(
            f"SELECT count(*) FROM messages WHERE to_agent_id IN {_marks(agents)} "
            "AND created_at >= ? AND created_at < ?", *agents, *span
        ))  # fmt: skip

    # Divided.

    def series(self, agents: Sequence[str], metric: str, buckets: Sequence[Span]) -> list[Any]:
        """One metric in each bucket."""
        return [self.metrics(agents, bucket)[metric] for bucket in buckets]

    def earned_by(self, agents: Sequence[str], span: Span, part: str) -> dict[str, tuple[int, int]]:
        """Gross and fees by `capability`, or by the `client`'s handle."""
        name = "tasks.state ->> 'capability'" if part == "capability" else "client.handle"
        rows = self.rows(
            f"SELECT {name}, sum(posting.amount), sum(posting.amount) FILTER (WHERE posting.account = 'platform:fees') "
            "FROM ledger_entries AS entry JOIN postings AS posting ON posting.entry_id = entry.id "
            "JOIN tasks ON tasks.id = entry.task_id JOIN agents AS client ON client.id = tasks.client_agent_id "
            f"WHERE {PAID} AND tasks.provider_agent_id IN {_marks(agents)} AND {PART} "
            "AND entry.created_at >= ? AND entry.created_at < ? GROUP BY 1", *agents, *span
        )  # fmt: skip
        return {one: (gross, fees or 0) for one, gross, fees in rows}

    def heat(self, agents: Sequence[str], span: Span) -> list[list[int]]:
        """Starts of tasks by weekday, Monday first, and hour."""
        matrix = [[0] * 24 for _ in range(7)]
        for weekday, hour, starts in self.rows(
            "SELECT (strftime('%w', state ->> 'started_at') + 6) % 7, strftime('%H', state ->> 'started_at') + 0, "
            f"count(*) FROM tasks WHERE provider_agent_id IN {_marks(agents)} "
            "AND ms(state ->> 'started_at') >= ? AND ms(state ->> 'started_at') < ? GROUP BY 1, 2", *agents, *span
        ):  # fmt: skip
            matrix[weekday][hour] = starts
        return matrix

    # The market.

    def today(self, agents: Sequence[str]) -> dict[str, Any]:
        """Their numbers of the last 24 hours."""
        return self.metrics(agents, span_of("24h", now_utc()))

    def stats(self) -> dict[str, int]:
        """The numbers of the whole market that do not depend on the machine."""
        everybody, now = self.everybody(), now_utc()
        of_day = self.today(everybody)
        return {
            "total_agents": int(self.one("SELECT count(*) FROM agents WHERE status = 'active'")),
            "total_tasks": int(self.one("SELECT count(*) FROM tasks")),
            "active_tasks": self.active(everybody),
            "volume_24h": of_day["revenue_gross"] + of_day["transfers_in_amount"]
            - self._streamed("provider", everybody, span_of("24h", now)),
        }  # fmt: skip

    # One of a kind.

    def balance(self, agent_id: str) -> dict[str, int]:
        """What an agent has: to spend, held for its tasks, its side of its channels, and all of that."""
        available = self.one(
            "SELECT coalesce(sum(balance), 0) FROM accounts WHERE name = ?", f"agent:{agent_id}:available"
        )
        escrow = self.one(
            "SELECT coalesce(sum(balance), 0) FROM accounts JOIN tasks ON name = 'task:' || tasks.id || ':escrow' "
            "WHERE tasks.client_agent_id = ?", agent_id
        )  # fmt: skip
        channels = self.one(
            "SELECT coalesce(sum(CASE agent_a_id WHEN ? THEN state ->> 'balance_a' ELSE state ->> 'balance_b' END), 0) "
            "FROM payment_channels WHERE status <> 'closed' AND ? IN (agent_a_id, agent_b_id)", agent_id, agent_id
        )  # fmt: skip
        total = available + escrow + channels
        return {"available": available, "escrow": escrow, "channels": channels, "total": total}

    def stars(self, agent_id: str) -> float:
        """An agent's reputation: one outcome a day of each client's owner, five tasks given to begin with."""
        completed, counted = self.rows(
            "SELECT coalesce(sum(is_completed), 0), count(*) FROM outcomes WHERE provider_agent_id = ?", agent_id
        )[0]
        return float(5 * (completed + 3.5) / (counted + 5))

    def peers(self, capability: str) -> dict[str, tuple[int, float | None, int | None]]:
        """Price, success rate and mean time of each agent that offers a capability, by handle, of all time."""
        found: dict[str, tuple[int, float | None, int | None]] = {}
        for id_, handle, price in self.rows(
            "SELECT agents.id, handle, offered.value ->> 'price' "
            "FROM agents, json_each(state, '$.capabilities') AS offered "
            "WHERE status = 'active' AND offered.value ->> 'name' = ?", capability
        ):  # fmt: skip
            completed, failed, took = self.rows(
                "SELECT coalesce(sum(status = 'completed'), 0), coalesce(sum(status = 'failed'), 0), "
                "sum(iif(status = 'completed', round((julianday(state ->> 'ended_at') "
                "- julianday(state ->> 'started_at')) * 86400000), 0)) "
                "FROM tasks WHERE provider_agent_id = ? AND state ->> 'capability' = ?", id_, capability
            )[0]  # fmt: skip
            rate = completed / (completed + failed) if completed + failed else None
            found[handle] = (price, rate, int(took) // completed if completed else None)
        return found

    def within_ms(self, agents: Sequence[str], span: Span, percent: int) -> int | None:
        """The time that so many of a hundred completed tasks took at most, by nearest rank."""
        took = sorted(self._executions(agents, span))
        return took[-(-percent * len(took) // 100) - 1] if took else None

    def stream(self, task_id: str, direction: str) -> tuple[int, int]:
        """How many chunks of a stream there are, and how many bytes."""
        count, size = self.rows(
            "SELECT count(*), sum(length(chunk)) FROM chunks WHERE task_id = ? AND direction = ?", task_id, direction
        )[0]
        return count, size

    def steps(self, channel_id: str) -> list[tuple[int | None, int | None, int, int]]:
        """A channel's steps: nonce and amount of a transfer, None for others; and the balances after it."""
        return [
            (nonce, amount, balance_a, balance_b)
            for nonce, amount, balance_a, balance_b in self.rows(
                "SELECT iif(kind = 'transfer', nonce, NULL), "
                "iif(kind = 'transfer', state ->> '$.details.amount', NULL), "
                "state ->> 'balance_a', state ->> 'balance_b' FROM channel_steps WHERE channel_id = ? ORDER BY number",
                channel_id,
            )
        ]

    def amounts_of(self, table: str, agent_id: str) -> list[list[int]]:
        """The amounts that a list of an agent shows, newest first: prices; offers and agreements; balances."""
        if table == "tasks":
            return [[price] for (price,) in self.rows(
                "SELECT state ->> 'price' FROM tasks WHERE ? IN (client_agent_id, provider_agent_id) ORDER BY id DESC",
                agent_id,
            )]  # fmt: skip
        if table == "payment_channels":
            return [[one, other] for one, other in self.rows(
                "SELECT iif(agent_a_id = ?1, state ->> 'balance_a', state ->> 'balance_b'), "
                "iif(agent_a_id = ?1, state ->> 'balance_b', state ->> 'balance_a') FROM payment_channels "
                "WHERE ?1 IN (agent_a_id, agent_b_id) ORDER BY id DESC", agent_id,
            )]  # fmt: skip
        rows = self.rows(
            "SELECT (SELECT value ->> 'amount' FROM json_each(state, '$.offers') WHERE value ->> 'agent_id' = ?1 "
            "ORDER BY key DESC LIMIT 1), (SELECT value ->> 'amount' FROM json_each(state, '$.offers') "
            "WHERE value ->> 'agent_id' <> ?1 ORDER BY key DESC LIMIT 1), state ->> 'amount' "
            "FROM negotiations WHERE ?1 IN (client_agent_id, provider_agent_id) ORDER BY id DESC", agent_id,
        )  # fmt: skip
        return [[amount for amount in row if amount is not None] for row in rows]


def _milliseconds(text: str | None) -> int | None:
    """A time as it stands in a state, as the tables' columns have it."""
    return None if text is None else int(datetime.fromisoformat(text).timestamp() * 1_000)


def _marks(values: Sequence[str]) -> str:
    return f"({', '.join('?' * len(values))})"


def at_one_time(test: Callable[Arguments, Awaitable[None]]) -> Callable[Arguments, Awaitable[None]]:
    """A test that looks at a period on the page and in the tables: between both looks the period may have moved on.

    What fails while a minute ends, with which periods of an hour, a day and more move, too, is looked at once more.
    """

    @wraps(test)
    async def looked_at(*args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        minute = now_utc().replace(second=0, microsecond=0)
        try:
            await test(*args, **kwargs)
        except AssertionError:
            if minute == now_utc().replace(second=0, microsecond=0):
                raise
            await test(*args, **kwargs)

    return looked_at


def now_utc() -> datetime:
    """The present."""
    return datetime.now(UTC)

"""A market that has a past: so many tasks of so many agents over 90 days, with what belongs to them.

It is written straight into a migrated database, most of it by SQL: tasks with their holds, releases and refunds,
negotiations, payment channels with their transfers, messages. More happens by day than at night, and less at weekends;
few agents do much and many do little. The roll-ups are filled by what `agrenting doctor` holds them against.

What no analytics rests on is left out: signatures, chunks, progress. `python -m benchmarks.history FOLDER --tasks N`
makes a folder that a server can be started on.
"""

import argparse
import itertools
import math
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

import msgspec

from agrenting import auth
from agrenting.clock import to_ms
from agrenting.config import load_settings
from agrenting.db import agents as agent_rows
from agrenting.db import rollup_sources
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import WriterTx
from agrenting.ids import new_id
from agrenting.market import fix_market
from benchmarks.history_sql import BESIDE, DEALS, LEDGER, MADE, UNIT
from channels.agents import Agent, Capability

DAYS: Final = 90
AGENTS, OWNERS = 10_000, 2_000
TASKS: Final = 1_000_000
CAPABILITIES: Final = tuple(f"skill_{number:02d}" for number in range(40))
CAPABILITIES_EACH: Final = 3

HEAVY: Final = 30
"""The n-th busiest agent does 1 / (n + this) of what is done, but for a constant. Source: Zipf's law, blunted."""

ROWS_AT_ONCE: Final = 100_000
SEED: Final = 7
_INDEXES: Final = ("tasks", "negotiations", "messages", "payment_channels", "ledger_entries", "postings")
"""Tables whose indexes are made at last: that is faster than to keep them on the way."""

Tell = Callable[[str], None]


class History(msgspec.Struct, frozen=True, kw_only=True):
    """Who there is in it.

    Args:
        path: The database file.
        owners: The ids of all owners; that of an agent is at its place modulo their number.
        agents: The ids of all agents, the busiest first.
    """

    path: Path
    owners: tuple[str, ...]
    agents: tuple[str, ...]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The one that was made in a folder."""
        path = load_settings({"data_dir": str(folder)}, environment={}).database_path
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            owners = database.execute("SELECT id FROM users WHERE handle LIKE 'owner-%' ORDER BY id").fetchall()
            agents = database.execute("SELECT id FROM agents ORDER BY number").fetchall()
        return cls(path=path, owners=tuple(row[0] for row in owners), agents=tuple(row[0] for row in agents))

    def key(self, place: int) -> str:
        """A new API key of the owner of the agent at a place."""
        with closing(open_writer(self.path, busy_timeout_s=10.0)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            secret, _ = auth.make_key(
                WriterTx(connection, {}),
                user_id=self.owner_of(place),
                agent_id=None,
                parent_id=None,
                name="benchmark",
                scopes=None,
                is_operator=False,
                now=datetime.now(UTC),
            )
            connection.execute("COMMIT")
        return secret

    def owner_of(self, place: int) -> str:
        """Whose the agent at a place is."""
        return self.owners[place % len(self.owners)]


def make(
    folder: Path,
    *,
    tasks: int = TASKS,
    agents: int = AGENTS,
    owners: int = OWNERS,
    now: datetime | None = None,
    tell: Tell = lambda _text: None,
) -> History:
    """Make a data folder with a past.

    Args:
        folder: A new one.
        tasks: How many there were.
        agents, owners: How many there are.
        now: The end of the 90 days.
        tell: Told how far it is.
    """
    settings = load_settings({"data_dir": str(folder)}, environment={})
    folder.mkdir(parents=True, exist_ok=True)
    migrate(settings.database_path)
    ends = datetime.now(UTC) if now is None else now
    made = History(
        path=settings.database_path,
        owners=tuple(new_id() for _ in range(owners)),
        agents=tuple(new_id() for _ in range(agents)),
    )
    with closing(sqlite3.connect(settings.database_path, isolation_level=None)) as database:
        steps = {
            "who does what when": lambda: _plan(database, made, tasks, ends),
            "tasks": lambda: _run(database, DEALS),
            "ledger": lambda: _run(database, LEDGER),
            "negotiations, messages, channels": lambda: _run(database, BESIDE),
            "indexes": lambda: _mend(database),
        }
        database.executescript(
            "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-500000"
        )
        for name, step in steps.items():
            _timed(tell, name, step)
        database.execute("PRAGMA journal_mode=WAL")
    _timed(tell, "agents", lambda: _write(made, lambda tx: _enrol(tx, made, ends)))
    _timed(tell, "market", lambda: _write(made, lambda tx: fix_market(tx, settings)))
    _timed(tell, "roll-ups", lambda: _write(made, lambda tx: rollup_sources.rebuild(tx, now=ends)))
    return made


def _timed(tell: Tell, name: str, step: Callable[[], object]) -> None:
    started = time.perf_counter()
    step()
    tell(f"{name}: {time.perf_counter() - started:.1f} s")


def _write(made: History, change: Callable[[WriterTx], object]) -> None:
    with closing(open_writer(made.path, busy_timeout_s=1.0)) as connection:
        connection.executescript("PRAGMA synchronous=OFF; PRAGMA cache_size=-500000")
        connection.execute("BEGIN")
        change(WriterTx(connection, {}))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


# What is planned in Python: one row of numbers a task.


def _plan(database: sqlite3.Connection, made: History, tasks: int, ends: datetime) -> None:
    """Fill the tables of the plan, and take away the indexes that would slow the filling down."""
    database.executescript(MADE)
    rows = ((place, id_, made.owner_of(place)) for place, id_ in enumerate(made.agents))
    database.executemany("INSERT INTO who VALUES (?, ?, ?)", rows)
    tables = ", ".join(f"'{name}'" for name in _INDEXES)
    database.execute(
        "CREATE TEMP TABLE mend AS SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        f" AND tbl_name IN ({tables})"
    )
    for (name,) in database.execute("SELECT name FROM mend").fetchall():
        database.execute(f"DROP INDEX {name}")
    database.execute("BEGIN")
    database.executemany(
        "INSERT INTO users (id, handle, is_operator, created_at) VALUES (?, ?, 0, ?)",
        ((id_, f"owner-{place}", to_ms(ends) - DAYS * 86_400_000) for place, id_ in enumerate(made.owners)),
    )
    rows_to_come = planned(tasks, agents=len(made.agents), ends=ends)
    while rows_now := [*itertools.islice(rows_to_come, ROWS_AT_ONCE)]:
        database.executemany("INSERT INTO made VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows_now)
    database.execute("COMMIT")


def planned(
    tasks: int, *, agents: int, ends: datetime
) -> Iterator[tuple[int, str, int, int, str, int, int, int | None, int | None, str]]:
    """Each task, in the order of their opening."""
    chance = random.Random(SEED)
    places = range(agents)
    weights = [1 / (place + HEAVY) for place in places]
    clients = [*places]
    chance.shuffle(clients)  # Who buys much is not who sells much.
    providers = chance.choices(places, weights, k=tasks)
    buyers = chance.choices(clients, weights, k=tasks)
    until = to_ms(ends)
    for number, created in enumerate(sorted(_moments(chance, tasks, until))):
        provider, client = providers[number], buyers[number]
        if client == provider:
            client = (client + 1) % agents
        outcome = _outcome(chance)
        started = None if outcome == "cancelled" else created + chance.randrange(50, 20_000)
        took = 0 if started is None else min(600_000, int(chance.lognormvariate(8.5, 1.2)))
        ended: int | None = (created + 5_000 if started is None else started) + took
        if ended is not None and ended >= until:
            outcome, ended = ("in_progress" if started is not None and started < until else "pending"), None
            started = started if outcome == "in_progress" else None
        capability = capabilities_of(provider)[number % CAPABILITIES_EACH]
        price = UNIT // 10 * chance.randrange(5, 200)  # Rounds down nothing: a unit has tenths.
        yield number, _id(created, 1, number), client, provider, capability, price, created, started, ended, outcome


def _outcome(chance: random.Random) -> str:
    return chance.choices(("completed", "failed", "cancelled"), (91, 5, 4))[0]


def capabilities_of(place: int) -> tuple[str, ...]:
    """What the agent at a place offers: neighbours of different owners share them."""
    return tuple(CAPABILITIES[(place + 7 * number) % len(CAPABILITIES)] for number in range(CAPABILITIES_EACH))


def _moments(chance: random.Random, count: int, until: int) -> list[int]:
    """When tasks are opened, in milliseconds since 1970: more by day, fewer at weekends."""
    hours = range(DAYS * 24)
    weights = [_busyness(until - (DAYS * 24 - hour) * 3_600_000) for hour in hours]
    return [
        until - (DAYS * 24 - hour) * 3_600_000 + chance.randrange(3_600_000)
        for hour in chance.choices(hours, weights, k=count)
    ]


def _busyness(moment: int) -> float:
    """How much happens in an hour, by its time of day and day of the week, UTC."""
    then = datetime.fromtimestamp(moment / 1_000, UTC)
    by_day = 1 - 0.8 * math.cos(2 * math.pi * (then.hour - 2) / 24)
    return by_day * (0.4 if then.weekday() >= 5 else 1.0)  # noqa: PLR2004 - Saturday is 5


def _id(created: int, kind: int, number: int) -> str:
    """An id that sorts by time, as those of the server do."""
    stamp = f"{created:012x}"
    return f"{stamp[:8]}-{stamp[8:]}-7{kind:03x}-8000-{number:012x}"


def _run(database: sqlite3.Connection, script: str) -> None:
    database.executescript(f"BEGIN; {script}; COMMIT;")


def _mend(database: sqlite3.Connection) -> None:
    for (sql,) in database.execute("SELECT sql FROM mend").fetchall():
        database.execute(sql)


def _enrol(tx: WriterTx, made: History, ends: datetime) -> None:
    """The agents, with the reputation that their tasks have given them."""
    began = ends - timedelta(days=DAYS)
    counted = {
        row[0]: (row[1], row[2])
        for row in tx.all(
            "SELECT provider_agent_id, sum(is_completed), sum(NOT is_completed) FROM outcomes"
            " GROUP BY provider_agent_id"
        )
    }
    for place, id_ in enumerate(made.agents):
        completed, failed = counted.get(id_, (0, 0))
        owner = place % len(made.owners)
        agent_rows.insert(
            tx,
            Agent(
                id=id_,
                owner_id=made.owners[owner],
                name=f"Agent {place}",
                handle=f"owner-{owner}/agent-{place}",
                description="It is part of a benchmark.",
                capabilities=tuple(Capability(name, UNIT * (1 + place % 20)) for name in capabilities_of(place)),
                tasks_completed=completed,
                tasks_failed=failed,
                created_at=began,
                updated_at=ends,
            ),
        )


def main() -> None:
    """Make a folder with a past."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("folder", type=Path, help="a new data folder")
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--agents", type=int, default=AGENTS)
    parser.add_argument("--owners", type=int, default=OWNERS)
    chosen = parser.parse_args()
    make(chosen.folder, tasks=chosen.tasks, agents=chosen.agents, owners=chosen.owners, tell=print)


if __name__ == "__main__":
    main()

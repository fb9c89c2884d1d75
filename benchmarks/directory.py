"""The directory over many agents: a page near the front against one far behind it, by each way of asking."""

import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agrenting.clock import system_clock
from agrenting.db import agents, directory
from agrenting.db.database import open_writer
from agrenting.db.migrate import migrate
from agrenting.db.transaction import Tx, WriterTx
from agrenting.ids import new_id
from benchmarks.measures import Effort, Result
from channels.agents import Agent, Capability
from channels.contacts import Party
from channels.discovery import Search

AGENTS, AGENTS_QUICK = 100_000, 5_000
WORDS = 5_000
PAGE, FAR_PAGE = 20, 1_000
SEARCHES = 200
VIEWER = Party(id="viewer", user_id="viewer")
QUICK_S = 2.0
"""Rounds shorter than this are made with fewer agents."""


async def search(effort: Effort) -> list[Result]:
    """99th percentiles of page 1 and page 1,000 (or the last one), in milliseconds."""
    count = AGENTS_QUICK if effort.seconds < QUICK_S else AGENTS
    with tempfile.TemporaryDirectory() as folder, _market(Path(folder) / "bench.sqlite3", count) as tx:
        return [_compare(tx, name, list(itertools.islice(asked, SEARCHES)), count) for name, asked in _ways().items()]


def _ways() -> dict[str, Iterator[Search]]:
    """How people ask: words come as often as they are used."""
    words = _words(random.Random(2))
    return {
        "everything": (Search() for _ in itertools.count()),
        "one word": (Search(query=next(words)) for _ in itertools.count()),
        "two words": (Search(query=f"{next(words)} {next(words)}") for _ in itertools.count()),
        "a tag": (Search(tags=(next(words),)) for _ in itertools.count()),
    }


def _words(chance: random.Random) -> Iterator[str]:
    """Words of a language: the n-th most frequent one comes 1/n times as often as the first. Source: Zipf's law."""
    names = [f"w{number:04d}x" for number in range(WORDS)]
    weights = [1 / (number + 1) for number in range(WORDS)]
    while True:
        yield from chance.choices(names, weights, k=1_000)


@contextmanager
def _market(path: Path, count: int) -> Generator[Tx, None, None]:
    """A database with so many listed agents, of 24 words each."""
    migrate(path)
    words, chance, now = _words(random.Random(1)), random.Random(3), datetime.now(UTC)
    with closing(open_writer(path, busy_timeout_s=1.0)) as connection:
        connection.execute("BEGIN")
        for number in range(count):
            tx = WriterTx(connection, {})
            agents.insert(tx, _agent(number, words, chance, now))
            tx.keep()
        connection.execute("COMMIT")
        yield WriterTx(connection, {})


def _agent(number: int, words: Iterator[str], chance: random.Random, now: datetime) -> Agent:
    owner = number % (1 + number // 5)
    return Agent(
        id=new_id(),
        owner_id=f"user-{owner}",
        name=f"{next(words)} {next(words)}",
        handle=f"user-{owner}/agent-{number}",
        description=" ".join(itertools.islice(words, 18)),
        capabilities=(Capability(next(words), 100),),
        tags=tuple(dict.fromkeys(itertools.islice(words, 3))),
        tasks_completed=chance.randrange(40),
        tasks_failed=chance.randrange(20),
        created_at=now,
        updated_at=now,
    )


def _compare(tx: Tx, name: str, searches: list[Search], count: int) -> Result:
    near = [_time(tx, search, directory.Mark()) for search in searches]
    far = [_time(tx, search, _far_mark(tx, search)) for search in searches[: SEARCHES // 4]]
    front, back = (statistics.quantiles(times, n=100)[98] for times in (near, far))
    return Result(
        f"directory of {count:,}, {name}: p99 of page 1 / of page {FAR_PAGE:,} or the last",
        f"{front:.2f} ms",
        f"{back:.2f} ms",
        front / back,
        "< 10 ms",
    )


def _far_mark(tx: Tx, search: Search) -> directory.Mark:
    """Where page 1,000 begins, or the last one."""
    limit = PAGE * (FAR_PAGE - 1)
    found = directory.find(tx, search, viewer=VIEWER, after=directory.Mark(), limit=limit, now=system_clock())
    return found[max(0, len(found) - 1 - (PAGE if len(found) < limit else 0))].mark if found else directory.Mark()


def _time(tx: Tx, search: Search, after: directory.Mark) -> float:
    """Milliseconds of one page, with one row more, as REST asks it."""
    started = time.perf_counter()
    directory.find(tx, search, viewer=VIEWER, after=after, limit=PAGE + 1, now=system_clock())
    return (time.perf_counter() - started) * 1_000

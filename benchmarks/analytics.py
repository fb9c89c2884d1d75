"""Analytics over a market with a past: every question at one size of it and at ten times that, and what sums cost."""

import asyncio
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from agrenting.client import PhoenixSocket
from agrenting.config import load_settings
from agrenting.deciding import Command
from agrenting.server import Server
from benchmarks.history import AGENTS, OWNERS, TASKS, History, make
from benchmarks.lives import added
from benchmarks.measures import Effort, Result
from benchmarks.servers import ours
from channels import analytics
from channels.analytics import RequestHeatmap, RequestMetrics, RequestRevenue, RequestTimeSeries, SeriesOptions
from channels.handlers import Empty, Handler
from channels.identity import Identity
from channels.periods import PERIODS
from channels.scopes import GLOBAL, topic_of

KEPT_IN: Final = "BENCHMARK_HISTORIES"
"""The environment variable that names a folder where pasts are kept from one run to the next."""

QUICK_TASKS, QUICK_AGENTS, QUICK_OWNERS = 2_000, 100, 20
QUICK_S: Final = 2.0
SMALLER: Final = 10
"""The smaller past has so many times fewer tasks."""

BUSIEST, OTHERS = 5, 35
"""Whose numbers are asked: the busiest agents, and others by chance, fewer where there are few; and their owners."""

SEED: Final = 11
GOAL: Final = "p99 < 20 ms, ratio ~ 1"
METRICS: Final = ("tasks_total", "revenue_net", "success_rate", "p95_execution_time_ms", "tasks_active")
"""What series are asked of: one of each kind of computation."""


class Question(msgspec.Struct, frozen=True):
    """One question.

    Args:
        kind: Whose numbers: `agent`, `user` or `global`.
        event: What is asked.
        period: Over which time; empty where that is no matter.
        scope: The whole scope.
        handler, request: How the server answers it.
    """

    kind: str
    event: str
    period: str
    scope: str
    handler: Handler
    request: Any


async def analytics_(effort: Effort) -> list[Result]:
    """Latencies of every question, and what the roll-ups add to the commits of a task's life."""
    is_quick = effort.seconds < QUICK_S
    tasks, agents, owners = (QUICK_TASKS, QUICK_AGENTS, QUICK_OWNERS) if is_quick else (TASKS, AGENTS, OWNERS)
    with tempfile.TemporaryDirectory() as temporary:
        kept = Path(os.environ.get(KEPT_IN, temporary))
        large = _past(kept, tasks, agents=agents, owners=owners)
        small = _past(kept, tasks // SMALLER, agents=agents, owners=owners)
        results = [
            *_compare(await _latencies(large, effort), await _latencies(small, effort), (tasks, tasks // SMALLER)),
            await _on_the_wire(large, small, effort),
        ]
    return [*results, *await added(effort)]


def _past(kept: Path, tasks: int, *, agents: int, owners: int) -> History:
    """A past of so many tasks: the one that is kept, or a new one."""
    folder = kept / f"{tasks}-tasks"
    if not folder.exists():
        make(folder, tasks=tasks, agents=agents, owners=owners, tell=lambda text: print(f"  {tasks:,} tasks: {text}"))
    return History.load(folder)


# Through the engine.


@asynccontextmanager
async def _running(past: History) -> AsyncIterator[Server]:
    """A server on it, in this process and without sockets."""
    async with Server(load_settings({"data_dir": str(past.path.parent)}, environment={})) as server:
        yield server


async def _latencies(past: History, effort: Effort) -> dict[tuple[str, str, str], list[float]]:
    """Milliseconds of each question's answer, by kind, event and period: the median of the rounds.

    So a question that is slow counts, and a moment in which the machine did something else does not.
    """
    found: dict[tuple[str, str, str], list[float]] = {}
    async with _running(past) as server:
        for question in _questions(past):
            command = _command(past, question)
            times: list[float] = []
            for _ in range(1 + effort.rounds):
                started = time.perf_counter()
                await server.engine.execute(command)
                times.append((time.perf_counter() - started) * 1_000)
            found.setdefault((question.kind, question.event, question.period), []).append(statistics.median(times[1:]))
    return found


def _questions(past: History) -> Iterator[Question]:
    """Every question of every scope over every period."""
    handlers, series = analytics.HANDLERS, itertools.cycle(METRICS)
    for kind, scope in _scopes(past):
        for period in PERIODS:
            requests: dict[str, Any] = {
                "request_metrics": RequestMetrics(period),
                "request_time_series": RequestTimeSeries(next(series), SeriesOptions(period)),
                "request_revenue": RequestRevenue(period),
                "request_heatmap": RequestHeatmap(period),
            }
            for event, request in requests.items():
                if not (scope == GLOBAL and event == "request_revenue"):
                    yield Question(kind, event, period, scope, handlers[event], request)
        yield Question(kind, "subscribe_alerts", "", scope, handlers["subscribe_alerts"], Empty())
        yield Question(kind, "join", "", scope, analytics.JOIN, Empty())
    for _ in range(BUSIEST + OTHERS):
        yield Question(GLOBAL, "stats", "", GLOBAL, analytics.STATS, Empty())


def _scopes(past: History) -> Iterator[tuple[str, str]]:
    places = _places(past)
    for place in places:
        yield "agent", f"agent:{past.agents[place]}"
    for place in places:
        yield "user", f"user:{past.owner_of(place)}"
    for _ in places:
        yield GLOBAL, GLOBAL


def _places(past: History) -> list[int]:
    """The agents that are asked about."""
    others = random.Random(SEED).sample(range(BUSIEST, len(past.agents)), min(OTHERS, len(past.agents) // 20))
    return [*range(BUSIEST), *others]


def _command(past: History, question: Question) -> Command:
    """The question, of whoever may ask it."""
    kind, _, id_ = question.scope.partition(":")
    owner = past.owner_of(past.agents.index(id_)) if kind == "agent" else id_
    asker = Identity(kind="user", user_id=owner, handle="asker", key_id="")
    return Command(handler=question.handler, topic=topic_of(question.scope), request=question.request, sender=asker)


def _compare(
    large: dict[tuple[str, str, str], list[float]],
    small: dict[tuple[str, str, str], list[float]],
    sizes: tuple[int, int],
) -> list[Result]:
    """A line for each question, over all periods; the ratio is that of the medians of each period, in the middle."""
    results: list[Result] = []
    for kind, event in dict.fromkeys((kind, event) for kind, event, _ in large):
        periods = [key for key in large if key[:2] == (kind, event)]
        slowest = max(periods, key=lambda key: _p99(large[key]))
        ratio = statistics.median(statistics.median(large[key]) / statistics.median(small[key]) for key in periods)
        times = [[took for key in periods for took in latencies[key]] for latencies in (large, small)]
        worst = f", slowest over {slowest[2]}" if slowest[2] else ""
        what = f"{kind}: {event}{worst}: p50, p99 of {sizes[0]:,} / {sizes[1]:,}"
        results.append(Result(what, _shown(times[0]), _shown(times[1]), ratio, GOAL))
    return results


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100, method="inclusive")[98]


def _shown(times: list[float]) -> str:
    return f"{statistics.median(times):.1f}, {_p99(times):.1f} ms"


# Over a socket.


async def _on_the_wire(large: History, small: History, effort: Effort) -> Result:
    """The numbers of 90 days of the busiest agent, one question after the other over a real socket."""
    times = [await _asked_on_a_socket(past, effort) for past in (large, small)]
    ratio = statistics.median(times[0]) / statistics.median(times[1])
    return Result(
        "over a socket: request_metrics of 90 days, busiest agent", _shown(times[0]), _shown(times[1]), ratio, GOAL
    )


async def _asked_on_a_socket(past: History, effort: Effort) -> list[float]:
    times: list[float] = []
    key = past.key(0)
    with ours(past.path.parent) as server:
        async with PhoenixSocket(server.url, key) as socket:
            topic = await socket.join(topic_of(f"agent:{past.agents[0]}"))
            until = time.perf_counter() + effort.seconds
            while time.perf_counter() < until or len(times) < BUSIEST:
                started = time.perf_counter()
                await topic.push("request_metrics", {"period": "90d"})
                times.append((time.perf_counter() - started) * 1_000)
                await asyncio.sleep(0)
    return times

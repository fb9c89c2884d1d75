"""What is measured, each as rounds of ours and the peer in turn."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.load import Client, Script, connect, disconnect
from benchmarks.servers import Serving, command, make_agent, ours, peer

Measure = Callable[[], Awaitable[tuple[float, float]]]

SOCKETS = 50
SETTLE_S = 0.3
MEMORY_SOCKETS = 2_000
MEMORY_EXPECTED_KIB = 30


@dataclass(frozen=True)
class Result:
    """One line of the table. `ratio` is ours over the peer's; `expected` what it should at least be."""

    what: str
    ours: str
    peer: str
    ratio: float | None
    expected: str = ""


@dataclass(frozen=True)
class Effort:
    """How long: seconds a round, and rounds."""

    seconds: float
    rounds: int


async def rate(server: Serving, scripts: list[Script], *, in_flight: int, seconds: float) -> tuple[float, float]:
    """Replies per CPU-second of the server, and per second."""
    clients = await connect(server.url, scripts, in_flight)
    for client in clients:
        client.start()
    await asyncio.sleep(SETTLE_S)
    count, cpu, started = sum(c.replies for c in clients), server.cpu_s(), time.perf_counter()
    await asyncio.sleep(seconds)
    count, cpu = sum(c.replies for c in clients) - count, server.cpu_s() - cpu
    wall = time.perf_counter() - started
    errors = sum(client.errors for client in clients)
    await disconnect(clients)
    if errors or not count:
        raise RuntimeError(f"{errors} of {count} replies were errors")
    return count / cpu, count / wall


async def echo(effort: Effort) -> list[Result]:
    """The whole hub without a database, against the peer."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        command(Path(folder), "user", "create", "alice")
        account = make_agent(Path(folder), "alice", "Agent")
        with ours(Path(folder)) as server, peer() as bare:
            for in_flight in (1, 8):
                scripts = [Script(f"room:{n}", "echo", key=account.key) for n in range(SOCKETS)]
                mine, theirs = await _in_turn(
                    effort,
                    partial(rate, server, scripts, in_flight=in_flight, seconds=effort.seconds),
                    partial(rate, bare, scripts, in_flight=in_flight, seconds=effort.seconds),
                )
                results.append(_compare(f"echo, {SOCKETS} sockets, {in_flight} in flight", mine, theirs, "≥ 0.40"))
    return results


async def event(effort: Effort) -> list[Result]:
    """A real event, durable before its reply, and a question, through the whole hub, against the peer's echo."""
    results = []
    with tempfile.TemporaryDirectory() as folder, peer() as bare:
        data = Path(folder)
        command(data, "user", "create", "alice")
        client = make_agent(data, "alice", "Client")
        provider = make_agent(data, "alice", "Provider", "--capability", "work=0")
        with ours(data) as server:
            tasks = open_tasks(server.url, client.key, provider.id)
            progress = [Script(f"task:{id_}", "progress", '{"percent":50}', provider.key) for id_ in tasks]
            discover = [Script("agents:discovery", "discover", '{"capability":"work"}', client.key)] * SOCKETS
            echoing = [Script(f"room:{n}", "echo") for n in range(SOCKETS)]
            for name, scripts in (("progress, durable", progress), ("discover", discover)):
                for in_flight in (1, 8):
                    mine, theirs = await _in_turn(
                        effort,
                        partial(rate, server, scripts, in_flight=in_flight, seconds=effort.seconds),
                        partial(rate, bare, echoing, in_flight=in_flight, seconds=effort.seconds),
                    )
                    results.append(_compare(f"{name}, {SOCKETS} sockets, {in_flight} in flight", mine, theirs))
    return results


def open_tasks(url: str, key: str, provider_id: str) -> list[str]:
    """Tasks that cost nothing, one for each socket."""
    with httpx.Client(base_url=url, headers={"x-api-key": key}) as rest:
        body = {"provider_agent_id": provider_id, "capability": "work", "max_price": 0}
        answers = [rest.post("/api/v1/tasks", json=body) for _ in range(SOCKETS)]
        return [answer.json()["data"]["task_id"] for answer in answers]


async def fan_out(server: Serving, key: str, *, subscribers: int, at_once: int, seconds: float) -> tuple[float, float]:
    """Deliveries per CPU-second of the server, and per second."""
    clients = await connect(server.url, [Script("room:fan", "shout", key=key)] * subscribers)
    arrived = asyncio.Event()
    missing = 0

    def delivered() -> None:
        nonlocal missing
        missing -= 1
        if missing == 0:
            arrived.set()

    for client in clients:
        client.on_delivery = delivered
    count, cpu, started = 0, server.cpu_s(), time.perf_counter()
    while time.perf_counter() - started < seconds:
        missing = subscribers * at_once
        arrived.clear()
        for _ in range(at_once):
            clients[0].push()
        await asyncio.wait_for(arrived.wait(), 30)
        count += subscribers * at_once
    wall, cpu = time.perf_counter() - started, server.cpu_s() - cpu
    await disconnect(clients)
    return count / cpu, count / wall


async def fanout(effort: Effort) -> list[Result]:
    """One message to many."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        command(Path(folder), "user", "create", "alice")
        key = make_agent(Path(folder), "alice", "Agent").key
        with ours(Path(folder)) as server, peer() as bare:
            for subscribers in (100, 1_000):
                for at_once in (1, 16):

                    def run(to: Serving, n: int = subscribers, k: int = at_once) -> Measure:
                        return lambda: fan_out(to, key, subscribers=n, at_once=k, seconds=effort.seconds)

                    mine, theirs = await _in_turn(effort, run(server), run(bare))
                    what = f"fan-out to {subscribers}, {at_once} at once"
                    results.append(_compare(what, mine, theirs, "≥ 0.50"))
    return results


async def memory(effort: Effort) -> list[Result]:
    """Memory per idle joined socket."""
    sockets = MEMORY_SOCKETS if effort.rounds > 1 else MEMORY_SOCKETS // 4
    with tempfile.TemporaryDirectory() as folder:
        command(Path(folder), "user", "create", "alice")
        key = make_agent(Path(folder), "alice", "Agent").key
        used = []
        with ours(Path(folder)) as server, peer() as bare:
            for to in (server, bare):
                warm = await connect(to.url, [Script("room:warm", key=key)] * 50)
                before = to.rss_kib()
                clients: list[Client] = await connect(to.url, [Script(f"room:{n}", key=key) for n in range(sockets)])
                await asyncio.sleep(SETTLE_S)
                used.append((to.rss_kib() - before) / sockets)
                await disconnect([*clients, *warm])
    mine, theirs = used
    expected = f"ours ≤ {MEMORY_EXPECTED_KIB} KiB"
    return [Result("idle joined socket", f"{mine:.1f} KiB", f"{theirs:.1f} KiB", mine / theirs, expected)]


async def _in_turn(effort: Effort, mine: Measure, theirs: Measure) -> tuple[list[float], list[float]]:
    """Rounds of both in turn: figures per CPU-second."""
    ours_: list[float] = []
    peers_: list[float] = []
    for _ in range(effort.rounds):
        for measure, figures in ((mine, ours_), (theirs, peers_)):
            per_cpu, _ = await measure()
            figures.append(per_cpu)
    return ours_, peers_


def _compare(what: str, mine: list[float], theirs: list[float], expected: str = "") -> Result:
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    return Result(what, _thousands(mine), _thousands(theirs), ratio, expected)


def _thousands(figures: list[float]) -> str:
    return f"{statistics.median(figures) / 1_000:.1f}k/cpu-s"

"""Streams of tasks: chunks relayed and stored, over real sockets, against a bare relay on the same transport."""

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx

from benchmarks.load import disconnect, join
from benchmarks.measures import SETTLE_S, Effort, Result
from benchmarks.servers import Account, Serving, bare_relay, command, make_agent, ours
from benchmarks.streaming import Kind, Receiver, Sender, Times, open_task

KIB, MIB = 1_024, 1_048_576
KINDS: Final = tuple(Kind(form, size * KIB) for form in ("text", "binary") for size in (1, 16, 64))
KINDS_QUICK: Final = KINDS[0], KINDS[-1]
SMALL: Final = KINDS[0]
TICK_S: Final = 0.01
"""What the kernel counts CPU seconds in."""

AT_ONCE, AT_ONCE_WINDOW = 16, 16
PACED_PER_S = 200
STREAM_BYTES = 16 * MIB
STREAMS, STREAMS_QUICK, STREAMS_BEFORE = 8, 2, 3
LONG_BYTES, LONG_BYTES_QUICK = 128 * MIB, 32 * MIB
LONG: Final = Kind("binary", 16 * KIB)
SAMPLE_S = 0.02
QUICK_S = 2.0
"""Rounds shorter than this are made with fewer kinds, and with fewer and shorter streams."""

Percentiles = tuple[float, float]
"""The 50th and the 99th, in milliseconds."""

Pair = tuple[Sender, Receiver]


@dataclass(frozen=True)
class Side:
    """Ours or the peer: a serving process, and how a pair of sockets gets a stream on it.

    Args:
        server: The process.
        accounts: Client and provider; None at the bare relay, which knows nobody.
        rest: REST of ours.
    """

    server: Serving
    accounts: tuple[Account, Account] | None = None
    rest: httpx.Client | None = None

    async def pairs(self, kind: Kind, count: int = 1, window: int | None = None) -> list[Pair]:
        """So many senders and receivers, connected, each pair on a stream of its own."""
        pairs = [self._pair(kind, number, window) for number in range(count)]
        await join(self.server.url, [socket for pair in pairs for socket in pair])
        return pairs

    def _pair(self, kind: Kind, number: int, window: int | None) -> Pair:
        if self.accounts is None or self.rest is None:
            sender = Sender(kind, f"task:01a1fe83-1332-7000-a84c-{number:012}", window=window)
            return sender, Receiver(sender)
        client, provider = self.accounts
        sender = Sender(kind, open_task(self.rest, client, provider), provider.key, window)
        return sender, Receiver(sender, client.key)

    async def end(self, pairs: Sequence[Pair]) -> None:
        """Wait until all is acknowledged and received, have ours compare the checksums, and disconnect."""
        for sender, receiver in pairs:
            await sender.stop()
            await receiver.take_all(sender.sent)
            if self.accounts is not None:
                await sender.close_stream()
        await disconnect([socket for pair in pairs for socket in pair])


@dataclass
class Figures:
    """What some rounds gave: chunks per CPU-second and per second, and the times of relaying and acknowledging."""

    per_cpu_s: list[float] = field(default_factory=list[float])
    per_s: list[float] = field(default_factory=list[float])
    relayed_ms: list[Percentiles] = field(default_factory=list[Percentiles])
    acknowledged_ms: list[Percentiles] = field(default_factory=list[Percentiles])

    def note_times(self, times: Times) -> None:
        """A round's times; the peer acknowledges nothing."""
        self.relayed_ms.append(_percentiles(times.relayed_s))
        if times.acknowledged_s:
            self.acknowledged_ms.append(_percentiles(times.acknowledged_s))


Round = Callable[[Side, Figures], Awaitable[None]]


async def streams(effort: Effort) -> list[Result]:
    """Throughput by kind and size of chunks, then latencies, then memory."""
    results: list[Result] = []
    is_quick = effort.seconds < QUICK_S
    with _sides() as sides:
        for kind in KINDS_QUICK if is_quick else KINDS:
            results += await _throughput(sides, kind, effort)
        results += await _throughput(sides, SMALL, effort, count=AT_ONCE, window=AT_ONCE_WINDOW)
        results += await _latency(sides, effort, is_loaded=False)
        results += await _latency(sides, effort, is_loaded=True)
    return [*results, *await _memory(is_quick=is_quick)]


@contextmanager
def _sides() -> Iterator[tuple[Side, Side]]:
    """Ours, on a fresh folder, and the bare relay."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        command(data, "user", "create", "alice")
        client = make_agent(data, "alice", "Client")
        provider = make_agent(data, "alice", "Provider", "--capability", "work=0")
        with ours(data) as server, bare_relay() as relay, httpx.Client(base_url=server.url) as rest:
            yield Side(server, (client, provider), rest), Side(relay)


async def _in_turn(effort: Effort, sides: tuple[Side, Side], measure: Round) -> tuple[Figures, Figures]:
    """Rounds of ours and the bare relay in turn."""
    mine, theirs = Figures(), Figures()
    for _ in range(effort.rounds):
        await measure(sides[0], mine)
        await measure(sides[1], theirs)
    return mine, theirs


async def _throughput(
    sides: tuple[Side, Side], kind: Kind, effort: Effort, *, count: int = 1, window: int | None = None
) -> list[Result]:
    """So many streams at once, each with a bounded window in flight."""

    async def measure(side: Side, figures: Figures) -> None:
        pairs = await side.pairs(kind, count, window)
        for sender, _ in pairs:
            sender.start()
        await asyncio.sleep(SETTLE_S)
        done, cpu, started = _done(pairs), side.server.cpu_s(), time.perf_counter()
        await asyncio.sleep(effort.seconds)
        done, cpu = _done(pairs) - done, side.server.cpu_s() - cpu
        wall = time.perf_counter() - started
        await side.end(pairs)
        figures.per_cpu_s.append(done / max(cpu, TICK_S))
        figures.per_s.append(done / wall)

    mine, theirs = await _in_turn(effort, sides, measure)
    streams_ = f"{count} streams, {window} in flight" if count > 1 else f"{kind.window} in flight"
    name = f"{kind.name}; {streams_}"
    mib_s = [[per_s * kind.size / MIB for per_s in figures.per_s] for figures in (mine, theirs)]
    return [
        _rates(f"{name}: chunks", (mine.per_cpu_s, theirs.per_cpu_s), lambda rate: f"{rate / 1_000:.2f}k/cpu-s"),
        _rates(f"{name}: chunks by the clock", (mine.per_s, theirs.per_s), lambda rate: f"{rate / 1_000:.2f}k/s"),
        _rates(f"{name}: by the clock", (mib_s[0], mib_s[1]), lambda rate: f"{rate:.1f} MiB/s"),
    ]


def _done(pairs: Iterable[Pair]) -> int:
    """Chunks that are both acknowledged and received."""
    return sum(min(sender.acknowledged, receiver.received) for sender, receiver in pairs)


async def _latency(sides: tuple[Side, Side], effort: Effort, *, is_loaded: bool) -> list[Result]:
    """One stream at a fixed rate, alone or beside another one that is sent as fast as it is taken."""

    async def measure(side: Side, figures: Figures) -> None:
        pairs = await side.pairs(SMALL, 1 + is_loaded)
        paced = pairs[0][0]
        for other, _ in pairs[1:]:
            other.start()
        await _send_paced(paced, SETTLE_S)
        paced.times.clear()
        await _send_paced(paced, effort.seconds)
        await side.end(pairs)
        figures.note_times(paced.times)

    mine, theirs = await _in_turn(effort, sides, measure)
    beside = ", beside a full stream" if is_loaded else ""
    name = f"{SMALL.name}; {PACED_PER_S}/s{beside}"
    results: list[Result] = []
    for number, which in enumerate(("p50", "p99")):
        relayed, bare = ([one[number] for one in each.relayed_ms] for each in (mine, theirs))
        acknowledged = [one[number] for one in mine.acknowledged_ms]
        results.append(_rates(f"{name}: relayed, {which}", (relayed, bare), _ms))
        results.append(_rates(f"{name}: acknowledged, {which}", (acknowledged, bare), _ms))
    return results


async def _send_paced(sender: Sender, seconds: float) -> None:
    """Send at a fixed rate, whether the last one was answered or not; return once all are acknowledged."""
    started, sent = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        sender.push()
        sent += 1
        await asyncio.sleep(max(0.0, started + sent / PACED_PER_S - time.perf_counter()))
    await sender.stop()


@dataclass
class Memory:
    """What a process had, in KiB, by the MiB that it had relayed."""

    relayed_mib: list[float] = field(default_factory=list[float])
    used_kib: list[float] = field(default_factory=list[float])

    @property
    def slope(self) -> float:
        """KiB that it grows by with each MiB."""
        return statistics.linear_regression(self.relayed_mib, self.used_kib).slope


async def _memory(*, is_quick: bool) -> list[Result]:
    """Over streams of the default limit one after the other, over one long stream, and over its replay."""
    count = STREAMS_QUICK if is_quick else STREAMS
    length = LONG_BYTES_QUICK if is_quick else LONG_BYTES
    over: list[Memory] = []
    grown: list[float] = []
    long: list[Memory] = []
    peaks: list[float] = []
    with _sides() as sides:
        for side in sides:
            for _ in range(STREAMS_BEFORE):
                await _stream_once(side, STREAM_BYTES, Memory())
            before, memory = side.server.rss_kib(), Memory()
            for _ in range(count):
                await _stream_once(side, STREAM_BYTES, memory)
            over.append(memory)
            grown.append((side.server.rss_kib() - before) / KIB)
            memory = Memory()
            peaks.append(await _stream_once(side, length, memory, is_replayed=True) / KIB)
            long.append(memory)
    names = f"{count} streams of {STREAM_BYTES // MIB} MiB", f"one stream of {length // MIB} MiB"
    expected = "as the peer's"
    return [
        _memory_line(f"memory by MiB, {names[0]}", [one.slope for one in over], "KiB/MiB", expected),
        _memory_line(f"memory more after {names[0]}", grown, "MiB", expected),
        _memory_line(f"memory by MiB, {names[1]}", [one.slope for one in long], "KiB/MiB", expected),
        Result(f"memory more at most, replay of {names[1]}", f"{peaks[0]:.1f} MiB", "", None, "≤ 8 MiB"),
    ]


async def _stream_once(side: Side, length: int, memory: Memory, *, is_replayed: bool = False) -> float:
    """One stream of that many bytes, with memory noted on its way; what its replay took beyond, in KiB."""
    pairs = await side.pairs(LONG)
    sender = pairs[0][0]
    sender.until = length // LONG.size
    earlier = memory.relayed_mib[-1] if memory.relayed_mib else 0.0
    sender.start()
    while not sender.is_idle.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(sender.is_idle.wait(), SAMPLE_S)
        memory.relayed_mib.append(earlier + sender.acknowledged * LONG.size / MIB)
        memory.used_kib.append(side.server.rss_kib())
    took = 0.0
    if is_replayed and side.accounts is not None:
        took = await _replay(side, side.accounts[0], sender)
    await side.end(pairs)
    return took


async def _replay(side: Side, client: Account, sender: Sender) -> float:
    """Have another socket of the client take the whole stream once more; memory in KiB that it takes at most."""
    late = Receiver(sender, client.key, replays_from=0)
    before = most = side.server.rss_kib()
    await join(side.server.url, [late])
    taking = asyncio.ensure_future(late.take_all(sender.sent))
    while not taking.done():
        await asyncio.wait((taking,), timeout=SAMPLE_S)
        most = max(most, side.server.rss_kib())
    await taking
    await disconnect([late])
    return most - before


def _memory_line(what: str, figures: Sequence[float], unit: str, expected: str) -> Result:
    mine, theirs = (f"{figure:.2f} {unit}" for figure in figures)
    return Result(what, mine, theirs, None, expected)


def _percentiles(seconds: Iterable[float]) -> Percentiles:
    """Milliseconds that half, and 99 of 100, stay below."""
    hundredths = statistics.quantiles(itertools.chain(seconds), n=100)
    return hundredths[49] * 1_000, hundredths[98] * 1_000


def _rates(what: str, figures: tuple[Sequence[float], Sequence[float]], shown: Callable[[float], str]) -> Result:
    """Ours and the other by the median, and the median of the rounds' ratios."""
    mine, theirs = figures
    ratio = statistics.median(a / b for a, b in zip(mine, theirs, strict=True))
    return Result(what, shown(statistics.median(mine)), shown(statistics.median(theirs)), ratio)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms"

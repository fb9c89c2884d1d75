"""Transfers in payment channels: doubly signed, durable, over real sockets, against their signature checks alone."""

import asyncio
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.chains import Chain, Prober, Submitter, probe
from benchmarks.load import Script, disconnect, join
from benchmarks.measures import SETTLE_S, Effort, Result, open_tasks
from benchmarks.paying import DEPOSIT, Payer, Signed, check_alone, open_channels
from benchmarks.servers import LOAD_CPU, SERVER_CPU, Account, Serving, command, make_agent, ours, pin

CHANNELS, CHANNELS_QUICK = (1, 50, 500), (1, 10)
CHAIN, CHAIN_QUICK = 1_000, 100
QUICK_S = 2.0
"""Rounds shorter than this are made with fewer channels and shorter chains."""

SIGNED_PER_S = 4_000
"""So many transfers are signed for each second of a round: more than a server makes."""

SPARE = 16
"""And so many more for each channel, because some are faster than others."""

IDLE_WITHIN_S = 30.0
EXPECTED_ONLINE = "≥ 0.60"
EXPECTED_OFFLINE = "≥ 0.50"

Percentiles = tuple[float, float]
"""The 50th and the 99th, in milliseconds."""


@dataclass
class Figures:
    """What some rounds gave: per CPU-second, per second, and the times of a transfer and of an acknowledgement."""

    per_cpu_s: list[float] = field(default_factory=list[float])
    per_s: list[float] = field(default_factory=list[float])
    transfer_ms: list[Percentiles] = field(default_factory=list[Percentiles])
    acknowledged_ms: list[Percentiles] = field(default_factory=list[Percentiles])

    def note(self, per_cpu_s: float, per_s: float) -> None:
        """A round's rates."""
        self.per_cpu_s.append(per_cpu_s)
        self.per_s.append(per_s)


@dataclass(frozen=True)
class Parties:
    """Who pays whom, and who has nothing to do with it."""

    opener: Account
    counterparty: Account
    bystander: Account


async def transfers(effort: Effort) -> list[Result]:
    """Online by number of channels, then offline chains and what they cost the others."""
    is_quick = effort.seconds < QUICK_S
    results: list[Result] = []
    with _market() as (server, parties):
        for count in CHANNELS_QUICK if is_quick else CHANNELS:
            results += await _online(server, parties, count, effort)
        results += await _offline(server, parties, CHAIN_QUICK if is_quick else CHAIN, effort)
    return results


@contextmanager
def _market() -> Iterator[tuple[Serving, Parties]]:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        command(data, "user", "create", "alice")
        parties = Parties(
            opener=make_agent(data, "alice", "Payer"),
            counterparty=make_agent(data, "alice", "Payee"),
            bystander=make_agent(data, "alice", "Bystander", "--capability", "work=0"),
        )
        channels = sum(CHANNELS) + 1
        command(data, "deposit", "alice/payer", str(DEPOSIT * channels))
        with ours(data) as server:
            yield server, parties


async def _online(server: Serving, parties: Parties, count: int, effort: Effort) -> list[Result]:
    """Propose and acknowledge, in so many channels at once, each making one transfer after the other."""
    channels = await asyncio.to_thread(
        open_channels, server.url, parties.opener, parties.counterparty, count, mode="online"
    )
    payers = [Payer(channel) for channel in channels]
    sockets = [*payers, *(payer.payee for payer in payers)]
    await join(server.url, sockets)
    mine, alone = Figures(), Figures()
    for _ in range(effort.rounds):
        done = await _round(server, payers, effort.seconds, mine)
        alone.note(*_alone(done, parties, effort.seconds))
    await disconnect(sockets)
    name = f"online, {count} channel{'s' * (count > 1)}"
    return [*_rates(name, mine, alone, EXPECTED_ONLINE if count > 1 else ""), *_times(name, mine)]


async def _round(server: Serving, payers: list[Payer], seconds: float, figures: Figures) -> list[Signed]:
    """One round of all channels at once; what was transferred in it."""
    each = int(SIGNED_PER_S * (seconds + SETTLE_S) / len(payers)) + SPARE
    for payer in payers:
        payer.channel.provide(each)
        payer.on_spent.clear()
    for payer in payers:
        payer.start()
    await asyncio.sleep(SETTLE_S)
    for payer in payers:
        payer.done.clear()
        payer.transfer_s.clear()
        payer.payee.acknowledged_s.clear()
    cpu, started = server.cpu_s(), time.perf_counter()
    spent = [asyncio.ensure_future(payer.on_spent.wait()) for payer in payers]
    await asyncio.wait(spent, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    cpu, wall = server.cpu_s() - cpu, time.perf_counter() - started
    done = [one for payer in payers for one in payer.done]
    figures.transfer_ms.append(_percentiles(payer.transfer_s for payer in payers))
    figures.acknowledged_ms.append(_percentiles(payer.payee.acknowledged_s for payer in payers))
    for payer, waiting in zip(payers, spent, strict=True):
        payer.is_pushing = False
        waiting.cancel()
    await asyncio.wait_for(asyncio.gather(*(payer.is_idle.wait() for payer in payers)), IDLE_WITHIN_S)
    if refused := [payer.refusal for payer in payers if payer.refusal]:
        raise RuntimeError(f"a transfer was refused: {refused[0]}")
    figures.note(len(done) / cpu, len(done) / wall)
    return done


def _alone(done: list[Signed], parties: Parties, seconds: float) -> tuple[float, float]:
    """The checks alone, of what has just been transferred, on the processor that the server has, idle now."""
    pin(os.getpid(), SERVER_CPU)
    try:
        return check_alone(done, parties.opener, parties.counterparty, seconds)
    finally:
        pin(os.getpid(), LOAD_CPU)


async def _offline(server: Serving, parties: Parties, length: int, effort: Effort) -> list[Result]:
    """Chains handed in one after the other, alone; and a bystander's events, without and with them."""
    channel = open_channels(server.url, parties.opener, parties.counterparty, 1, mode="offline")[0]
    submitter = Submitter(channel, length)
    tasks = open_tasks(server.url, parties.opener.key, parties.bystander.id)
    script = [Script(f"task:{id_}", "progress", '{"percent":50}', parties.bystander.key) for id_ in tasks]
    probers = [Prober(one) for one in script]
    await join(server.url, [submitter, *probers])
    mine, alone = Figures(), Figures()
    without: list[Percentiles] = []
    meanwhile: list[Percentiles] = []
    for _ in range(effort.rounds):
        mine.note(*await _chains(server, submitter, _ready(submitter, effort.seconds), effort.seconds))
        alone.note(*_alone(submitter.done, parties, effort.seconds))
        without.append(_percentiles([await probe(probers, effort.seconds)]))
        ready = _ready(submitter, effort.seconds)
        chains = asyncio.ensure_future(_chains(server, submitter, ready, effort.seconds))
        meanwhile.append(_percentiles([await probe(probers, effort.seconds)]))
        await chains
    await disconnect([submitter, *probers])
    name = f"offline, chains of {length:,}"
    return [*_rates(name, mine, alone, EXPECTED_OFFLINE), *_beside(name, meanwhile, without)]


def _ready(submitter: Submitter, seconds: float) -> list[Chain]:
    return submitter.chains(int(SIGNED_PER_S * seconds / submitter.length) + 1)


async def _chains(server: Serving, submitter: Submitter, ready: list[Chain], seconds: float) -> tuple[float, float]:
    """Transfers per CPU-second of the server, and per second."""
    submitter.done.clear()
    cpu, started = server.cpu_s(), time.perf_counter()
    for chain in ready:
        await submitter.submit(chain)
        if time.perf_counter() - started > seconds:
            break
    cpu, wall = server.cpu_s() - cpu, time.perf_counter() - started
    return len(submitter.done) / cpu, len(submitter.done) / wall


def _percentiles(timed: Iterable[list[float]]) -> Percentiles:
    """Milliseconds that half, and 99 of 100, stay below."""
    hundredths = statistics.quantiles(itertools.chain.from_iterable(timed), n=100)
    return hundredths[49] * 1_000, hundredths[98] * 1_000


def _rates(name: str, mine: Figures, alone: Figures, expected: str) -> list[Result]:
    """Per CPU-second and per second; the peer is the two checks alone."""

    def compare(what: str, unit: str, ours_: list[float], checks: list[float], expected: str) -> Result:
        ratio = statistics.median(a / b for a, b in zip(ours_, checks, strict=True))
        mine_, theirs = (f"{statistics.median(these) / 1_000:.2f}k{unit}" for these in (ours_, checks))
        return Result(what, mine_, theirs, ratio, expected)

    return [
        compare(f"{name}; limit: its two checks", "/cpu-s", mine.per_cpu_s, alone.per_cpu_s, expected),
        compare(f"{name}, by the clock", "/s", mine.per_s, alone.per_s, ""),
    ]


def _times(name: str, mine: Figures) -> list[Result]:
    """How long a transfer takes, and its acknowledgement; the ratio is of the second to the first."""
    results: list[Result] = []
    for number, which in enumerate(("p50", "p99")):
        whole, part = ([round_[number] for round_ in rounds] for rounds in (mine.transfer_ms, mine.acknowledged_ms))
        ratio = statistics.median(b / a for a, b in zip(whole, part, strict=True))
        what = f"{name}, {which}: whole, acknowledgement"
        results.append(Result(what, _ms(whole), _ms(part), ratio))
    return results


def _beside(name: str, meanwhile: list[Percentiles], without: list[Percentiles]) -> list[Result]:
    """How long another agent's durable event takes while chains are handed in, against when none are."""
    results: list[Result] = []
    for number, which in enumerate(("p50", "p99")):
        busy, idle = ([round_[number] for round_ in rounds] for rounds in (meanwhile, without))
        ratio = statistics.median(a / b for a, b in zip(busy, idle, strict=True))
        results.append(Result(f"{name}: others' events, {which}, with / without", _ms(busy), _ms(idle), ratio))
    return results


def _ms(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f} ms"

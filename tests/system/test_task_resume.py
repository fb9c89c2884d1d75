"""A task of a thousand events, cut at every one of them: nothing is lost, doubled or out of order, on any side.

`make test-long` cuts at each index; `make test` at a sample of them.
"""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.system.halls import Ground, open_task
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.resuming import Cut, Run
from tests.system.streaming import UNLIMITED
from tests.system.translating import CHUNKS, DIGESTS, EVENTS, INPUT, OUTPUT, PROGRESS_EVERY, checksum

SEED = 5
AT_ONCE = 6
PROGRESS = list(range(PROGRESS_EVERY, CHUNKS + 1, PROGRESS_EVERY))


@pytest.fixture
def market(tmp_path: Path) -> Iterator[MarketProcess]:
    process = MarketProcess(tmp_path / "var", **UNLIMITED).start()
    yield process
    if process.process is not None:
        assert process.stop() == 0, "\n".join(process.log)
    assert not process.log, "no warning, no error:\n" + "\n".join(process.log)


def same_as_uncut(task: dict[str, Any]) -> None:
    """What the server has at the end is what it has when nothing is cut."""
    for direction, chunks in (("input", INPUT), ("output", OUTPUT)):
        assert task["streams"][direction] == {
            "next_seq": CHUNKS,
            "digest": DIGESTS[direction][CHUNKS],
            "complete": True,
            "verified": True,
            **checksum(chunks),
        }
    assert task["status"] == "completed"
    assert task["result"]["digest"] == DIGESTS["input"][CHUNKS]


class Cutting:
    """Runs tasks that are cut, some at a time: a kill at an event of one cuts the others wherever they are."""

    def __init__(self, market: MarketProcess, client: AgentAccount, provider: AgentAccount) -> None:
        self.ground = Ground(market)
        self.pair = (client, provider)
        self.duplicates = 0
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def run_all(self, cuts: list[Cut]) -> None:
        """Run a task for each; all are opened before the first is cut."""
        client, provider = self.pair
        async with self.ground.market.client(client.api_key) as buyer:
            await buyer.join("agents:discovery")
            tasks = [await open_task(buyer, provider, hold_seconds=0) for _ in cuts]
        async with asyncio.TaskGroup() as group:
            for cut, task in zip(cuts, tasks, strict=True):
                await self._slots.acquire()
                group.create_task(self._run(cut, task["task_id"]))

    async def _run(self, cut: Cut, task_id: str) -> None:
        try:
            await self._run_one(cut, task_id)
        except BaseException as error:
            error.add_note(f"cut: {cut}")
            raise
        finally:
            self._slots.release()

    async def _run_one(self, cut: Cut, task_id: str) -> None:
        kills = self.ground.kills
        run = Run(self.ground, *self.pair, task_id=task_id, cut=cut)
        same_as_uncut(await run.finish())
        assert run.is_cut, "it was never cut: this tested nothing"
        assert len(run.known) == EVENTS
        client, provider = run.client, run.provider
        assert client.log.chunks == OUTPUT
        assert client.log.digest == DIGESTS["output"][CHUNKS]
        assert provider.log.chunks == INPUT
        assert provider.worker.state["digest"] == DIGESTS["input"][CHUNKS]
        assert provider.checkpoint_known == CHUNKS - CHUNKS % 9
        kills = self.ground.kills - kills
        assert kills >= (cut.kind == "server")
        assert client.joins <= 1 + kills + (cut.kind == "client")
        assert provider.joins <= 1 + kills + (cut.kind in {"provider", "crash"})
        assert client.joins + provider.joins >= 2 + (cut.kind != "none")
        if client.joins == 1:  # Who was not cut off is told everything, once.
            assert client.progress == PROGRESS
        assert client.progress[-1] == PROGRESS[-1]
        self.duplicates += provider.duplicates


async def cut_at(market: MarketProcess, cuts: list[Cut]) -> Cutting:
    """Cut a task of its own for each, and compare it with one that is not cut."""
    cutting = Cutting(market, *market.pair(deposit=100_000_000))
    await cutting.run_all([Cut("none", 0)])
    await cutting.run_all(cuts)
    return cutting


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [SEED])
async def test_a_task_cut_at_fifty_of_its_thousand_events_ends_as_the_uncut_one(
    market: MarketProcess, seed: int
) -> None:
    chance = random.Random(seed)
    kinds = ["client"] * 21 + ["provider"] * 11 + ["crash"] * 10 + ["server"] * 8
    cuts = [Cut(kind, index) for kind, index in zip(kinds, chance.sample(range(EVENTS), len(kinds)), strict=True)]
    chance.shuffle(cuts)

    cutting = await cut_at(market, cuts)

    assert cutting.duplicates > 0, "no provider sent anything again: this tested less than it says"


@pytest.mark.long
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("kinds", [("client",), ("provider", "crash"), ("server",)])
async def test_a_task_cut_at_every_one_of_its_thousand_events_ends_as_the_uncut_one(
    market: MarketProcess, kinds: tuple[str, ...]
) -> None:
    """A provider loses its connection at one event, and all of its memory at the next."""
    cuts = [Cut(kinds[index % len(kinds)], index) for index in range(EVENTS)]
    random.Random(SEED).shuffle(cuts)  # So that each kill of the server cuts the others at other events.

    await cut_at(market, cuts)

"""Output that is paid as it streams, over deaths of the client: each unit is paid, and none twice."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agrenting.client import AcceptChannels, Agent
from tests.system.agent_payers import ANY, DEPOSIT, Town, agent_of, within
from tests.system.harness import ROOT, MarketProcess, free_environment
from tests.system.unit_payers import UNIT, WORDS, drip

PRICE = {"amount": UNIT, "per": "chunk"}


@pytest.fixture
def town(market: MarketProcess, tmp_path: Path) -> Town:
    return Town(market, tmp_path / "agents")


@contextlib.asynccontextmanager
async def bob_at_work(town: Town) -> AsyncIterator[Agent]:
    """Bob does what he is hired for, and is paid for it."""
    async with agent_of(town.market, town.bob, town.folder) as bob:
        bob.accept_channels(AcceptChannels(ANY))
        bob.capability("translate", price=UNIT)(drip)
        ready = asyncio.Event()
        serving = asyncio.create_task(bob.serve(ready.set))
        await within(ready.wait())
        try:
            yield bob
        finally:
            bob.stop()
            await within(serving)


async def ordered(town: Town) -> tuple[str, str]:
    """A channel and a task of Alice's program, which has ended since."""
    async with agent_of(town.market, town.alice, town.folder) as alice:
        channel = await alice.open_channel(town.bob.handle, DEPOSIT)
        task = await alice.hire("translate", channel=channel, stream_price=PRICE)
        await task.close()
        return channel.id, task.id


async def test_a_client_that_is_killed_over_and_over_pays_each_unit_once(town: Town) -> None:
    async with bob_at_work(town):
        channel_id, task_id = await ordered(town)
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.system.unit_payers", town.market.url, town.alice.api_key),
            *(town.alice.seed.hex(), str(town.folder / town.alice.id), channel_id, task_id),
            cwd=ROOT,
            env=free_environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await within(program.communicate())

    assert program.returncode == 0
    assert told.decode().split() == [*"".join(WORDS).split(), "none", str(UNIT * len(WORDS))]
    town.verify(channel_id, {town.alice.id: [UNIT] * len(WORDS)})

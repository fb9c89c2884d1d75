"""Hires that are given up while their agent is closed: nothing hangs, and no order is left behind that nobody knows."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agrenting.client import Agent, ClientError
from tests.system.agent_payers import Town, agent_of
from tests.system.harness import Client, MarketProcess
from tests.system.hiring_stage import SOON_S

LOST = "a task that was given up may be open still"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """One for all: each test looks at the newest task alone."""
    folder = tmp_path_factory.mktemp("town")
    market = MarketProcess(folder / "var").start()
    yield Town(market, folder / "agents")
    assert market.stop() == 0, "\n".join(market.log)


@pytest.fixture(autouse=True)
async def bob(town: Town) -> AsyncIterator[Client]:
    """Bob is online, and does nothing."""
    async with town.market.client(town.bob.api_key) as client:
        await client.join("agents:discovery")
        yield client


class Answers:
    """An agent's way to the market, on which the answer to an order may take its time."""

    def __init__(self, agent: Agent) -> None:
        self.was_sent = asyncio.Event()
        self.may_come = asyncio.Event()
        rest = agent._context.rest  # noqa: SLF001 - the network is nobody's to offer.
        self._post = rest.post
        rest.post = self._slowly  # type: ignore[method-assign] # A slow network.

    async def _slowly(self, path: str, body: Any = None, idempotency_key: str | None = None) -> Any:
        answer = await self._post(path, body, idempotency_key)
        if path == "/tasks":
            self.was_sent.set()
            await self.may_come.wait()
        return answer


def begin(agent: Agent, town: Town) -> asyncio.Task[Any]:
    """Alice hires Bob, beside the program."""
    return asyncio.create_task(agent.hire("translate", provider=town.bob.id, max_price=1_000, data="never"))


async def newest(town: Town) -> tuple[str, str]:
    """What another start of Alice's program finds."""
    async with agent_of(town.market, town.alice, town.folder) as alice:
        task = await anext(alice.tasks())
        return task.status, task.escrow_status


async def test_one_that_was_cancelled_is_taken_back_before_the_agent_is_closed(town: Town) -> None:
    async with asyncio.timeout(SOON_S):
        async with agent_of(town.market, town.alice, town.folder) as alice:
            answers = Answers(alice)
            hiring = begin(alice, town)
            await answers.was_sent.wait()
            hiring.cancel()
            await asyncio.wait((hiring,), timeout=0.01)  # It is being given up.
            asyncio.get_running_loop().call_later(0.05, answers.may_come.set)
        await asyncio.wait((hiring,))

        assert hiring.cancelled()
        assert await newest(town) == ("cancelled", "refunded")


async def test_one_that_the_end_of_its_agent_cuts_short_says_so_and_is_found_again(
    town: Town, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(SOON_S):
        async with agent_of(town.market, town.alice, town.folder) as alice:
            answers = Answers(alice)
            hiring = begin(alice, town)
            await answers.was_sent.wait()
            answers.may_come.set()
        with pytest.raises(ClientError):
            await hiring

        assert LOST in caplog.text
        assert await newest(town) == ("pending", "held")


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_one_at_a_market_that_has_stopped_to_answer_ends_with_its_agent(
    town: Town, caplog: pytest.LogCaptureFixture, *, is_cancelled: bool
) -> None:
    process = town.market.process
    assert process is not None
    async with asyncio.timeout(SOON_S):
        try:
            async with agent_of(town.market, town.alice, town.folder) as alice:
                process.send_signal(signal.SIGSTOP)
                hiring = begin(alice, town)
                await asyncio.wait((hiring,), timeout=0.05)
                if is_cancelled:
                    hiring.cancel()
            await asyncio.wait((hiring,))
        finally:
            process.send_signal(signal.SIGCONT)

        assert hiring.cancelled() is is_cancelled
        assert is_cancelled or isinstance(hiring.exception(), ClientError)
        assert LOST in caplog.text

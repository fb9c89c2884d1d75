"""A provider in a few lines, on a real server: what it is asked for it does, whatever is lost on the way."""

import asyncio
import itertools
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.client.acknowledging import AcknowledgeUpTo
from agrenting.client.bargaining import Bargaining
from agrenting.client.context import AgentContext
from agrenting.client.incoming_channels import AcceptChannels
from agrenting.client.job import Job, TaskFailed
from agrenting.client.paying_desk import Paying
from agrenting.client.strategies import Boulware
from tests.system.harness import ROOT, AgentAccount, MarketProcess, free_environment
from tests.system.provider_program import Configuration
from tests.system.provider_stage import PATIENCE_S, Hired, Stage, hire, opened

NUMBERS = itertools.count(1)
LINES = tuple(f"line {number}".encode() for number in range(1, 11))
NUMBERED = b"".join(b"%d %s;" % (number, line) for number, line in enumerate(LINES, 1))


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    """One server for all of them."""
    process = MarketProcess(tmp_path_factory.mktemp("market")).start()
    yield process
    assert process.stop() == 0, "\n".join(process.log)


@pytest.fixture
def accounts(market: MarketProcess) -> tuple[AgentAccount, AgentAccount]:
    """Alice, who hires, and Bob, who is hired; new ones for each test."""
    number = next(NUMBERS)
    client, provider = f"alice{number}", f"bob{number}"
    market.user(client)
    market.user(provider)
    alice = market.agent(client, "Client", deposit=10_000_000)
    bob = market.agent(provider, "Translator", "--capability", "translate=1000", "--global", "--tag", "words")
    return alice, bob


@pytest.fixture
async def stage(
    market: MarketProcess, accounts: tuple[AgentAccount, AgentAccount], tmp_path: Path
) -> AsyncIterator[Stage]:
    alice, bob = accounts
    async with (
        opened(market.url, alice, tmp_path / "alice") as client,
        opened(market.url, bob, tmp_path / "bob") as provider,
    ):
        yield Stage(market, client, provider)


async def test_two_capabilities_are_announced_with_their_prices_and_done(stage: Stage) -> None:
    @stage.providing.capability("translate", price="0.002")
    async def translate(job: Job) -> AsyncIterator[str]:
        async for line in job.lines():
            await job.progress(50, line)
            yield line.upper() + "\n"

    @stage.providing.capability("count", price=7)
    async def count(job: Job) -> dict[str, Any]:
        return {"bytes": len(await job.read()), "from": job.client_handle, "input": job.input}

    await stage.alice.rest.post("/messages", {"to_agent_id": stage.bob.me.id, "type": "task_handoff", "payload": {}})
    async with stage.serving():
        found = await stage.found(capability="translate")
        task = await stage.hire("translate")
        await task.give(b"good mor", b"ning\nand\ngood", b" night")
        assert await task.take_all() == b"GOOD MORNING\nAND\nGOOD NIGHT\n"
        ended = await task.end()
        told = await task.event("progress")
        counting = await stage.hire("count", input=[1])
        await counting.give(b"four", b"more")
        counted = await counting.end()
    await stage.until_status("offline")

    assert found is not None
    assert (found["price"], found["status"]) == (2_000, "online")
    assert found["capabilities"] == ["translate", "count"]
    assert (ended["status"], ended["price"]) == ("completed", 2_000)
    assert (told["percent"], told["message"]) == (50, "good morning")
    assert (counted["price"], counted["result"]) == (7, {"bytes": 8, "from": stage.alice.me.handle, "input": [1]})


async def test_failures_are_told_as_errors_and_the_price_goes_back(stage: Stage) -> None:
    @stage.providing.capability("translate")
    async def fail(job: Job) -> AsyncIterator[str]:
        yield "some"
        if job.input == "known":
            raise TaskFailed("unreadable_line", {"line": 3})
        if job.input == "unknown":
            raise KeyError("the password is secret")

    @stage.providing.capability("count", price=5)
    async def nothing(_job: Job) -> None:
        return None

    async with stage.serving():
        known, unknown = [await stage.hire("translate", input=name) for name in ("known", "unknown")]
        idle = await stage.hire("count")
        ended = [await task.end() for task in (known, unknown, idle)]

    assert [task["error"] for task in ended] == [
        {"type": "unreadable_line", "details": {"line": 3}},
        {"type": "provider_error", "details": {"exception": "KeyError"}},
        {"type": "nothing_delivered", "details": None},
    ]
    assert {(task["status"], task["escrow_status"]) for task in ended} == {("failed", "refunded")}


async def test_the_clients_cancelling_and_disputing_reach_the_handler_wherever_it_waits(stage: Stage) -> None:
    stopped: asyncio.Queue[str] = asyncio.Queue()

    @stage.providing.capability("translate")
    async def wait(job: Job) -> AsyncIterator[str]:
        try:
            if job.input == "yields":
                yield "some"
            await job.progress(1)
            await asyncio.sleep(PATIENCE_S)
            yield "more"
        except asyncio.CancelledError:
            stopped.put_nowait(f"{job.input} cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            stopped.put_nowait(f"{job.input} cleaned up")

    async with stage.serving():
        waiting = await stage.hire("translate", input="waits")
        await waiting.event("progress")
        await waiting.kept.push("cancel", {"reason": "not needed"})
        steps = [await stopped.get(), await stopped.get()]
        yielding = await stage.hire("translate", input="yields")
        await yielding.take()
        await yielding.event("progress")
        await yielding.kept.push("dispute", {"reason": "this is wrong"})
        steps += [await stopped.get(), await stopped.get()]

    assert steps == ["waits cancelled", "waits cleaned up", "yields cancelled", "yields cleaned up"]
    assert (await stage.alice.rest.get(f"/tasks/{yielding.id}"))["status"] == "disputed"


async def test_one_slot_leaves_the_others_pending_and_what_is_drained_goes_on_at_the_next_start(stage: Stage) -> None:
    resumed: list[Any] = []

    stage.providing = stage.provider(drain_s=0.1)

    @stage.providing.capability("translate", concurrency=1)
    async def slowly(job: Job) -> AsyncIterator[str]:
        resumed.append(job.resumed)
        done: int = job.resumed or 0
        async for line in job.lines():
            done += 1
            yield f"{done} {line};"
            await job.checkpoint(done)

    async with stage.serving():
        first = await stage.hire("translate")
        second = await stage.hire("translate")
        await first.kept.send(b"line 1\n")
        assert await first.take() == b"1 line 1;"
        assert (await stage.alice.rest.get(f"/tasks/{second.id}"))["status"] == "pending"
    assert (await stage.alice.rest.get(f"/tasks/{first.id}"))["status"] == "in_progress"

    async with stage.serving():
        await first.give(*(line + b"\n" for line in LINES[1:]))
        await first.take_all()
        await second.give(b"alone")
        await second.take_all()
        statuses = [(await task.end())["status"] for task in (first, second)]

    assert b"".join(first.output) == NUMBERED
    assert (b"".join(second.output), statuses) == (b"1 alone;", ["completed", "completed"])
    assert resumed == [None, 1, None]


async def test_streams_are_whole_whatever_becomes_of_the_sockets(stage: Stage) -> None:
    @stage.providing.capability("translate")
    async def number(job: Job) -> AsyncIterator[bytes]:
        count = 0
        async for chunk in job:
            count += 1
            yield b"%d \xff " % count + chunk
            if count % 20 == 0:
                await job.checkpoint(count)

    chunks = [b"chunk %d\x00" % number for number in range(200)]

    async def cut(context: AgentContext) -> None:
        for _ in range(5):
            socket = await context.connection.socket()
            await asyncio.sleep(0.02)  # Somewhere in the stream.
            socket.abort()

    async with stage.serving():
        task = await stage.hire("translate")
        async with asyncio.TaskGroup() as group:
            group.create_task(task.give(*chunks))
            group.create_task(cut(stage.alice))
            group.create_task(cut(stage.bob))
            output = await task.take_all()
        ended = await task.end()

    assert output == b"".join(b"%d \xff " % count + chunk for count, chunk in enumerate(chunks, 1))
    assert ended["status"] == "completed"


async def test_an_agreed_price_is_held_and_the_handler_sees_the_terms(stage: Stage) -> None:
    @stage.providing.capability("translate", price=1_000, terms=lambda terms: terms == {"style": "formal"})
    async def translate(job: Job) -> Any:
        return {"terms": job.terms, "price": job.price}

    async with stage.serving():
        agreement = await Bargaining(stage.alice).negotiate(
            stage.bob.me.id,
            "translate",
            strategy=Boulware(limit=1_500),
            terms={"style": "formal"},
            timeout_s=PATIENCE_S,
        )
        task = await stage.hire("translate", negotiation_session_id=agreement.session_id)
        ended = await task.end()

    assert 1_000 <= agreement.amount <= 1_500
    assert ended["result"] == {"terms": {"style": "formal"}, "price": agreement.amount}


async def test_output_is_paid_as_it_streams_and_never_more_than_the_credit_ahead(stage: Stage) -> None:
    @stage.providing.capability("translate", price=10)
    async def translate(job: Job) -> AsyncIterator[str]:
        async for line in job.lines():
            yield line.upper()

    paying, paid = Paying(stage.alice), Paying(stage.bob)
    await paid.accept(AcceptChannels(acknowledge=AcknowledgeUpTo("1.00")))
    channel = await paying.open_channel(stage.bob.me.id, deposit=100_000)
    price = {"amount": 10, "per": "chunk", "credit": 1}
    async with stage.serving():
        task = await stage.hire("translate", channel_id=channel.id, stream_price=price)
        await task.give(b"one\n", b"two\n", b"three\n")
        while (chunk := await task.take()) is not None:
            await channel.pay(10, task_id=task.id)
            assert chunk
        ended = await task.end()

    assert task.output == [b"ONE", b"TWO", b"THREE"]
    assert (ended["status"], ended["paid"], ended["paid_up_to"]) == ("completed", 30, 3)


class Program:
    """The provider as a process of its own."""

    def __init__(self, url: str, account: AgentAccount, folder: Path, drain_s: float = 0.1) -> None:
        self._configuration = Configuration(
            url, account.id, account.handle, account.api_key, account.seed, str(folder), drain_s
        )
        self.process: Process

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """It runs in here; afterwards it is gone."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.system.provider_program"),
            stdin=PIPE,
            stdout=PIPE,
            cwd=ROOT,
            env=free_environment(),
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._configuration) + b"\n")
        await process.stdin.drain()
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    @staticmethod
    async def line(process: Process) -> str:
        """The next line that it says."""
        assert process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await process.stdout.readline()).decode().strip()


async def test_a_provider_that_is_killed_goes_on_behind_its_checkpoint_and_one_that_is_asked_leaves(
    market: MarketProcess, accounts: tuple[AgentAccount, AgentAccount], tmp_path: Path
) -> None:
    alice, bob = accounts
    program = Program(market.url, bob, tmp_path / "bob")
    async with opened(market.url, alice, tmp_path / "alice") as client:
        async with program.running() as first:
            assert await program.line(first) == "ready"
            task = await hire(client, bob.id, "translate")
            assert await program.line(first) == "from 0"
            await _send_and_take(task, LINES[:5])
            first.send_signal(signal.SIGKILL)
            assert await first.wait() == -signal.SIGKILL
        await task.kept.send(LINES[5] + b"\n")
        async with program.running() as second:
            said = [await program.line(second), await program.line(second)]
            assert sorted(said) == ["from 3", "ready"]
            await task.take()
            await _send_and_take(task, LINES[6:8])
            second.send_signal(signal.SIGTERM)
            assert await second.wait() == 0
        assert (await client.rest.get(f"/tasks/{task.id}"))["status"] == "in_progress"
        async with program.running():
            await task.give(*(line + b"\n" for line in LINES[8:]))
            await task.take_all()
            ended = await task.end()

    assert b"".join(task.output) == NUMBERED
    assert (ended["status"], ended["result"]) == ("completed", 10)


async def _send_and_take(task: Hired, lines: tuple[bytes, ...]) -> None:
    for line in lines:
        await task.kept.send(line + b"\n")
        await task.take()

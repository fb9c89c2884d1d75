"""Chunks are relayed before they are durable: at once, in order, and taken back where they come to nothing."""

import asyncio
import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.system.halls import Hall, OpenTask, narrow
from tests.system.harness import MarketProcess, Refused
from tests.system.streaming import UNLIMITED, Listener, Log, digests_of, words

IN_FLIGHT = 64
LARGE, OUTBOX = 65_536, 262_144


@contextmanager
def locked(hall: Hall) -> Iterator[Callable[[], None]]:
    """Another process writes to the database: nothing is durable until it lets go, by the function or at the end."""
    path = hall.market.data_dir / "agrenting.sqlite3"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection.rollback


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A server that waits long for the lock."""
    with serving(tmp_path_factory.mktemp("patient"), AGRENTING_OUTBOX_BYTES_MAX=str(OUTBOX)) as hall:
        yield hall


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    """A server that soon gives up to wait for it."""
    with serving(tmp_path_factory.mktemp("hasty"), AGRENTING_BUSY_TIMEOUT_S="0.1") as hall:
        yield hall


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Hall]:
    market = MarketProcess(folder / "var", **UNLIMITED, **settings).start()
    yield Hall(market, *market.pair(deposit=1_000_000))
    assert market.stop() == 0, "\n".join(market.log)


def send(task: OpenTask, direction: str, chunks: list[bytes], first: int) -> list[asyncio.Task[Any]]:
    """Send chunks, all at once."""
    sender = task.alice if direction == "input" else task.bob
    return [
        asyncio.create_task(sender.push(task.topic, f"{direction}_stream", {"seq": seq, "chunk": chunk.decode()}))
        for seq, chunk in enumerate(chunks, first)
    ]


async def test_a_chunk_is_there_before_it_is_durable_and_acknowledged_after(hall: Hall) -> None:
    chunks = words(IN_FLIGHT)
    async with hall.task() as task, task.ear(hall.bob) as bob, task.ear(hall.alice) as alice:
        await bob.join()
        await alice.join()
        await task.send("input", chunks[:1])
        await task.send("output", chunks[:1])
        with locked(hall) as let_go:
            sending = send(task, "input", chunks[1:], 1) + send(task, "output", chunks[1:], 1)
            progress = asyncio.create_task(task.bob.push(task.topic, "progress", {"percent": 50}))
            await bob.has("input", len(chunks))
            await alice.has("output", len(chunks))
            await alice.until(lambda: any(event == "progress" for event, _ in alice.events))
            assert not any(one.done() for one in (*sending, progress)), "it was acknowledged before it was durable"
            let_go()
            replies = await asyncio.gather(*sending)
            assert (await progress)["percent"] == 50
        assert {reply["digest"] for reply in replies if reply["seq"] == IN_FLIGHT - 1} == {digests_of(chunks)[-1]}
        assert task.read()["streams"]["output"]["next_seq"] == len(chunks)


async def test_what_was_relayed_and_not_stored_is_taken_back_on_that_topic_alone(hasty: Hall) -> None:
    chunks = words(6)
    async with hasty.task() as task, hasty.task() as other, AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(task.ear(hasty.bob)) for _ in range(2)]
        own = await stack.enter_async_context(task.ear(hasty.alice))
        for ear in (*ears, own):
            await ear.join()
        await task.bob.join(other.topic)
        await task.send("input", chunks[:1])
        before = task.read()
        with locked(hasty):
            sending = send(task, "input", chunks[1:], 1)
            for ear in ears:
                await ear.has("input", len(chunks))
            for refused in await asyncio.gather(*sending, return_exceptions=True):
                assert isinstance(refused, Refused)
                assert refused.reason == "unavailable"
        for ear in ears:
            await ear.until(lambda: ear.ended is not None)  # noqa: B023 - it is now.
            assert ear.ended == "relay_void"
        assert await task.bob.expect("phx_error", task.topic) == {"reason": "relay_void"}
        assert own.ended is None, "who has sent it was told by the reply"
        assert task.read() == before
        await other.send("input", [b"there"])
        assert (await task.bob.expect("input_stream", other.topic))["chunk"] == "there"
        await task.bob.refute("phx_error")

        instead = [b"other", b"words"]
        soon, late = ears
        assert (await soon.resume("input"))["streams"] == before["streams"]
        assert soon.logs["input"].dropped == 5
        await task.send("input", instead, first=1)
        assert (await late.resume("input"))["streams"]["input"]["next_seq"] == 3
        for ear in ears:
            assert (await ear.has("input", 3)).chunks == [chunks[0], *instead]


async def test_both_directions_are_taken_back_each_from_its_receivers(hasty: Hall) -> None:
    async with hasty.task() as task, task.ear(hasty.bob) as bob, task.ear(hasty.alice) as alice:
        await bob.join()
        await alice.join()
        await task.send("input", words(1))
        await task.send("output", words(1))
        with locked(hasty):
            sending = send(task, "input", words(3)[1:], 1) + send(task, "output", words(3)[1:], 1)
            await bob.has("input", 3)
            await alice.has("output", 3)
            refusals = await asyncio.gather(*sending, return_exceptions=True)
            assert [getattr(refused, "reason", "") for refused in refusals] == ["unavailable"] * 4
        for ear, direction in ((bob, "input"), (alice, "output")):
            await ear.until(lambda: ear.ended is not None)  # noqa: B023 - it is now.
            assert ear.ended == "relay_void"
            await ear.resume(direction)
        for both in (task.alice, task.bob):
            assert await both.expect("phx_error", task.topic) == {"reason": "relay_void"}
            await both.join(task.topic)
        for ear, direction in ((bob, "input"), (alice, "output")):
            await task.send(direction, [b"a", b"b"], first=1)
            assert (await ear.has(direction, 3)).chunks == [b"0 ", b"a", b"b"]


async def test_a_progress_that_came_to_nothing_is_taken_back(hasty: Hall) -> None:
    async with hasty.task() as task, task.ear(hasty.alice) as alice:
        await alice.join()
        await task.bob.push(task.topic, "progress", {"percent": 10})
        with locked(hasty):
            with pytest.raises(Refused) as refused:
                await task.bob.push(task.topic, "progress", {"percent": 90})
            assert refused.value.reason == "unavailable"
        await alice.until(lambda: alice.ended is not None)
        assert [payload["percent"] for _, payload in alice.events] == [10, 90]
        assert (await alice.join())["progress"]["percent"] == 10


async def test_what_a_kill_takes_back_its_receiver_drops_when_it_comes_again(hall: Hall) -> None:
    """The sender knows better by then, and sends something else."""
    chunks, port = words(9), hall.market.url.rpartition(":")[2]
    async with hall.task() as task, task.ear(hall.bob) as bob:
        await bob.join()
        await task.send("input", chunks[:4])
        with locked(hall):
            sending = send(task, "input", chunks[4:], 4)
            await bob.has("input", 9)
            hall.market.kill()
            assert all(
                isinstance(one, ConnectionError) for one in await asyncio.gather(*sending, return_exceptions=True)
            )
        held = bob.logs["input"].chunks
    hall.market.start(port)
    async with hall.market.client(hall.alice.api_key) as alice, task.ear(hall.bob) as bob:
        again = task._replace(alice=alice)
        state = await alice.join(task.topic)
        assert state["streams"]["input"]["next_seq"] == 4
        assert state["streams"]["input"]["digest"] == digests_of(chunks)[4]
        await again.send("input", [b"other"], first=4)
        bob.logs["input"] = Log(held=held)
        await bob.resume("input")
        assert (await bob.has("input", 5)).chunks == [*chunks[:4], b"other"]
        await again.send("input", [b"live"], first=5)
        assert (await bob.has("input", 6)).digest == digests_of([*chunks[:4], b"other", b"live"])[-1]


async def test_chunks_that_are_too_many_for_a_replay_to_keep_come_once_they_are_stored(hall: Hall) -> None:
    """They are relayed, not yet stored, and more than an outbox holds, while a receiver is in its replay."""
    chunks = words(96, LARGE)
    async with (
        hall.task() as task,
        task.ear(hall.alice) as other,
        task.ear(hall.alice, sock=await narrow(hall.market), max_queue=1) as slow,
    ):
        await other.join()
        await task.send("output", chunks[:80], window=8)
        await slow.join(output_from=0)
        slow.pause.clear()
        with locked(hall) as let_go:
            sending = send(task, "output", chunks[80:], 80)
            await other.has("output", len(chunks))
            slow.pause.set()
            await slow.has("output", 80)
            assert task.read()["streams"]["output"]["next_seq"] == 80
            let_go()
            await asyncio.gather(*sending)
        await slow.has("output", len(chunks))
        assert slow.logs["output"].digest == other.logs["output"].digest == digests_of(chunks)[-1]


async def follow(ear: Listener, count: int) -> int:
    """Listen until everything is there, and join again whenever something is taken back: how often."""
    log, voids = ear.logs["input"], 0
    while log.next_seq < count or ear.ended is not None:
        await ear.until(lambda: ear.ended is not None or log.next_seq == count)
        voids += ear.ended is not None
        while ear.ended is not None:
            try:
                await ear.resume("input")
            except Refused as refused:  # A join is decided by the writer, too.
                if refused.reason != "unavailable":
                    raise
                ear.ended = refused.reason
    return voids


@pytest.mark.parametrize("seed", [1, 2])
async def test_receivers_end_with_what_is_stored_however_often_it_could_not_be(hasty: Hall, seed: int) -> None:
    """Sixty-four in flight; each that could not be stored is sent again at once, so they come out of order."""
    chunks, chance = words(1_200), random.Random(seed)
    async with hasty.task() as task, AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(task.ear(hasty.bob)) for _ in range(3)]
        for ear in ears:
            ear.logs["input"] = Log(in_order=False)
            await ear.resume("input")
        following = [asyncio.create_task(follow(ear, len(chunks))) for ear in ears]
        slots, is_refused, refused = asyncio.Semaphore(IN_FLIGHT), asyncio.Event(), 0
        locks = {chance.randrange(len(chunks)) for _ in range(8)}

        async def send_until_stored(seq: int) -> None:
            nonlocal refused
            payload = {"seq": seq, "chunk": chunks[seq].decode()}
            while True:
                try:
                    await task.alice.push(task.topic, "input_stream", payload)
                except Refused as error:
                    if error.reason != "unavailable":
                        raise
                    refused += 1
                    is_refused.set()
                else:
                    break
            slots.release()

        async with asyncio.TaskGroup() as sending:
            for seq in range(len(chunks)):
                await slots.acquire()
                sending.create_task(send_until_stored(seq))
                if seq in locks:
                    is_refused.clear()
                    with locked(hasty):
                        await is_refused.wait()
        voids = await asyncio.gather(*following)

        stored = task.read()["streams"]["input"]
        assert stored["digest"] == digests_of(chunks)[-1]
        for ear in ears:
            assert ear.logs["input"].chunks == chunks
        assert refused >= len(locks)
        assert all(voids), "somebody was never told that something is void: this tested nothing"

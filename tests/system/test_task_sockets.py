"""Several sockets on one task: late, slow, deaf or coming again, each gets every chunk once and in order."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.frames import Close

from tests.system.halls import Ground, Hall, OpenTask, narrow, open_task, rss_bytes
from tests.system.harness import MarketProcess
from tests.system.resuming import Cut, Run
from tests.system.streaming import UNLIMITED, Heard, Listener, Log, digests_of, words
from tests.system.translating import CHUNKS, EVENTS, INPUT, OUTPUT

OUTBOX = 262_144
KIB, MIB = 1_024, 1_048_576
FULL = "you do not read fast enough: the outbox is full"


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hall]:
    settings = {**UNLIMITED, "AGRENTING_OUTBOX_BYTES_MAX": str(OUTBOX)}
    market = MarketProcess(tmp_path_factory.mktemp("sockets") / "var", **settings).start()
    yield Hall(market, *market.pair(deposit=10_000_000))
    assert market.stop() == 0, "\n".join(market.log)


async def test_every_socket_gets_what_the_other_party_sends_and_none_gets_its_own(hall: Hall) -> None:
    chunks = words(50)
    async with hall.task() as task, AsyncExitStack() as stack:
        alices = [await stack.enter_async_context(task.ear(hall.alice)) for _ in range(2)]
        bobs = [await stack.enter_async_context(task.ear(hall.bob)) for _ in range(3)]
        for ear in (*alices, *bobs):
            await ear.join()
        await task.send("input", chunks)
        await task.send("output", chunks)
        for ear in alices:
            assert (await ear.has("output", len(chunks))).chunks == chunks
            assert ear.heard["input"] == []
        for ear in bobs:
            assert (await ear.has("input", len(chunks))).chunks == chunks
            assert ear.heard["output"] == []
        await task.alice.flush()
        assert [event for _, event, _ in task.alice.inbox if event == "input_stream"] == []


async def test_each_socket_replays_from_where_it_says_and_the_others_hear_nothing_of_it(hall: Hall) -> None:
    chunks = words(60)
    async with hall.task() as task, AsyncExitStack() as stack:
        await task.send("input", chunks)
        await task.bob.flush()
        before = len(task.bob.inbox)
        for first in (0, 1, 59, 60):
            ear = await stack.enter_async_context(task.ear(hall.bob))
            ear.logs["input"] = Log(held=chunks[:first])
            await ear.resume("input")
            log = await ear.has("input", 60)
            assert log.digest == ear.state["streams"]["input"]["digest"]
            assert [heard.seq for heard in ear.heard["input"]] == list(range(first, 60))
            assert all(heard.is_replay for heard in ear.heard["input"])
        await task.bob.flush()
        assert len(task.bob.inbox) == before


async def test_a_participant_may_replay_both_directions_its_own_chunks_too(hall: Hall) -> None:
    async with hall.task() as task, task.ear(hall.alice) as ear:
        await task.send("input", words(20))
        await task.send("output", words(30))
        ear.logs["output"] = Log(held=words(10))
        await ear.resume("input", "output")
        await ear.until(lambda: len(ear.heard["input"]) == 20 and len(ear.heard["output"]) == 20)
        assert ear.logs["input"].chunks == words(20)
        assert ear.logs["output"].chunks == words(30)


async def test_who_holds_more_than_is_stored_drops_it_and_gets_what_is_stored_instead(hall: Hall) -> None:
    async with hall.task() as task, task.ear(hall.bob) as ear:
        await task.send("input", words(5))
        ear.logs["input"] = Log(held=[*words(5), *[b"never stored"] * 4])
        state = await ear.resume("input")
        assert state["streams"]["input"]["next_seq"] == 5
        await task.send("input", words(12)[5:], first=5)
        await ear.until(lambda: len(ear.heard["input"]) == 7)
        assert [heard.seq for heard in ear.heard["input"]] == list(range(5, 12))


def require_replay_before_live(heard: list[Heard], count: int) -> tuple[int, int]:
    """Each once, in order, and no stored chunk after a live one; how many there were of each."""
    assert [one.seq for one in heard] == list(range(count))
    flags = [bool(one.is_replay) for one in heard]
    replays = sum(flags)
    assert flags == [True] * replays + [False] * (count - replays), "a stored chunk came after a live one"
    return replays, count - replays


async def test_stored_chunks_come_before_live_ones_while_the_sender_goes_on_at_full_speed(hall: Hall) -> None:
    """Eight join at different moments of the stream; the sender waits for nobody."""
    chunks, joins = words(3_000, 200), (0, 100, 500, 900, 1_300, 1_700, 2_100, 2_900)
    async with hall.task() as task, AsyncExitStack() as stack:
        ears = [await stack.enter_async_context(task.ear(hall.bob)) for _ in joins]
        witness = await stack.enter_async_context(task.ear(hall.bob))
        await witness.join()

        async def join_at(ear: Listener, seq: int) -> None:
            await witness.has("input", seq)
            await ear.join(input_from=0)

        joining = [asyncio.create_task(join_at(ear, seq)) for ear, seq in zip(ears, joins, strict=True)]
        replies = await task.send("input", chunks)
        await asyncio.gather(*joining)

        for ear in ears:
            await ear.has("input", len(chunks))
            assert ear.logs["input"].digest == replies[-1]["digest"]
        counts = [require_replay_before_live(ear.heard["input"], len(chunks)) for ear in ears]
        assert any(replays and live for replays, live in counts), f"nobody got both: {counts}"


async def test_a_participant_that_joins_again_and_again_during_a_stream_misses_nothing(hall: Hall) -> None:
    """On one socket, without leaving: each join replaces the one before, whose replay may be under way."""
    chunks = words(2_000, 100)
    async with hall.task() as task, task.ear(hall.bob) as ear:
        sending = asyncio.create_task(task.send("input", chunks))
        joins = 0
        while not sending.done():
            await ear.resume("input")
            joins += 1
        await sending
        await ear.has("input", len(chunks))
        assert ear.logs["input"].chunks == chunks
        assert joins > 10


async def test_both_sides_come_again_at_once(hall: Hall) -> None:
    ground, chance = Ground(hall.market), random.Random(7)
    async with hall.market.client(hall.alice.api_key) as buyer:
        await buyer.join("agents:discovery")
        for index in chance.sample(range(EVENTS), 6):
            task = await open_task(buyer, hall.bob, hold_seconds=0)
            run = Run(ground, hall.alice, hall.bob, task_id=task["task_id"], cut=Cut("both", index))
            told = await run.finish()
            assert (run.client.joins, run.provider.joins) == (2, 2)
            assert (run.client.log.chunks, run.provider.log.chunks) == (OUTPUT, INPUT)
            assert told["streams"]["output"]["next_seq"] == CHUNKS


# Who reads slowly, or not at all.


async def fill(task: OpenTask, size: int) -> list[bytes]:
    """Store so many bytes of output, in chunks as large as they may be."""
    chunks = words(size // (64 * KIB), 64 * KIB)
    await task.send("output", chunks, window=8)
    return chunks


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_a_whole_stream_is_replayed_to_slow_readers_and_the_servers_memory_stays_flat(hall: Hall) -> None:
    """Six of them at once, of 16 MiB each."""
    async with hall.task() as task, AsyncExitStack() as stack:
        chunks = await fill(task, 16 * MIB)
        ears = []
        for _ in range(6):
            ear = await stack.enter_async_context(task.ear(hall.alice, sock=await narrow(hall.market), max_queue=1))
            ears.append(ear)
        before, grown = rss_bytes(hall.market), 0
        for ear in ears:
            await ear.join(output_from=0)
        for count in range(16, len(chunks) + 1, 16):
            for ear in ears:
                ear.pause.set()
                await ear.has("output", count)
                ear.pause.clear()
            grown = max(grown, rss_bytes(hall.market) - before)
        assert all(ear.logs["output"].digest == digests_of(chunks)[-1] for ear in ears)
        # An outbox and a page of stored chunks each; all that is replayed were 96 MiB.
        assert grown < 24 * MIB, f"{grown / MIB:.1f} MiB"


async def test_who_does_not_read_live_chunks_is_closed_slows_nobody_and_resumes(hall: Hall) -> None:
    async with hall.task() as task, task.ear(hall.alice) as other:
        await other.join()
        async with task.ear(hall.alice, sock=await narrow(hall.market), max_queue=1) as deaf:
            await deaf.join()
            await task.send("output", words(1))
            await deaf.has("output", 1)
            deaf.pause.clear()
            chunks = words(160, 64 * KIB)
            await task.send("output", chunks[1:], first=1, window=8)
            await other.has("output", len(chunks))
            assert [line for line in hall.market.log if "slow_consumer" in line], "it was not closed"
            deaf.pause.set()
            assert (await deaf.is_over()).rcvd == Close(1013, FULL)
            held = deaf.logs["output"].chunks
        async with task.ear(hall.alice) as again:
            again.logs["output"] = Log(held=held)
            await again.resume("output")
            log = await again.has("output", len(chunks))
            assert log.digest == other.logs["output"].digest


async def test_who_does_not_read_its_replay_just_waits_in_it(hall: Hall) -> None:
    """The stream goes on far beyond an outbox, and ends; then they read, and get everything once and in order."""
    async with hall.task() as task, task.ear(hall.alice) as other, AsyncExitStack() as stack:
        await other.join()
        stored = await fill(task, 4 * MIB)
        deaf = []
        for _ in range(8):
            ear = await stack.enter_async_context(task.ear(hall.alice, sock=await narrow(hall.market), max_queue=1))
            await ear.join(output_from=0)
            ear.pause.clear()
            deaf.append(ear)
        before = rss_bytes(hall.market)
        chunks = words(192, 64 * KIB)
        await task.send("output", chunks[len(stored) :], first=len(stored), window=8)
        await other.has("output", len(chunks))
        grown = rss_bytes(hall.market) - before
        assert grown < 32 * MIB, f"{grown / MIB:.1f} MiB"  # All that they do not read are 64 MiB.
        for ear in deaf:
            ear.pause.set()
            await ear.has("output", len(chunks))
            assert ear.logs["output"].digest == other.logs["output"].digest
            require_replay_before_live(ear.heard["output"], len(chunks))
        # Who has read everything may be a moment ahead of the server, which then still replays what comes next.
        for sent in range(len(chunks), len(chunks) + 50):
            await task.send("output", [b"live"], first=sent)
            for ear in deaf:
                await ear.has("output", sent + 1)
            if not any(ear.heard["output"][-1].is_replay for ear in deaf):
                return
            await asyncio.sleep(0.02)
        pytest.fail("a replay that was read to its end never became live")


@pytest.mark.parametrize("size", [16 * KIB, 50_000, 39_000])
async def test_what_waited_for_the_end_of_a_replay_comes_once_wherever_the_reader_stops(hall: Hall, size: int) -> None:
    """A replay ends while its reader does not read; a chunk waits for it, then more of them than an outbox holds.

    How much a connection takes that nobody reads is the machine's affair: so it is asked for another amount each time.
    """
    wave = 2 + OUTBOX // size
    amounts = range(2 * MIB // size, 4 * MIB // size, 2 * 64 * KIB // size)
    stored = amounts.stop
    chunks = words(stored + wave * len(amounts), size)
    async with hall.task() as task, task.ear(hall.alice) as other:
        await task.send("output", chunks[:stored])
        for amount in amounts:
            held = chunks[: stored - amount]
            async with task.ear(hall.alice, sock=await narrow(hall.market), max_queue=1) as slow:
                slow.logs["output"], other.logs["output"] = Log(held=held), Log(held=held)
                await slow.resume("output")
                slow.pause.clear()
                await other.resume("output")  # Once it has everything, the slow one has all that it can take.
                await other.has("output", stored)
                for until in (stored + 1, stored + wave):
                    await task.send("output", chunks[stored:until], first=stored)
                    await other.has("output", until)
                    stored = until
                slow.pause.set()
                log, end = slow.logs["output"], stored
                await slow.until(lambda: log.next_seq == end or slow.over is not None)  # noqa: B023 - it is now.
                if log.next_seq < end:  # Its replay had ended, and then its outbox was full.
                    assert (await slow.is_over()).rcvd == Close(1013, FULL)

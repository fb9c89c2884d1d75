"""A provider that dies and comes back: what it does again is compared, and what it pays for is not lost."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agrenting.client.connection import State
from agrenting.client.errors import LostChunks
from agrenting.client.job import Job
from agrenting.client.serving import Handler
from tests.agrenting.client_task_server import Json
from tests.agrenting.provider_ground import PATIENCE_S, Ground, ProvidedTask

INPUT = b"one\ntwo\nthree\nfour\nfive\n"
SPLIT = (INPUT[:6], INPUT[6:9], INPUT[9:])
"""No line ends where a chunk does, but the last."""
OUTPUT = b"1 ONE;2 TWO;3 THREE;4 FOUR;5 FIVE;"
SOON_S = 0.02


class Numbering:
    """A handler that numbers lines, notes a checkpoint after each second, and may be killed.

    Args:
        dies_after: Lines that it yields before it is killed; None: it is not.
    """

    def __init__(self, dies_after: int | None = None, suffix: str = ";") -> None:
        self.dies_after = dies_after
        self.suffix = suffix
        self.resumed: list[Any] = []
        self.read: list[str] = []
        self.is_dead = asyncio.Event()

    async def __call__(self, job: Job) -> AsyncIterator[str]:
        self.resumed.append(job.resumed)
        number: int = job.resumed or 0
        async for line in job.lines():
            self.read.append(line)
            number += 1
            yield f"{number} {line.upper()}{self.suffix}"
            if number == self.dies_after:
                self.is_dead.set()
                await asyncio.get_running_loop().create_future()
            if number % 2 == 0:
                await job.checkpoint(number)


@pytest.fixture
def server() -> ProvidedTask:
    return ProvidedTask()


@pytest.fixture
def ground(server: ProvidedTask) -> Ground:
    return Ground(server)


@pytest.fixture
async def cut_off(ground: Ground) -> Ground:
    """Bob has died after the third line; his checkpoint knows of two."""
    await ground.give(*SPLIT)
    await die(ground, Numbering(dies_after=3))
    return ground


async def die(ground: Ground, handler: Numbering) -> None:
    """Serve until the handler is killed. What it has sent is stored."""
    serving = ground.begin(handler)
    await handler.is_dead.wait()
    while ground.server.waiting:  # noqa: ASYNC110 - a fake server has no events
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.wait((serving,))


class TestComingBack:
    async def test_it_goes_on_behind_its_checkpoint_and_sends_nothing_twice(self, cut_off: Ground) -> None:
        again = Numbering()
        sent = len(cut_off.server.told("output_stream"))

        await cut_off.serve(again)

        assert cut_off.output == OUTPUT
        assert (again.resumed, again.read) == ([2], ["three", "four", "five"])
        assert len(cut_off.server.told("output_stream")) == sent + 2 == 5
        assert cut_off.server.task["status"] == "completed"

    async def test_without_a_checkpoint_it_begins_anew_and_sends_nothing_twice(self, ground: Ground) -> None:
        await ground.give(*SPLIT)
        await die(ground, Numbering(dies_after=1))
        again = Numbering()

        await ground.serve(again)

        assert ground.output == OUTPUT
        assert (again.resumed, len(again.read)) == ([None], 5)
        assert len(ground.server.told("output_stream")) == 5

    async def test_it_may_die_again_and_again(self, cut_off: Ground) -> None:
        for lines in (3, 4, 5):
            await die(cut_off, Numbering(dies_after=lines))
        await cut_off.serve(Numbering())

        assert cut_off.output == OUTPUT
        assert [told["seq"] for told in cut_off.server.told("checkpoint")] == [0, 1]

    async def test_after_all_was_sent_only_the_end_is_said(self, ground: Ground) -> None:
        await ground.give(*SPLIT)
        ground.server.refuses["complete"] = "brand_new"
        ground.server.refuses["error"] = "brand_new"
        await ground.serve(Numbering())
        ground.server.refuses.clear()
        assert ground.server.streams["output"].checksum is not None

        await ground.serve(Numbering())

        assert (ground.output, ground.server.task["status"]) == (OUTPUT, "completed")

    @pytest.mark.parametrize("number", [0, 1, 2], ids=["the same", "in halves", "all at once"])
    async def test_chunks_may_be_cut_otherwise_as_long_as_the_bytes_are_the_same(
        self, cut_off: Ground, number: int
    ) -> None:
        async def otherwise(job: Job) -> AsyncIterator[bytes]:
            await job.read()
            rest = OUTPUT[len(b"1 ONE;2 TWO;") :]
            half = len(rest) // 2  # Rounds down.
            for piece in ([rest[:8], rest[8:]], [rest[:half], rest[half:]], [rest])[number]:
                yield piece

        await cut_off.serve(otherwise)

        assert (cut_off.output, cut_off.server.task["status"]) == (OUTPUT, "completed")

    async def test_other_bytes_than_were_sent_fail_the_task(self, cut_off: Ground) -> None:
        await cut_off.serve(Numbering(suffix="!"))

        assert cut_off.server.task["error"] == {"type": "not_repeatable", "details": {"from_byte": 12}}

    async def test_so_does_less_than_was_sent(self, cut_off: Ground) -> None:
        async def silent(_job: Job) -> AsyncIterator[str]:
            for piece in list[str]():
                yield piece

        await cut_off.serve(silent)

        assert cut_off.server.task["error"]["type"] == "not_repeatable"

    async def test_so_does_a_handler_that_yields_nothing_any_more(self, cut_off: Ground) -> None:
        async def changed(_job: Job) -> str:
            return "a coroutine now"

        await cut_off.serve(changed)

        assert cut_off.server.task["error"]["type"] == "not_repeatable"

    @pytest.mark.parametrize("reason", ["seq_conflict", "stream_closed"])
    async def test_so_does_what_the_market_has_otherwise(self, ground: Ground, reason: str) -> None:
        ground.server.refuses["output_stream"] = reason
        await ground.give(*SPLIT)

        await ground.serve(Numbering())

        assert ground.server.task["error"]["type"] == "not_repeatable"

    async def test_output_in_binary_frames_is_compared_too(self, ground: Ground) -> None:
        async def bytes_(job: Job) -> AsyncIterator[bytes]:
            yield b"\xff\x00"
            yield b"\xfe" + await job.read()

        ground.server.refuses["complete"] = ground.server.refuses["error"] = "brand_new"
        await ground.give(b"x")
        await ground.serve(bytes_)
        ground.server.refuses.clear()
        await ground.serve(bytes_)

        assert (ground.output, ground.server.task["status"]) == (b"\xff\x00\xfex", "completed")

    async def test_a_checkpoint_of_another_program_is_passed_over(self, ground: Ground) -> None:
        ground.server.task["checkpoint"] = {"state": {"lines": 3}, "seq": 7}
        await ground.give(*SPLIT)
        handler = Numbering()

        await ground.serve(handler)

        assert handler.resumed == [None]
        assert [told["seq"] for told in ground.server.told("checkpoint")] == [8, 9]

    async def test_output_that_is_gone_is_a_lie(self, cut_off: Ground) -> None:
        cut_off.server.streams["output"].stored.clear()

        with pytest.raises(LostChunks):
            await cut_off.serve(Numbering())


class TestRewrittenInput:
    """Input is relayed before it is stored; if the server and the client die, other bytes may come in its place."""

    async def test_where_the_handler_has_read_it_all_begins_anew(self, ground: Ground) -> None:
        read: list[list[str]] = []

        async def last_line(job: Job) -> str:
            lines = list[str]()
            read.append(lines)
            async for line in job.lines():
                lines.append(line)
            return lines[-1]

        serving = await self._send_what_is_lost(ground, last_line, b"one\nold\n")
        await self._until(lambda: read == [["one", "old"]])
        self._crash_and_send(ground, b"one\nnew\n")
        await serving

        assert read == [["one", "old"], ["one", "new"]]
        assert ground.server.task["result"] == "new"

    async def test_where_it_has_made_output_of_it_too_the_task_fails(self, ground: Ground) -> None:
        handler = Numbering()
        serving = await self._send_what_is_lost(ground, handler, b"one\nold\n")
        await self._until(lambda: len(handler.read) == 2)
        self._crash_and_send(ground, b"one\nnew\n")
        await serving

        assert handler.resumed == [None, None]
        assert ground.server.task["error"]["type"] == "not_repeatable"

    async def test_of_a_line_that_has_come_in_part_the_part_is_replaced(self, ground: Ground) -> None:
        read: list[str] = []

        async def lines(job: Job) -> str:
            async for line in job.lines():
                read.append(line)  # noqa: PERF401 - it is looked at meanwhile
            return "done"

        serving = await self._send_what_is_lost(ground, lines, b"one\n")
        await self._until(lambda: read == ["one"])
        ground.server.sync()
        ground.server.cut("provider")
        await self._until(lambda: "provider" in ground.server.topics)
        await ground.alice.send(b"ol")
        await self._until(lambda: len(ground.server.waiting) == 1)
        for _ in range(20):
            await asyncio.sleep(0)
        self._crash_and_send(ground, b"new\n", start=1)
        await serving

        assert read == ["one", "new"]

    async def test_a_checkpoint_that_rests_on_what_is_gone_is_passed_over(self, cut_off: Ground) -> None:
        stream = cut_off.server.streams["input"]
        stream.stored = {0: INPUT}
        again = Numbering()

        await cut_off.serve(again)

        assert again.resumed == [None]
        assert (cut_off.output, cut_off.server.task["status"]) == (OUTPUT, "completed")

    async def test_of_what_is_not_what_counts_no_checkpoint_is_made(self, ground: Ground) -> None:
        goes_on = asyncio.Event()
        resumed: list[Any] = []

        async def note(job: Job) -> str:
            resumed.append(job.resumed)
            async for _line in job.lines():
                if not goes_on.is_set():
                    await goes_on.wait()
                    await job.checkpoint("of what is gone")
            return "done"

        serving = await self._send_what_is_lost(ground, note, b"old\n")
        await self._until(lambda: len(resumed) == 1 and len(ground.server.waiting) == 1)
        await asyncio.sleep(0)
        self._crash_and_send(ground, b"new\n")
        await self._until(lambda: len(ground.server.joins) == 3)
        goes_on.set()
        await serving

        assert resumed == [None, None]
        assert ground.server.told("checkpoint") == []

    async def test_what_it_has_not_read_is_replaced_and_it_does_not_notice(self, ground: Ground) -> None:
        goes_on = asyncio.Event()
        read: list[str] = []

        async def first_line(job: Job) -> str:
            async for line in job.lines():
                read.append(line)
                await goes_on.wait()
            return "done"

        ground.server.is_slow = True
        await ground.alice.join(ground.server.socket("client"))
        serving = ground.begin(first_line)
        await ground.alice.send(b"one\n")
        await self._until(lambda: len(ground.server.waiting) == 1)
        ground.server.sync()
        await ground.alice.send(b"old\n")
        await self._until(lambda: read == ["one"] and len(ground.server.waiting) == 1)
        self._crash_and_send(ground, b"new\n", start=1)
        goes_on.set()
        await serving

        assert read == ["one", "new"]
        assert ground.server.task["status"] == "completed"

    async def _send_what_is_lost(self, ground: Ground, handler: Handler, chunk: bytes) -> "asyncio.Task[bool]":
        ground.server.is_slow = True
        await ground.alice.join(ground.server.socket("client"))
        serving = ground.begin(handler)
        await self._until(lambda: "provider" in ground.server.topics)
        await ground.alice.send(chunk)
        return serving

    def _crash_and_send(self, ground: Ground, chunk: bytes, start: int = 0) -> None:
        """The server dies, and Alice too: a new program of hers sends other bytes."""
        ground.server.crash()
        ground.server.is_slow = False
        stream = ground.server.streams["input"]
        assert stream.next_seq == start
        stream.stored[start] = chunk
        stream.checksum = hashlib.sha256(stream.whole).hexdigest()

    async def _until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 - a fake server has no events
                await asyncio.sleep(0)


PER_CHUNK: Json = {"amount": 5, "per": "chunk", "unit_bytes": None, "credit": 1}
PER_BYTES: Json = {"amount": 5, "per": "bytes", "unit_bytes": 4, "credit": 2}


class TestPaidAsItStreams:
    async def test_it_sends_as_far_as_paid_and_completes_once_all_is(self) -> None:
        ground = Ground(ProvidedTask(PER_CHUNK))

        async def words(_job: Job) -> AsyncIterator[str]:
            for word in ("one", "two"):
                yield word

        serving = ground.begin(words)
        while ground.output != b"one":  # noqa: ASYNC110 - a fake server has no events
            await asyncio.sleep(0)
        ground.server.pay(5)
        while ground.output != b"onetwo":  # noqa: ASYNC110 - a fake server has no events
            await asyncio.sleep(0)
        assert ground.server.told("output_complete") == []
        ground.server.pay(5)
        await serving

        assert ground.server.task["status"] == "completed"

    async def test_by_bytes_no_chunk_is_larger_than_a_unit(self) -> None:
        ground = Ground(ProvidedTask(PER_BYTES))
        ground.server.paid = 10

        async def much(_job: Job) -> AsyncIterator[str]:
            yield "abcdefghij"

        serving = ground.begin(much, payment_s=SOON_S)
        await serving

        assert list(ground.server.streams["output"].stored.values()) == [b"abcd", b"efgh", b"ij"]
        assert ground.server.task["status"] == "completed"

    async def test_by_chunk_one_that_is_too_large_fails_the_task(self) -> None:
        ground = Ground(ProvidedTask(PER_CHUNK), chunk_bytes_max=4)

        async def much(_job: Job) -> AsyncIterator[str]:
            yield "abcde"

        await ground.serve(much)

        assert ground.server.task["error"] == {
            "type": "chunk_too_large",
            "details": {"bytes": 5, "chunk_bytes_max": 4},
        }

    async def test_a_client_that_does_not_pay_ends_its_task(self) -> None:
        ground = Ground(ProvidedTask(PER_CHUNK))

        async def words(_job: Job) -> AsyncIterator[str]:
            for word in ("one", "two"):
                yield word

        await ground.serve(words, payment_s=SOON_S)

        assert ground.server.task["error"] == {"type": "payment_due", "details": {"paid_up_to": 0}}
        assert ground.output == b"one"

    async def test_time_without_a_connection_does_not_count(self) -> None:
        ground = Ground(ProvidedTask(PER_CHUNK))
        ground.connection.state = State.RECONNECTING

        async def words(_job: Job) -> AsyncIterator[str]:
            for word in ("one", "two"):
                yield word

        serving = ground.begin(words, payment_s=SOON_S)
        await asyncio.wait((serving,), timeout=5 * SOON_S)
        assert not serving.done()
        ground.server.pay(10)
        await serving

        assert ground.server.task["status"] == "completed"

    async def test_who_leaves_with_the_last_unit_unpaid_has_had_the_work(self) -> None:
        ground = Ground(ProvidedTask(PER_CHUNK))

        async def word(_job: Job) -> AsyncIterator[str]:
            yield "one"

        await ground.serve(word, payment_s=SOON_S)

        assert ground.server.task["status"] == "completed"

    async def test_a_client_that_takes_it_back_cancels_who_waits_for_its_money(self) -> None:
        ground = Ground(ProvidedTask(PER_CHUNK))
        stopped: list[str] = []

        async def words(_job: Job) -> AsyncIterator[str]:
            try:
                for word in ("one", "two"):
                    yield word
            except asyncio.CancelledError:
                stopped.append("cancelled")
                raise

        serving = ground.begin(words)
        while ground.output != b"one":  # noqa: ASYNC110 - a fake server has no events
            await asyncio.sleep(0)
        ground.server.end("cancelled")
        await serving

        assert stopped == ["cancelled"]

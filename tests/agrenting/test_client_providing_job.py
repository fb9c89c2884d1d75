"""What a handler reads, tells and notes."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from agrenting.client.job import Job, TaskFailed
from agrenting.client.streams import Position
from crypto import NO_CHUNKS, next_digest
from tests.agrenting.client_task_server import TASK_ID
from tests.agrenting.provider_ground import ALICE_ID, Ground, ProvidedTask


@pytest.fixture
def server() -> ProvidedTask:
    return ProvidedTask()


@pytest.fixture
def ground(server: ProvidedTask) -> Ground:
    return Ground(server)


def position(*chunks: bytes) -> Position:
    digest = NO_CHUNKS
    for seq, chunk in enumerate(chunks):
        digest = next_digest(digest, seq=seq, chunk=chunk)
    return Position(len(chunks), sum(map(len, chunks)), digest)


async def test_a_job_says_what_was_asked_for(ground: Ground) -> None:
    seen: list[Any] = []

    async def note(job: Job) -> str:
        seen.extend((job.task_id, job.capability, job.client_agent_id, job.client_handle, job.input, job.price))
        seen.extend((job.terms, job.resumed, job.deadline, job.result, repr(job)))
        return "done"

    await ground.serve(note)

    assert seen[:6] == [TASK_ID, "translate", ALICE_ID, "alice/client", {"to": "de"}, 1_000]
    assert seen[6:10] == [None, None, datetime(2030, 1, 1, tzinfo=UTC), None]
    assert seen[10] == f"<Job {TASK_ID}, translate>"


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ((b"one\ntwo\n",), ["one", "two"]),
        ((b"o", b"ne\r\n\r", b"\ntw", b"o"), ["one", "", "two"]),
        ((b"\n", b"\n"), ["", ""]),
        ((b"gr\xc3", b"\xbc\xc3\x9fe\n", b"x"), ["grüße", "x"]),
        ((b"a", b"b", b"c", b"\nd"), ["abc", "d"]),
        ((), []),
    ],
    ids=["one chunk", "over chunks", "empty ones", "a letter over chunks", "many chunks", "nothing"],
)
async def test_lines_are_read_whatever_chunks_they_come_in(
    ground: Ground, chunks: tuple[bytes, ...], lines: list[str]
) -> None:
    async def read(job: Job) -> list[str]:
        return [line async for line in job.lines()]

    await ground.give(*chunks)
    await ground.serve(read)

    assert ground.server.task["result"] == lines


async def test_lines_chunks_and_the_rest_may_be_read_in_turn(ground: Ground) -> None:
    async def read(job: Job) -> list[str]:
        parts: list[str] = []
        async for line in job.lines():
            parts.append(line)
            break
        async for chunk in job:
            parts.append(chunk.decode())
            break
        parts.append(await job.text())
        return [*parts, (await job.read()).decode()]

    await ground.give(b"a\nb", b"c", b"d")
    await ground.serve(read)

    assert ground.server.task["result"] == ["a", "b", "cd", ""]


async def test_what_is_no_text_is_the_clients_failure_and_it_is_told_so(ground: Ground) -> None:
    async def read(job: Job) -> str:
        return await job.text()

    await ground.give(b"\xff\xfe")
    await ground.serve(read)

    assert ground.server.task["error"] == {"type": "input_not_utf8", "details": None}


async def test_a_cancelled_line_is_not_lost(ground: Ground) -> None:
    """A handler may wait for a line with a timeout, and read it afterwards."""
    await ground.alice.join(ground.server.socket("client"))

    async def read(job: Job) -> list[str]:
        lines = job.lines()
        waiting = asyncio.ensure_future(anext(lines))
        while ground.server.streams["input"].next_seq < 1:  # noqa: ASYNC110 - a fake server has no events
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait((waiting,))
        await ground.alice.send(b" time\n")
        await ground.alice.close()
        return [line async for line in job.lines()]

    serving = ground.begin(read)
    await ground.alice.send(b"some")
    await serving

    assert ground.server.task["result"] == ["some time"]


async def test_progress_is_told_and_what_is_no_percentage_is_the_handlers_error(ground: Ground) -> None:
    async def tell(job: Job) -> str:
        await job.progress(0)
        await job.progress(100, "done")
        with pytest.raises(ValueError, match="101"):
            await job.progress(101)
        with pytest.raises(ValueError, match="-1"):
            await job.progress(-1)
        return "told"

    await ground.serve(tell)

    assert ground.server.told("progress") == [{"percent": 0, "message": None}, {"percent": 100, "message": "done"}]


async def test_a_checkpoint_notes_where_reading_and_yielding_stood_once_all_is_stored(ground: Ground) -> None:
    async def note(job: Job) -> AsyncIterator[str]:
        async for line in job.lines():
            yield line.upper()
            await job.checkpoint({"lines": line})

    stored: list[bytes] = []
    ground.server.on_event["checkpoint"] = lambda: stored.append(ground.output)
    await ground.give(b"ab\nc", b"d\ne")
    await ground.serve(note)

    first, second, third = ground.server.told("checkpoint")
    start, after = position(), position(b"ab\nc")
    digest = {"digest": NO_CHUNKS}
    assert first == {
        "seq": 0,
        "state": {"state": {"lines": "ab"}, "input": {"seq": 0, "size": 0, **digest}, "skip": 3, "output": 2},
    }
    assert second["seq"] == 1
    assert second["state"]["input"] == {"seq": after.seq, "size": after.size, "digest": after.digest}
    assert (second["state"]["skip"], second["state"]["output"]) == (2, 4)
    assert (third["state"]["input"]["seq"], third["state"]["skip"], third["state"]["output"]) == (2, 0, 5)
    assert stored == [b"AB", b"ABCD", b"ABCDE"]
    assert start.seq == 0


async def test_a_checkpoint_that_is_refused_is_the_handlers_to_see(ground: Ground) -> None:
    ground.server.refuses["checkpoint"] = "invalid_payload"

    async def note(job: Job) -> str:
        await job.checkpoint("x" * 100_000)
        return "not so"

    await ground.serve(note)

    assert ground.server.task["error"] == {"type": "provider_error", "details": {"exception": "RefusedByServer"}}


class TestFailures:
    def test_a_failure_has_a_type_that_programs_know(self) -> None:
        failed = TaskFailed("unreadable_line", {"line": 3})

        assert (failed.type, failed.details, str(failed)) == ("unreadable_line", {"line": 3}, "unreadable_line")

    @pytest.mark.parametrize("name", ["", "x" * 65, "No", "a-b", "ü", "a b"])
    def test_any_other_name_is_refused_where_it_is_made(self, name: str) -> None:
        with pytest.raises(ValueError, match="1-64"):
            TaskFailed(name)

    def test_so_are_details_that_are_no_json(self) -> None:
        with pytest.raises(TypeError):
            TaskFailed("no_json", object())

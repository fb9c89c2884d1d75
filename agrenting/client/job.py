"""Job: a task as the handler of a capability sees it.

    @agent.capability("shout", price="0.50")
    async def shout(job: Job) -> AsyncIterator[str]:
        async for line in job.lines():
            yield line.upper()

What it reads and yields are streams of their own, which nobody else sees: job_streams.py.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Self

import msgspec

from .job_streams import TaskInput, TaskOutput
from .task_work import Notes, TaskFailed, TaskWork

__all__ = ["Job", "TaskFailed"]


class Job:
    """A task that this agent was hired for: what was asked for, and what to do with it.

    Iterate over it to read the input chunk by chunk, as bytes, in order and once, over all losses; or read it with
    `lines`, `read` or `text`. All of these end where the client has closed its input; a handler need not read it at
    all. When the task ends beside the handler (its client takes it back or disputes it, its deadline passes), what the
    handler waits for raises `CancelledError`.
    """

    result: Any = None
    """The work's result as JSON, if it has one beside or instead of its output. Set it before the handler ends."""

    def __init__(
        self,
        task: dict[str, Any],
        *,
        client_handle: str | None,
        terms: dict[str, Any] | None,
        work: TaskWork,
        input: TaskInput,  # noqa: A002 - It is the stream's name.
        output: TaskOutput,
    ) -> None:
        self._task = task
        self._client_handle = client_handle
        self._terms = terms
        self._work = work
        self._input = input
        self._output = output

    def __repr__(self) -> str:
        """Which task it is."""
        return f"<Job {self.task_id}, {self.capability}>"

    @property
    def task_id(self) -> str:
        """The task's id."""
        return str(self._task["id"])

    @property
    def capability(self) -> str:
        """What the agent was hired for."""
        return str(self._task["capability"])

    @property
    def client_agent_id(self) -> str:
        """Who has hired it."""
        return str(self._task["client_agent_id"])

    @property
    def client_handle(self) -> str | None:
        """Its handle; None where the market does not show it any more, as after a block."""
        return self._client_handle

    @property
    def input(self) -> Any:
        """The JSON that came with the task, beside its input stream; None: there was none."""
        return self._task["input"]

    @property
    def price(self) -> int:
        """What is held for the task, in minor units; 0 where the output is paid as it streams."""
        return int(self._task["price"])

    @property
    def terms(self) -> dict[str, Any] | None:
        """What was agreed beside the price; None: nothing, or the task is at the list price."""
        return self._terms

    @property
    def deadline(self) -> datetime:
        """When the market ends the task."""
        return msgspec.convert(self._task["deadline"], datetime)

    @property
    def resumed(self) -> Any:
        """The state of the checkpoint that this start of the handler goes on from; None: it begins."""
        return None if self._work.notes is None else self._work.notes.state

    # The input.

    def __aiter__(self) -> Self:
        """The input, chunk by chunk."""
        return self

    async def __anext__(self) -> bytes:
        """The next chunk of the input."""
        chunk = await self._input.chunk()
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def lines(self) -> AsyncIterator[str]:
        """The input line by line, as they come, without their ends (LF, or CR and LF).

        Raises:
            TaskFailed: `input_not_utf8`, which the client is told unless it is caught.
        """
        while (line := await self._input.line()) is not None:
            yield _text(line.removesuffix(b"\n").removesuffix(b"\r"))

    async def read(self) -> bytes:
        """All of the input that was not read yet, once the client has closed it."""
        chunks: list[bytes] = []
        while (chunk := await self._input.chunk()) is not None:
            chunks.append(chunk)
        return b"".join(chunks)

    async def text(self) -> str:
        """The same as text, in UTF-8.

        Raises:
            TaskFailed: `input_not_utf8`, which the client is told unless it is caught.
        """
        return _text(await self.read())

    # Telling.

    async def progress(self, percent: int, message: str | None = None) -> None:
        """Tell the client how far the work is. Each time replaces the one before.

        Args:
            percent: 0 to 100.
            message: A few words.

        Raises:
            ValueError: `percent` is none.
            RefusedByServer: `invalid_payload`: the message is too long.
        """
        if not 0 <= percent <= 100:  # noqa: PLR2004 - It is a percentage.
            raise ValueError(f"progress is 0 to 100 percent, and not {percent}")
        await self._work.push("progress", {"percent": percent, "message": message})

    async def checkpoint(self, state: Any) -> None:
        """Note where the work stands, once all that was yielded is stored: a later start goes on from here.

        That start is given the state as `resumed`, and the input behind what was read up to here. What it yields has to
        be what is yielded here from now on: as much of it as is stored by then is compared, and not sent again.

        Args:
            state: Whatever the handler needs, as JSON of less than `checkpoint_bytes_max` bytes.

        Raises:
            RefusedByServer: `invalid_payload`: the state is too large.
            TypeError: It is no JSON.
            TaskFailed: What was yielded was not taken.
        """
        await self._output.flush()
        if self._input.is_rewritten:
            return  # What was read is not what counts: the next read begins the work anew.
        position, skip = self._input.position
        notes = Notes(state=state, input=position, skip=skip, output=self._output.size)
        seq, self._work.checkpoint_seq = self._work.checkpoint_seq, self._work.checkpoint_seq + 1
        await self._work.push("checkpoint", {"state": msgspec.to_builtins(notes), "seq": seq})


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise TaskFailed("input_not_utf8") from error

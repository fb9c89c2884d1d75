"""One attempt at a task of this agent's: what its handler asks for, and what the market's answers mean for it.

A handler is never told that its task is over by an error of some call: it is cancelled, like anything else in asyncio.
So whatever shows that the task has ended, is disputed, or has to begin anew is noted here, and the call that found it
waits until whoever runs the handler cancels it.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, NoReturn, TypeVar

import msgspec

from .errors import Disconnected, LyingServer, RefusedByServer, StreamBroken
from .kept_task import KeptTask
from .streams import SEQ_BYTES, Chunk, ChunkPayload, OutgoingStream, Position

T = TypeVar("T")

OVER: Final = frozenset(("terminal_state", "expired", "escrow_locked"))
"""Refusals of a task that has ended, is about to, or is disputed: nothing more can be done for it."""


class TaskFailed(Exception):
    """What a handler raises to give its task up: the client is told why, and gets the price back.

    Args:
        type: What went wrong, for programs: 1-64 of `a-z 0-9 _`.
        details: More about it, as JSON of at most `result_bytes_max` bytes. The client sees it.

    Raises:
        ValueError: `type` is no such name.
        TypeError: `details` is no JSON.
    """

    def __init__(self, type: str, details: Any = None) -> None:  # noqa: A002 - It is the event's field.
        if not 1 <= len(type) <= TYPE_CHARS_MAX or not TYPE_CHARS.issuperset(type):
            raise ValueError(f"the type of an error has 1-{TYPE_CHARS_MAX} of a-z, 0-9 and _, and this is {type!r}")
        msgspec.json.encode(details)
        super().__init__(type)
        self.type = type
        self.details = details


TYPE_CHARS_MAX: Final = 64
TYPE_CHARS: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


class Notes(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint: what the handler wants to know again, and where it stood.

    Args:
        state: The handler's.
        input: A chunk's beginning: what was read ends in that chunk, or before it.
        skip: Bytes of that chunk that were read.
        output: Bytes that were yielded.
    """

    state: Any
    input: Position
    skip: int
    output: int


class OwnOutput(OutgoingStream):
    """What this side sends. What an earlier program had sent of it is heard, and kept to be compared.

    Args:
        start: From which byte on it is kept.
    """

    def __init__(self, start: int) -> None:
        super().__init__()
        self._start = start
        self.earlier = bytearray()
        """What is stored behind `start` of what this program has not sent itself."""

    def hear(self, payload: ChunkPayload) -> None:
        """Take a chunk of this very stream that the server replays: `OutgoingStream.hear`."""
        before = self.position
        super().hear(payload)
        if self.position.seq > before.seq and self.position.size > self._start:
            chunk = payload[SEQ_BYTES:] if isinstance(payload, bytes) else msgspec.convert(payload, Chunk).bytes()
            self.earlier += chunk[max(0, self._start - before.size) :]


class TaskWork:
    """One attempt at a task.

    Args:
        kept: The task, joined.
        notes: From where on it is done; None: from the beginning.
    """

    def __init__(self, kept: KeptTask, notes: Notes | None, *, checkpoint_seq: int) -> None:
        self.kept = kept
        self.notes = notes
        self.checkpoint_seq = checkpoint_seq
        """Of the next checkpoint."""
        self.is_cancelled = False
        """Whether the handler has been told already that this is over."""
        self.rewritten_seq: int | None = None
        """From which chunk on input was rewritten that the handler has read, so that it has to begin anew."""
        self.failure: Exception | None = None
        """What ends more than this task: a lying server, or a connection that is closed for good."""
        self._over = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do in this attempt."""
        return self._over.is_set()

    async def until_over(self) -> None:
        """Wait until this attempt is over."""
        await self._over.wait()

    def end(self) -> None:
        """This attempt is over: its handler is to be cancelled."""
        self._over.set()

    async def restart(self, seq: int) -> NoReturn:
        """What the handler has read is not what was sent, from a chunk on: it has to begin anew."""
        self.rewritten_seq = seq
        await self._wait_for_cancellation()

    async def ask(self, waiting: Awaitable[T]) -> T:  # noqa: RET503 - its last line does not return
        """What is waited for, unless that shows that this is over.

        Raises:
            RefusedByServer, StreamRewritten: As for what is waited for.
        """
        try:
            return await waiting
        except StreamBroken:
            pass
        except RefusedByServer as refusal:
            if refusal.reason not in OVER:
                raise
        except (LyingServer, Disconnected) as error:
            self.failure = error
        await self._wait_for_cancellation()

    async def push(self, event: str, payload: dict[str, Any]) -> Any:
        """Push an event of the task; its reply.

        Raises:
            RefusedByServer: As for the event.
        """
        return await self.ask(self.kept.push(event, payload))

    async def _wait_for_cancellation(self) -> NoReturn:
        self.end()
        if self.is_cancelled:
            raise asyncio.CancelledError
        await asyncio.get_running_loop().create_future()
        raise AssertionError("nobody fulfils it")

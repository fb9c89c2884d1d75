"""What a client sends as a task's input: bytes, text, or anything that yields them; sent in the background."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .errors import ClientError, RefusedByServer, StreamBroken, TopicEnded
from .kept_task import KeptTask

if TYPE_CHECKING:
    from .context import AgentContext

T = TypeVar("T")

ENDED: Final = frozenset(("terminal_state", "expired", "escrow_locked", "stream_closed"))
"""Refusals of input that nobody takes any more: how the task has ended is told by the task."""

Data = bytes | str | Iterable[bytes | str] | AsyncIterable[bytes | str]
"""Input: all of it, or chunk by chunk; text is sent as UTF-8. An open file is fine, and goes line by line.

What is iterated without `async`, such as a file, a pipe or a generator, may take its time: it is read in another
thread, one step after the other. A program that ends waits for the step that is under way.
"""

_END: Final = object()


class InputSender:
    """Sends a task's input in the background, and ends it. What goes wrong with it is told to whoever waits.

    Args:
        context: The client's.
        kept: The client's side of the task.
        take_back: Cancels the task, if it can be cancelled still: its input cannot be had.
    """

    def __init__(self, context: "AgentContext", kept: KeptTask, take_back: Callable[[], Awaitable[None]]) -> None:
        self._context = context
        self._kept = kept
        self._take_back = take_back
        self._sending: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it was given something to send."""
        return self._sending is not None

    def start(self, data: Data) -> None:
        """Begin."""
        self._sending = self._context.spawn(self._send(data), f"input of task {self._kept.id}")

    async def stop(self) -> None:
        """Send nothing more."""
        sending = self._sending
        if sending is not None and not sending.done():
            sending.cancel()
            await asyncio.wait((sending,))

    async def unless_it_fails(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for something, or for the sending to go wrong, which ends it.

        Raises:
            Exception: What the sending has ended with, or `work`.
        """
        sending, waiting = self._sending, asyncio.ensure_future(work)
        try:
            if sending is not None and not sending.done():
                await asyncio.wait((waiting, sending), return_when=asyncio.FIRST_COMPLETED)
            failure = self._failure
            if failure is not None and not (waiting.done() and waiting.exception() is None):
                raise failure
            return await waiting
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)  # Also what it has failed with meanwhile is taken.

    async def _send(self, data: Data) -> None:
        try:
            async for piece in pieces_of(data, self._context.market.chunk_bytes_max):
                await self._kept.send(piece)
            await self._kept.close()
        except StreamBroken:
            pass  # The task's end is told to whoever reads.
        except TopicEnded as ended:
            if not self._kept.is_left:  # A task that was left is nobody's.
                self._failure = ended
        except RefusedByServer as refusal:
            if refusal.reason not in ENDED:
                self._failure = refusal
        except ClientError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - Anything may come from the application's own source.
            self._failure = error
            await self._take_back()


async def pieces_of(data: Data, bytes_max: int) -> AsyncIterator[bytes]:
    """The chunks that some input is sent as: as it yields them, and what is too large for one as several.

    Args:
        data: The input.
        bytes_max: What a chunk may have at most.

    Raises:
        TypeError: It yields something else.
        Exception: Whatever the source raises.
    """
    async for chunk in _chunks_of(data):
        content = _as_bytes(chunk)
        for start in range(0, len(content), bytes_max):
            yield content[start : start + bytes_max]


async def _chunks_of(data: Data) -> AsyncIterator[object]:
    if isinstance(data, bytes | str):
        yield data
    elif isinstance(data, AsyncIterable):
        async for chunk in data:
            yield chunk
    elif isinstance(data, list | tuple):
        for chunk in data:  # Nothing to wait for.
            yield chunk
    else:
        steps = iter(data)
        # A future cannot carry StopIteration: the end is a value.
        while (step := await asyncio.to_thread(next, steps, _END)) is not _END:
            yield step


def _as_bytes(chunk: object) -> bytes:
    if isinstance(chunk, str):
        return chunk.encode()
    if isinstance(chunk, bytes):
        return chunk
    raise TypeError(f"input is bytes or text, not {type(chunk).__name__}")

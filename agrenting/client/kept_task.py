"""KeptTask: one side of a task, whatever is lost: `StreamedTask` that is joined again by itself.

    task = KeptTask(connection, task_id, role="client")
    await task.join()
    await task.send(b"Good morning!")
    await task.close()
    while (chunk := await task.next_chunk()) is not None:
        ...

Chunks come in order and once, and go so, over every loss of the connection or of the server. One `asyncio` task may
send while another takes and a third waits for the end; each of them may be cancelled, and nothing is lost by it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from .backoff import Attempts
from .connection import Connection
from .errors import Disconnected, NoAnswer, TopicEnded
from .kept_topic import ENDS_MAX, JOINED, is_fault, is_taken
from .streamed_task import IN_FLIGHT_MAX, OnEvent, Role, StreamedTask, StreamPrice
from .streams import Position

T = TypeVar("T")


class KeptTask:
    """One side of a task, over every loss. A lost connection is waited for, and `Disconnected` says that it is closed.

    A connection has each task once: who joins it later has it, and who had it before hears `TopicEnded`.

    Args:
        connection: The agent's.
        task_id: The task's.
        role: Which side this is.
        start: From where on the other side's stream is wanted; None: all of it.
        in_flight_max: Chunks that are sent ahead of their acknowledgement, 1 to 256.
        on_event: Told of every event of the task but chunks; and of `JOINED` with the task, after each join but the
            first.
    """

    def __init__(
        self,
        connection: Connection,
        task_id: str,
        *,
        role: Role,
        start: Position | None = None,
        in_flight_max: int = IN_FLIGHT_MAX,
        on_event: OnEvent | None = None,
    ) -> None:
        self.streamed = StreamedTask(task_id, role=role, start=start, in_flight_max=in_flight_max, on_event=on_event)
        """What is kept over the losses: the streams, the task's state, what is paid."""
        self._connection = connection
        self._on_event: OnEvent = on_event or (lambda _event, _payload: None)
        self._joining = asyncio.Lock()
        self._attempts = Attempts(connection.backoff)
        self._left: TopicEnded | None = None

    @property
    def id(self) -> str:
        """The task's."""
        return self.streamed.id

    @property
    def is_left(self) -> bool:
        """Whether it was left, and not joined again."""
        return self._left is not None

    @property
    def state(self) -> dict[str, Any]:
        """The task as it was told last."""
        return self.streamed.state

    @property
    def price(self) -> StreamPrice | None:
        """What a unit of the output costs; None where the price is held."""
        return self.streamed.price

    async def join(self) -> dict[str, Any]:
        """Join the task, the first time or after it was left; the task. Waits while there is no connection.

        Raises:
            RefusedByServer: The join was refused; or the agent, for good.
            LyingServer: The server has lost or changed what it had stored.
            Disconnected: The connection is closed.
        """
        self._left = None
        await self._join(self.streamed.joins)
        return self.streamed.state

    async def send(self, chunk: bytes) -> None:
        """Send the next chunk, once there is room for one more in flight. Cancelled, it was not taken.

        Raises:
            RefusedByServer: An earlier chunk was refused; or the agent, for good.
            LyingServer: An earlier one was acknowledged with another digest.
            StreamBroken: The task has ended, and no more will be paid.
            TopicEnded: It was left.
            Disconnected: The connection is closed.
        """
        await self._over(lambda: self._send(chunk))

    async def flush(self) -> None:
        """Wait until all that was sent is stored.

        Raises:
            RefusedByServer, LyingServer, TopicEnded, Disconnected: As for `send`.
        """
        await self._over(self.streamed.flush, may_be_at_fault=True)

    async def close(self) -> dict[str, Any]:
        """End the stream with its checksum; the reply. To do so again is no error.

        Raises:
            RefusedByServer, LyingServer, TopicEnded, Disconnected: As for `send`.
        """
        return await self._over(self.streamed.close, may_be_at_fault=True)

    async def push(self, event: str, payload: dict[str, Any] | None = None) -> Any:
        """Push another event of the task, such as `checkpoint`, `complete` or `dispute`, until it is answered.

        Raises:
            RefusedByServer: The reply is an error; or the agent was refused for good.
            TopicEnded, Disconnected: It was left, or the connection is closed. Or the server ends the topic, or the
                socket, again and again with this push, because it does not understand it.
        """
        return await self._over(lambda: self.streamed.push(event, payload), may_be_at_fault=True)

    async def next_chunk(self) -> bytes | None:
        """The other side's next chunk, in order and once; None at the end, when digest and checksum were right.

        Raises:
            StreamRewritten: Chunks that were handed on have other bytes now. Forget them, and go on.
            StreamBroken: The task ended before its stream was complete.
            LyingServer: Digest or checksum are not those of what came.
            RefusedByServer: The agent was refused for good.
            TopicEnded: It was left.
            Disconnected: The connection is closed.
        """
        return await self._over(self.streamed.next_chunk)

    async def until_paid(self) -> None:
        """Wait until all that was sent is paid, where it is paid as it streams.

        Raises:
            StreamBroken: The task ended before.
            RefusedByServer, TopicEnded, Disconnected: As for `push`.
        """
        await self._over(self.streamed.until_paid)

    async def release(self) -> dict[str, Any]:
        """Pay the completed task's price now: the client has checked what it got, and need not wait for the hold.

        Raises:
            RefusedByServer: `not_completed`, `not_held`, `escrow_locked`, `forbidden_role`.
            TopicEnded, Disconnected: As for `push`.
        """
        return await self._over(self.streamed.release, may_be_at_fault=True)

    async def end(self) -> dict[str, Any]:
        """Wait until the task has ended; the task.

        Raises:
            RefusedByServer, TopicEnded, Disconnected: As for `push`.
        """
        return await self._over(self.streamed.end)

    async def settled(self) -> dict[str, Any]:
        """Wait until the task has ended and nothing of its price is held any more; the task.

        Raises:
            RefusedByServer, TopicEnded, Disconnected: As for `push`.
        """
        return await self._over(self.streamed.settled)

    async def leave(self) -> None:
        """Leave the task's topic; whoever waits hears `TopicEnded`. It can be joined again, and goes on."""
        self._left = TopicEnded(f"task:{self.id} was left")
        if self.streamed.joins:
            with suppress(Disconnected, NoAnswer, TopicEnded):  # Then it has ended with its connection.
                await self.streamed.leave()

    async def _send(self, chunk: bytes) -> None:
        await self._connection.socket()  # Nothing is taken to be sent while there is none, or never will be one.
        await self.streamed.send(chunk)

    async def _over(self, ask: Callable[[], Awaitable[T]], *, may_be_at_fault: bool = False) -> T:
        """Do something over losses: after each, the task is joined again, and it is done anew.

        Args:
            ask: Does it.
            may_be_at_fault: It pushes, and is given up where it meets again and again what it may have caused.
        """
        ends = 0
        while True:
            joins = self.streamed.joins
            if not self.streamed.is_joined:
                await self._join(joins)
            try:
                return await ask()
            except (Disconnected, NoAnswer, TopicEnded) as error:
                loss = error
            ends += may_be_at_fault and is_fault(loss) and self._left is None
            if ends >= ENDS_MAX or is_taken(loss):
                raise loss
            await self._join(joins, loss)

    async def _join(self, joins: int, loss: Exception | None = None) -> None:
        """Join, unless somebody has done so since there were so many joins."""
        async with self._joining:
            while self.streamed.joins == joins or not self.streamed.is_joined:
                if self._left is not None:
                    raise self._left
                if isinstance(loss, TopicEnded):  # By the server alone, which may do so again.
                    await asyncio.sleep(self._attempts.next_delay())
                socket = await self._connection.socket()
                try:
                    await self.streamed.join(socket)
                except (Disconnected, NoAnswer, TopicEnded) as error:
                    loss = error
                else:
                    self._attempts.began()
                    if self._left is not None:
                        await self.leave()
                    elif self.streamed.joins > 1:
                        self._on_event(JOINED, self.streamed.state)

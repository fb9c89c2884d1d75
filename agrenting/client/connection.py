"""Connection: an agent's socket that is opened again whenever it is lost.

    CONNECTING ──▶ CONNECTED ◀──▶ RECONNECTING
         │             │               │
         └─────────────┴──▶ CLOSED ◀───┘   closed here, or refused by the server for good

Only the first opening fails at once, so that a wrong address or key is told to who has given it. From then on a lost
connection is nobody's error: whoever needs the socket waits until there is one. Topics are joined again by who uses
them (`KeptTopic`, `KeptTask`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import StrEnum
from types import TracebackType
from typing import Final, Self, TypeVar
from uuid import uuid4

from .backoff import BACKOFF, Attempts, Backoff, retry_after_s
from .errors import Disconnected, NoAnswer, RefusedByServer
from .listening import Listeners
from .socket import HEARTBEAT_S, SENT_BYTES_MAX, OnFrame, PhoenixSocket, Secret

T = TypeVar("T")

SESSION_EXPIRED: Final = 1008
SERVER_RESTARTS: Final = 1012
TOO_SLOW: Final = 1013

MORE_PATIENT: Final = {SERVER_RESTARTS: 2, TOO_SLOW: 4}
"""Close codes after which the first attempt waits as if so many had failed already."""

PASSING: Final = frozenset(("rate_limited", "draining", "connection_conflict", "unavailable"))
"""Refusals of a connection that are over some time. A status alone is a proxy's, and says nothing of the agent."""


class State(StrEnum):
    """How a connection stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


class Connection:
    """One agent's connection. Use it as an asynchronous context, or `open` and `close` it.

    Args:
        url: As in `http://127.0.0.1:4000`.
        api_key: Sent in a header; never shown nor logged.
        agent_id: The agent to act as, where the key can stand for several.
        backoff: How long to wait before connecting again.
        on_state: Told of each change, from within; it must not wait.
        on_frame: Told of each frame, for those who want to watch.
        heartbeat_s: How often the server is asked for a sign of life; one that takes as long to answer is gone.
    """

    def __init__(
        self,
        url: str,
        api_key: str | Secret,
        *,
        agent_id: str | None = None,
        backoff: Backoff = BACKOFF,
        on_state: Callable[[State], None] | None = None,
        on_frame: OnFrame | None = None,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self.url = url
        self.backoff = backoff
        self.sent_bytes_max = SENT_BYTES_MAX
        """The largest frame that the market takes, in bytes; set it before `open`."""
        self.instance_id = uuid4().hex
        """What all its sockets are opened as: one program, over every loss."""
        self._state = State.CONNECTING
        self._api_key = api_key
        self._agent_id = agent_id
        self._on_state: Callable[[State], None] = on_state or (lambda _state: None)
        self._on_frame = on_frame
        self._heartbeat_s = heartbeat_s
        self._attempts = Attempts(backoff)
        self._socket: PhoenixSocket | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None
        """What ended it, if it was not closed here."""
        self._turned = asyncio.Event()
        """Set, and replaced, at each change of the state."""
        self._watchers: Listeners[State] = Listeners()

    async def __aenter__(self) -> Self:
        """Connect: `open`."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it: `close`."""
        await self.close()

    @property
    def state(self) -> State:
        """How it stands."""
        return self._state

    async def open(self) -> None:
        """Connect for the first time; one attempt.

        Raises:
            RefusedByServer: The server refuses the credential, or the connection.
            Disconnected: The server cannot be reached, or the connection was closed meanwhile.
        """
        if self._supervisor is not None:
            raise RuntimeError("the connection is open already")
        self._failure = None
        self._turn(State.CONNECTING)
        try:
            socket = await self._connect()
        except BaseException as error:
            self._failure = None if isinstance(error, asyncio.CancelledError) else error
            self._turn(State.CLOSED)
            raise
        if self.state is State.CLOSED:
            await socket.close()
            raise Disconnected("the connection was closed while it was opened")
        self._socket = socket
        self._supervisor = asyncio.create_task(self._keep(socket), name="agrenting connection")
        self._supervisor.add_done_callback(self._ended)
        self._turn(State.CONNECTED)

    async def close(self) -> None:
        """Close it, now: nothing is waited for but a moment for the goodbye. To do so again is no error."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
        self._turn(State.CLOSED)
        try:
            if supervisor is not None:
                await asyncio.wait((supervisor,))
        finally:
            socket, self._socket = self._socket, None
            if socket is not None:
                await socket.close()

    async def socket(self) -> PhoenixSocket:
        """The socket that is open; waits while there is none.

        Raises:
            RefusedByServer: The server refuses the agent for good: the connection is closed.
            Disconnected: The connection is closed.
        """
        while True:
            if self._state is State.CLOSED:
                failure = self._failure or Disconnected("the connection is closed")
                raise failure.with_traceback(None)  # It is raised to everybody, and would grow.
            if self._socket is not None and self._socket.is_open:
                return self._socket
            await self._turned.wait()

    def states(self) -> AsyncIterator[State]:
        """The state now, and each change, up to `CLOSED`. All are kept until they are read."""
        heard = self._watchers.listen()  # Without limit: a change takes an attempt to connect.
        heard.take(self._state)
        if self._state is State.CLOSED:
            heard.end(StopAsyncIteration())
        return heard

    async def repeat(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Do something that may be done twice, and again after a loss, until it was answered.

        Args:
            ask: Does it, each time anew; over this connection or by REST.

        Raises:
            RefusedByServer, Disconnected: The connection is closed; or whatever else `ask` raises.
        """
        attempts = Attempts(self.backoff)
        while True:
            await self.socket()
            attempts.began()
            try:
                return await ask()
            except (Disconnected, NoAnswer):
                if self._state is State.CLOSED:
                    raise
            await asyncio.sleep(attempts.next_delay())

    # What goes on behind it.

    async def _connect(self) -> PhoenixSocket:
        socket = PhoenixSocket(
            self.url,
            self._api_key,
            self._agent_id,
            self._on_frame,
            heartbeat_s=self._heartbeat_s,
            instance_id=self.instance_id,
        )
        socket.sent_bytes_max = self.sent_bytes_max
        await socket.open()
        return socket

    async def _keep(self, socket: PhoenixSocket) -> None:
        """Replace the socket whenever it is lost.

        Raises:
            RefusedByServer: The server refuses the agent for good.
        """
        while True:
            self._attempts.began()
            await socket.wait_closed()
            self._turn(State.RECONNECTING)
            await socket.close()
            if socket.close_code == SESSION_EXPIRED:
                raise RefusedByServer("invalid_credential", socket.close_reason or "The session has expired.", {})
            socket = await self._connect_again(MORE_PATIENT.get(socket.close_code or 0, 0))
            self._socket = socket
            self._turn(State.CONNECTED)

    async def _connect_again(self, more: int) -> PhoenixSocket:
        told_s = 0.0
        while True:
            await asyncio.sleep(told_s + self._attempts.next_delay(more))
            try:
                return await self._connect()
            except Disconnected:
                told_s = 0.0
            except RefusedByServer as refusal:
                if refusal.reason not in PASSING and not refusal.reason.isdigit():
                    raise
                told_s = retry_after_s(refusal) or 0.0

    def _ended(self, supervisor: asyncio.Task[None]) -> None:
        """The supervisor ends with `close`, or with what nobody can go on after: whoever waits is told."""
        if not supervisor.cancelled():
            self._failure = supervisor.exception()
            self._turn(State.CLOSED)

    def _turn(self, state: State) -> None:
        if state is self._state and state is not State.CONNECTING:
            return
        if state is not self._state:
            self._watchers.tell(state)
        self._state = state
        turned, self._turned = self._turned, asyncio.Event()
        turned.set()
        if state is State.CLOSED:
            self._watchers.end()
            self._watchers = Listeners()
        self._on_state(state)

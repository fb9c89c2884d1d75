"""A Phoenix socket, V2: topics, pushes with their replies, events, heartbeats.

A lost connection raises `Disconnected` wherever somebody waits. A socket does not connect again by itself: every join
reply carries the whole state, so connecting again and rejoining makes an agent whole: `Connection` and `KeptTopic`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlencode

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from .errors import ClientError, Disconnected, NoAnswer, RefusedByServer, TopicEnded
from .frames import BadFrame, Frame, Reply, decode_frame, encode_frame, exceeds
from .refusals import refusal_of_body, refusal_of_reply

HEARTBEAT_S = 30.0
REPLY_TIMEOUT_S = 30.0
CLOSE_TIMEOUT_S = 2.0
"""How long the goodbye of the other side is waited for."""
SENT_BYTES_MAX = 1_048_576
"""The largest frame that a market takes, unless it says something else: `frame_bytes_max` of its `sizes`."""

FRAME_BYTES_MAX = 16_777_216
"""The largest frame that is taken from a server."""

PROTOCOL_ERROR = 1002

JOINED_AGAIN = "joined_again"
"""Why a topic has ended that somebody else of this program has joined on the same socket: the newest join counts."""

OnFrame = Callable[[str, Any], None]
"""Told of each frame: `>` or `<`, and the frame as the list that it is; the payload of a binary one is `bytes`."""

Payload = dict[str, Any] | bytes
"""What is pushed: fields as JSON, or bytes as a binary frame."""

_LOG = logging.getLogger(__name__)
_LOG.setLevel(logging.INFO)  # Below it websockets logs every header, and one of them is the key.


class Secret(Protocol):
    """A key that does not show itself, as `ApiKey`."""

    def reveal(self) -> str:
        """Its text."""
        ...


class _Connect(connect):
    """Connects, and follows no redirection: the key is meant for one server."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """No other place is asked."""
        return exc


class Ending(msgspec.Struct, frozen=True):
    """The payload of a `phx_error`."""

    reason: str | None = None


class Topic:
    """A joined topic. `state` is its join reply: the whole state at that moment.

    Events wait here, in order and without limit, until they are read: leave a topic that you do not read.
    """

    def __init__(self, socket: "PhoenixSocket", name: str, join_ref: str) -> None:
        self.name = name
        self.join_ref = join_ref
        self.state: Any = None
        self.ended: ClientError | None = None
        """Why it is no longer joined."""
        self._socket = socket
        self._inbox: asyncio.Queue[tuple[str, Any] | ClientError] = asyncio.Queue()

    async def push(self, event: str, payload: Payload | None = None, timeout_s: float = REPLY_TIMEOUT_S) -> Any:
        """Push an event; the response of its reply.

        Args:
            event: Its name.
            payload: Its fields; bytes go as a binary frame, which only streams take.
            timeout_s: How long to wait for the reply.

        Raises:
            RefusedByServer: The reply is an error.
            NoAnswer: No reply came in time.
            TopicEnded: The server has ended the topic instead.
            Disconnected: The socket is gone.
        """
        return await self._socket.request(self, event, payload or {}, timeout_s)

    async def next_event(self, timeout_s: float | None = None) -> tuple[str, Any]:
        """The next event and its payload. What came before an end is told before it.

        Raises:
            NoAnswer: Nothing came in time.
            TopicEnded: The topic is no longer joined.
            Disconnected: The socket is gone.
        """
        try:
            async with asyncio.timeout(timeout_s):
                heard = await self._inbox.get()
        except TimeoutError:
            raise NoAnswer(f"nothing came on {self.name} within {timeout_s} s") from None
        if isinstance(heard, ClientError):
            self._inbox.put_nowait(heard)  # For whoever asks again.
            raise heard
        return heard

    async def events(self) -> AsyncIterator[tuple[str, Any]]:
        """Every event and its payload, as they come.

        Raises:
            TopicEnded: The topic is no longer joined.
            Disconnected: The socket is gone.
        """
        while True:
            yield await self.next_event()

    async def expect(self, event: str, timeout_s: float | None = REPLY_TIMEOUT_S) -> Any:
        """The payload of the next event of that name; others before it are passed over.

        Raises:
            NoAnswer: It did not come in time.
            TopicEnded: The topic is no longer joined.
            Disconnected: The socket is gone.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    name, payload = await self.next_event()
                    if name == event:
                        return payload
        except TimeoutError:
            raise NoAnswer(f"no {event} came on {self.name} within {timeout_s} s") from None

    async def leave(self) -> None:
        """Leave the topic.

        Raises:
            NoAnswer: No reply came in time.
            Disconnected: The socket is gone.
        """
        await self._socket.leave(self)

    def take(self, heard: tuple[str, Any] | ClientError) -> None:
        """The socket hands over an event, or what the topic has ended with."""
        if isinstance(heard, ClientError):
            self.ended = heard
        self._inbox.put_nowait(heard)


class PhoenixSocket:
    """One socket of one agent. Use it as an asynchronous context.

    Args:
        base_url: As in `http://127.0.0.1:4000`.
        api_key: Sent in the header x-api-key; never shown nor logged.
        agent_id: The agent to act as, where the key can stand for several.
        on_frame: Told of each frame, for those who want to watch.
        heartbeat_s: How often the server is asked for a sign of life; one that takes as long to answer is gone.
        instance_id: The program that opens it, among the agent's own, for what lives on over a loss; 1-128 of
            `A-Z a-z 0-9 . _ : -`. None: the socket is one of its own.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Secret,
        agent_id: str | None = None,
        on_frame: OnFrame | None = None,
        *,
        heartbeat_s: float | None = None,
        instance_id: str | None = None,
    ) -> None:
        chosen = {"agent_id": agent_id, "instance_id": instance_id}
        query = {"vsn": "2.0.0", **{name: value for name, value in chosen.items() if value is not None}}
        self._address = f"{base_url.rstrip('/').replace('http', 'ws', 1)}/socket/websocket?{urlencode(query)}"
        self._api_key = api_key
        self._heartbeat_s = HEARTBEAT_S if heartbeat_s is None else heartbeat_s
        self._on_frame: OnFrame = on_frame or (lambda _direction, _frame: None)
        self._topics: dict[str, Topic] = {}
        self._waiting: dict[str, tuple[Topic | None, asyncio.Future[Reply]]] = {}
        self._ref = 0
        self._connection: ClientConnection
        self._tasks: tuple[asyncio.Task[None], ...] = ()
        self._given_up = ""
        """Why this side has given the connection up."""
        self._is_lost = False
        self.sent_bytes_max = SENT_BYTES_MAX
        """The largest frame that is sent, in bytes: what is larger is refused here."""

    async def __aenter__(self) -> Self:
        """Connect: `open`."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the socket: `close`."""
        await self.close()

    @property
    def is_open(self) -> bool:
        """Whether it is connected."""
        return bool(self._tasks) and not self._is_lost

    @property
    def close_code(self) -> int | None:
        """What it was closed with; 1006 where it was cut; None while it is open."""
        return self._connection.close_code

    @property
    def close_reason(self) -> str:
        """The other side's sentence about it."""
        return self._connection.close_reason or ""

    async def wait_closed(self) -> None:
        """Wait until the connection is lost or closed."""
        await asyncio.wait(self._tasks[:1])

    async def open(self) -> None:
        """Connect.

        Raises:
            RefusedByServer: The server refuses the credential.
            Disconnected: The server cannot be reached, or answers with something else.
        """
        try:
            self._connection = await _Connect(
                self._address,
                additional_headers={"x-api-key": key_text(self._api_key)},
                compression=None,
                max_size=FRAME_BYTES_MAX,
                ping_interval=None,  # The heartbeat looks after the connection.
                close_timeout=CLOSE_TIMEOUT_S,
                logger=_LOG,
            )
        except InvalidStatus as error:
            response = error.response
            raise refusal_of_body(
                response.status_code,
                response.reason_phrase,
                bytes(response.body),
                retry_after=response.headers.get("retry-after"),
            ) from error
        except (OSError, WebSocketException) as error:
            raise Disconnected(f"cannot connect: {error}") from error
        self._tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._beat()))

    async def close(self) -> None:
        """Close the socket; the other side's goodbye is waited for a moment."""
        try:
            await self._connection.close()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def join(self, name: str, payload: dict[str, Any] | None = None, timeout_s: float = REPLY_TIMEOUT_S) -> Topic:
        """Join a topic; its `state` is the reply. Joining again ends the first join, as the server does.

        Raises:
            RefusedByServer: The join was refused.
            NoAnswer: No reply came in time.
            Disconnected: The socket is gone.
        """
        topic = Topic(self, name, self._next_ref())
        self._end(name, TopicEnded(f"{name} was joined again on the same socket", JOINED_AGAIN))
        self._topics[name] = topic
        try:
            topic.state = await self._ask(topic, topic.join_ref, "phx_join", payload or {}, timeout_s)
        except BaseException:
            if self._topics.get(name) is topic:
                del self._topics[name]
            raise
        return topic

    async def leave(self, topic: Topic) -> None:
        """Leave a topic: `Topic.leave`."""
        if self._topics.get(topic.name) is topic:
            self._end(topic.name, TopicEnded(f"{topic.name} was left"))
        await self._ask(topic, self._next_ref(), "phx_leave", {}, REPLY_TIMEOUT_S)

    def drop(self, topic: Topic, error: TopicEnded) -> None:
        """End a join on this side, before it is joined anew: who reads it, or waits for a reply on it, hears why."""
        if self._topics.get(topic.name) is topic:
            self._end(topic.name, error)

    async def request(self, topic: Topic, event: str, payload: Payload, timeout_s: float) -> Any:
        """Push an event on a topic and wait for its reply: `Topic.push`."""
        if topic.ended is not None:
            raise topic.ended  # The server does not answer what is said to a join that is over.
        return await self._ask(topic, self._next_ref(), event, payload, timeout_s)

    def abort(self) -> None:
        """Cut the connection without goodbye, as a dead network does: whoever waits hears `Disconnected`."""
        self._connection.transport.abort()

    def _next_ref(self) -> str:
        self._ref += 1
        return str(self._ref)

    async def _ask(self, topic: Topic | None, ref: str, event: str, payload: Any, timeout_s: float) -> Any:
        """Send one frame and wait for its reply; without a topic it is about the connection itself."""
        join_ref, name = (None, "phoenix") if topic is None else (topic.join_ref, topic.name)
        frame: Frame = (join_ref, ref, name, event, payload)
        encoded = encode_frame(frame)
        if exceeds(encoded, self.sent_bytes_max):  # The server would close the socket, and end every topic of it.
            sentence = f"The frame of {event} has more than the {self.sent_bytes_max} bytes that the market takes."
            raise RefusedByServer("invalid_payload", sentence, {})
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[ref] = (topic, future)
        try:
            async with asyncio.timeout(timeout_s):
                await self._connection.send(encoded)
                self._on_frame(">", list(frame))
                reply = await future
        except TimeoutError:
            raise NoAnswer(f"no reply to {event} on {name} within {timeout_s} s") from None
        except WebSocketException:
            raise self._lost() from None
        finally:
            del self._waiting[ref]
            future.cancel()
        if reply.status != "ok":
            raise refusal_of_reply(reply.response)
        return reply.response

    async def _read(self) -> None:
        try:
            async for message in self._connection:
                frame = decode_frame(message)
                if frame is not None:
                    self._hear(frame)
        except WebSocketException:
            pass  # What it means is said below, to whoever waits.
        except (BadFrame, msgspec.ValidationError):
            await self._connection.close(PROTOCOL_ERROR, "this is no Phoenix frame")
        finally:
            self._lost()

    def _hear(self, frame: Frame) -> None:
        self._on_frame("<", list(frame))
        join_ref, ref, name, event, payload = frame
        if event == "phx_reply":
            _, future = self._waiting.get(ref or "", (None, None))
            if future is not None and not future.done():
                future.set_result(msgspec.convert(payload, Reply))
            return
        topic = self._topics.get(name)
        if topic is None or join_ref not in {None, topic.join_ref}:
            return  # It was said to a join that is over.
        if event in {"phx_close", "phx_error"}:
            reason = _reason(payload)
            because = "" if reason is None else f", {reason}"
            self._end(name, TopicEnded(f"the server has ended {name}: {event}{because}", reason))
        else:
            topic.take((event, payload))

    def _end(self, name: str, error: ClientError) -> None:
        """A topic is no longer joined: tell whoever reads it, or waits for a reply on it."""
        topic = self._topics.pop(name, None)
        if topic is None:
            return
        topic.take(error)
        for waiting, future in self._waiting.values():
            if waiting is topic and not future.done():
                future.set_exception(error)

    def _lost(self) -> Disconnected:
        self._is_lost = True
        error = Disconnected(self._loss(), self.close_code)
        for name in list(self._topics):
            self._end(name, error)
        for _, future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        return error

    def _loss(self) -> str:
        if self._given_up:
            return self._given_up
        connection = self._connection
        return f"the connection was closed with {connection.close_code}: {connection.close_reason or 'no reason given'}"

    async def _beat(self) -> None:
        """Tell the server that somebody is there; a server that does not answer is not there."""
        try:
            while True:
                await asyncio.sleep(self._heartbeat_s)
                await self._ask(None, self._next_ref(), "heartbeat", {}, self._heartbeat_s)
        except NoAnswer:
            self._given_up = f"heartbeat timeout: the server has not answered for {self._heartbeat_s:g} s"
            self.abort()  # Nobody is there to say goodbye to.
        except ClientError:
            pass  # It is lost: `_read` says so to whoever waits.


def _reason(payload: Any) -> str | None:
    """Why the server has ended a topic, where it says so."""
    try:
        return msgspec.convert(payload, Ending).reason
    except msgspec.ValidationError:
        return None


def key_text(api_key: str | Secret) -> str:
    """A key's text, for the header that it goes in."""
    return api_key if isinstance(api_key, str) else api_key.reveal()

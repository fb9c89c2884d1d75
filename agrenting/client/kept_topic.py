"""KeptTopic: a topic that is joined again after every loss.

Every join reply carries the whole state, so who reads hears `JOINED` with it, and knows all that was missed. There is
no task behind it: whoever reads, or pushes, joins again.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, TypeGuard

from .backoff import NOT_NOW, PATIENCE_S, Attempts, patiently, retry_after_s
from .connection import Connection
from .errors import Disconnected, NoAnswer, RefusedByServer, TopicEnded
from .socket import JOINED_AGAIN, REPLY_TIMEOUT_S, Topic

JOINED: Final = "joined"
"""What a reader hears after the topic was joined again; the payload is the join's reply."""

ENDS_MAX: Final = 3
"""How often a push may meet what it may have caused itself, before that is raised."""

FAULTS: Final = frozenset((1002, 1007, 1009, 1011))
"""What a server closes a socket with that it has not understood, or that has sent too much at once."""

_LOG = logging.getLogger(__name__)


class KeptTopic:
    """A topic that is joined again after every loss. Events wait without limit until they are read, by one reader.

    A connection has each topic once: who joins it later has it, and who had it before hears `TopicEnded`.

    Args:
        connection: The agent's.
        name: The topic's.
        payload: Gives the payload of each join, such as the position to resume from.
    """

    def __init__(
        self, connection: Connection, name: str, payload: Callable[[], dict[str, Any]] = dict[str, Any]
    ) -> None:
        self.name = name
        self.state: Any = None
        """The newest join's reply."""
        self._connection = connection
        self._payload = payload
        self._joining = asyncio.Lock()
        self._attempts = Attempts(connection.backoff)
        self._topic: Topic | None = None
        self._read: Topic | None = None
        """The join that the reader has heard of."""
        self._over: RefusedByServer | TopicEnded | None = None
        """Why it is not joined again."""

    async def join(self) -> Any:
        """Join it, the first time or after it was left; the reply. Waits while there is no connection.

        Raises:
            RefusedByServer: The join was refused; or the agent, for good.
            Disconnected: The connection is closed.
        """
        async with self._joining:
            self._over = None
            self._read = await self._join()
        return self.state

    async def next_event(self, timeout_s: float | None = None) -> tuple[str, Any]:
        """The next event and its payload; `(JOINED, state)` after each join but the first. Losing it loses nothing.

        Raises:
            NoAnswer: Nothing came in time.
            RefusedByServer: It was ended, and joining it again was refused, for more than now; or the agent, for good.
            TopicEnded: It was left; or somebody else of this program has joined it on the same connection.
            Disconnected: The connection is closed.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next_event()
        except TimeoutError:
            raise NoAnswer(f"nothing came on {self.name} within {timeout_s} s") from None

    async def push(
        self,
        event: str,
        payload: dict[str, Any] | None = None,
        *,
        timeout_s: float = REPLY_TIMEOUT_S,
        is_repeatable: bool = True,
    ) -> Any:
        """Push an event, once the topic is joined; the response of its reply.

        Args:
            event: Its name.
            payload: Its fields.
            timeout_s: How long to wait for the reply, once it is pushed.
            is_repeatable: Whether it is pushed again after a loss. What has taken effect before is answered with
                `duplicate`, where the protocol says so of the event.

        Raises:
            RefusedByServer: The reply is an error; or joining again, or the agent, was refused.
            NoAnswer: No reply came in time, and the connection lives.
            TopicEnded: It was left. Or the server ends it again and again with this push, or it is not to be repeated.
            Disconnected: The connection is closed. Or the server closes the socket again and again with this push,
                because it does not understand it, or it is not to be repeated.
        """
        ends = 0
        while True:
            topic = await self._joined()
            try:
                return await patiently(lambda: topic.push(event, payload, timeout_s))  # noqa: B023 - it is awaited here
            except (Disconnected, TopicEnded) as loss:
                ends += is_fault(loss)
                if not is_repeatable or ends >= ENDS_MAX:
                    raise

    async def leave(self) -> None:
        """Leave it: who reads or pushes hears `TopicEnded`. It can be joined again."""
        self._over = TopicEnded(f"{self.name} was left")
        topic, self._topic = self._topic, None
        if topic is not None and topic.ended is None:
            with suppress(Disconnected, NoAnswer, TopicEnded):  # Then it has ended with its connection.
                await topic.leave()

    async def _next_event(self) -> tuple[str, Any]:
        while True:
            if self._read is None:
                self._read = await self._joined()
            try:
                return await self._read.next_event()
            except (Disconnected, TopicEnded):
                topic = await self._joined()
            self._read = topic
            return JOINED, topic.state

    async def _joined(self) -> Topic:
        """The newest join, if it stands; else it is joined again.

        Raises:
            RefusedByServer, TopicEnded, Disconnected: As for `next_event`.
        """
        async with self._joining:
            if self._over is not None:
                raise self._over
            topic = self._topic
            if topic is not None and topic.ended is None:
                return topic
            if topic is not None and is_taken(topic.ended):
                self._over = topic.ended
                raise topic.ended
            return await self._join()

    async def _join(self) -> Topic:
        """Join it, until it is joined: what was joined once is not given up because that cannot be just now."""
        was_joined = self._topic is not None
        ended = self._topic is not None and isinstance(self._topic.ended, TopicEnded)
        while True:
            if ended:  # By the server alone, which may do so again.
                await asyncio.sleep(self._attempts.next_delay())
            socket = await self._connection.socket()
            try:
                topic = await patiently(lambda: socket.join(self.name, self._payload()))  # noqa: B023 - awaited here
            except RefusedByServer as refusal:
                if not was_joined or refusal.reason not in NOT_NOW:
                    self._over = refusal
                    raise
                _LOG.warning("%s cannot be joined again just now, and is tried again: %s", self.name, refusal)
                await asyncio.sleep(pause_s(self._attempts, refusal))
                ended = False
                if self._over is not None:
                    raise self._over from None  # It was left meanwhile.
            except (Disconnected, NoAnswer):
                ended = False
            except TopicEnded:
                ended = True
            else:
                self._attempts.began()
                self._topic, self.state = topic, topic.state
                if self._over is None:
                    return topic
                await self.leave()  # As it was while this was going on.
                raise self._over


def pause_s(attempts: Attempts, failure: RefusedByServer | NoAnswer) -> float:
    """Seconds to wait before what cannot be done just now is tried again; at most `PATIENCE_S` of the server's own."""
    told_s = retry_after_s(failure) if isinstance(failure, RefusedByServer) else None
    return min(told_s or 0.0, PATIENCE_S) + attempts.next_delay()


def is_taken(loss: Exception | None) -> TypeGuard[TopicEnded]:
    """Whether somebody else of this program has joined the topic: two who keep it would take it from each other."""
    return isinstance(loss, TopicEnded) and loss.reason == JOINED_AGAIN


def is_fault(loss: Exception) -> bool:
    """Whether a loss may be the doing of who was pushing: a topic's end alone, or a frame that was not understood."""
    return isinstance(loss, TopicEnded) or (isinstance(loss, Disconnected) and loss.code in FAULTS)

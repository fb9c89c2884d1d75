"""An agent's mailbox: messages that are kept for it until it has answered them.

A message is acknowledged once its handler has returned; so it is handled at least once. In this process it is handled
once: what comes again while it is being handled, or afterwards, is not handed over again. A handler that fails leaves
its message unanswered, and gets it again, seconds later and after the next start. One that finds the server lying ends
the agent.

Messages of one agent are handled one after another, in the order in which they were sent. What the market announces is
handled side by side: no announcement waits for another. How many are under way at once is bound by what a mailbox may
hold at the server (`mailbox_max`).

Source: messages, `messages:{agent_id}`.
"""

import asyncio
import logging
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .asking import converted, get, post
from .errors import ClientError, Disconnected, LyingServer, NoAnswer, RefusedByServer
from .kept_topic import JOINED, KeptTopic
from .listening import Listeners
from .told_messages import Message, SentMessage

if TYPE_CHECKING:
    from .context import AgentContext

Handler = Callable[[Message], Awaitable[None]]

MARKET_TYPES: Final = frozenset({"negotiation", "task_handoff", "payment_channel"})
"""What the market announces."""
KNOWN_TYPES: Final = MARKET_TYPES | {"system"}
"""What the market writes. Of other types it may write in later versions; those are to be acknowledged."""
REMEMBERED_MAX: Final = 10_000
"""How many messages are known to have been handled. Older ones come again only where their acknowledgement was lost."""
UNHEARD_MAX: Final = 1_000
"""How many messages that nobody handles are kept for who registers later; the others come with the next join."""

_LOG = logging.getLogger(__name__)


class RejectMessage(Exception):
    """A handler raises it to reject its message: it is not delivered again, and its sender is told why.

    Args:
        reason: 1 to `reject_reason_chars_max` characters.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Mailbox:
    """The one mailbox of an agent.

    Args:
        context: The agent's.
    """

    def __init__(self, context: "AgentContext") -> None:
        self._context = context
        self._handlers: dict[tuple[str, bool], list[Handler]] = {}
        """By type, and whether the market has to have written it."""
        self._topic: KeptTopic | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._under_way: set[str] = set()
        self._handled: OrderedDict[str, None] = OrderedDict()
        self._unheard: OrderedDict[str, Message] = OrderedDict()
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
        """By sender: whose message is handled has the lock, and how many have it or wait for it."""
        self._group: asyncio.TaskGroup | None = None
        self._answers: Listeners[str | None] = Listeners()
        """The id of a message that was sent and is further; None: anything may have been missed."""

    def on(self, type: str, handler: Handler, *, from_market: bool | None = None) -> Callable[[], None]:  # noqa: A002 - It is the message's field.
        """Hand messages of a type to a handler. Several handlers of a type are called one after another.

        Messages that came before anybody handled their type are handed over at once.

        Args:
            type: The message's.
            handler: Called with each message. What it raises leaves the message unanswered, but for `RejectMessage`.
            from_market: Whether to take what the market announces, or what agents and operators send: anybody may send
                a message of any type. None: the former for `negotiation`, `task_handoff` and `payment_channel`, the
                latter for all others.

        Returns:
            Takes the handler away again.
        """
        slot = type, type in MARKET_TYPES if from_market is None else from_market
        self._handlers.setdefault(slot, []).append(handler)
        for message in [message for message in self._unheard.values() if _slot(message) == slot]:
            self._hear(message)
        return lambda: self._handlers[slot].remove(handler)

    async def start(self) -> None:
        """Begin to read. Starting again does nothing.

        Raises:
            RefusedByServer: The key does not have the scope `messages`.
            Disconnected: The connection is closed.
        """
        async with self._starting:
            if self._reader is not None and not self._reader.done():
                return
            context = self._context
            topic = KeptTopic(context.connection, f"messages:{context.me.id}")
            await topic.join()
            self._topic = topic
            self._reader = context.spawn(self._read(topic), "mailbox")
            self._reader.add_done_callback(self._ended)

    async def close(self) -> None:
        """Read no more. Handlers that are under way are cancelled, and their messages come again."""
        reader, self._reader = self._reader, None
        if reader is None:
            return
        reader.cancel()
        await asyncio.wait([reader])
        if self._topic is not None:  # Else what it tells would wait there for nobody.
            await self._topic.leave()

    async def send(
        self,
        to: str,
        type: str,  # noqa: A002 - It is the message's field.
        payload: Any,
        *,
        dedup_key: str | None = None,
        protocol_version: str | None = None,
    ) -> SentMessage:
        """Send a message. Once this returns it is stored, once, and survives the death of the server.

        Args:
            to: An agent's id or handle.
            type: `negotiation`, `task_handoff`, `status_update`, `collaboration`, or `x_` and 1-62 of `a-z 0-9 _`.
            payload: Any JSON of at most `message_payload_bytes_max` bytes.
            dedup_key: Your own name for it, 1-128 characters: sent again with the same key it is not stored again, also
                by another process. None: one is made up, so that losses on the way do no harm.
            protocol_version: None: the highest that both agents have declared.

        Raises:
            RefusedByServer: `not_found`, `contact_required`, `contact_scope_exceeded`, `mailbox_full`,
                `agent_unavailable`, `dedup_mismatch`, `no_common_version` and more: PROTOCOL.md "Sending".
            Disconnected: The connection is closed.
        """
        body = {
            ("to_handle" if "/" in to else "to_agent_id"): to,
            "type": type,
            "payload": payload,
            "dedup_key": dedup_key or uuid.uuid4().hex,
        }
        if protocol_version is not None:
            body["protocol_version"] = protocol_version
        return await post(self._context, "/messages", body, SentMessage)

    async def sent(self, message_id: str) -> SentMessage:
        """A message that this agent has sent, as it stands now.

        Raises:
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        return await get(self._context, f"/messages/{message_id}", SentMessage)

    async def answered(self, message_id: str, timeout_s: float | None = None) -> SentMessage:
        """Wait until a message that was sent is acknowledged, rejected, or has expired.

        Raises:
            NoAnswer: Its receiver did not answer in time.
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        await self.start()
        waiting = asyncio.timeout(timeout_s)
        try:
            async with waiting, self._answers.listen() as news:
                while not (message := await self.sent(message_id)).is_answered:
                    while await anext(news) not in {message_id, None}:
                        pass
        except TimeoutError:
            if not waiting.expired():
                raise
            raise NoAnswer(f"message {message_id} was not answered within {timeout_s} s") from None
        return message

    # Reading.

    async def _read(self, topic: KeptTopic) -> None:
        """Hand over what comes, until the connection is closed or this is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for message in list(self._unheard.values()):
                    self._hear(message)
                while True:
                    self._take(*await topic.next_event())
        except* Disconnected:
            _LOG.debug("the mailbox is read no more: the connection is closed")
        finally:
            self._group = None
            self._under_way, self._turns = set(), {}

    def _ended(self, reader: asyncio.Task[None]) -> None:
        """Whoever waits is told once nobody reads, also where the reading was ended before it has begun."""
        if self._reader in {None, reader}:
            self._answers.end(Disconnected("the mailbox is closed"))
            self._answers = Listeners()

    def _take(self, event: str, payload: Any) -> None:
        if event == "new_message":
            self._hear(converted(payload, Message))
        elif event == "message_updated":
            self._answers.tell(converted(payload, _Updated).id)
        elif event == JOINED:
            self._answers.tell(None)

    def _hear(self, message: Message) -> None:
        """Have a message handled, unless that is under way."""
        if self._group is None:
            self._keep(message)
            return
        if message.id in self._under_way:
            return
        is_unknown = message.from_market and message.type not in KNOWN_TYPES
        if message.id in self._handled:
            answer = self._acknowledge  # The one that was sent is lost.
        elif self._handlers.get(_slot(message)):
            answer = self._handle
        elif is_unknown:
            answer = self._acknowledge
        else:
            self._keep(message)
            return
        self._under_way.add(message.id)
        self._unheard.pop(message.id, None)
        self._group.create_task(self._answer(message, answer), name=f"message {message.id}")

    def _keep(self, message: Message) -> None:
        """Nobody handles it: keep it for who registers later."""
        self._unheard[message.id] = message
        if len(self._unheard) > UNHEARD_MAX:
            self._unheard.popitem(last=False)

    async def _answer(self, message: Message, answer: Handler) -> None:
        """Do what leads to an answer. Whatever goes wrong with one message, the others go on."""
        try:
            await answer(message)
        except LyingServer:
            raise  # That is no failure of one message: the agent does not go on with this server.
        except ClientError as error:
            _LOG.info("message %s stays unanswered: %s", message.id, error)
        except Exception:  # noqa: BLE001 - A handler is the application’s: its failure must not end other work.
            _LOG.exception("the handler of message %s, of type %s, has failed", message.id, message.type)
        finally:
            self._under_way.discard(message.id)

    async def _handle(self, message: Message) -> None:
        sender = None if message.from_market else message.from_agent_id
        if sender is None:
            await self._call(message)
            return
        turn, waiting = self._turns.get(sender, (asyncio.Lock(), 0))
        self._turns[sender] = turn, waiting + 1
        try:
            async with turn:
                await self._call(message)
        finally:
            turn, waiting = self._turns.pop(sender)
            if waiting > 1:
                self._turns[sender] = turn, waiting - 1

    async def _call(self, message: Message) -> None:
        """Call the handlers, then answer."""
        handlers = list(self._handlers[_slot(message)])
        if not handlers:  # They were taken away while this waited for its turn.
            self._keep(message)
            return
        try:
            for handler in handlers:
                await handler(message)
        except RejectMessage as rejection:
            await self._push("reject", {"message_id": message.id, "reason": rejection.reason})
            return
        self._handled[message.id] = None
        if len(self._handled) > REMEMBERED_MAX:
            self._handled.popitem(last=False)
        await self._acknowledge(message)

    async def _acknowledge(self, message: Message) -> None:
        await self._push("acknowledge", {"message_id": message.id})

    async def _push(self, event: str, payload: dict[str, Any]) -> None:
        """Answer a message. One that is over already needs no answer."""
        assert self._topic is not None, "a message has come on it"
        try:
            await self._topic.push(event, payload)
        except RefusedByServer as refusal:
            if refusal.reason not in {"already_acknowledged", "already_rejected", "expired", "not_found"}:
                raise


class _Updated(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was sent is further."""

    id: str


def _slot(message: Message) -> tuple[str, bool]:
    """Whose message it is, for handlers: operators' are not the market's announcements."""
    return message.type, message.from_market and message.type != "system"

"""Chat rooms, in which agents and people write to each other.

A text is for those whom it mentions. Each that mentions the agent is handed over once in this process, in the order of
its room: what came while the agent was away, what it was processing when it died, and what has failed before, at most
five times. A program that does not read for so long that the server keeps a text from it gets that with the next join.

Source: chat rooms.
"""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from .asking import change, converted, delete, every, get, post
from .errors import ClientError, Disconnected, LyingServer, NobodyFound, RefusedByServer
from .kept_topic import JOINED, KeptTopic
from .listening import Listeners, Listening
from .room_message import RoomMessage
from .told_rooms import Activity, Participant, Peer, PutEvent, Room, RoomText, SentText

if TYPE_CHECKING:
    from .context import AgentContext

Handler = Callable[[RoomMessage], Awaitable[None]]
EventType = Literal["tool_call", "tool_result", "thought", "error", "task", "attention"]

ATTEMPTS_MAX: Final = 5
"""How often a text is processed that fails each time; then it is left to the people in the room."""
REMEMBERED_MAX: Final = 10_000
"""How many texts are known to have been handed over. Older ones come again only if they were never processed."""

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LOG = logging.getLogger(__name__)


class Rooms:
    """The chat rooms of one agent.

    Args:
        context: The agent's.
    """

    def __init__(self, context: "AgentContext") -> None:
        self.context = context
        self._handlers: list[Handler] = []
        self._claims: dict[str, Handler] = {}
        """Handlers of one room alone."""
        self._texts: Listeners[RoomMessage] = Listeners()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._turns: dict[str, asyncio.Lock] = {}
        """By room: one text of a room is handled at a time."""
        self._readers: dict[str, asyncio.Task[None]] = {}
        self._follower: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """The agent is open: read the rooms, if somebody has asked to be handed what is written there."""
        if self._handlers:
            self._follow_all()

    async def close(self) -> None:
        """Read no more. Handlers that are under way are cancelled, and their texts come again with the next start."""
        follower, self._follower = self._follower, None
        tasks = [*self._readers.values(), *([] if follower is None else [follower])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # Rooms and who takes part in them.

    async def create(self, title: str | None = None, task_id: str | None = None) -> Room:
        """Make a room. The agent is its owner, and the only one in it.

        Args:
            title: One line of at most `room_title_chars_max` characters.
            task_id: What it is about, for programs; at most 128 characters.

        Raises:
            RefusedByServer: `room_limit`, `invalid_payload`, `agent_unavailable`.
            Disconnected: The connection is closed.
        """
        chat = {name: value for name, value in (("title", title), ("task_id", task_id)) if value is not None}
        return await post(self.context, "/agent/chats", {"chat": chat}, Room)

    def list(self) -> AsyncIterator[Room]:
        """Every room that the agent takes part in, oldest first."""
        return every(self.context, "/agent/chats", Room)

    async def get(self, room_id: str) -> Room:
        """A room.

        Raises:
            RefusedByServer: `not_found`: there is none, or the agent takes no part in it.
            Disconnected: The connection is closed.
        """
        return await get(self.context, f"/agent/chats/{room_id}", Room)

    async def rename(self, room_id: str, title: str) -> Room:
        """Give a room of one's own another title.

        Raises:
            RefusedByServer: `not_found`, `forbidden_role`, `invalid_payload`.
            Disconnected: The connection is closed.
        """
        return await change(self.context, "PATCH", f"/agent/chats/{room_id}", {"chat": {"title": title}}, Room)

    async def participants(self, room_id: str) -> tuple[Participant, ...]:
        """Who takes part in a room, in the order in which they came.

        Raises:
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        return await get(self.context, f"/agent/chats/{room_id}/participants", tuple[Participant, ...])

    def peers(self) -> AsyncIterator[Peer]:
        """Whom the agent may open things with, and may add: its owner, siblings, agents for all, contacts."""
        return every(self.context, "/agent/peers", Peer)

    async def add(self, room_id: str, who: str, role: Literal["owner", "admin", "member"] = "member") -> Participant:
        """Add one of the agent's peers.

        Args:
            room_id: Where.
            who: An id, or the handle of a peer.
            role: What it may do there.

        Raises:
            NobodyFound: No peer has that handle.
            RefusedByServer: `contact_required`, `contact_scope_exceeded`, `already_participant`, `room_full`,
                `room_limit`, `not_found` and more.
            Disconnected: The connection is closed.
        """
        participant_id = who if _ID.fullmatch(who) else await _by_handle(self.peers(), who)
        body = {"participant": {"participant_id": participant_id, "role": role}}
        return await post(self.context, f"/agent/chats/{room_id}/participants", body, Participant)

    async def remove(self, room_id: str, who: str) -> None:
        """Remove a participant; itself: leave.

        Args:
            room_id: Where.
            who: An id or a handle.

        Raises:
            NobodyFound: Nobody there has that handle.
            RefusedByServer: `cannot_remove_sole_owner`, `forbidden_role`, `not_found`.
            Disconnected: The connection is closed.
        """
        if not _ID.fullmatch(who):
            who = await _by_handle(_each(await self.participants(room_id)), who)
        await delete(self.context, f"/agent/chats/{room_id}/participants/{who}")

    # Writing and reading.

    async def post(self, room_id: str, content: str, mentions: Sequence[str], *, key: str | None = None) -> SentText:
        """Write a text, for those whom it mentions and for nobody else.

        Args:
            room_id: Where.
            content: At most `room_content_bytes_max` bytes. Who is not named in it as `@handle` is put in front.
            mentions: Ids or handles of participants, one at least; not the agent itself.
            key: Your own name for the text, for what another process may write again; within a day it is written once.

        Raises:
            RefusedByServer: `not_found`, `mentions_required`, `mentioned_participant_not_in_room` and more.
            Disconnected: The connection is closed.
        """
        named = [{"id" if _ID.fullmatch(one) else "handle": one} for one in mentions]
        body = {"message": {"content": content, "mentions": named}}
        return await post(self.context, f"/agent/chats/{room_id}/messages", body, SentText, key=key)

    async def record(
        self,
        room_id: str,
        content: str,
        type: EventType = "thought",  # noqa: A002 - It is the event's field.
        metadata: dict[str, Any] | None = None,
    ) -> PutEvent:
        """Put on record what the agent does or thinks; nobody is pushed it.

        Raises:
            RefusedByServer: `not_found`, `invalid_payload`.
            Disconnected: The connection is closed.
        """
        event = {"content": content, "message_type": type, "metadata": metadata}
        body = {"event": {name: value for name, value in event.items() if value is not None}}
        return await post(self.context, f"/agent/chats/{room_id}/events", body, PutEvent)

    def history(self, room_id: str) -> AsyncIterator[RoomText]:
        """What the agent has written in a room, of any type, and the texts that mention it, oldest first."""
        return every(self.context, f"/agent/chats/{room_id}/context", RoomText)

    async def say_working(self, room_id: str, *, is_working: bool = True) -> None:
        """Show the others that the agent is at work. It is forgotten after some seconds, unless it is said again.

        Raises:
            RefusedByServer: `not_found`.
            Disconnected: The connection is closed.
        """
        await post(self.context, f"/agent/chats/{room_id}/activity", {"working": is_working}, Activity)

    # What is written to the agent.

    def on_message(self, handler: Handler, *, room_id: str | None = None) -> Handler:
        """Hand texts that mention the agent to a handler, each inside its `async with`. Also a decorator.

        Args:
            handler: What it raises marks the text as failed, and is logged.
            room_id: Of this room alone; its texts are then handed to nobody else. None: of all other rooms; several
                such handlers are called one after another.

        Returns:
            The handler.
        """
        if room_id is not None:
            self._claims[room_id] = handler
            if room_id in self._readers:
                self._sweep_beside(room_id)
            else:
                self._follow(room_id)
            return handler
        self._handlers.append(handler)
        if self.context.is_open:
            self._follow_all()
        return handler

    def messages(self) -> Listening[RoomMessage]:
        """Texts that mention the agent, in rooms that no handler has for itself. Use each as `async with message`.

        What was not processed comes again with the next start. One reader is enough: several get the same texts.
        """
        texts = self._texts.listen()
        self._follow_all()
        return texts

    def _follow_all(self) -> None:
        """Read every room that the agent takes part in, from now on."""
        if self._follower is None or self._follower.done():
            self._follower = self.context.spawn(self._read_rooms(), "rooms")
            self._follower.add_done_callback(self._over)
        else:
            for room_id in list(self._readers):
                self._sweep_beside(room_id)

    def _sweep_beside(self, room_id: str) -> None:
        """Offer what nobody has taken yet: there is somebody new."""
        self.context.spawn(self._guarded_sweep(room_id), f"room {room_id}: sweep")

    def _follow(self, room_id: str, *, is_again: bool = False) -> None:
        if room_id not in self._readers:
            reader = self.context.spawn(self._read_room(room_id, is_again=is_again), f"room {room_id}")
            self._readers[room_id] = reader
            reader.add_done_callback(lambda done: self._ended(room_id, done))

    def _ended(self, room_id: str, reader: asyncio.Task[None]) -> None:
        if self._readers.get(room_id) is reader:
            del self._readers[room_id]

    async def _read_rooms(self) -> None:
        """Read every room, those too that the agent is added to meanwhile."""
        topic = KeptTopic(self.context.connection, f"agent_rooms:{self.context.me.id}")
        try:
            await topic.join()
            await self._follow_those_that_are()
            while True:
                event, payload = await topic.next_event()
                if event == JOINED:
                    await self._follow_those_that_are()
                elif event == "room_added":
                    self._follow(converted(payload, Room).id)
                elif event == "room_removed":
                    self._leave(converted(payload, Room).id)
        except Disconnected:
            _LOG.debug("rooms are read no more: the connection is closed")
        except asyncio.CancelledError:
            self._leave_beside(topic)
            raise

    def _over(self, follower: asyncio.Task[None]) -> None:
        """Whoever listens is told once nobody reads, also where the reading was ended before it has begun."""
        if self._follower in {None, follower}:
            self._texts.end(Disconnected("the rooms are read no more"))
            self._texts = Listeners()

    async def _follow_those_that_are(self) -> None:
        there = {room.id async for room in self.list()}
        for room_id in sorted(there):
            self._follow(room_id)
        for room_id in self._readers.keys() - there:
            self._leave(room_id)

    def _leave(self, room_id: str) -> None:
        """The agent takes part in a room no more: its reader leaves the topic, in which nothing comes any more."""
        reader = self._readers.pop(room_id, None)
        if reader is not None:
            reader.cancel()

    async def _read_room(self, room_id: str, *, is_again: bool) -> None:
        topic = KeptTopic(self.context.connection, f"chat_room:{room_id}")
        try:
            await topic.join()
            is_again = False
            await self._sweep(room_id)
            while True:
                event, payload = await topic.next_event()
                if event == JOINED:
                    await self._sweep(room_id)
                elif event == "message_created":
                    async with self._turn(room_id):
                        await self._offer(converted(payload, RoomText))
        except Disconnected:
            _LOG.debug("room %s is read no more: the connection is closed", room_id)
        except RefusedByServer as refusal:
            if refusal.reason not in {"unauthorized", "not_found"}:
                raise
            _LOG.debug("room %s is read no more: the agent takes no part in it", room_id)
            if not is_again:
                await self._look_again(room_id)
        except asyncio.CancelledError:
            self._leave_beside(topic)
            raise

    async def _look_again(self, room_id: str) -> None:
        """Read a room after all, if the agent was added again just when it was said that it takes no part in it.

        That was told while somebody seemed to read the room still.
        """
        self._readers.pop(room_id, None)
        with suppress(RefusedByServer, Disconnected):
            await self.get(room_id)
            self._follow(room_id, is_again=True)

    def _leave_beside(self, topic: KeptTopic) -> None:
        with suppress(ClientError):  # The agent is ending: it is left with the connection.
            self.context.spawn(_left(topic), f"{topic.name}: leave")

    async def _guarded_sweep(self, room_id: str) -> None:
        try:
            await self._sweep(room_id)
        except LyingServer:
            raise  # The agent does not go on with this server.
        except ClientError as error:
            _LOG.debug("room %s: %s", room_id, error)

    async def _sweep(self, room_id: str) -> None:
        """Offer what was not processed, oldest first. What comes meanwhile is newer, and waits."""
        async with self._turn(room_id):
            async for text in every(self.context, f"/agent/chats/{room_id}/messages", RoomText):
                delivery = text.delivery_to(self.context.me.id)
                if delivery.status != "failed" or delivery.attempt_number < ATTEMPTS_MAX:
                    await self._offer(text)

    def _turn(self, room_id: str) -> asyncio.Lock:
        return self._turns.setdefault(room_id, asyncio.Lock())

    async def _offer(self, text: RoomText) -> None:
        """Hand a text over, once, if there is anybody to take it."""
        if text.id in self._seen:
            return
        claim = self._claims.get(text.chat_room_id)
        handlers = [*self._handlers] if claim is None else [claim]
        if not handlers and not self._texts.is_heard:
            return
        self._seen[text.id] = None
        if len(self._seen) > REMEMBERED_MAX:
            self._seen.popitem(last=False)
        message = RoomMessage(self, text)
        if handlers:
            await self._handle(message, handlers)
        if claim is None:
            self._texts.tell(message)

    async def _handle(self, message: RoomMessage, handlers: Sequence[Handler]) -> None:
        """Call the handlers. Whatever goes wrong with one text, the others go on."""
        try:
            async with message:
                for handler in handlers:
                    await handler(message)
        except asyncio.CancelledError:
            self._seen.pop(message.id, None)  # Who reads again is handed it again.
            raise
        except LyingServer:
            raise  # The agent does not go on with this server.
        except ClientError as error:
            _LOG.warning("text %s in room %s: %s", message.id, message.room_id, error)
        except Exception:  # noqa: BLE001 - A handler is the application's: its failure must not end other work.
            _LOG.exception("the handler of text %s in room %s has failed", message.id, message.room_id)


async def _by_handle(people: AsyncIterator[Peer] | AsyncIterator[Participant], handle: str) -> str:
    """The id of who has that handle, with or without `@`.

    Raises:
        NobodyFound: Nobody has.
    """
    wanted = handle.strip().removeprefix("@").lower()
    async for one in people:
        if one.handle == wanted:
            return one.id
    raise NobodyFound(f"nobody here is called {wanted}")


async def _each(participants: Sequence[Participant]) -> AsyncIterator[Participant]:
    for one in participants:
        yield one


async def _left(topic: KeptTopic) -> None:
    with suppress(ClientError):  # It is left with the connection.
        await topic.leave()

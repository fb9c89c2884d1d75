"""Chat rooms as Band's own SDK calls them, and the agents that its runtime runs in them."""

import asyncio
import logging
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tests.system.band import (
    ONCE,
    AgentTools,
    AsyncAgentApiActivityClient,
    AsyncAgentApiChatsClient,
    AsyncAgentApiContextClient,
    AsyncAgentApiEventsClient,
    AsyncAgentApiMessagesClient,
    AsyncAgentApiParticipantsClient,
    AsyncHumanApiChatsClient,
    AsyncHumanApiMessagesClient,
    AsyncHumanApiParticipantsClient,
    BandLink,
    ChatEventRequest,
    ChatMessage,
    ChatMessageRequest,
    ChatParticipant,
    ChatParticipantDetails,
    ChatRoom,
    ChatRoomRequest,
    MeChatRoom,
    Mention,
    MessageSentResponse,
    MessageStatusResponse,
    MyNewChat,
    NewTitle,
    ParticipantRequest,
    Player,
    SimpleAdapter,
    Stage,
    present,
)
from tests.system.harness import ROOT, free_environment

WITHIN_S = 30.0
"""How long a busy machine may take for a turn of an agent."""
HUB_IS_SLOW = "Hub room not ready after 5s"
"""What the runtime complains of at the first event of every hub room: it waits for what it itself does afterwards."""


def mention(player: Player) -> Mention:
    """A mention of somebody by id."""
    return Mention(id=player.id, handle=player.handle)


class Room:
    """A chat room as an agent calls it by REST; every call is tried once."""

    def __init__(self, player: Player, room_id: str) -> None:
        self.player, self.id = player, room_id
        rest = player.rest
        # The SDK's properties carry no types; its classes do.
        self.chats: AsyncAgentApiChatsClient = rest.agent_api_chats
        self.members: AsyncAgentApiParticipantsClient = rest.agent_api_participants
        self.messages: AsyncAgentApiMessagesClient = rest.agent_api_messages
        self.events: AsyncAgentApiEventsClient = rest.agent_api_events
        self.contexts: AsyncAgentApiContextClient = rest.agent_api_context
        self.activities: AsyncAgentApiActivityClient = rest.agent_api_activity

    @classmethod
    async def create(cls, player: Player, *others: Player, **fields: Any) -> "Room":
        """A new room of an agent's, to which it adds others."""
        room = cls(player, "")
        made = await room.chats.create_agent_chat(chat=ChatRoomRequest(**fields), request_options=ONCE)
        room.id = made.data.id
        for other in others:
            await room.add(other)
        return room

    def of(self, player: Player) -> "Room":
        """The same room, as another agent calls it."""
        return Room(player, self.id)

    async def read(self) -> ChatRoom:
        """What stands in its list of rooms."""
        return (await self.chats.get_agent_chat(self.id, request_options=ONCE)).data

    async def rename(self, title: str) -> ChatRoom:
        """Give it a title."""
        answer = await self.chats.rename_agent_chat(self.id, chat=NewTitle(title=title), request_options=ONCE)
        return answer.data

    # Participants.

    async def participants(self) -> dict[str, ChatParticipant]:
        """Handle → participant."""
        answer = await self.members.list_agent_chat_participants(self.id, request_options=ONCE)
        return {present(row.handle): row for row in answer.data}

    async def add(self, other: Player, role: str | None = None) -> ChatParticipant:
        """Add somebody."""
        fields = {} if role is None else {"role": role}
        answer = await self.members.add_agent_chat_participant(
            self.id, participant=ParticipantRequest(participant_id=other.id, **fields), request_options=ONCE
        )
        return answer.data

    async def remove(self, other: Player) -> ChatParticipant:
        """Remove somebody, or leave."""
        answer = await self.members.remove_agent_chat_participant(self.id, other.id, request_options=ONCE)
        return answer.data

    # Messages.

    async def say(self, text: str, *mentioned: Player) -> MessageSentResponse:
        """Send a message to others."""
        return await self.send(text, *(mention(player) for player in mentioned))

    async def send(self, text: str, *mentions: Mention, **fields: Any) -> MessageSentResponse:
        """Send a message with mentions of any shape."""
        message = ChatMessageRequest(content=text, mentions=list(mentions), **fields)
        answer = await self.messages.create_agent_chat_message(self.id, message=message, request_options=ONCE)
        return answer.data

    async def next(self) -> ChatMessage | None:
        """The oldest message that it is not done with."""
        answer = await self.messages.get_agent_next_message(self.id, request_options=ONCE)
        return None if answer is None else answer.data

    async def listed(self, status: str | None = None) -> list[ChatMessage]:
        """Up to a hundred messages that mention it: those that it is not done with, unless a state is named."""
        answer = await self.messages.list_agent_messages(self.id, status=status, limit=100, request_options=ONCE)
        return answer.data

    async def take(self, message_id: str) -> MessageStatusResponse:
        """Mark a message as being worked on."""
        answer = await self.messages.mark_agent_message_processing(self.id, message_id, request_options=ONCE)
        return present(answer).data

    async def finish(self, message_id: str) -> MessageStatusResponse:
        """Mark a message as done."""
        answer = await self.messages.mark_agent_message_processed(self.id, message_id, request_options=ONCE)
        return present(answer).data

    async def fail(self, message_id: str, error: str = "out of ideas") -> MessageStatusResponse:
        """Mark a message as failed."""
        answer = await self.messages.mark_agent_message_failed(self.id, message_id, error=error, request_options=ONCE)
        return present(answer).data

    async def settled(self, message_id: str, status: str) -> ChatMessage:
        """The message, as soon as the reader is so far with it: the runtime marks it just after its turn."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                found = [row for row in await self.listed(status) if row.id == message_id]
                if found:
                    return found[0]

    async def posted(self, message_type: str) -> ChatMessage:
        """The first event of a kind that it posts, as soon as it is there."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                found = [row for row in await self.context() if row.message_type == message_type]
                if found:
                    return found[0]

    # What was said and thought.

    async def event(self, content: str, message_type: str = "thought", **fields: Any) -> str:
        """Post an event; its id."""
        event = ChatEventRequest(content=content, message_type=message_type, **fields)
        answer = await self.events.create_agent_chat_event(self.id, event=event, request_options=ONCE)
        assert (answer.data.message_type, answer.data.success) == (message_type, True)
        return answer.data.id

    async def context(self) -> list[ChatMessage]:
        """What it reads to begin anew."""
        answer = await self.contexts.get_agent_chat_context(self.id, limit=100, request_options=ONCE)
        assert (answer.metadata.has_more, answer.metadata.limit) == (False, 100)
        return answer.data

    async def report(self, *, working: bool, **fields: Any) -> bool:
        """Say that it works, or that it does not."""
        answer = await self.activities.report_agent_chat_activity(
            self.id, working=working, request_options=ONCE, **fields
        )
        return answer.data.working

    async def activity(self, player: Player) -> Any:
        """What a participant says that it is doing."""
        return (await self.participants())[player.handle].model_dump()["activity"]


class MyRoom:
    """A chat room as a user calls it by REST; every call is tried once."""

    def __init__(self, player: Player, room_id: str) -> None:
        self.player, self.id = player, room_id
        self.chats: AsyncHumanApiChatsClient = player.rest.human_api_chats
        self.members: AsyncHumanApiParticipantsClient = player.rest.human_api_participants
        self.messages: AsyncHumanApiMessagesClient = player.rest.human_api_messages

    @classmethod
    async def create(cls, player: Player, *others: Player, **fields: Any) -> "MyRoom":
        """A new room of a user's, to which it adds others."""
        room = cls(player, "")
        room.id = (await room.chats.create_my_chat_room(chat=MyNewChat(**fields), request_options=ONCE)).data.id
        for other in others:
            await room.add(other)
        return room

    async def read(self) -> MeChatRoom:
        """What stands in its list of rooms."""
        return (await self.chats.get_my_chat_room(self.id, request_options=ONCE)).data

    async def participants(self) -> dict[str, ChatParticipantDetails]:
        """Handle → participant."""
        answer = await self.members.list_my_chat_participants(self.id, request_options=ONCE)
        return {present(row.handle): row for row in answer.data}

    async def add(self, other: Player) -> ChatParticipant:
        """Add somebody."""
        participant = ParticipantRequest(participant_id=other.id)
        answer = await self.members.add_my_chat_participant(self.id, participant=participant, request_options=ONCE)
        return answer.data

    async def remove(self, other: Player) -> ChatParticipant:
        """Remove somebody, or leave."""
        return (await self.members.remove_my_chat_participant(self.id, other.id, request_options=ONCE)).data

    async def say(self, text: str, *mentioned: Player) -> MessageSentResponse:
        """Send a message to others."""
        message = ChatMessageRequest(content=text, mentions=[mention(player) for player in mentioned])
        answer = await self.messages.send_my_chat_message(self.id, message=message, request_options=ONCE)
        return answer.data

    async def said(self, **options: Any) -> list[ChatMessage]:
        """What was said, newest first."""
        answer = await self.messages.list_my_chat_messages(self.id, limit=100, request_options=ONCE, **options)
        return answer.data


# What is told of a message.


def metadata_of(message: Any) -> dict[str, Any]:
    """A message's metadata as it came."""
    fields: dict[str, Any] = message.metadata.model_dump()
    return fields


def attempts(message: Any, reader: Player) -> tuple[str, int]:
    """How far a reader is with a message, and with which attempt."""
    delivery = metadata_of(message)["delivery_status"][reader.id]
    return delivery["status"], len(delivery["attempts"])


# What the SDK's link yields.


async def any_event(link: BandLink) -> Any:
    """The next event of a link."""
    return await asyncio.wait_for(anext(link), WITHIN_S)


async def next_event(link: BandLink, kind: str) -> Any:
    """The next event of a link, which is of that kind: nothing else came before it."""
    event = await any_event(link)
    assert event.type == kind, f"{event} came before {kind}"
    return event


async def hears_nothing_more(link: BandLink, agent: Player) -> None:
    """Nothing but a new room of its own comes next."""
    witness = await Room.create(agent)
    assert (await next_event(link, "room_added")).room_id == witness.id


# Agents at work.


class Turn(NamedTuple):
    """What the runtime asks an agent's adapter."""

    message: Any
    tools: AgentTools
    history: Any
    participants_msg: str | None
    is_first: bool


Act = Callable[[Turn], Awaitable[None]]


async def answer(turn: Turn) -> None:
    """Answer whoever asked."""
    await turn.tools.send_message(f"Done: {words(turn.message.content)}", mentions=[turn.message.sender_id])


def words(content: str) -> str:
    """A message without the mentions at its front, as handles or as they are stored."""
    return re.sub(r"^(@\S+\s+)+", "", content)


class Brain(SimpleAdapter[Any]):
    """An agent's adapter that does in each turn as it is told, and hands it to the test first."""

    def __init__(self, act: Act = answer) -> None:
        super().__init__()
        self.act = act
        self._turns: asyncio.Queue[Turn] = asyncio.Queue()
        self._left: asyncio.Queue[str] = asyncio.Queue()

    async def on_cleanup(self, room_id: str) -> None:
        self._left.put_nowait(room_id)

    async def on_message(
        self,
        msg: Any,
        tools: Any,
        history: Any,
        participants_msg: str | None,
        contacts_msg: str | None,
        *,
        is_session_bootstrap: bool,
        room_id: str,
    ) -> None:
        assert msg.room_id == room_id
        turn = Turn(msg, tools, history, participants_msg, is_session_bootstrap)
        self._turns.put_nowait(turn)
        await self.act(turn)

    async def next(self) -> Turn:
        """The next turn that has come."""
        async with asyncio.timeout(WITHIN_S):
            return await self._turns.get()

    async def leaves(self) -> str:
        """The next room that the runtime has left."""
        async with asyncio.timeout(WITHIN_S):
            return await self._left.get()

    def rests(self) -> bool:
        """Whether the test has seen every turn."""
        return self._turns.empty()


class Stuck:
    """What an adapter does that never ends its turn, until it is let go: then it answers."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, turn: Turn) -> None:
        await self.go.wait()
        await answer(turn)


async def fail(_turn: Turn) -> None:
    """What an adapter with a defect does."""
    raise RuntimeError("a defect of the agent's author")


async def keep_quiet(turn: Turn) -> None:
    """End a turn without an answer."""
    await turn.tools.no_reply()


@asynccontextmanager
async def stuck_process(stage: Stage, agent: Player) -> AsyncIterator[asyncio.subprocess.Process]:
    """An agent in a process of its own, which says which message it has taken and never ends its turn."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.band_stuck", agent.id, agent.key, stage.socket_url, stage.market.url,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT, env=free_environment(),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def complaints(caplog: pytest.LogCaptureFixture, *expected: str) -> list[str]:
    """What the SDK has logged as going wrong, but for what begins as expected: it logs and goes on."""
    return [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith(("band", "phoenix"))
        and record.levelno >= logging.WARNING
        and not record.getMessage().startswith(expected)
    ]

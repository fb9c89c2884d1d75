"""Chat rooms of agents: made, filled, written in and worked through. As Band's clients call it."""

import re
from typing import Final, Literal

import msgspec

from agrenting.activities import Activity, ActivityKind
from agrenting.api.call import NOTHING, Call
from agrenting.api.chat_answers import (
    CONTEXT_DEFAULT,
    ActivityNoted,
    ChatPageQuery,
    ChatParticipant,
    chat_message,
    participants_of,
)
from agrenting.api.chats import (
    ADDS,
    PAGE_BYTES_MAX,
    REMOVES,
    RENAMES,
    SCOPE,
    SENDS,
    UNKNOWN,
    add,
    decide,
    messages_page,
    remove,
    require_taking_part,
    room_inside,
    send,
)
from agrenting.api.offsets import OffsetQuery, offset_page
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.db import room_messages, rooms
from agrenting.db.room_messages import STATUSES, Found, StatusAsked
from agrenting.db.transaction import ReaderTx
from channels.errors import Invalid
from channels.room_deliveries import FAILED, PROCESSED, PROCESSING, UNPROCESSED, FailMessage, MarkMessage, MessageMarked
from channels.room_messages import POST_EVENT, EventPosted, MessageSent, PostEvent, SendText, ShownMessage
from channels.room_rules import ShownParticipant, ShownRoom, shown_room
from channels.room_seats import AddParticipant
from channels.rooms import CREATE, RENAME, CreateRoom, RenameRoom

NOUN = Noun("chats", "Chat rooms of agents, and what is written in them.")
NAME: Final = "chats"
TOOL_CHARS_MAX: Final = 128
NO_TOOL_CHARACTER: Final = re.compile(r"[^A-Za-z0-9_.:/@-]")
ENDS: Final = {**UNKNOWN, 422: "validation_error"}


class MessagesQuery(ChatPageQuery, frozen=True, kw_only=True):
    """Which page of the messages that mention the caller.

    Args:
        status: `pending`, those that it does not work on; `processing`; `processed`; `failed`; or `all`. Without one:
            all that are not processed.
        sort_order: `asc`, oldest first; or `desc`.
    """

    status: StatusAsked | None = None
    sort_order: Literal["asc", "desc"] = "asc"


class ContextQuery(ChatPageQuery, frozen=True, kw_only=True):
    """Which page of what the caller knows of a room."""

    size_default = CONTEXT_DEFAULT


class FailBody(msgspec.Struct, frozen=True):
    """Why a try has failed; at most 16,384 characters."""

    error: str


class ActivityDetail(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent does. `name`: of the tool, with `tool_call` alone; characters that no tool has become `_`."""

    kind: ActivityKind
    name: str | None = None


class ActivityBody(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the caller is at work; without `activity` it is `reasoning`."""

    working: bool
    activity: ActivityDetail | None = None


@NOUN.get("/agent/chats", answer=ShownRoom, callers=Callers.AGENT, scopes=SCOPE)
async def list_agent_chats(call: Call, query: OffsetQuery) -> object:
    """List the rooms that the agent takes part in, oldest first."""
    part = await call.read(lambda tx: rooms.rooms_of(tx, call.agent_id, query.slice(NAME), rooms.RoomsAsked()))
    return offset_page(part, query=query, key=lambda row: row.place, name=NAME, show=lambda row: shown_room(row.room))


@NOUN.post(
    "/agent/chats",
    answer=ShownRoom,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors={409: "agent_unavailable room_limit"},
)
async def create_agent_chat(call: Call, body: CreateRoom) -> object:
    """Make a room, with the caller as its owner."""
    return await call.decide(CREATE, f"agent_rooms:{call.agent_id}", body)


@NOUN.get("/agent/chats/{id}", answer=ShownRoom, callers=Callers.AGENT, scopes=SCOPE, errors=UNKNOWN)
async def read_agent_chat(call: Call) -> object:
    """Read a room that the agent takes part in."""
    return await call.read(lambda tx: shown_room(room_inside(call, tx)))


@NOUN.patch("/agent/chats/{id}", answer=ShownRoom, callers=Callers.AGENT, scopes=SCOPE, errors=RENAMES)
async def rename_agent_chat(call: Call, body: RenameRoom) -> object:
    """Give a room another title, as an owner of it. The same one again changes nothing."""
    return await decide(call, RENAME, body)


@NOUN.get(
    "/agent/chats/{id}/participants",
    answer=list[ChatParticipant],
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=UNKNOWN,
)
async def list_agent_chat_participants(call: Call) -> object:
    """List everybody who takes part in a room, in the order in which they came."""
    return await call.read(lambda tx: participants_of(tx, room_inside(call, tx), call.server))


@NOUN.post(
    "/agent/chats/{id}/participants",
    answer=ShownParticipant,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=ADDS,
)
async def add_agent_chat_participant(call: Call, body: AddParticipant) -> object:
    """Add an agent or a user whom the caller may open rooms with: of its house, for all, or a contact."""
    return await add(call, body)


@NOUN.delete(
    "/agent/chats/{id}/participants/{participant}",
    answer=ShownParticipant,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=REMOVES,
)
async def remove_agent_chat_participant(call: Call) -> object:
    """Remove a participant, as an owner or admin of the room; or leave it. An agent removes no people."""
    return await remove(call)


@NOUN.get("/agent/chats/{id}/messages", answer=ShownMessage, callers=Callers.AGENT, scopes=SCOPE, errors=UNKNOWN)
async def list_agent_messages(call: Call, query: MessagesQuery) -> object:
    """List the messages of a room that mention the agent, and how far it is with each."""

    def find(tx: ReaderTx, beyond: str, limit: int) -> Found:
        require_taking_part(call, tx)
        return room_messages.mentioning(
            tx,
            call.id,
            call.agent_id,
            statuses=STATUSES[query.status],
            beyond=beyond,
            is_newest_first=query.sort_order == "desc",
            limit=limit,
        )

    name = f"messages-{call.id}-{query.status}-{query.sort_order}"
    return await messages_page(call, query, name=name, find=find, reader_id=call.agent_id, status_filter=query.status)


@NOUN.post(
    "/agent/chats/{id}/messages",
    answer=MessageSent,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=SENDS,
    rate="message",
)
async def create_agent_chat_message(call: Call, body: SendText) -> object:
    """Send a text to those participants whom it mentions, by id or by handle; nobody else gets it."""
    return await send(call, body)


@NOUN.get(
    "/agent/chats/{id}/messages/next",
    answer=ShownMessage,
    may_be_empty=True,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=UNKNOWN,
)
async def get_agent_next_message(call: Call) -> object:
    """Read the oldest message that mentions the agent and is not processed; 204 where there is none.

    One that is being processed or has failed is among them, so that whoever has crashed takes it up again.
    """

    def find(tx: ReaderTx) -> object:
        require_taking_part(call, tx)
        own = call.agent_id
        found = room_messages.mentioning(tx, call.id, own, statuses=UNPROCESSED, beyond="", limit=1)
        written = room_messages.written(tx, found.ids, reader_id=own, bytes_max=PAGE_BYTES_MAX)
        return chat_message(written[0]) if written else NOTHING

    return await call.read(find)


@NOUN.post(
    "/agent/chats/{id}/messages/{message}/processing",
    answer=MessageMarked,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=UNKNOWN,
)
async def mark_agent_message_processing(call: Call) -> object:
    """Begin to work on a message. While an attempt is under way nothing changes; after its end another one begins."""
    return await decide(call, PROCESSING, MarkMessage(message_id=call.part("message")))


@NOUN.post(
    "/agent/chats/{id}/messages/{message}/processed",
    answer=MessageMarked,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=ENDS,
)
async def mark_agent_message_processed(call: Call) -> object:
    """End the attempt that is under way: the message is done."""
    return await decide(call, PROCESSED, MarkMessage(message_id=call.part("message")))


@NOUN.post(
    "/agent/chats/{id}/messages/{message}/failed",
    answer=MessageMarked,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=ENDS,
    rate="message",
)
async def mark_agent_message_failed(call: Call, body: FailBody) -> object:
    """End the attempt that is under way: it has failed, and the message is offered again."""
    return await decide(call, FAILED, FailMessage(message_id=call.part("message"), error=body.error))


@NOUN.post(
    "/agent/chats/{id}/events",
    answer=EventPosted,
    status=CREATED,
    callers=Callers.AGENT,
    scopes=SCOPE,
    errors=UNKNOWN,
    rate="message",
)
async def create_agent_chat_event(call: Call, body: PostEvent) -> object:
    """Put on record what the agent does or thinks. Nobody is pushed it."""
    return await decide(call, POST_EVENT, body)


@NOUN.get("/agent/chats/{id}/context", answer=ShownMessage, callers=Callers.AGENT, scopes=SCOPE, errors=UNKNOWN)
async def get_agent_chat_context(call: Call, query: ContextQuery) -> object:
    """List what the agent has written in a room, of any type, and the texts that mention it, oldest first."""

    def find(tx: ReaderTx, beyond: str, limit: int) -> Found:
        require_taking_part(call, tx)
        return room_messages.known_to(tx, call.id, call.agent_id, after=beyond, limit=limit)

    return await messages_page(call, query, name=f"context-{call.id}", find=find, reader_id=call.agent_id)


@NOUN.post("/agent/chats/{id}/activity", answer=ActivityNoted, callers=Callers.AGENT, scopes=SCOPE, errors=UNKNOWN)
async def report_agent_chat_activity(call: Call, body: ActivityBody) -> object:
    """Say that the agent is at work in a room, or is no more. It is forgotten after 10 s, unless it is said again."""
    activity = _parse_activity(body.activity)
    await call.read(lambda tx: require_taking_part(call, tx))
    call.server.activities.say(call.id, call.agent_id, activity if body.working else None)
    return ActivityNoted(working=body.working)


def _parse_activity(detail: ActivityDetail | None) -> Activity:
    """What an agent says that it is doing.

    Raises:
        Invalid: `invalid_payload`: a tool without its name, or a name without a tool.
    """
    if detail is None:
        return Activity(kind="reasoning")
    if bool(detail.name) is not (detail.kind == "tool_call"):
        raise Invalid("invalid_payload", "A tool_call has a name, and nothing else has.", field="activity.name")
    name = None if not detail.name else NO_TOOL_CHARACTER.sub("_", detail.name[:TOOL_CHARS_MAX])
    return Activity(kind=detail.kind, name=name)

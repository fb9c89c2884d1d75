"""Chat rooms of people: their own, and to read those that their agents take part in. As Band's clients call it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final, Literal, get_args

import msgspec

from agrenting.api.call import Call, Outcome
from agrenting.api.chat_answers import ChatPageQuery, ChatParticipant, MyChatRoom, my_room, participants_of
from agrenting.api.chats import ADDS, REMOVES, RENAMES, SCOPE, SENDS, UNKNOWN, add, decide, messages_page, remove, send
from agrenting.api.offsets import OffsetQuery, offset_page
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import Page
from agrenting.db import room_messages, rooms
from agrenting.db.pages import Part
from agrenting.db.room_messages import SCANNED_MAX, Found, Types
from agrenting.db.rooms import Order, RoomsAsked, RoomType, Sort
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.deciding import Command
from channels.errors import Invalid
from channels.handlers import Handler
from channels.identity import EntityType
from channels.room_messages import EventType, MessageSent, SendText, ShownMessage
from channels.room_rules import ShownParticipant, ShownRoom, require_readable
from channels.room_seats import AddParticipant
from channels.room_state import Room
from channels.rooms import CREATE, DELETE, RENAME, CreateRoom, DeleteRoom, RenameRoom

NOUN = Noun("own chats", "Chat rooms of people, and of their agents to read.")
TYPES: Final = frozenset(("text", *get_args(EventType), "system", "participant"))
"""The types that may be asked for; of the last two there never is one."""


class OwnChatsQuery(OffsetQuery, frozen=True, kw_only=True):
    """Which page of the rooms.

    Args:
        status: `active` is every room; of the others there is none.
        type: Only those of one type.
        include: `agent_rooms`: also those that only agents of the caller's take part in.
    """

    status: Literal["active", "archived", "closed"] | None = None
    type: RoomType | None = None
    sort_by: Sort = "inserted_at"
    order: Order = "desc"
    include: Literal["agent_rooms"] | None = None


class OwnMessagesQuery(ChatPageQuery, frozen=True, kw_only=True):
    """Which page of what was written in a room. At most one of the three filters of types is given.

    With one, a page looks at 500 items at most, and a number reaches no further; a cursor leads on.

    Args:
        message_type: Only this type.
        message_types: Only these types, with commas between them.
        exclude_message_types: Not these, with commas between them.
        since: Nothing older; without a cursor.
    """

    message_type: str | None = None
    message_types: str | None = None
    exclude_message_types: str | None = None
    since: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class ParticipantsQuery(OffsetQuery, frozen=True, kw_only=True):
    """Which page of the participants; `participant_type`: only users, or only agents."""

    participant_type: EntityType | None = None


@NOUN.get("/me/chats", answer=MyChatRoom, callers=Callers.USER, scopes=SCOPE)
async def list_my_chats(call: Call, query: OwnChatsQuery) -> object:
    """List the rooms that the user takes part in, newest first; on demand also those of its agents."""
    asked = RoomsAsked(
        sort=query.sort_by, order=query.order, has_agents=query.include == "agent_rooms", type=query.type
    )
    name = f"own-chats-{query.status}-{query.type}-{query.sort_by}-{query.order}-{query.include}"
    rows = query.slice(name)

    def find(tx: ReaderTx) -> Page:
        is_none = query.status in {"archived", "closed"}
        part = Part(rows=(), total_count=0) if is_none else rooms.rooms_of(tx, call.caller.id, rows, asked)
        return offset_page(
            part, query=query, key=lambda row: row.place, name=name, show=lambda row: my_room(tx, row.room)
        )

    return await call.read(find)


@NOUN.post(
    "/me/chats",
    answer=MyChatRoom,
    status=CREATED,
    callers=Callers.USER,
    scopes=SCOPE,
    errors={409: "room_limit"},
)
async def create_my_chat(call: Call, body: CreateRoom) -> object:
    """Make a room, with the user as its owner."""
    return await _change(call, CREATE, f"user_rooms:{call.caller.id}", body)


@NOUN.get("/me/chats/{id}", answer=MyChatRoom, callers=Callers.USER, scopes=SCOPE, errors=UNKNOWN)
async def read_my_chat(call: Call) -> object:
    """Read a room that the user, or an agent of it, takes part in."""
    return await call.read(lambda tx: my_room(tx, _readable(call, tx)))


@NOUN.patch("/me/chats/{id}", answer=MyChatRoom, callers=Callers.USER, scopes=SCOPE, errors=RENAMES)
async def rename_my_chat(call: Call, body: RenameRoom) -> object:
    """Give a room another title, as an owner of it. The same one again changes nothing."""
    return await _change(call, RENAME, f"chat_room:{call.id}", body)


@NOUN.delete("/me/chats/{id}", answer=ShownRoom, callers=Callers.USER, scopes=SCOPE, errors=RENAMES)
async def delete_my_chat(call: Call) -> object:
    """Delete a room that the user, or an agent of it, owns. It is as if it had never been; its record is kept."""
    return await decide(call, DELETE, DeleteRoom())


@NOUN.get("/me/chats/{id}/messages", answer=ShownMessage, callers=Callers.USER, scopes=SCOPE, errors=UNKNOWN)
async def list_my_chat_messages(call: Call, query: OwnMessagesQuery) -> object:
    """List everything that was written in a room, newest first, and how far each reader is with it.

    Where only some types are asked for, a page may hold less than there is room for, and yet not be the last.
    """
    types = _parse_types(query)
    if query.since is not None and query.cursor is not None:
        raise Invalid("invalid_payload", "Name a time or a cursor, not both.", field="since")

    def find(tx: ReaderTx, beyond: str, limit: int) -> Found:
        _readable(call, tx)
        return room_messages.of_room(
            tx, call.id, types=types, since=query.since, before=beyond, limit=limit, scanned_max=SCANNED_MAX
        )

    name = f"own-messages-{call.id}-{types and (sorted(types.names), types.is_excluding)}"
    return await messages_page(call, query, name=name, find=find, reader_id=None)


@NOUN.post(
    "/me/chats/{id}/messages",
    answer=MessageSent,
    status=CREATED,
    callers=Callers.USER,
    scopes=SCOPE,
    errors=SENDS,
    rate="message",
)
async def send_my_chat_message(call: Call, body: SendText) -> object:
    """Send a text to those participants whom it mentions, by id or by handle; nobody else gets it."""
    return await send(call, body)


@NOUN.get("/me/chats/{id}/participants", answer=ChatParticipant, callers=Callers.USER, scopes=SCOPE, errors=UNKNOWN)
async def list_my_chat_participants(call: Call, query: ParticipantsQuery) -> object:
    """List who takes part in a room, in the order in which they came."""
    name = f"participants-{call.id}-{query.participant_type}"
    rows = query.slice(name)

    def find(tx: ReaderTx) -> Page:
        everybody = participants_of(tx, _readable(call, tx), call.server)
        wanted = sorted((one for one in everybody if query.participant_type in {None, one.type}), key=_place)
        behind = [one for one in wanted if _place(one) > rows.after][rows.offset :]
        part = Part(rows=behind[: rows.limit], total_count=len(wanted))
        return offset_page(part, query=query, key=_place, name=name, show=lambda row: row)

    return await call.read(find)


@NOUN.post(
    "/me/chats/{id}/participants",
    answer=ShownParticipant,
    status=CREATED,
    callers=Callers.USER,
    scopes=SCOPE,
    errors=ADDS,
)
async def add_my_chat_participant(call: Call, body: AddParticipant) -> object:
    """Add an agent or a user whom the caller may open rooms with: of its house, for all, or a contact."""
    return await add(call, body)


@NOUN.delete(
    "/me/chats/{id}/participants/{participant}",
    answer=ShownParticipant,
    callers=Callers.USER,
    scopes=SCOPE,
    errors=REMOVES,
)
async def remove_my_chat_participant(call: Call) -> object:
    """Remove a participant, as an owner or admin of the room; or leave it."""
    return await remove(call)


async def _change(call: Call, handler: Handler, topic: str, request: object) -> object:
    """Decide an event of a room; the room, as people see it."""
    command = Command(handler=handler, topic=topic, request=request, sender=call.caller)

    def run(tx: WriterTx) -> Outcome:
        done = call.server.engine.decide(tx, command)
        room = rooms.load(tx, done.decision.reply.id)
        assert room is not None, "it was just decided on"
        return Outcome(answer=my_room(tx, room), broadcasts=done.broadcasts)

    return await call.change(run)


def _readable(call: Call, tx: ReaderTx) -> Room:
    """The room in the path, if the user or an agent of it takes part in it.

    Raises:
        NotFound: `not_found`.
    """
    return require_readable(rooms.load(tx, call.id), call.caller)


def _place(one: ChatParticipant) -> str:
    """Its place in the order in which they came; those of one moment by id."""
    return f"{one.joined_at.isoformat(timespec='microseconds')} {one.id}"


def _parse_types(query: OwnMessagesQuery) -> Types | None:
    """Which types are asked for; None for all.

    Raises:
        Invalid: `invalid_payload`: unknown ones, or more than one filter.
    """
    filters = {
        "message_type": None if query.message_type is None else (query.message_type,),
        "message_types": _listed(query.message_types),
        "exclude_message_types": _listed(query.exclude_message_types),
    }
    given = [(name, names) for name, names in filters.items() if names is not None]
    if not given:
        return None
    (field, names), *more = given
    if more:
        raise Invalid("invalid_payload", "Give one filter of types at most.", field=more[0][0])
    if not TYPES.issuperset(names):
        raise Invalid("invalid_payload", f"The types are {', '.join(sorted(TYPES))}.", field=field)
    return Types(names=frozenset(names), is_excluding=field == "exclude_message_types")


def _listed(text: str | None) -> Sequence[str] | None:
    return None if text is None else text.split(",")

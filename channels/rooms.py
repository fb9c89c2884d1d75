"""Chat rooms: made, renamed, deleted.

Their owners rename them; the user of an owner deletes one. Inside, contacts and blocks say nothing: everybody mentions
everybody. Who comes in and goes: room_seats.py. What is written in a room: room_messages.py.
"""

from typing import Final

import msgspec

from channels.changes import Insert
from channels.contact_book import Entity
from channels.errors import Conflict, Forbidden
from channels.fields import invalid_payload, parse_text
from channels.handlers import Access, Context, Decision, Handler
from channels.room_rules import (
    deleted,
    new_participant,
    of_house,
    require_active,
    require_inside,
    require_readable,
    room_told,
    shown_room,
)
from channels.room_state import Role, Room
from channels.visible_text import is_plain_line, is_visible

TASK_ID_CHARS_MAX: Final = 128


class RoomDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A new room. `title`: blank is none, at most 120 characters in one line; `task_id`: what it is about."""

    title: str | None = None
    task_id: str | None = None


class CreateRoom(msgspec.Struct, frozen=True):
    """Make a room."""

    chat: RoomDraft


class TitleDraft(msgspec.Struct, frozen=True):
    """A new title, of 1-120 characters in one line."""

    title: str


class RenameRoom(msgspec.Struct, frozen=True):
    """Give a room another title."""

    chat: TitleDraft


class DeleteRoom(msgspec.Struct, frozen=True):
    """Delete a room."""


class Making(msgspec.Struct, frozen=True, kw_only=True):
    """What making a room rests on: who makes it, and how many are there that its house has made."""

    maker: Entity
    rooms_made: int


def create_room(facts: Making, request: CreateRoom, context: Context) -> Decision:
    """Make a room whose owner is who asks.

    Raises:
        Invalid: `invalid_payload`: the title or the task's id does not fit.
        Conflict: `agent_unavailable`: the agent is not active; `room_limit`: its house has made so many.
    """
    maker, made_max = facts.maker, context.market.limits.rooms_made_max
    title = _parse_title(request.chat.title or "", context, field="chat.title")
    task_id = _parse_task_id(request.chat.task_id)
    require_active(maker)
    if facts.rooms_made >= made_max:
        raise Conflict("room_limit", f"A user and its agents have made at most {made_max} rooms.", max=made_max)
    room = Room(
        id=context.new_id(),
        maker_user_id=maker.side.user_id,
        title=title,
        task_id=task_id,
        participants=(new_participant(maker, Role.OWNER, context),),
        inserted_at=context.now,
        updated_at=context.now,
    )
    return Decision(
        reply=shown_room(room),
        changes=(Insert("room", room.id, room),),
        broadcasts=(room_told("room_added", room, room.participants[0]),),
    )


def rename_room(room: Room | None, request: RenameRoom, context: Context) -> Decision:
    """Give a room another title. The same one again changes nothing.

    Raises:
        NotFound: `not_found`: there is no such room, or the sender does not take part in it.
        Forbidden: `forbidden_role`: the sender is not its owner.
        Invalid: `invalid_payload`.
    """
    room, own = require_inside(room, context.sender)
    if own.role is not Role.OWNER:
        raise Forbidden("forbidden_role", "Only an owner of a room renames it.", role=Role.OWNER)
    title = _parse_title(request.chat.title, context, field="chat.title")
    if title is None:
        raise invalid_payload("chat.title", "A title has something to see.")
    if title == room.title:
        return Decision(reply=shown_room(room))
    after = msgspec.structs.replace(room, title=title, updated_at=context.now)
    return Decision(state=after, reply=shown_room(after))


def delete_room(room: Room | None, _request: DeleteRoom, context: Context) -> Decision:
    """Delete a room, by a user who is an owner of it, or whose agent is. Its topics end; what was written is kept.

    Raises:
        NotFound: `not_found`: there is no such room, or neither the user nor an agent of it takes part in it.
        Forbidden: `forbidden_role`.
    """
    room = require_readable(room, context.sender)
    if not any(own.role is Role.OWNER for own in of_house(room, context.sender)):
        raise Forbidden("forbidden_role", "Only an owner of a room, or the user of one, deletes it.", role=Role.OWNER)
    after, told = deleted(room, context)
    return Decision(state=after, reply=shown_room(after), broadcasts=told)


def _parse_title(text: str, context: Context, *, field: str) -> str | None:
    """A title; None where there is nothing to see in it.

    Raises:
        Invalid: `invalid_payload`.
    """
    chars_max = context.market.limits.room_title_chars_max
    if not is_plain_line(text.strip()):
        raise invalid_payload(field, "A title has one line, and no control characters, also none of direction.")
    return parse_text(text, field=field, chars_max=chars_max) if is_visible(text) else None


def _parse_task_id(text: str | None) -> str | None:
    if text is None or not text.strip():
        return None
    return parse_text(text, field="chat.task_id", chars_max=TASK_ID_CHARS_MAX)


CREATE: Handler = Handler(CreateRoom, create_room, loads="room_making", access=Access.WRITE, scope="rooms")
RENAME: Handler = Handler(RenameRoom, rename_room, loads="room", access=Access.WRITE, scope="rooms")
DELETE: Handler = Handler(DeleteRoom, delete_room, loads="room", access=Access.WRITE, scope="rooms")

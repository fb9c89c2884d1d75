"""How chat rooms, participants and what is written in them are asked for and answered: as Band's clients do it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.activities import Activity
from agrenting.api.entity_answers import is_online
from agrenting.api.offsets import PAGE_MAX
from agrenting.api.paging import LIMIT_MAX
from agrenting.db import contacts, rooms
from agrenting.db.room_messages import Written
from agrenting.db.rooms import RoomType
from agrenting.db.transaction import Tx
from channels.identity import EntityType
from channels.room_messages import ShownMessage, shown_message
from channels.room_rules import ShownRoom, shown_participant, shown_room
from channels.room_state import Participant, Role, Room

if TYPE_CHECKING:
    from agrenting.server import Server

MESSAGES_DEFAULT: Final = 20
CONTEXT_DEFAULT: Final = 50


class ChatPageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of what was written in a room.

    Args:
        cursor: `next_cursor` of the page before.
        limit: Items on a page, 1-100.
        page: Its number, from 1, in place of a cursor; only the first 10,000 items are reached so. A page ends early
            where its texts are very long; its `next_cursor` leads on, the next number does not.
        page_size: The same as limit.
    """

    size_default: ClassVar[int] = MESSAGES_DEFAULT

    cursor: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] | None = None
    page: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] | None = None
    page_size: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] | None = None

    @property
    def size(self) -> int:
        """Items on a page."""
        return self.limit or self.page_size or self.size_default


class ChatPageMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page stands.

    Args:
        has_more: Whether there is a page after this one.
        limit: Items on a page.
        next_cursor: Asks for the page after this one; null on the last.
        status_filter: As asked, of a reader's messages.
        page, page_size: Of a page that was asked for by its number.
        total_count, total_pages: With a number: of the first 10,000.
    """

    has_more: bool
    limit: int
    next_cursor: str | None
    status_filter: str | UnsetType | None = UNSET
    page: int | UnsetType = UNSET
    page_size: int | UnsetType = UNSET
    total_count: int | UnsetType = UNSET
    total_pages: int | UnsetType = UNSET


class ChatParticipant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who takes part in a room.

    Args:
        id: Of the agent or the user.
        status: Always `active`: who is removed is none.
        name: Of one that has been deleted the handle.
        online: Whether a connection of it is open.
        is_external: Whether it runs outside of this marketplace, as every agent does.
        description: Of agents.
        activity: What it says that it is doing; null where it says nothing.
    """

    id: str
    type: EntityType
    role: Role
    status: str
    name: str
    handle: str
    online: bool
    is_external: bool
    joined_at: datetime
    activity: Activity | None
    description: str | UnsetType | None = UNSET


class MyChatRoom(ShownRoom, frozen=True, kw_only=True):
    """A room, as people see it.

    Args:
        type: `task` where it has a task_id, else `group` with more than two participants, else `direct`.
        status: Always `active`.
        last_message_at: When the newest text or event was written; null before the first.
    """

    type: RoomType
    status: Literal["active"]
    last_message_at: datetime | None


class ActivityNoted(msgspec.Struct, frozen=True, kw_only=True):
    """What was noted."""

    working: bool


def participants_of(tx: Tx, room: Room, server: "Server") -> list[ChatParticipant]:
    """Who takes part in a room, in the order in which they came."""
    return [_participant(tx, room, one, server) for one in room.participants]


def my_room(tx: Tx, room: Room) -> MyChatRoom:
    """A room, as people see it."""
    shown = shown_room(room)
    return MyChatRoom(
        **{name: getattr(shown, name) for name in shown.__struct_fields__},
        type=_type_of(room),
        status="active",
        last_message_at=rooms.last_message_at(tx, room.id),
    )


def chat_message(written: Written) -> ShownMessage:
    """A text or an event, with how far those readers are who were asked for."""
    return shown_message(written.message, written.deliveries)


def _participant(tx: Tx, room: Room, one: Participant, server: "Server") -> ChatParticipant:
    entity = contacts.entity(tx, one.id)
    shown = shown_participant(one, entity)
    is_agent = one.type == "Agent"
    return ChatParticipant(
        **{name: getattr(shown, name) for name in shown.__struct_fields__},
        online=is_online(server.hub, one.id, type_=one.type),
        is_external=is_agent,
        joined_at=one.joined_at,
        activity=server.activities.of(room.id, one.id),
        description=entity.description if is_agent and entity is not None else UNSET,
    )


def _type_of(room: Room) -> RoomType:
    if room.task_id is not None:
        return "task"
    return "group" if len(room.participants) > rooms.DIRECT_MAX else "direct"

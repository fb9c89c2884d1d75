"""What every event of a chat room rests on: who is inside, and how rooms and participants are told of."""

from datetime import datetime

import msgspec

from channels.contact_book import Entity
from channels.errors import Conflict, not_found
from channels.handlers import Context
from channels.identity import EntityType, Identity
from channels.room_state import Participant, Role, Room, RoomStatus
from channels.told import Broadcast, Ended, Told


class ShownRoom(msgspec.Struct, frozen=True, kw_only=True):
    """A room as its participants are told of it."""

    id: str
    title: str | None
    task_id: str | None
    inserted_at: datetime
    updated_at: datetime


class ShownParticipant(msgspec.Struct, frozen=True, kw_only=True):
    """A participant as the others are told of it; `status` is always `active`."""

    id: str
    type: EntityType
    role: Role
    status: str
    name: str
    handle: str


def require_inside(room: Room | None, sender: Identity) -> tuple[Room, Participant]:
    """The room, and the sender as a participant of it.

    Raises:
        NotFound: `not_found`: there is no such room, or the sender does not take part in it.
    """
    own = None if room is None or room.status is RoomStatus.DELETED else room.participant(sender.id)
    if room is None or own is None:
        raise not_found("room")
    return room, own


def require_readable(room: Room | None, sender: Identity) -> Room:
    """The room, if the sending user, or an agent of it, takes part in it.

    Raises:
        NotFound: `not_found`.
    """
    if room is None or room.status is RoomStatus.DELETED or not of_house(room, sender):
        raise not_found("room")
    return room


def of_house(room: Room, sender: Identity) -> tuple[Participant, ...]:
    """The participants that the sending user answers for: itself and its agents."""
    return tuple(one for one in room.participants if one.user_id == sender.user_id)


def require_active(entity: Entity) -> None:
    """Refuse an agent that is not active.

    Raises:
        Conflict: `agent_unavailable`.
    """
    if not entity.is_active:
        raise Conflict("agent_unavailable", "This agent is not active at present.", agent_id=entity.id)


def shown_room(room: Room) -> ShownRoom:
    """A room as its participants are told of it."""
    return ShownRoom(
        id=room.id, title=room.title, task_id=room.task_id, inserted_at=room.inserted_at, updated_at=room.updated_at
    )


def shown_participant(participant: Participant, entity: Entity | None) -> ShownParticipant:
    """A participant as the others are told of it. Of one that has been deleted only the handle is left."""
    return ShownParticipant(
        id=participant.id,
        type=participant.type,
        role=participant.role,
        status="active",
        name=participant.handle if entity is None else entity.name,
        handle=participant.handle,
    )


def new_participant(entity: Entity, role: Role, context: Context) -> Participant:
    """Who takes part from now on."""
    return Participant(
        id=entity.id,
        type=entity.side.type,
        user_id=entity.side.user_id,
        handle=entity.handle,
        role=role,
        joined_at=context.now,
    )


def room_told(event: str, room: Room, participant: Participant) -> Broadcast:
    """`room_added` or `room_removed`, to the one whom it is about."""
    return Broadcast(f"{participant.type.lower()}_rooms:{participant.id}", event, shown_room(room))


def places_ended(room: Room, gone: Participant) -> tuple[Ended, ...]:
    """The end of somebody's places on the topics of a room.

    For agents without a word: Band's clients leave both themselves, and take one that ended before for a disturbance.
    """
    is_silent = gone.type == "Agent"
    return tuple(
        Ended(f"{name}:{room.id}", gone.id, is_silent=is_silent) for name in ("chat_room", "room_participants")
    )


def deleted(room: Room, context: Context) -> tuple[Room, tuple[Told, ...]]:
    """A room that is there no more, and what those who took part are told."""
    after = msgspec.structs.replace(room, status=RoomStatus.DELETED, updated_at=context.now)
    return after, (
        Broadcast(f"room_participants:{room.id}", "room_deleted", {"id": room.id}),
        *(room_told("room_removed", after, one) for one in room.participants),
        *(ended for one in room.participants for ended in places_ended(room, one)),
    )

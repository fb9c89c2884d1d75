"""Who is added to a chat room, who is removed from it, and who owns it then.

    owner    gives every role, removes everybody but other owners
    admin    gives every role but `owner`, removes members and admins
    member   adds members

Somebody is added where the gate for rooms lets the one who adds it (contacts.py). There is always an owner: of a room
whose last one is deleted, another participant becomes it. Nobody can refuse to be added, so one house puts somebody of
another one into so many of its rooms and no more.
"""

from typing import Any, Final

import msgspec

from channels.contact_book import Entity
from channels.contacts import NO_TIE, Kind, Tie, needs_contact, require_may_open
from channels.errors import Conflict, Forbidden, not_found
from channels.handlers import Access, Context, Decision, Handler
from channels.room_rules import (
    deleted,
    new_participant,
    places_ended,
    require_active,
    require_inside,
    room_told,
    shown_participant,
)
from channels.room_state import Participant, Role, Room
from channels.told import Broadcast, Told

RANKS: Final = (Role.MEMBER, Role.ADMIN, Role.OWNER)


class ParticipantDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to add, by the id of the agent or user; `member` unless another role is given."""

    participant_id: str
    role: Role | None = None


class AddParticipant(msgspec.Struct, frozen=True):
    """Add somebody to a room."""

    participant: ParticipantDraft


class RemoveParticipant(msgspec.Struct, frozen=True):
    """Remove somebody from a room, or oneself."""

    participant_id: str


class Adding(msgspec.Struct, frozen=True, kw_only=True):
    """What adding somebody rests on.

    Args:
        room: None where there is none of that id.
        adder: Who adds.
        added: Who is to be added; None where there is nobody of that id.
        is_hidden: The agent to be added is a draft, or banned.
        rooms_shared: In how many of the rooms that the house of the room's maker has made the added takes part.
        tie: Of the adder towards the added.
    """

    room: Room | None
    adder: Entity
    added: Entity | None
    is_hidden: bool = False
    rooms_shared: int = 0
    tie: Tie = NO_TIE


class Leaving(msgspec.Struct, frozen=True, kw_only=True):
    """What removing somebody rests on: the room, and who is to go, None for one that has been deleted since."""

    room: Room | None
    leaver: Entity | None


def add_participant(facts: Adding, request: AddParticipant, context: Context) -> Decision:
    """Add an agent or a user to a room.

    Raises:
        NotFound: `not_found`: the sender does not take part in the room, or may not know of the other one.
        Forbidden: `forbidden_role`: the sender may not give that role; `contact_required`, `contact_scope_exceeded`.
        Conflict: `already_participant`, `blocked_by_you`, `agent_unavailable`, `room_full`; `room_limit`: the house
            that made the room has put the other one into so many.
    """
    room, own = require_inside(facts.room, context.sender)
    role = request.participant.role or Role.MEMBER
    if RANKS.index(role) > RANKS.index(own.role):
        raise Forbidden("forbidden_role", f"As {own.role} of this room you cannot make anybody {role}.", role=own.role)
    if room.participant(request.participant.participant_id) is not None:
        raise Conflict("already_participant", "It takes part in this room already.")
    added = _require_addable(facts)
    _require_place(room, facts, added, context)
    joined = new_participant(added, role, context)
    after = msgspec.structs.replace(room, participants=(*room.participants, joined), updated_at=context.now)
    told = (
        room_told("room_added", after, joined),
        Broadcast(f"room_participants:{room.id}", "participant_added", _told_of(joined, added)),
    )
    return Decision(state=after, reply=shown_participant(joined, added), broadcasts=told)


def remove_participant(facts: Leaving, request: RemoveParticipant, context: Context) -> Decision:
    """Remove a participant, or leave. Its places on the room's topics end.

    Raises:
        NotFound: `not_found`: the sender, or the one to be removed, does not take part in the room.
        Forbidden: `cannot_remove_sole_owner`, `cannot_remove_owner`, `forbidden_role`, `cannot_remove_user`.
    """
    room, own = require_inside(facts.room, context.sender)
    gone = room.participant(request.participant_id)
    if gone is None:
        raise not_found("participant")
    _require_removable(room, own, gone)
    after, told = _without(room, gone, facts.leaver, context)
    return Decision(state=after, reply=shown_participant(gone, facts.leaver), broadcasts=told)


def without_entity(room: Room, entity: Entity, context: Context) -> Decision:
    """What the end of an entity, deleted or banned, does to a room that it takes part in: it does so no more.

    If it was the last owner, the admin becomes one who has been there longest, else the member. A room without anybody
    is deleted.
    """
    gone = room.participant(entity.id)
    if gone is None:
        return Decision()
    if len(room.participants) == 1:
        after, told = deleted(room, context)
        return Decision(state=after, broadcasts=told)
    after, told = _without(room, gone, entity, context)
    return Decision(state=_owned(after), broadcasts=told)


def _without(room: Room, gone: Participant, entity: Entity | None, context: Context) -> tuple[Room, tuple[Told, ...]]:
    """A room in which somebody takes part no more, and what is told of that."""
    remaining = tuple(one for one in room.participants if one.id != gone.id)
    after = msgspec.structs.replace(room, participants=remaining, updated_at=context.now)
    told = {"id": gone.id, "type": gone.type, "name": shown_participant(gone, entity).name, "handle": gone.handle}
    return after, (
        Broadcast(f"room_participants:{room.id}", "participant_removed", told),
        room_told("room_removed", after, gone),
        *places_ended(room, gone),
    )


def _owned(room: Room) -> Room:
    """A room that somebody owns: the longest-standing one of the highest role, if there is no owner."""
    heir = max(room.participants, key=lambda one: RANKS.index(one.role))  # Of equals the first, who came first.
    owners = tuple(msgspec.structs.replace(one, role=Role.OWNER) if one is heir else one for one in room.participants)
    return msgspec.structs.replace(room, participants=owners)


def _require_addable(facts: Adding) -> Entity:
    """Who is to be added, once the gate lets the adder.

    Raises:
        NotFound: `not_found`.
        Forbidden: `contact_required`, `contact_scope_exceeded`.
        Conflict: `blocked_by_you`, `agent_unavailable`.
    """
    added = facts.added
    if added is None:
        raise not_found("agent or user")
    a, b = facts.adder.party, added.party
    if facts.is_hidden and needs_contact(a, b, facts.tie):
        raise not_found("agent or user")
    require_may_open(a, b, facts.tie, kind=Kind.ROOM, handle=added.handle)
    require_active(facts.adder)
    require_active(added)
    return added


def _require_place(room: Room, facts: Adding, added: Entity, context: Context) -> None:
    """Refuse one more in a room, or one more room of that house's for who is added to it.

    Raises:
        Conflict: `room_full`, `room_limit`.
    """
    limits = context.market.limits
    participants_max, shared_max = limits.room_participants_max, limits.rooms_shared_max
    if len(room.participants) >= participants_max:
        raise Conflict("room_full", f"A room has at most {participants_max} participants.", max=participants_max)
    if added.side.user_id != room.maker_user_id and facts.rooms_shared >= shared_max:
        raise Conflict(
            "room_limit",
            f"It takes part in {shared_max} rooms that the user who made this one, or its agents, have made.",
            max=shared_max,
        )


def _require_removable(room: Room, own: Participant, gone: Participant) -> None:
    """Refuse whom the sender may not remove.

    Raises:
        Forbidden: `cannot_remove_sole_owner`, `cannot_remove_owner`, `forbidden_role`, `cannot_remove_user`.
    """
    if own.id == gone.id:
        if own.role is Role.OWNER and sum(one.role is Role.OWNER for one in room.participants) == 1:
            raise Forbidden("cannot_remove_sole_owner", "The only owner of a room does not leave it; add another one.")
        return
    if own.role is Role.MEMBER:
        raise Forbidden("forbidden_role", "Only owners and admins of a room remove others.", role=own.role)
    if gone.role is Role.OWNER:
        raise Forbidden("cannot_remove_owner", "Nobody removes an owner of a room; it may leave.")
    if own.type == "Agent" and gone.type == "User":
        raise Forbidden("cannot_remove_user", "An agent does not remove a person from a room.")


def _told_of(joined: Participant, added: Entity) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": joined.id,
        "type": joined.type,
        "name": added.name,
        "handle": joined.handle,
        "role": joined.role,
        "is_external": joined.type == "Agent",  # Every agent runs where its owner runs it.
    }
    return told | ({"description": added.description} if joined.type == "Agent" else {})


ADD: Handler = Handler(AddParticipant, add_participant, loads="room_adding", access=Access.WRITE, scope="rooms")
REMOVE: Handler = Handler(
    RemoveParticipant, remove_participant, loads="room_leaving", access=Access.WRITE, scope="rooms"
)

"""Chat rooms: what their events are decided on, loaded in the transaction that decides; and the rooms of one entity."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from agrenting.clock import from_ms
from agrenting.db import contacts, people, room_messages, room_sides, states
from agrenting.db.pages import Part, Slice
from agrenting.db.transaction import Tx
from channels.agents import Agent
from channels.contact_book import Entity
from channels.handlers import Context
from channels.room_deliveries import Marking
from channels.room_messages import RoomSending, SendText, named_in
from channels.room_seats import Adding, Leaving
from channels.room_state import Participant, Room
from channels.rooms import Making

Sort = Literal["inserted_at", "updated_at"]
Order = Literal["asc", "desc"]
RoomType = Literal["direct", "group", "task"]

_PLACES: Final[dict[Sort, str]] = {
    "inserted_at": "r.id",
    "updated_at": "rtrim(json_extract(r.state, '$.updated_at'), 'Z') || ' ' || r.id",
}
"""A room's place in an order: equal ones by id. A later fraction of a second compares greater than none."""

DIRECT_MAX: Final = 2
"""A room with more participants is a group."""

_TYPE: Final = (
    "CASE WHEN json_extract(r.state, '$.task_id') IS NOT NULL THEN 'task'"
    f" WHEN json_array_length(r.state, '$.participants') > {DIRECT_MAX} THEN 'group' ELSE 'direct' END"
)
_TAKING_PART: Final = "SELECT room_id FROM room_sides WHERE entity_id"
_OWN: Final = f"{_TAKING_PART} = :id"
_OF_HOUSE: Final = f"{_TAKING_PART} IN (SELECT :id UNION ALL SELECT id FROM agents WHERE owner_id = :id)"


class RoomRow(msgspec.Struct, frozen=True, kw_only=True):
    """A room in a list, with its place in the list's order."""

    room: Room
    place: str


class RoomsAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Which rooms, in which order.

    Args:
        has_agents: Also those that agents of the user take part in.
        type: Only those of one type; None for all.
    """

    sort: Sort = "inserted_at"
    order: Order = "asc"
    has_agents: bool = False
    type: RoomType | None = None


# What events are decided on.


def _room(tx: Tx, topic_id: str, _request: Any, _context: Context) -> Room | None:
    return load(tx, topic_id)


def _making(tx: Tx, _topic_id: str, _request: Any, context: Context) -> Making:
    return Making(maker=_sender(tx, context), rooms_made=room_sides.count_made(tx, context.sender.user_id))


def _adding(tx: Tx, topic_id: str, request: Any, context: Context) -> Adding:
    adder, wanted = _sender(tx, context), request.participant.participant_id
    room = load(tx, topic_id)
    agent: Agent | None = states.load(tx, "agent", wanted)
    return Adding(
        room=room,
        adder=adder,
        added=contacts.entity(tx, wanted) if agent is None else contacts.of_agent(agent),
        is_hidden=agent is not None and agent.is_hidden,
        rooms_shared=0 if room is None else room_sides.count_shared(tx, wanted, maker_user_id=room.maker_user_id),
        tie=contacts.tie(tx, adder.id, wanted, now=context.now),
    )


def _leaving(tx: Tx, topic_id: str, request: Any, _context: Context) -> Leaving:
    return Leaving(room=load(tx, topic_id), leaver=contacts.entity(tx, request.participant_id))


def _sending(tx: Tx, topic_id: str, request: Any, context: Context) -> RoomSending:
    room = load(tx, topic_id)
    own = None if room is None else room.participant(context.sender.id)
    if room is None or own is None:
        return RoomSending(room=room)
    mentioned = named_in(room, request.message.mentions) if isinstance(request, SendText) else ()
    return RoomSending(room=room, names=names_of(tx, (own, *mentioned)))


def _marking(tx: Tx, topic_id: str, request: Any, context: Context) -> Marking:
    message = room_messages.load(tx, request.message_id)
    delivery = states.load(tx, "room_delivery", f"{request.message_id}:{context.sender.id}")
    is_here = message is not None and message.room_id == topic_id
    return Marking(room=load(tx, topic_id), message=message if is_here else None, delivery=delivery)


LOADERS: Final[dict[str, Callable[[Any, str, Any, Context], Any]]] = {
    "room": _room,
    "room_making": _making,
    "room_adding": _adding,
    "room_leaving": _leaving,
    "room_sending": _sending,
    "room_marking": _marking,
}
STATES: Final = {"room": "room", "room_adding": "room", "room_leaving": "room", "room_marking": "room_delivery"}
"""Loader → the store of the state that is decided."""


def load(tx: Tx, room_id: str) -> Room | None:
    """The room of an id."""
    room: Room | None = states.load(tx, "room", room_id)
    return room


def names_of(tx: Tx, participants: tuple[Participant, ...]) -> dict[str, str]:
    """The names of participants as they are now, by id; of one that has been deleted there is none."""
    agents = [one.id for one in participants if one.type == "Agent"]
    rows = tx.all(
        "SELECT id, json_extract(state, '$.name') FROM agents WHERE id IN (SELECT value FROM json_each(:ids))",
        ids=msgspec.json.encode(agents).decode(),
    )
    users = people.users_by_id(tx, [one.id for one in participants if one.type == "User"])
    return {**dict(rows), **{user.id: user.name for user in users}}


def _sender(tx: Tx, context: Context) -> Entity:
    sender = contacts.entity(tx, context.sender.id)
    assert sender is not None, "its credential was just looked at"
    return sender


# Lists.


def takes_part(tx: Tx, room_id: str, entity_id: str) -> bool:
    """Whether an agent or a user takes part in a room that is there."""
    row = tx.one(
        "SELECT 1 FROM room_sides WHERE entity_id = :entity_id AND room_id = :room_id",
        entity_id=entity_id,
        room_id=room_id,
    )
    return row is not None


def rooms_of(tx: Tx, entity_id: str, part: Slice, asked: RoomsAsked) -> Part:
    """The rooms that an agent or a user takes part in.

    Args:
        tx: Any transaction.
        entity_id: The agent or the user.
        part: Which of them; `after` is a place in the order.
        asked: Narrowed how, in which order.
    """
    place, mine = _PLACES[asked.sort], _OF_HOUSE if asked.has_agents else _OWN
    where = f"FROM rooms r WHERE r.id IN ({mine}) AND (:type IS NULL OR {_TYPE} = :type)"
    beyond, direction = (">", "ASC") if asked.order == "asc" else ("<", "DESC")
    values = {"id": entity_id, "type": asked.type}
    rows = tx.all(
        f"SELECT r.state, {place} {where} AND (:after = '' OR {place} {beyond} :after) ORDER BY 2 {direction}"
        " LIMIT :limit OFFSET :offset",
        **values,
        **msgspec.structs.asdict(part),
    )
    count = tx.one(f"SELECT count(*) {where}", **values)
    assert count is not None, "a count always answers"
    return Part(
        rows=[RoomRow(room=states.decode("room", row), place=row[1]) for row in rows],
        total_count=count[0],
    )


def last_message_at(tx: Tx, room_id: str) -> datetime | None:
    """When the newest text or event was written in a room; None before the first."""
    row = tx.one(
        "SELECT created_at FROM room_messages WHERE room_id = :room_id ORDER BY id DESC LIMIT 1", room_id=room_id
    )
    return None if row is None else from_ms(row[0])

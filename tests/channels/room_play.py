"""Chat rooms in memory: events run through the handlers, and what is decided is carried out at once.

Everything goes through JSON on its way, and a refusal must change nothing. Alice makes the room; Bob and Carol are
strangers to her, but for what `befriend` makes of them. Each agent has an owner of its own: John, Jane and Carl.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from channels import chat_room, room_seats, rooms
from channels.changes import Insert, StoreRoomMessage
from channels.contact_book import Entity
from channels.contacts import NO_TIE, Tie
from channels.errors import Refusal
from channels.handlers import Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.limits import Market
from channels.room_deliveries import FAILED, PROCESSED, PROCESSING, Marking
from channels.room_messages import POST_EVENT, SEND, RoomSending, SendText, named_in
from channels.room_seats import Adding, Leaving
from channels.room_state import Delivery, Role, Room, RoomMessage, RoomStatus
from channels.rooms import Making
from channels.told import Broadcast, Ended
from tests.channels.book import agent_entity, owner_entity
from tests.channels.roles import MARKET, NOW, Player, as_told
from tests.channels.strangers import ALICE, BOB, CAROL, JANE, JOHN, MALLORY, owner_of

CARL = owner_of(CAROL)
AGENTS = (ALICE, BOB, CAROL, MALLORY)
Who = Player | Identity


def identity(who: Who) -> Identity:
    """What the credential of an agent or a user proves."""
    return who.identity if isinstance(who, Player) else who


class RoomPlay:
    """Rooms, what was written in them, and what everybody is told."""

    def __init__(self, market: Market = MARKET) -> None:
        self.market = market
        self.now = NOW
        self.entities: dict[str, Entity] = {}
        for who in AGENTS:
            self.entities[who.id] = agent_entity(who.agent)
            self.entities[who.agent.owner_id] = owner_entity(who.agent)
        self.hidden: set[str] = set()
        self.ties: dict[tuple[str, str], Tie] = {}
        self.rooms: dict[str, Room] = {}
        self.messages: dict[str, RoomMessage] = {}
        self.deliveries: dict[str, Delivery] = {}
        self.told: list[Broadcast | Ended] = []
        self._ids = 0

    # What everybody may do.

    def make(self, who: Who = ALICE, **chat: Any) -> str:
        """Make a room; its id."""
        maker = self.entities[identity(who).id]
        open_ = [one for one in self.rooms.values() if one.status is RoomStatus.OPEN]
        rooms_made = sum(one.maker_user_id == maker.side.user_id for one in open_)
        facts = Making(maker=maker, rooms_made=rooms_made)
        made: str = self._run(who, rooms.CREATE, "", {"chat": chat}, facts)["id"]
        return made

    def rename(self, who: Who, room: str, title: str) -> Any:
        return self._run(who, rooms.RENAME, room, {"chat": {"title": title}}, self.rooms.get(room))

    def delete(self, who: Who, room: str) -> Any:
        return self._run(who, rooms.DELETE, room, {}, self.rooms.get(room))

    def add(self, who: Who, room: str, whom: Who | str, role: str | None = None) -> Any:
        wanted = whom if isinstance(whom, str) else identity(whom).id
        own = identity(who).id
        facts = Adding(
            room=self.rooms.get(room),
            adder=self.entities[own],
            added=self.entities.get(wanted),
            is_hidden=wanted in self.hidden,
            rooms_shared=self.shared(room, wanted),
            tie=self.ties.get((own, wanted), NO_TIE),
        )
        draft = {"participant_id": wanted} | ({} if role is None else {"role": role})
        return self._run(who, room_seats.ADD, room, {"participant": draft}, facts)

    def remove(self, who: Who, room: str, whom: Who | str) -> Any:
        gone = whom if isinstance(whom, str) else identity(whom).id
        facts = Leaving(room=self.rooms.get(room), leaver=self.entities.get(gone))
        return self._run(who, room_seats.REMOVE, room, {"participant_id": gone}, facts)

    def shared(self, room: str, entity_id: str) -> int:
        """In how many of the rooms of that room's maker's house somebody takes part."""
        if room not in self.rooms:
            return 0
        house = self.rooms[room].maker_user_id
        made = [one for one in self.rooms.values() if (one.maker_user_id, one.status) == (house, RoomStatus.OPEN)]
        return sum(one.participant(entity_id) is not None for one in made)

    def end(self, who: Who) -> None:
        """An agent is deleted, or banned: it leaves every room."""
        own = self.entities[identity(who).id]
        for room in [*self.rooms.values()]:
            if room.status is RoomStatus.OPEN:
                self._carry_out(room_seats.without_entity(room, own, self.context(who)), room_seats.REMOVE)

    def send(self, who: Who, room: str, content: str, *mentions: Any, **more: Any) -> Any:
        """Send a text; mentions are participants, or drafts of mentions."""
        drafts = [one if isinstance(one, dict) else {"id": identity(one).id} for one in mentions]
        payload = {"message": {"content": content, "mentions": drafts, **more}}
        request = msgspec.convert(payload, SendText)
        found = self.rooms.get(room)
        named = () if found is None else named_in(found, request.message.mentions)
        names = {id_: self.entities[id_].name for id_ in (identity(who).id, *(one.id for one in named))}
        return self._run(who, SEND, room, payload, RoomSending(room=found, names=names))

    def note(self, who: Who, room: str, content: str, type_: str = "thought", metadata: Any = None) -> Any:
        own = identity(who).id
        payload = {"event": {"content": content, "message_type": type_, "metadata": metadata}}
        names = {own: self.entities[own].name}
        return self._run(who, POST_EVENT, room, payload, RoomSending(room=self.rooms.get(room), names=names))

    def mark(self, who: Who, room: str, message: str, how: str, error: str = "it broke") -> Any:
        handler = {"processing": PROCESSING, "processed": PROCESSED, "failed": FAILED}[how]
        written = self.messages.get(message)
        facts = Marking(
            room=self.rooms.get(room),
            message=written if written is not None and written.room_id == room else None,
            delivery=self.deliveries.get(f"{message}:{identity(who).id}"),
        )
        payload = {"message_id": message} | ({"error": error} if how == "failed" else {})
        return self._run(who, handler, room, payload, facts)

    def join(self, who: Who, room: str) -> Any:
        return as_told(chat_room.JOIN.decide(self.rooms.get(room), Empty(), self.context(who)).reply)

    # What is so.

    def befriend(self, who: Who, whom: Who, **tie: Any) -> None:
        """The two are contacts; the tie's scope binds the first."""
        a, b = identity(who).id, identity(whom).id
        self.ties[a, b] = Tie(is_contact=True, **tie)
        self.ties[b, a] = Tie(is_contact=True)

    def change(self, who: Who, **fields: Any) -> None:
        """Change what an agent or a user is."""
        id_ = identity(who).id
        self.entities[id_] = msgspec.structs.replace(self.entities[id_], **fields)

    def roles(self, room: str) -> dict[str, Role]:
        return {one.handle: one.role for one in self.rooms[room].participants}

    def events(self, topic: str) -> list[tuple[str, Any]]:
        """What was told on a topic, to whomever."""
        return [
            (one.event, as_told(one.payload)) for one in self.told if isinstance(one, Broadcast) and one.topic == topic
        ]

    def topics(self) -> list[str]:
        """Every topic that something was told on, or that ended for somebody, in order."""
        return [f"{one.topic} {one.event}" if isinstance(one, Broadcast) else f"{one.topic} ended" for one in self.told]

    def everything(self) -> Any:
        return dict(self.rooms), dict(self.messages), dict(self.deliveries), list(self.told)

    def context(self, who: Who) -> Context:
        return Context(
            sender=identity(who), now=self.now, market=self.market, new_id=self.new_id, new_token=lambda: "token"
        )

    def new_id(self) -> str:
        self._ids += 1
        return f"00000000-0000-7000-8000-{self._ids:012x}"

    def advance(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    # How it is done.

    def _run(self, who: Who, handler: Handler, room: str, payload: Any, facts: Any) -> Any:
        request = msgspec.json.decode(msgspec.json.encode(payload), type=handler.request)
        decision = handler.decide(facts, request, self.context(who))
        self._carry_out(decision, handler)
        del room
        return as_told(decision.reply)

    def _carry_out(self, decision: Decision, handler: Handler) -> None:
        if decision.state is not None:
            self._keep("room_delivery" if handler.loads == "room_marking" else "room", decision.state)
        for change in decision.changes:
            if isinstance(change, StoreRoomMessage):
                assert change.message.id not in self.messages, "written once"
                self.messages[change.message.id] = _through_json(change.message)
            else:
                assert isinstance(change, Insert)
                assert change.id == change.state.id
                self._keep(change.store, change.state)
        for told in decision.broadcasts:
            assert isinstance(told, Broadcast | Ended)
            self.told.append(told)

    def _keep(self, store: str, state: Any) -> None:
        stores: dict[str, dict[str, Any]] = {"room": self.rooms, "room_delivery": self.deliveries}
        stores[store][state.id] = _through_json(state)


def _through_json(state: Any) -> Any:
    stored = msgspec.json.decode(msgspec.json.encode(state), type=type(state))
    assert stored == state, "a state is read as it was written"
    return stored


@contextmanager
def refusing(play: RoomPlay, kind: str, reason: str, **context: Any) -> Iterator[None]:
    """What is done is refused for that reason, and changes nothing."""
    before = play.everything()
    with pytest.raises(Refusal) as caught:
        yield
    refusal = caught.value
    assert (refusal.kind, refusal.reason) == (kind, reason), refusal
    assert {name: refusal.context[name] for name in context} == context
    assert play.everything() == before


def furnished(*members: Who, market: Market = MARKET, owner: Who = ALICE) -> tuple[RoomPlay, str]:
    """A room of Alice's, with these as members."""
    play = RoomPlay(market)
    room = play.make(owner)
    for who in members:
        play.befriend(owner, who)
        play.add(owner, room, who)
    play.told.clear()
    return play, room


__all__ = ["ALICE", "BOB", "CARL", "CAROL", "JANE", "JOHN", "MALLORY", "RoomPlay", "furnished", "identity", "refusing"]

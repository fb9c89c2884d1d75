"""The contact book in memory: whom a handle names, what lies between two, and what the server's loaders answer."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from channels.agents import Agent
from channels.contact_book import (
    Block,
    Contact,
    ContactRequest,
    Entity,
    Pair,
    RequestPhase,
    Side,
    Standing,
    tie_of,
)
from channels.contact_requests import HOUR, Answering, Asking
from channels.contacts import NO_TIE, Party, Tie, Ties
from channels.identity import Identity, normalise_handle
from tests.channels.roles import NOW

States = Mapping[str, dict[str, Any]]
UNFINISHED = {
    "negotiation": {"open"},
    "task": {"pending", "in_progress", "disputed"},
    "payment": {"pending", "open", "closing", "disputed"},
}
SIDES = {
    "negotiation": ("client_agent_id", "provider_agent_id"),
    "task": ("client_agent_id", "provider_agent_id"),
    "payment": ("agent_a_id", "agent_b_id"),
}


def sides_of(store: str, state: Any) -> tuple[str, str]:
    """Who opened it, and with whom."""
    one, other = SIDES[store]
    return getattr(state, one), getattr(state, other)


def agent_entity(agent: Agent) -> Entity:
    """An agent as one side of a contact."""
    return Entity(
        side=Side(id=agent.id, type="Agent", user_id=agent.owner_id),
        handle=agent.handle,
        name=agent.name,
        party=agent.party,
        description=agent.description,
        tags=agent.tags,
        is_active=agent.is_active,
        created_at=agent.created_at,
    )


def owner_entity(agent: Agent) -> Entity:
    """An agent's owner as one side of a contact: known by the first segment of the agent's handle."""
    handle = agent.handle.partition("/")[0]
    return Entity(
        side=Side(id=agent.owner_id, type="User", user_id=agent.owner_id),
        handle=handle,
        name=handle.capitalize(),
        party=Party(
            id=agent.owner_id,
            user_id=agent.owner_id,
            organisation_id=agent.owner_organisation_id,
            owner_organisation_id=agent.owner_organisation_id,
        ),
        created_at=NOW,
    )


class Book:
    """Who there is, and what they have done about each other.

    Args:
        states: Of the marketplace, which this only reads.
        clock: Its time.
    """

    def __init__(self, states: States, clock: Callable[[], datetime]) -> None:
        self._states = states
        self._clock = clock

    def entity(self, id_: str) -> Entity | None:
        """The agent or user of an id."""
        agent: Agent | None = self._states["agent"].get(id_)
        if agent is not None:
            return agent_entity(agent)
        user: Entity | None = self._states["user"].get(id_)
        return user

    def tie(self, a_id: str, b_id: str) -> Tie:
        """The tie of one towards another, now."""
        return tie_of(
            a_id,
            contact=self._contact(a_id, b_id),
            block=self._block(a_id, b_id),
            counter_block=self._block(b_id, a_id),
            now=self._clock(),
        )

    def ties(self) -> dict[tuple[str, str], Tie]:
        """Every tie of anybody towards anybody, now."""
        joined = [
            *((contact.requester_id, contact.recipient_id) for contact in self._states["contact"].values()),
            *((block.blocker_id, block.blocked_id) for block in self._states["block"].values()),
        ]
        both = {*joined, *((b, a) for a, b in joined)}
        return {two: tie for two in both if (tie := self.tie(*two)) != NO_TIE}

    def ties_of(self, id_: str) -> Ties:
        """Every tie of one entity, now."""
        return {b_id: tie for (a_id, b_id), tie in self.ties().items() if a_id == id_}

    def pair(self, a_id: str, b_id: str) -> Pair | None:
        """All that is between two; None where one of them does not exist."""
        a, b = self.entity(a_id), self.entity(b_id)
        if a is None or b is None:
            return None
        return Pair(
            a=a,
            b=b,
            contact=self._contact(a_id, b_id),
            block=self._block(a_id, b_id),
            counter_block=self._block(b_id, a_id),
            sent=self._pending(a_id, b_id),
            received=self._pending(b_id, a_id),
            negotiations=self._between("negotiation", {"open"}, {a_id, b_id}),
            tasks=tuple(
                task
                for task in self._between("task", {"pending", "in_progress"}, {a_id, b_id})
                if task.status == "pending" or task.stream_price is not None
            ),
            channels=self._between("payment", UNFINISHED["payment"], {a_id, b_id}),
        )

    def open_count(self, client_id: str, provider_id: str, *stores: str) -> int:
        """Sessions of those kinds that a client has open with a provider."""
        return sum(
            sides_of(store, state) == (client_id, provider_id) and state.status in UNFINISHED[store]
            for store in stores
            for state in self._states[store].values()
        )

    # What the server's loaders answer.

    def asking(self, request: Any, sender: Identity) -> Asking:
        """What asking for contact rests on."""
        own = [asked for asked in self._requests() if asked.requester_id == sender.id]
        recent = [asked.inserted_at for asked in own if asked.inserted_at > self._clock() - HOUR]
        pending = [asked for asked in own if asked.status_at(self._clock()) is RequestPhase.PENDING]
        return Asking(
            pair=self.named(request, sender),
            pending_count=sum(asked.is_to_stranger for asked in pending),
            recent_count=len(recent),
            oldest_recent_at=min(recent, default=None),
        )

    def answering(self, request: Any, sender: Identity) -> Answering | None:
        """A request by its id, or the pending one between the sender and who is named."""
        if request.request_id is None:
            named = self.named(request, sender)
            asked = None if named is None else named.sent if request.action == "cancel" else named.received
        else:
            asked = self._states["contact_request"].get(request.request_id)
        pair = None if asked is None else self.pair(asked.requester_id, asked.recipient_id)
        return None if asked is None or pair is None else Answering(request=asked, pair=pair)

    def removing(self, request: Any, sender: Identity) -> Pair | None:
        """The two of a contact; a is the one that the sender acts for."""
        if request.contact_id is None:
            return self.named(request, sender)
        pair = self.of_contact(request.contact_id)
        if pair is None:
            return None
        is_seconds = sender.id == pair.b.id or (sender.kind == "user" and sender.user_id == pair.b.side.user_id)
        return pair.mirrored if is_seconds else pair

    def named(self, request: Any, sender: Identity) -> Pair | None:
        """The sender and the one of the handle that it names."""
        wanted = normalise_handle(request.handle)
        everybody = [agent_entity(agent) for agent in self._states["agent"].values()] + [*self._states["user"].values()]
        found = next((entity.id for entity in everybody if entity.handle == wanted), None)
        return None if found is None else self.pair(sender.id, found)

    def of_contact(self, contact_id: str) -> Pair | None:
        """The two of a contact, if it is the one that they have."""
        contact: Contact | None = self._states["contact"].get(contact_id)
        return None if contact is None or contact.status is Standing.ENDED else self._pair_of(contact)

    def of_block(self, block_id: str) -> Pair | None:
        """The two of a block, if it is the one that stands."""
        block: Block | None = self._states["block"].get(block_id)
        stands = block is not None and block.status is Standing.ACTIVE
        return self.pair(block.blocker_id, block.blocked_id) if block is not None and stands else None

    def _pair_of(self, contact: Contact) -> Pair | None:
        return self.pair(contact.requester_id, contact.recipient_id)

    def _requests(self) -> list[ContactRequest]:
        return [*self._states["contact_request"].values()]

    def _contact(self, a_id: str, b_id: str) -> Contact | None:
        contacts: list[Contact] = [
            contact
            for contact in self._states["contact"].values()
            if contact.status is Standing.ACTIVE and {contact.requester_id, contact.recipient_id} == {a_id, b_id}
        ]
        assert len(contacts) <= 1, "two have one contact at most"
        return contacts[0] if contacts else None

    def _block(self, blocker_id: str, blocked_id: str) -> Block | None:
        blocks: list[Block] = [
            block
            for block in self._states["block"].values()
            if block.status is Standing.ACTIVE and (block.blocker_id, block.blocked_id) == (blocker_id, blocked_id)
        ]
        assert len(blocks) <= 1, "one blocks another once at most"
        return blocks[0] if blocks else None

    def _pending(self, requester_id: str, recipient_id: str) -> ContactRequest | None:
        pending = [
            asked
            for asked in self._requests()
            if asked.status is RequestPhase.PENDING
            and (asked.requester_id, asked.recipient_id) == (requester_id, recipient_id)
        ]
        assert len(pending) <= 1, "one request of an ordered pair is pending at most"
        return pending[0] if pending else None

    def _between(self, store: str, statuses: set[str], ids: set[str]) -> tuple[Any, ...]:
        return tuple(
            state
            for state in self._states[store].values()
            if state.status in statuses and {*sides_of(store, state)} == ids
        )

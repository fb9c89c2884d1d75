"""The contact book: requests, contacts and blocks as they are kept, and what both sides are told of them.

A contact joins exactly two entities, each a user or an agent; it does not extend to their owners or siblings. Agents
are told on `agent_contacts:{agent_id}`, flat; users on `user_contacts:{user_id}`, with the requester nested.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from channels.changes import Insert, Save, Timer
from channels.contacts import NO_TIE, Party, Scope, Tie
from channels.handlers import Context, Decision
from channels.identity import EntityType
from channels.negotiation import NegotiationSession
from channels.payment_state import PaymentChannel
from channels.task import Task
from channels.told import Broadcast, Retied

REQUEST_EXPIRES: Final = "contact_request_expires"
CONTACT_EXPIRES: Final = "contact_expires"
BLOCK_EXPIRES: Final = "block_expires"


class RequestPhase(StrEnum):
    """Where a contact request stands; all but PENDING are final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Standing(StrEnum):
    """Whether a contact or a block holds."""

    ACTIVE = "active"
    ENDED = "ended"


class Origin(StrEnum):
    """How a contact came about."""

    REQUEST = "request"
    OWNER = "owner"
    """Creating an agent made it and its owner contacts."""
    ORGANISATION = "organisation"
    """Joining an organisation made its members contacts. Leaving it ends these alone."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One side, as it is kept: `user_id` is the agent's owner, or the user itself."""

    id: str
    type: EntityType
    user_id: str

    @property
    def topic(self) -> str:
        """Where it is told of its contacts."""
        return f"agent_contacts:{self.id}" if self.type == "Agent" else f"user_contacts:{self.id}"


class Entity(msgspec.Struct, frozen=True, kw_only=True):
    """A user or an agent as it is now.

    Args:
        side: Its id, type and owner.
        handle: Without `@`.
        name: Of an agent; of a user its handle, unless it has given one.
        party: What its relation to others rests on.
        description: Of an agent; None for a user.
        tags: Of an agent; None for a user.
        is_active: Whether it may ask for contact: an agent that is suspended, for example, may not.
        created_at: When it was registered.
    """

    side: Side
    handle: str
    name: str
    party: Party
    description: str | None = None
    tags: tuple[str, ...] | None = None
    is_active: bool = True
    created_at: datetime

    @property
    def id(self) -> str:
        """The agent's or the user's id."""
        return self.side.id


class ContactRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One entity's wish to be another's contact.

    Args:
        message: At most 500 characters.
        is_to_stranger: Whether the two were strangers when it was made: only so many of those may be pending.
        responded_by: The agent or user who ended it; None while it is pending, and for the clock.
    """

    id: str
    requester: Side
    recipient: Side
    message: str | None = None
    is_to_stranger: bool = True
    status: RequestPhase = RequestPhase.PENDING
    inserted_at: datetime
    expires_at: datetime
    responded_at: datetime | None = None
    responded_by: str | None = None

    @property
    def requester_id(self) -> str:
        """Who asks."""
        return self.requester.id

    @property
    def recipient_id(self) -> str:
        """Who is asked."""
        return self.recipient.id

    def status_at(self, now: datetime) -> RequestPhase:
        """Where it stands by the clock, also before its timer has run."""
        is_over = self.status is RequestPhase.PENDING and now >= self.expires_at
        return RequestPhase.EXPIRED if is_over else self.status


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """Two entities that may open sessions with each other.

    Args:
        requester: Whom `scope` binds.
        recipient: Who approved.
        scope: What the requester may open; None: everything.
        ended_by: The agent or user who ended it; None for the clock.
    """

    id: str
    requester: Side
    recipient: Side
    origin: Origin = Origin.REQUEST
    scope: Scope | None = None
    status: Standing = Standing.ACTIVE
    inserted_at: datetime
    ended_at: datetime | None = None
    ended_by: str | None = None

    @property
    def requester_id(self) -> str:
        """Whom the scope binds."""
        return self.requester.id

    @property
    def recipient_id(self) -> str:
        """Who approved."""
        return self.recipient.id

    @property
    def expires_at(self) -> datetime | None:
        """When the clock ends it; None for never."""
        return None if self.scope is None else self.scope.expires_at

    def holds_at(self, now: datetime) -> bool:
        """Whether the two are contacts, by the clock."""
        return self.status is Standing.ACTIVE and (self.expires_at is None or now < self.expires_at)

    def has(self, entity_id: str) -> bool:
        """Whether an entity is one of the two."""
        return entity_id in {self.requester.id, self.recipient.id}


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One entity neither finds nor reaches the other.

    Args:
        blocker: Who wants that.
        blocked: Whom it keeps away.
        reason: For the blocker's own record; the blocked one is never told.
        expires_at: The clock ends it then; None for never.
    """

    id: str
    blocker: Side
    blocked: Side
    reason: str | None = None
    expires_at: datetime | None = None
    status: Standing = Standing.ACTIVE
    inserted_at: datetime
    ended_at: datetime | None = None

    @property
    def blocker_id(self) -> str:
        """Who blocks."""
        return self.blocker.id

    @property
    def blocked_id(self) -> str:
        """Who is blocked."""
        return self.blocked.id

    def holds_at(self, now: datetime) -> bool:
        """Whether it holds, by the clock."""
        return self.status is Standing.ACTIVE and (self.expires_at is None or now < self.expires_at)


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two entities and all that is between them, loaded in the transaction that decides about it.

    Args:
        a: Who acts, or for whom its owner acts.
        b: The other one.
        contact: The active one, also when it is over by the clock and its timer has not run yet.
        block: a's active block of b.
        counter_block: b's active block of a.
        sent: The pending request of a to b, also when it is over by the clock.
        received: The pending request of b to a, likewise.
        negotiations: Those that the two have open.
        tasks: Those of the two that are not started.
        channels: Payment channels of the two that have not ended.
    """

    a: Entity
    b: Entity
    contact: Contact | None = None
    block: Block | None = None
    counter_block: Block | None = None
    sent: ContactRequest | None = None
    received: ContactRequest | None = None
    negotiations: tuple[NegotiationSession, ...] = ()
    tasks: tuple[Task, ...] = ()
    channels: tuple[PaymentChannel, ...] = ()

    @property
    def mirrored(self) -> "Pair":
        """The same two, the other way round."""
        return msgspec.structs.replace(
            self,
            a=self.b,
            b=self.a,
            block=self.counter_block,
            counter_block=self.block,
            sent=self.received,
            received=self.sent,
        )

    def tie_at(self, now: datetime) -> Tie:
        """The tie of a towards b, by the clock."""
        return tie_of(self.a.id, contact=self.contact, block=self.block, counter_block=self.counter_block, now=now)


def tie_of(
    acting_id: str, *, contact: Contact | None, block: Block | None, counter_block: Block | None, now: datetime
) -> Tie:
    """The tie of one entity towards another, by the clock.

    Args:
        acting_id: The one.
        contact: Of the two, if there is one.
        block: Of the acting one against the other.
        counter_block: Of the other against the acting one.
        now: The server's clock, UTC.
    """
    holds = contact is not None and contact.holds_at(now)
    tie = Tie(
        is_contact=holds,
        scope=contact.scope if contact is not None and holds and contact.requester_id == acting_id else None,
        has_blocked=block is not None and block.holds_at(now),
        is_blocked=counter_block is not None and counter_block.holds_at(now),
    )
    return NO_TIE if tie == NO_TIE else tie


def befriended(
    requester: Entity, recipient: Entity, *, origin: Origin, scope: Scope | None, tie: Tie, context: Context
) -> tuple[tuple[Insert | Timer, ...], tuple[Broadcast | Retied, ...]]:
    """A new contact: what changes, and what both are told.

    Args:
        requester: Whom the scope binds.
        recipient: The other one.
        origin: How it came about.
        scope: What it lets the requester open.
        tie: Of the requester towards the recipient, before.
        context: Clock and ids.
    """
    contact = Contact(
        id=context.new_id(),
        requester=requester.side,
        recipient=recipient.side,
        origin=origin,
        scope=scope,
        inserted_at=context.now,
    )
    timers = (
        () if contact.expires_at is None else (Timer(CONTACT_EXPIRES, f"contact:{contact.id}", contact.expires_at),)
    )
    told = (
        Broadcast(requester.side.topic, "contact_added", added(contact, recipient)),
        Broadcast(recipient.side.topic, "contact_added", added(contact, requester)),
        Retied(requester.id, recipient.id, msgspec.structs.replace(tie, is_contact=True, scope=scope)),
    )
    return (Insert("contact", contact.id, contact), *timers), told


def added(contact: Contact, other: Entity) -> dict[str, Any]:
    """`contact_added` as one side is told of the other. What a user does not have is left out, never null."""
    told: dict[str, Any] = {
        "id": contact.id,
        "handle": other.handle,
        "name": other.name,
        "type": other.side.type,
        "is_external": other.side.type == "Agent",  # Every agent runs where its owner runs it.
        "inserted_at": contact.inserted_at,
    }
    if other.side.type == "Agent":
        told |= {
            "description": other.description,
            "listed_in_directory": other.party.is_listed,
            "tags": other.tags,
        }
    return told


def received(request: ContactRequest, requester: Entity) -> Broadcast:
    """`contact_request_received`: flat for an agent, with the requester nested for a user."""
    told: dict[str, Any] = {"id": request.id, "status": request.status, "message": request.message}
    if request.recipient.type == "Agent":
        told |= {"from_handle": requester.handle, "from_name": requester.name, "inserted_at": request.inserted_at}
    else:
        told |= {
            "requester_id": request.requester.id,
            "requester_type": request.requester.type,
            "recipient_id": request.recipient.id,
            "recipient_type": request.recipient.type,
            "requester": {"id": requester.id, "handle": requester.handle, "name": requester.name},
            "inserted_at": request.inserted_at,
            "responded_at": request.responded_at,
        }
    return Broadcast(request.recipient.topic, "contact_request_received", told)


def updated(request: ContactRequest) -> tuple[Broadcast, ...]:
    """`contact_request_updated`, to both."""
    told = {"id": request.id, "status": request.status}
    return tuple(
        Broadcast(side.topic, "contact_request_updated", told) for side in (request.requester, request.recipient)
    )


def removed(contact: Contact) -> tuple[Broadcast, ...]:
    """`contact_removed`, to both."""
    told = {"id": contact.id}
    return tuple(Broadcast(side.topic, "contact_removed", told) for side in (contact.requester, contact.recipient))


def resolved(request: ContactRequest, status: RequestPhase, context: Context, *, by: str | None) -> Decision:
    """A pending request in a final state: what changes, and what both are told.

    Args:
        request: The pending one.
        status: What it becomes.
        context: The clock.
        by: The agent or user who has ended it; None for the clock.
    """
    after = msgspec.structs.replace(request, status=status, responded_at=context.now, responded_by=by)
    return Decision(
        reply={"id": after.id, "status": after.status},
        changes=(
            Save("contact_request", request.id, request, after),
            Timer(REQUEST_EXPIRES, f"contact_request:{request.id}", None),
        ),
        broadcasts=updated(after),
    )

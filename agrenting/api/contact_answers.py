"""How contacts, requests and blocks are answered: flat to agents, with the other side nested to users."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from agrenting.db.contact_lists import BlockRow, ContactRow, RequestRow
from channels.contact_book import Entity, Origin, RequestPhase, Standing
from channels.contacts import Scope
from channels.identity import EntityType
from channels.revocation import shown


class NewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that was made; `approved` at once where the other one had asked already."""

    id: str
    status: RequestPhase


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    """The contact has ended."""

    status: str


class AgentContact(msgspec.Struct, frozen=True, kw_only=True):
    """A contact, as one of the two sees it.

    Args:
        id: Of the contact; the same for both.
        handle, type, name: Of the other one.
        online: Whether a connection of it is open.
        scope: What the requester may open; null: everything.
        is_requester: Whether the caller is the one whom the scope binds.
    """

    id: str
    handle: str
    type: EntityType
    name: str
    online: bool
    inserted_at: datetime
    origin: Origin
    is_requester: bool
    scope: Scope | None
    is_external: bool
    description: str | UnsetType | None = UNSET
    listed_in_directory: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET


class ReceivedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A pending request to the caller."""

    id: str
    status: RequestPhase
    from_handle: str | None
    from_name: str | None
    message: str | None
    inserted_at: datetime
    expires_at: datetime


class SentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of the caller's; nulls where the other one has been deleted since."""

    id: str
    status: RequestPhase
    to_handle: str | None
    to_name: str | None
    message: str | None
    inserted_at: datetime
    expires_at: datetime
    responded_at: datetime | None


class RequestsOfAgent(msgspec.Struct, frozen=True, kw_only=True):
    """Pending requests to the caller, and the caller's own."""

    received: list[ReceivedRequest]
    sent: list[SentRequest]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are in one direction, on how many pages."""

    total: int
    total_pages: int


class RequestsMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where both lists stand; `page` and `page_size` are those of each."""

    page: int
    page_size: int
    received: Total
    sent: Total


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a request or a contact, as a user is told of it."""

    id: str
    handle: str
    name: str
    description: str | UnsetType | None = UNSET
    is_external: bool | UnsetType = UNSET
    listed_in_directory: bool | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType | None = UNSET


class RequestAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request; a null side has been deleted since."""

    id: str
    status: RequestPhase
    requester_id: str
    requester_type: EntityType
    recipient_id: str
    recipient_type: EntityType
    requester: Person | None
    recipient: Person | None
    message: str | None
    inserted_at: datetime
    expires_at: datetime
    responded_at: datetime | None


class UserContact(msgspec.Struct, frozen=True, kw_only=True):
    """A contact of a user's; the other one, also where it is an agent, stands in `user`.

    Args:
        id: Of the contact.
        contact_id, contact_type: The other one.
        source: `request`, where it was asked for; null where joining or registering has made it.
        origin: How it came about.
    """

    id: str
    contact_id: str
    contact_type: EntityType
    online: bool
    status: Standing
    source: Literal["request"] | None
    origin: Origin
    is_requester: bool
    scope: Scope | None
    inserted_at: datetime
    user: Person


class BlockAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A block, for the blocker's eyes alone; a null handle: it has been deleted since."""

    id: str
    handle: str | None
    type: EntityType
    reason: str | None
    expires_at: datetime | None
    inserted_at: datetime


def agent_contact(row: ContactRow, *, own_id: str, online: bool) -> AgentContact:
    """A contact as an agent sees it."""
    other, contact = row.other, row.contact
    return AgentContact(
        id=contact.id,
        handle=other.handle,
        type=other.side.type,
        name=other.name,
        online=online,
        inserted_at=contact.inserted_at,
        origin=contact.origin,
        is_requester=contact.requester_id == own_id,
        scope=contact.scope,
        **_own(other),
    )


def user_contact(row: ContactRow, *, own_id: str, online: bool) -> UserContact:
    """A contact as a user sees it."""
    other, contact = row.other, row.contact
    return UserContact(
        id=contact.id,
        contact_id=other.id,
        contact_type=other.side.type,
        online=online,
        status=Standing.ACTIVE,
        source="request" if contact.origin is Origin.REQUEST else None,
        origin=contact.origin,
        is_requester=contact.requester_id == own_id,
        scope=contact.scope,
        inserted_at=contact.inserted_at,
        user=person(other),
    )


def person(entity: Entity) -> Person:
    """One side, as a user is told of it. Nobody is told another one's e-mail address."""
    return Person(id=entity.id, handle=entity.handle, name=entity.name, **_own(entity))


def received_request(row: RequestRow, *, status: RequestPhase) -> ReceivedRequest:
    """A request as the agent sees it that was asked."""
    request, requester = row.request, row.requester
    return ReceivedRequest(
        id=request.id,
        status=status,
        from_handle=None if requester is None else requester.handle,
        from_name=None if requester is None else requester.name,
        message=request.message,
        inserted_at=request.inserted_at,
        expires_at=request.expires_at,
    )


def sent_request(row: RequestRow, *, status: RequestPhase) -> SentRequest:
    """A request as the agent sees it that asked."""
    request, recipient = row.request, row.recipient
    return SentRequest(
        id=request.id,
        status=status,
        to_handle=None if recipient is None else recipient.handle,
        to_name=None if recipient is None else recipient.name,
        message=request.message,
        inserted_at=request.inserted_at,
        expires_at=request.expires_at,
        responded_at=request.responded_at,
    )


def whole_request(row: RequestRow, *, status: RequestPhase) -> RequestAnswer:
    """A request as a user sees it."""
    request = row.request
    return RequestAnswer(
        id=request.id,
        status=status,
        requester_id=request.requester_id,
        requester_type=request.requester.type,
        recipient_id=request.recipient_id,
        recipient_type=request.recipient.type,
        requester=None if row.requester is None else person(row.requester),
        recipient=None if row.recipient is None else person(row.recipient),
        message=request.message,
        inserted_at=request.inserted_at,
        expires_at=request.expires_at,
        responded_at=request.responded_at,
    )


def block_answer(row: BlockRow) -> dict[str, Any]:
    """A block as its blocker sees it."""
    return shown(row.block, None if row.blocked is None else row.blocked.handle)


def _own(entity: Entity) -> dict[str, Any]:
    """What only agents have, and whether the marketplace runs it: it runs nobody."""
    if entity.side.type == "User":
        return {"is_external": False}
    return {
        "is_external": True,
        "description": entity.description,
        "listed_in_directory": entity.party.is_listed,
        "tags": entity.tags,
    }

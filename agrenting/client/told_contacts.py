"""What the market tells of contacts. Fields that this version does not know are ignored."""

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

RequestStatus = Literal["pending", "approved", "rejected", "cancelled", "expired"]


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """What the requester of a contact may open with the one who has approved; what is None is not narrowed.

    Args:
        kinds: These alone: `negotiation`, `task`, `payment_channel`, `room`, `message`.
        max_price: Of an offer, of a task's held price and of a channel's deposit, in minor units.
        max_open: Negotiations and unfinished tasks open at once, together.
        expires_at: The contact ends then.
    """

    kinds: tuple[str, ...] | None = None
    max_price: int | None = None
    max_open: int | None = None
    expires_at: datetime | None = None


class Contact(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom the agent may open sessions with, and who may with it.

    Args:
        id: Of the contact; the same for both.
        handle, type, name: Of the other one.
        online: Whether a connection of it is open.
        origin: `request`; `owner` or `organisation` where nobody asked for it.
        is_requester: Whether this agent is the one whom the scope binds.
        scope: None: everything.
        description, tags: Of an agent.
    """

    id: str
    handle: str
    name: str
    type: Literal["User", "Agent"]
    online: bool
    inserted_at: datetime
    origin: str
    is_requester: bool
    scope: Scope | None
    description: str | None = None
    tags: tuple[str, ...] | None = None


class ContactRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody asks the agent for contact.

    Args:
        from_handle: Who asks; None: it has been deleted since.
        message: What it says. It is a stranger's text.
    """

    id: str
    from_handle: str | None
    from_name: str | None
    message: str | None
    inserted_at: datetime
    status: RequestStatus = "pending"


class OwnRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The agent asks somebody for contact.

    Args:
        to_handle: Who is asked; None: it has been deleted since.
    """

    id: str
    status: RequestStatus
    to_handle: str | None
    to_name: str | None
    message: str | None
    inserted_at: datetime
    expires_at: datetime
    responded_at: datetime | None = None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom the agent has blocked; it is not told.

    Args:
        handle: None: it has been deleted since.
    """

    id: str
    handle: str | None
    type: str
    reason: str | None
    expires_at: datetime | None
    inserted_at: datetime


class RequestReceived(msgspec.Struct, frozen=True):
    """Somebody asks for contact."""

    request: ContactRequest


class RequestUpdated(msgspec.Struct, frozen=True):
    """A request from or to the agent has ended.

    Args:
        id: The request.
        status: None: it has ended while the connection was lost, and not with a yes.
    """

    id: str
    status: RequestStatus | None


class ContactAdded(msgspec.Struct, frozen=True, kw_only=True):
    """The agent has a new contact: its id, and the other one's handle, name and type."""

    id: str
    handle: str
    name: str
    type: str


class ContactRemoved(msgspec.Struct, frozen=True):
    """A contact has ended.

    Args:
        id: Of the contact.
        handle: Who it was with; None: not known here.
    """

    id: str
    handle: str | None


ContactEvent: TypeAlias = RequestReceived | RequestUpdated | ContactAdded | ContactRemoved


class MadeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request, made or answered."""

    id: str
    status: RequestStatus


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """Something is as it was asked for."""

    status: str


class Lists(msgspec.Struct, frozen=True, kw_only=True):
    """Requests to the agent, which are pending, and its own."""

    received: list[ContactRequest]
    sent: list[OwnRequest]


class Total(msgspec.Struct, frozen=True, kw_only=True):
    """How many pages there are."""

    total_pages: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """How many pages there are in each direction."""

    received: Total
    sent: Total


class RequestsPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of requests in both directions."""

    data: Lists
    metadata: Totals


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """What `contact_removed` tells."""

    id: str


class Update(msgspec.Struct, frozen=True, kw_only=True):
    """What `contact_request_updated` tells."""

    id: str
    status: RequestStatus

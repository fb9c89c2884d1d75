"""What an agent does when it is asked for contact.

DISABLED            nothing: its owner answers, with the owner's own key or on the dashboard
Callback(function)  what a function says: `Approve(…)`, `Decline()`, or None, which leaves it to the owner
HubRoom()           the owner is asked in a chat room, and answers there (hub_room.py)
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec

from .amounts import Amount
from .told_contacts import ContactRequest, RequestStatus

if TYPE_CHECKING:
    from .contacts import Contacts


class Approve(msgspec.Struct, frozen=True, kw_only=True):
    """The requester becomes a contact. What is left out is not narrowed.

    Args:
        kinds: What it may open, these alone: `negotiation`, `task`, `payment_channel`, `room`, `message`.
        max_price: Of an offer, of a task's held price and of a channel's deposit: minor units, or `"5.00"`.
        max_open: Negotiations and unfinished tasks open at once, together.
        expires_at: The contact ends then; with an offset from UTC.
    """

    kinds: tuple[str, ...] = ()
    max_price: Amount | None = None
    max_open: int | None = None
    expires_at: datetime | None = None


class Decline(msgspec.Struct, frozen=True):
    """The requester does not become a contact. It may ask again."""


Answer = Approve | Decline | None


class ContactStrategy(ABC):
    """What is done with requests. It lives as long as the agent; one object serves one agent."""

    async def begin(self, contacts: "Contacts") -> None:
        """The agent is open; nothing was asked yet."""
        del contacts

    @abstractmethod
    async def decide(self, contacts: "Contacts", request: ContactRequest) -> Answer:
        """What to answer a pending request; None: nothing.

        It is called once for each request while the agent runs, those included that were pending at its start. Where it
        fails, that is logged, and the request stays pending.
        """

    async def ended(self, contacts: "Contacts", request_id: str, status: RequestStatus | None) -> None:
        """A request has ended, whoever has ended it.

        Args:
            contacts: The agent's.
            request_id: Which.
            status: None: not known, and not with a yes.
        """
        del contacts, request_id, status


class Disabled(ContactStrategy):
    """Nothing is answered, and nothing is listened to: the owner does it."""

    async def decide(self, contacts: "Contacts", request: ContactRequest) -> Answer:
        """Nothing."""
        del contacts, request
        return None


DISABLED: Final = Disabled()
"""Requests stay pending until the owner answers them."""


class Callback(ContactStrategy):
    """What a function says.

    Args:
        function: Called with each pending request. What it raises is logged, and leaves the request pending.
    """

    def __init__(self, function: Callable[[ContactRequest], Awaitable[Answer]]) -> None:
        self._function = function

    async def decide(self, contacts: "Contacts", request: ContactRequest) -> Answer:
        """What the function says."""
        del contacts
        return await self._function(request)

"""Contacts and contact requests of an agent, as the market lists them: requests in both directions on one page."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from .asking import envelope, every, post
from .errors import RefusedByServer
from .told_contacts import Contact, ContactRequest, MadeRequest, OwnRequest, RequestsPage, RequestStatus, Total, Totals

if TYPE_CHECKING:
    from .context import AgentContext

PAGE: Final = 100


class Lists(NamedTuple):
    """Pending requests to the agent, its contacts, and its own pending requests."""

    received: tuple[ContactRequest, ...]
    contacts: tuple[Contact, ...]
    own: tuple[OwnRequest, ...]


async def lists_of(context: "AgentContext") -> Lists:
    """How everything stands. Who was approved while this is read is among the contacts.

    Raises:
        RefusedByServer: `missing_scope`.
        Disconnected: The connection is closed.
    """
    received = await requests_to(context)
    contacts = tuple([contact async for contact in every(context, "/agent/contacts", Contact)])
    return Lists(received, contacts, await requests_of(context, "pending"))


async def ask_for_contact(context: "AgentContext", handle: str, message: str) -> MadeRequest | None:
    """Make a request, or find the one that is pending; None: it is a contact already.

    Raises:
        RefusedByServer: Somebody cannot be asked: `Contacts.request` says why.
        Disconnected: The connection is closed.
    """
    body = {"handle": handle, **({"message": message} if message else {})}
    try:
        return await post(context, "/agent/contacts/add", body, MadeRequest)
    except RefusedByServer as refusal:
        if refusal.reason == "already_contacts":
            return None
        if refusal.reason != "request_pending":
            raise
        for own in await requests_of(context, "pending"):
            if own.to_handle == handle:
                return MadeRequest(id=own.id, status=own.status)
        return await post(context, "/agent/contacts/add", body, MadeRequest)  # It has just ended.


async def requests_to(context: "AgentContext") -> tuple[ContactRequest, ...]:
    """Pending requests to the agent, oldest first.

    Raises:
        RefusedByServer: `missing_scope`.
        Disconnected: The connection is closed.
    """
    pages = await _pages(context, "pending", lambda totals: totals.received)
    return tuple({one.id: one for page in pages for one in page.data.received}.values())


async def requests_of(context: "AgentContext", status: str) -> tuple[OwnRequest, ...]:
    """The agent's own requests of a status, or `all`; oldest first.

    Raises:
        RefusedByServer: `missing_scope`, `invalid_payload`.
        Disconnected: The connection is closed.
    """
    pages = await _pages(context, status, lambda totals: totals.sent)
    return tuple({one.id: one for page in pages for one in page.data.sent}.values())


async def status_of(context: "AgentContext", request_id: str) -> RequestStatus:
    """How a request of the agent's stands. The newest ones stand on the last page, so that is read first.

    Raises:
        RefusedByServer: `missing_scope`.
        Disconnected: The connection is closed.
    """
    number = (await _page(context, 1, "all")).metadata.sent.total_pages
    while number >= 1:
        for own in (await _page(context, number, "all")).data.sent:
            if own.id == request_id:
                return own.status
        number -= 1
    return "pending"


async def _pages(context: "AgentContext", sent_status: str, counted: Callable[[Totals], Total]) -> list[RequestsPage]:
    """All pages, the last of which is read first.

    What ends meanwhile moves those behind it forward, some of them to the page before: that is still to be read.
    """
    first = await _page(context, 1, sent_status)
    count = counted(first.metadata).total_pages
    if count <= 1:
        return [first]
    pages = [await _page(context, number, sent_status) for number in range(count, 0, -1)]
    return pages[::-1]


async def _page(context: "AgentContext", number: int, sent_status: str) -> RequestsPage:
    """One page of both lists.

    Args:
        context: The agent's.
        number: From 1.
        sent_status: Of the agent's own; those to it are pending.
    """
    path = "/agent/contacts/requests"
    return await envelope(context, path, RequestsPage, page=number, page_size=PAGE, sent_status=sent_status)

"""Contact requests to an agent and of it, as the market lists them: both on one page."""

from typing import TYPE_CHECKING, Final

from .asking import envelope
from .told_contacts import ContactRequest, OwnRequest, RequestsPage, RequestStatus

if TYPE_CHECKING:
    from .context import AgentContext

PAGE: Final = 100


async def requests_to(context: "AgentContext") -> tuple[ContactRequest, ...]:
    """Pending requests to the agent, oldest first.

    Raises:
        RefusedByServer: `missing_scope`.
        Disconnected: The connection is closed.
    """
    first = await _page(context, 1, "pending")
    found = [*first.data.received]
    for number in range(2, first.metadata.received.total_pages + 1):
        found += (await _page(context, number, "pending")).data.received
    return tuple({one.id: one for one in found}.values())


async def requests_of(context: "AgentContext", status: str) -> tuple[OwnRequest, ...]:
    """The agent's own requests of a status, or `all`; oldest first.

    Raises:
        RefusedByServer: `missing_scope`, `invalid_payload`.
        Disconnected: The connection is closed.
    """
    first = await _page(context, 1, status)
    found = [*first.data.sent]
    for number in range(2, first.metadata.sent.total_pages + 1):
        found += (await _page(context, number, status)).data.sent
    return tuple({one.id: one for one in found}.values())


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


async def _page(context: "AgentContext", number: int, sent_status: str) -> RequestsPage:
    """One page of both lists.

    Args:
        context: The agent's.
        number: From 1.
        sent_status: Of the agent's own; those to it are pending.
    """
    path = "/agent/contacts/requests"
    return await envelope(context, path, RequestsPage, page=number, page_size=PAGE, sent_status=sent_status)

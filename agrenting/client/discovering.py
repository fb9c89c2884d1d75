"""Finding agents: by what they do, what they cost and how they did."""

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode

import msgspec

from .amounts import Amount
from .asking import envelope, get
from .errors import RefusedByServer

if TYPE_CHECKING:
    from .context import AgentContext

Presence = Literal["online", "busy", "away", "offline"]

LIMIT: Final = 20
PAGE: Final = 100


class FoundAgent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as another one finds it.

    Args:
        id: Never changes.
        handle: `owner/slug`.
        did: Its public key as `did:key`; None: it has none, and neither bargains nor pays over channels.
        price: The list price of the asked capability in minor units; with none asked, the base price; None: no price.
        base_price: Of capabilities without a price of their own, in minor units.
        pricing_model: `hybrid` (list price or bargaining), `fixed` (list price only), `auction` (bargaining only).
        reputation: 0-5 stars.
        tasks_completed: How many count for the reputation.
        success_rate: 0-1; None before the first task.
        status: `online`, `busy`, `away` or `offline`.
        is_contact: Whether the two are contacts.
        contact_required: Whether it has to be asked for contact before it is hired.
    """

    id: str
    handle: str
    did: str | None = None
    name: str = ""
    description: str = ""
    capabilities: tuple[str, ...] = ()
    price: int | None = None
    base_price: int | None = None
    pricing_model: str = "hybrid"
    reputation: float = 0.0
    tasks_completed: int = 0
    success_rate: float | None = None
    status: str = "offline"
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    is_contact: bool = False
    contact_required: bool = False


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page of hits stands."""

    next_cursor: str | None = None


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of hits."""

    data: list[FoundAgent]
    metadata: _Metadata


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    """What of an agent tells how it is called."""

    handle: str


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; all that is given must hold.

    Args:
        capability: What the agent is wanted for.
        query: Full text over name, description, tags and capabilities.
        max_price: The most that it may cost, inclusive.
        min_reputation: Stars, 0-5, inclusive.
        tags: The agent must have them all.
        owner: The handle of a user.
        status: The agent's presence; None: any.
    """

    capability: str | None = None
    query: str | None = None
    max_price: Amount | None = None
    min_reputation: float | None = None
    tags: Sequence[str] = ()
    owner: str | None = None
    status: Presence | None = "online"


async def discover(context: "AgentContext", search: Search, limit: int = LIMIT) -> list[FoundAgent]:
    """The best agents: connected ones first, then by reputation down, by price up.

    Args:
        context: The agent's who asks; it does not find itself.
        search: What is looked for.
        limit: How many at most, 1-100.

    Raises:
        RefusedByServer: `invalid_payload`, `not_found` (the owner), or as for any call.
        MalformedAnswer: What comes is no list of agents.
        Disconnected: The connection is closed.
    """
    return (await _page(context, search, limit=limit, cursor=None)).data


async def discover_all(context: "AgentContext", search: Search) -> AsyncIterator[FoundAgent]:
    """Every agent that fits, best first, page after page.

    Raises:
        RefusedByServer, MalformedAnswer, Disconnected: As for `discover`.
    """
    cursor: str | None = None
    while True:
        page = await _page(context, search, limit=PAGE, cursor=cursor)
        for found in page.data:
            yield found
        cursor = page.metadata.next_cursor
        if cursor is None:
            return


async def agent_id_of(context: "AgentContext", whom: FoundAgent | str) -> str:
    """The id of an agent that is named by its handle, or is found already. An id stays as it is.

    Raises:
        RefusedByServer: `not_found`: nobody has that handle, or the agent may not see who has it.
        MalformedAnswer, Disconnected: As for `discover`.
    """
    if isinstance(whom, FoundAgent):
        return whom.id
    if "/" not in whom:
        return whom
    handle = whom.strip().removeprefix("@").lower()
    search = Search(owner=handle.partition("/")[0], status=None)
    async for found in discover_all(context, search):
        if found.handle == handle:
            return found.id
    raise RefusedByServer("not_found", f"No agent {handle} can be found.", {"handle": handle})


async def handle_of(context: "AgentContext", whom: FoundAgent | str) -> str:
    """The handle of an agent, `owner/slug`. A handle stays as it is.

    Raises:
        RefusedByServer: `not_found`.
        MalformedAnswer, Disconnected: As for `discover`.
    """
    if isinstance(whom, FoundAgent):
        return whom.handle
    if "/" in whom:
        return whom
    return (await get(context, f"/agents/{whom}", _Named)).handle


async def _page(context: "AgentContext", search: Search, *, limit: int, cursor: str | None) -> _Page:
    max_price = search.max_price
    asked: dict[str, Any] = {
        "capability": search.capability,
        "query": search.query,
        "max_price": None if max_price is None else context.amount(max_price),
        "min_reputation": search.min_reputation,
        "tags": [*search.tags],
        "owner": search.owner,
        "status": search.status,
        "limit": limit,
        "cursor": cursor,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return await envelope(context, f"/discover?{urlencode(given, doseq=True)}", _Page)

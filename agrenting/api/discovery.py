"""Finding agents: the same question as `discover` on `agents:discovery`, with its parameters flat in the query."""

from typing import Annotated, Literal

import msgspec

from agrenting.api.answers import AgentHit
from agrenting.api.call import Call
from agrenting.api.money import parse_query_money
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import PageQuery, page
from channels import discovery
from channels.discovery import Discover, Filters
from channels.errors import Invalid

NOUN = Noun("discovery", "Finding agents by what they do, what they cost and how they did.")
DISCOVER = discovery.HANDLERS["discover"]
FILTERS = "filters."


class DiscoverQuery(PageQuery, frozen=True, kw_only=True):
    """A search; all that is given must hold.

    Args:
        capability: What the agent is wanted for; `price` of the hits is that of it.
        query: Full text over name, description, tags and capabilities; 1-200 characters.
        status: The agent's presence.
        min_reputation: Stars, inclusive.
        max_price: Inclusive, against the asked capability's price, else the base price: digits alone are minor units,
            with a point it is major units.
        tags: Given several times, an agent must have them all.
        owner: The handle of a user.
    """

    capability: str | None = None
    query: str | None = None
    status: Literal["online", "busy", "away", "offline"] | None = None
    min_reputation: Annotated[float, msgspec.Meta(ge=0, le=5)] | None = None
    max_price: str | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None


@NOUN.get(
    "/discover",
    answer=AgentHit,
    callers=Callers.AGENT,
    scopes=("discover",),
    rate="discovery",
    errors={404: "not_found", 422: "invalid_amount"},
)
async def discover(call: Call, query: DiscoverQuery) -> object:
    """Find agents: online first, then by reputation down, by price up.

    Not found are the caller itself, and agents that are not active or that it may not see.
    """
    try:
        found = await call.ask(DISCOVER, discovery.TOPIC, as_request(query, exponent=call.market.exponent))
    except Invalid as refusal:
        raise flattened(refusal) from refusal
    return page(found["agents"], limit=query.limit, next_cursor=found["next_cursor"])


def as_request(query: DiscoverQuery, *, exponent: int) -> Discover:
    """The search as the wire takes it.

    Raises:
        Invalid: `invalid_amount`.
    """
    price = query.max_price
    filters = Filters(
        status=query.status,
        min_reputation=query.min_reputation,
        max_price=None if price is None else parse_query_money(price, exponent=exponent, field="max_price"),
        tags=query.tags,
        owner=query.owner,
    )
    return Discover(
        capability=query.capability, query=query.query, filters=filters, limit=query.limit, cursor=query.cursor
    )


def flattened(refusal: Invalid) -> Invalid:
    """A refusal of a filter, as the query names it."""
    field = "cursor" if refusal.reason == "invalid_cursor" else str(refusal.context.get("field", ""))
    sentence = refusal.message.replace(FILTERS, "")
    return Invalid(refusal.reason, sentence, **{**refusal.context, "field": field.removeprefix(FILTERS)})

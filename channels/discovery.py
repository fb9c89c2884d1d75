"""agents:discovery: agents find each other, and say what they are and do.

Who may join: any agent. Joining tracks the agent as present; who may see it gets `presence_diff`. There are no phases:
an agent that is not active may look, but is neither found nor present.

`discover` answers in one order: online first, reputation down, price up, id. A page begins after a key of that order,
so page 1,000 costs what page 1 costs, and an agent whose own place did not change appears exactly once while others
come and go. The statement that searches is the server's; what it is asked, in what order and how it is told stand here.
"""

import base64
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, Final

import msgspec

from channels import negotiation, private, task
from channels.agents import Agent, Capability
from channels.changes import NotePresence
from channels.contacts import Party, Tie, Ties, is_present_to, needs_contact
from channels.documents import is_same_document, require_document
from channels.errors import Invalid
from channels.fields import CAPABILITY_NAME, invalid_payload, parse_capability_names, parse_tags
from channels.handlers import Access, Context, Decision, Empty, Handler, KnowTies, ShowPresence, Track, UpdateMeta
from channels.identity import Identity, normalise_handle
from channels.ledger import MONEY_MAX
from channels.told import Audience, Broadcast
from crypto import did_from_public_key, digest, parse_public_key

TOPIC = "agents:discovery"

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
QUERY_CHARS_MAX: Final = 200
REPUTATION_MAX: Final = 5
CURSOR_PRICE_MAX: Final = 2**63 - 1
"""The largest price in a cursor: what a database's integer holds, because no price at all may stand for a large one."""

PRESENCES: Final = ("online", "busy", "away")
"""What a connected agent may say of itself."""

STATUSES: Final = (*PRESENCES, "offline")
"""What `discover` knows of an agent: its presence, or that it has none."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What narrows a search; all that are given must hold.

    Args:
        status: online, busy, away or offline.
        min_reputation: 0-5 stars, inclusive; finer than a hundredth is rounded up, so nobody below it is found.
        max_price: Minor units, inclusive, against the asked capability's price, else the base price.
        tags: At most 16; an agent must have them all.
        owner: The handle of a user, with or without `@`.
    """

    status: str | None = None
    min_reputation: float | None = None
    max_price: int | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None


class Discover(msgspec.Struct, frozen=True, kw_only=True):
    """A search. `query` is full text over name, description, tags and capabilities; `limit` 1-100 hits a page."""

    capability: str | None = None
    query: str | None = None
    filters: Filters | None = None
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None


class Announce(msgspec.Struct, frozen=True, kw_only=True):
    """Replace the set of the agent's capabilities by 1-50 names; `prices`, in minor units, are of names of that set."""

    capabilities: tuple[str, ...]
    prices: dict[str, int] | None = None


class UpdateMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Merge into the agent's metadata, one level deep; null removes a key. `status` inside sets the presence status."""

    metadata: dict[str, Any]


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """The place in the order of `discover` that a page begins after.

    Args:
        online: 1 for connected agents, who come first, else 0.
        reputation_centi: Hundredths of a star.
        price: As it stands in the order, in minor units.
        id: The agent's id.
    """

    online: int
    reputation_centi: int
    price: int
    id: str


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """A checked `discover`. The words of `query` may stand in any order and place; `owner` is a handle without `@`."""

    capability: str | None = None
    query: str | None = None
    status: str | None = None
    min_reputation_centi: int | None = None
    max_price: int | None = None
    tags: tuple[str, ...] = ()
    owner: str | None = None
    limit: int = LIMIT_DEFAULT
    cursor: Cursor | None = None


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One found agent.

    Args:
        price: Of the asked capability, in minor units; None where it cannot be hired for it.
        tie: Of who asked towards it.
    """

    agent: Agent
    status: str
    price: int | None
    tie: Tie


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that joins, and its ties, by which it is shown who is present."""

    agent: Agent
    ties: Ties


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of hits in order. `next_cursor` is None on the last page; `viewer` is who asked."""

    hits: tuple[Hit, ...]
    next_cursor: Cursor | None
    viewer: Party


def access(sender: Identity, topic_id: str) -> None:
    """Any agent may join."""
    sender.require_agent()


def join(arrival: Arrival, request: Empty, context: Context) -> Decision:
    """Show the agent as present to those who may see it. Who else is present comes as `presence_state`.

    One that is not active may look, and is not shown: nobody finds it. So its owner's activating it shows it once it
    has joined again.

    Raises:
        Forbidden: `agent_required`.
    """
    agent, knows = arrival.agent, KnowTies(arrival.ties)
    reply = {
        "agent_id": agent.id,
        "currency": context.market.currency,
        "exponent": context.market.exponent,
        "signing_domain": context.market.signing_domain,
    }
    if not agent.is_active:
        return Decision(reply=reply, presence=(knows, ShowPresence()))
    meta = {
        "status": "online",
        "name": agent.name,
        "handle": agent.handle,
        "capabilities": _names(agent),
        "metadata": agent.metadata,
        "online_at": context.now,
    }
    return Decision(
        reply=reply,
        changes=(NotePresence(agent.id, "online"),),
        presence=(knows, Track(meta, key=agent.id, party=agent.party)),
    )


def discover(found: Found, request: Discover, context: Context) -> Decision:
    """Answer a search, a page at a time.

    Raises:
        Invalid: `invalid_payload` with the field, `invalid_cursor`.
    """
    next_cursor = None
    if found.next_cursor is not None:
        next_cursor = encode_cursor(found.next_cursor, parse_search(request, context))
    hits = [hit_payload(hit, found.viewer) for hit in found.hits]
    return Decision(reply={"agents": hits, "next_cursor": next_cursor})


def update_metadata(agent: Agent, request: UpdateMetadata, context: Context) -> Decision:
    """Merge into the agent's metadata, and set its presence status.

    The status is what it is doing at present, so it is told and not stored.

    Raises:
        Forbidden: `agent_required`.
        Invalid: `invalid_payload` with the field.
    """
    status = request.metadata.get("status")
    if "status" in request.metadata and status not in PRESENCES:
        raise invalid_payload("metadata.status", f"A presence status is one of {', '.join(PRESENCES)}.")
    merged = {
        key: value
        for key, value in (agent.metadata | request.metadata).items()
        if value is not None and key != "status"
    }
    require_document("metadata", merged, bytes_max=context.market.limits.metadata_bytes_max)
    told = {"metadata": merged} if status is None else {"metadata": merged, "status": status}
    is_changed = not is_same_document(merged, agent.metadata)
    return Decision(
        state=msgspec.structs.replace(agent, metadata=merged, updated_at=context.now) if is_changed else None,
        reply=told,
        changes=(NotePresence(agent.id, status),) if status and agent.is_active else (),
        presence=(UpdateMeta(TOPIC, told, agent_id=agent.id, merge=True),) if is_changed or status else (),
    )


def announce(agent: Agent, request: Announce, context: Context) -> Decision:
    """Replace the set of the agent's capabilities, and set list prices.

    One that is given no price keeps its own; a new one has the base price. What is open already keeps the price that
    it was opened at. A price alone is not broadcast, no more than by REST: whoever searches is told it.

    Raises:
        Forbidden: `agent_required`; `missing_scope`: prices, with a key that may not negotiate.
        Invalid: `invalid_capability` with the field; `amount_out_of_range` with price_max.
    """
    if not request.capabilities:
        raise Invalid("invalid_capability", "Announce at least one capability.", field="capabilities")
    names = parse_capability_names(request.capabilities, context.market.limits)
    prices = {own.name: own.price for own in agent.capabilities} | _parse_prices(request.prices, names, context)
    is_same_set = {*names} == {*_names(agent)}
    offered = tuple(Capability(name, prices.get(name)) for name in (_names(agent) if is_same_set else names))
    if offered == agent.capabilities:
        return Decision(reply=_announced(agent, agent.updated_at))
    after = msgspec.structs.replace(agent, capabilities=offered, updated_at=context.now)
    told = _announced(after, context.now)
    if is_same_set:
        return Decision(state=after, reply=told)
    updated = Broadcast(TOPIC, "agent_updated", told, Audience.OTHER_AGENTS, about=agent.id)
    return Decision(
        state=after,
        reply=told,
        broadcasts=(updated,) if agent.is_active else (),  # Nobody sees an agent that is not active.
        presence=(UpdateMeta(TOPIC, {"capabilities": _names(after)}, agent_id=agent.id, merge=True),),
    )


def parse_search(request: Discover, context: Context) -> Search:
    """A `discover` request, checked.

    Raises:
        Invalid: `invalid_payload` with the field; `invalid_cursor` for a cursor that is not of this very search.
    """
    filters = request.filters or Filters()
    if request.capability is not None and not CAPABILITY_NAME.match(request.capability):
        raise invalid_payload("capability", "A capability's name has 1-64 of a-z, 0-9, - and _.")
    if filters.status not in {None, *STATUSES}:
        raise invalid_payload("filters.status", f"A status is one of {', '.join(STATUSES)}.")
    if filters.max_price is not None and not 0 <= filters.max_price <= MONEY_MAX:
        raise invalid_payload("filters.max_price", f"A price is between 0 and {MONEY_MAX} minor units.")
    if not 1 <= request.limit <= LIMIT_MAX:
        raise invalid_payload("limit", f"A page has 1-{LIMIT_MAX} agents.")
    search = Search(
        capability=request.capability,
        query=_parse_query(request.query),
        status=filters.status,
        min_reputation_centi=_parse_reputation(filters.min_reputation),
        max_price=filters.max_price,
        tags=parse_tags(filters.tags, context.market.limits, field="filters.tags"),
        owner=None if filters.owner is None else normalise_handle(filters.owner),
        limit=request.limit,
    )
    if request.cursor is None:
        return search
    return msgspec.structs.replace(search, cursor=decode_cursor(request.cursor, search))


def encode_cursor(cursor: Cursor, search: Search) -> str:
    """A cursor as clients carry it: opaque, safe in a URL, and good for this search alone.

    The digest in it is a checksum over place and search, not a signature: a cursor grants nothing, it is only not to be
    mixed up. The page's size may change from page to page.
    """
    place = (cursor.online, cursor.reputation_centi, cursor.price, cursor.id)
    asked = msgspec.json.encode(msgspec.structs.replace(search, cursor=cursor, limit=LIMIT_DEFAULT))
    return base64.urlsafe_b64encode(msgspec.json.encode((*place, digest(asked)))).decode().rstrip("=")


def decode_cursor(text: str, search: Search) -> Cursor:
    """The place that a client's cursor names. Only what `encode_cursor` writes for this search is taken.

    Raises:
        Invalid: `invalid_cursor`.
    """
    try:
        written = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        online, reputation_centi, price, id_, _ = _decode_place(written)
    except (ValueError, msgspec.DecodeError) as error:
        raise _invalid_cursor() from error
    cursor = Cursor(online=online, reputation_centi=reputation_centi, price=price, id=id_)
    if encode_cursor(cursor, search) != text:
        raise _invalid_cursor()
    return cursor


def hit_payload(hit: Hit, viewer: Party) -> dict[str, Any]:
    """One hit as `viewer` is told of it."""
    agent = hit.agent
    return {
        "id": agent.id,
        "handle": agent.handle,
        "did": None if agent.public_key is None else did_from_public_key(parse_public_key(agent.public_key)),
        "name": agent.name,
        "description": agent.description,
        "capabilities": _names(agent),
        "price": hit.price,
        "base_price": agent.base_price,
        "pricing_model": agent.pricing_model,
        "reputation": agent.reputation_centi / 100,  # Exact to two decimals, as it is stored.
        "tasks_completed": agent.tasks_completed,
        "success_rate": agent.success_rate,
        "status": hit.status,
        "tags": agent.tags,
        "metadata": agent.metadata,
        "is_contact": hit.tie.is_contact,
        "contact_required": needs_contact(viewer, agent.party, hit.tie),
    }


_decode_place = msgspec.json.Decoder(
    tuple[
        Annotated[int, msgspec.Meta(ge=0, le=1)],
        Annotated[int, msgspec.Meta(ge=0, le=100 * REPUTATION_MAX)],
        Annotated[int, msgspec.Meta(ge=0, le=CURSOR_PRICE_MAX)],
        str,
        str,
    ]
).decode


def _parse_query(query: str | None) -> str | None:
    if query is None:
        return None
    stripped = query.strip()
    if not 1 <= len(stripped) <= QUERY_CHARS_MAX:
        raise invalid_payload("query", f"A query has 1-{QUERY_CHARS_MAX} characters.")
    return stripped


def _parse_reputation(stars: float | None) -> int | None:
    """Hundredths of `stars`, by the decimal digits that were sent: 100 × 1.1 as a float is more than 110."""
    if stars is None:
        return None
    if not 0 <= stars <= REPUTATION_MAX:
        raise invalid_payload("filters.min_reputation", f"A reputation is between 0 and {REPUTATION_MAX}.")
    hundredths = Decimal(repr(stars)) * 100
    return int(hundredths.to_integral_value(ROUND_CEILING))  # Rounds up: who is below the minimum is not found.


def _parse_prices(prices: dict[str, int] | None, names: tuple[str, ...], context: Context) -> dict[str, int]:
    """The list prices that are announced, each of a capability of the set.

    Raises:
        Forbidden: `missing_scope`: who may not bargain about prices sets none either.
        Invalid: `invalid_capability`, `amount_out_of_range`.
    """
    if prices is None:
        return {}
    context.sender.require_scope("negotiate")
    price_max = context.market.limits.price_max
    for name, price in prices.items():
        if name not in names:
            raise Invalid("invalid_capability", "A price is of a capability that is announced.", field="prices")
        if not 0 <= price <= price_max:
            raise Invalid(
                "amount_out_of_range", f"The price of {name} is between 0 and {price_max}.", price_max=price_max
            )
    return prices


def _names(agent: Agent) -> list[str]:
    return [own.name for own in agent.capabilities]


def _announced(agent: Agent, updated_at: datetime) -> dict[str, Any]:
    return {"agent_id": agent.id, "capabilities": _names(agent), "updated_at": updated_at}


def _invalid_cursor() -> Invalid:
    return Invalid("invalid_cursor", "This cursor is not one of this search; start again without one.")


ACCESS = access
VISIBLE = is_present_to
JOIN = Handler(Empty, join, loads="arrival", access=Access.WRITE, scope="discover")
HANDLERS = {
    "discover": Handler(Discover, discover, loads="discovery", access=Access.READ, scope="discover", rate="discovery"),
    "update_metadata": Handler(UpdateMetadata, update_metadata, loads="agent", access=Access.WRITE, scope="discover"),
    "announce": Handler(Announce, announce, loads="agent", access=Access.WRITE, scope="discover"),
    "open_negotiation": Handler(
        negotiation.OpenNegotiation,
        negotiation.open_negotiation,
        loads="opening",
        access=Access.WRITE,
        scope="negotiate",
    ),
    "open_task": Handler(task.OpenTask, task.open_task, loads="task_opening", access=Access.WRITE, scope="tasks"),
    "create_private_channel": private.CREATE,
}

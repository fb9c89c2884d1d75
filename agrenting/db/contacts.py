"""Contacts, requests and blocks: what rules are decided on, loaded in the transaction that decides."""

from datetime import datetime
from typing import Any, Final

from agrenting.clock import from_ms, to_ms
from agrenting.db import agents, people, states
from agrenting.db.parties import SIDES_OF, UNFINISHED
from agrenting.db.people import User
from agrenting.db.transaction import Tx
from channels.agents import Agent
from channels.contact_book import Block, Contact, ContactRequest, Entity, Pair, Side, tie_of
from channels.contact_requests import HOUR, Answering, Asking
from channels.contacts import Tie, Ties
from channels.handlers import Context
from channels.identity import Identity, parse_handle

_HOLDS: Final = "(expires_at IS NULL OR expires_at > :now)"
"""By the clock, also before the timer has run."""


# Entities.


def of_agent(agent: Agent) -> Entity:
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


def of_user(user: User) -> Entity:
    """A user as one side of a contact."""
    return Entity(
        side=Side(id=user.id, type="User", user_id=user.id),
        handle=user.handle,
        name=user.name,
        party=user.party,
        created_at=user.created_at,
    )


def entity(tx: Tx, id_: str) -> Entity | None:
    """The agent or user of an id."""
    agent: Agent | None = states.load(tx, "agent", id_)
    if agent is not None:
        return of_agent(agent)
    user = people.user_by_id(tx, id_)
    return None if user is None else of_user(user)


def entity_by_handle(tx: Tx, handle: str, *, asker: Identity) -> Entity | None:
    """The agent or user of an exact handle, as far as the asker may know of it.

    Args:
        tx: Any transaction.
        handle: With or without `@`.
        asker: Drafts and banned agents are there for their owners alone. Blocks are the caller's to look at.

    Raises:
        Invalid: `invalid_handle`.
    """
    wanted = parse_handle(handle)
    if "/" not in wanted:
        user = people.user_by_handle(tx, wanted)
        return None if user is None else of_user(user)
    agent = agents.by_handle(tx, wanted)
    if agent is None or (agent.is_hidden and agent.owner_id != asker.user_id):
        return None
    return of_agent(agent)


# Ties.


def tie(tx: Tx, a_id: str, b_id: str, *, now: datetime) -> Tie:
    """The tie of one entity towards another, by the clock."""
    return tie_of(
        a_id,
        contact=_contact(tx, a_id, b_id),
        block=_block(tx, a_id, b_id),
        counter_block=_block(tx, b_id, a_id),
        now=now,
    )


def ties_of(tx: Tx, entity_id: str, *, now: datetime) -> Ties:
    """Every tie of an entity, without scopes: what decides whom it sees."""

    def others(column: str, of: str) -> set[str]:
        rows = tx.all(f"SELECT {column} FROM {of} = :id AND {_HOLDS}", id=entity_id, now=to_ms(now))
        return {row[0] for row in rows}

    contacts = others("other_id", "contact_sides WHERE entity_id")
    blocked = others("blocked_id", "blocks WHERE status = 'active' AND blocker_id")
    blockers = others("blocker_id", "blocks WHERE status = 'active' AND blocked_id")
    return {
        other: Tie(is_contact=other in contacts, has_blocked=other in blocked, is_blocked=other in blockers)
        for other in contacts | blocked | blockers
    }


# What events are decided on.


def pair(tx: Tx, a: Entity, b: Entity) -> Pair:
    """All that is between two entities, also what is over by the clock and whose timer has not run."""
    contact = _contact(tx, a.id, b.id)
    return Pair(
        a=a,
        b=b,
        contact=contact,
        block=_block(tx, a.id, b.id),
        counter_block=_block(tx, b.id, a.id),
        sent=_pending(tx, a.id, b.id),
        received=_pending(tx, b.id, a.id),
        negotiations=_between(tx, "negotiation", a.id, b.id, "'open'"),
        tasks=(*_between(tx, "task", a.id, b.id, "'pending'"), *_streaming(tx, a.id, b.id)),
        channels=_between(tx, "payment", a.id, b.id, UNFINISHED["payment"]),
    )


def asking(tx: Tx, _topic_id: str, request: Any, context: Context) -> Asking:
    """What a contact request of the sender rests on."""
    between = blocking(tx, _topic_id, request, context)
    if between is None:
        return Asking(pair=None)
    pending = tx.one(
        "SELECT count(*) FROM contact_requests WHERE requester_id = :id AND status = 'pending' AND is_to_stranger"
        " AND expires_at > :now",
        id=context.sender.id,
        now=to_ms(context.now),
    )
    recent = tx.one(
        "SELECT count(*), min(created_at) FROM contact_requests WHERE requester_id = :id AND created_at > :since",
        id=context.sender.id,
        since=to_ms(context.now - HOUR),
    )
    assert pending is not None, "a count always answers"
    assert recent is not None, "a count always answers"
    return Asking(
        pair=between,
        pending_count=pending[0],
        recent_count=recent[0],
        oldest_recent_at=None if recent[1] is None else from_ms(recent[1]),
    )


def answering(tx: Tx, _topic_id: str, request: Any, context: Context) -> Answering | None:
    """The contact request that is answered, by its id or by the other one's handle; a of the pair is the requester."""
    found = _answered(tx, request, context)
    if found is None:
        return None
    requester, recipient = entity(tx, found.requester_id), entity(tx, found.recipient_id)
    if requester is None or recipient is None:
        return None
    return Answering(request=found, pair=pair(tx, requester, recipient))


def removing(tx: Tx, _topic_id: str, request: Any, context: Context) -> Pair | None:
    """The two of a contact, by its id or by the other one's handle; a is the one that the sender acts for."""
    if request.contact_id is None:
        return blocking(tx, _topic_id, request, context)
    between = contact_pair(tx, request.contact_id, request, context)
    if between is None:
        return None
    sender = context.sender
    is_second = sender.id == between.b.id or (sender.kind == "user" and between.b.side.user_id == sender.user_id)
    is_first = sender.id == between.a.id
    return between.mirrored if is_second and not is_first else between


def blocking(tx: Tx, _topic_id: str, request: Any, context: Context) -> Pair | None:
    """The sender, and the one of the handle that it names."""
    own = entity(tx, context.sender.id)
    other = entity_by_handle(tx, request.handle, asker=context.sender)
    return None if own is None or other is None else pair(tx, own, other)


def contact_pair(tx: Tx, topic_id: str, _request: Any, _context: Context) -> Pair | None:
    """The two of the contact of that id, if it is the one that they have."""
    contact: Contact | None = states.load(tx, "contact", topic_id)
    between = None if contact is None else _sides(tx, contact.requester_id, contact.recipient_id)
    return between if between is not None and between.contact is not None and between.contact.id == topic_id else None


def block_pair(tx: Tx, topic_id: str, _request: Any, _context: Context) -> Pair | None:
    """The two of the block of that id, if it is the one that stands."""
    block: Block | None = states.load(tx, "block", topic_id)
    between = None if block is None else _sides(tx, block.blocker_id, block.blocked_id)
    return between if between is not None and between.block is not None and between.block.id == topic_id else None


def _sides(tx: Tx, a_id: str, b_id: str) -> Pair | None:
    a, b = entity(tx, a_id), entity(tx, b_id)
    return None if a is None or b is None else pair(tx, a, b)


def _answered(tx: Tx, request: Any, context: Context) -> ContactRequest | None:
    if request.request_id is not None:
        found: ContactRequest | None = states.load(tx, "contact_request", request.request_id)
        return found
    other = entity_by_handle(tx, request.handle, asker=context.sender)
    if other is None:
        return None
    if request.action == "cancel":
        return _pending(tx, context.sender.id, other.id)
    return _pending(tx, other.id, context.sender.id)


def _contact(tx: Tx, a_id: str, b_id: str) -> Contact | None:
    row = tx.one(
        "SELECT contact_id FROM contact_sides WHERE entity_id = :a_id AND other_id = :b_id", a_id=a_id, b_id=b_id
    )
    return None if row is None else states.load(tx, "contact", row[0])


def _block(tx: Tx, blocker_id: str, blocked_id: str) -> Block | None:
    row = tx.one(
        "SELECT id FROM blocks WHERE blocker_id = :blocker_id AND blocked_id = :blocked_id AND status = 'active'",
        blocker_id=blocker_id,
        blocked_id=blocked_id,
    )
    return None if row is None else states.load(tx, "block", row[0])


def _pending(tx: Tx, requester_id: str, recipient_id: str) -> ContactRequest | None:
    row = tx.one(
        "SELECT id FROM contact_requests WHERE requester_id = :requester_id AND recipient_id = :recipient_id"
        " AND status = 'pending'",
        requester_id=requester_id,
        recipient_id=recipient_id,
    )
    return None if row is None else states.load(tx, "contact_request", row[0])


def _streaming(tx: Tx, a_id: str, b_id: str) -> tuple[Any, ...]:
    """The tasks under way of two that are paid as they stream."""
    return _between(tx, "task", a_id, b_id, "'in_progress'", more="json_extract(state, '$.stream_price') IS NOT NULL")


def _between(tx: Tx, store: str, a_id: str, b_id: str, statuses: str, *, more: str = "1") -> tuple[Any, ...]:
    one, other = SIDES_OF[store]
    rows = tx.all(
        f"SELECT id FROM {states.STORES[store].table} WHERE status IN ({statuses}) AND {more} AND ("
        f"({one} = :a_id AND {other} = :b_id) OR ({one} = :b_id AND {other} = :a_id)) ORDER BY id",
        a_id=a_id,
        b_id=b_id,
    )
    return tuple(states.load(tx, store, row[0]) for row in rows)

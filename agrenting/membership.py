"""What making, joining, leaving and deleting do to contacts: the same for REST and the command line.

An agent and its owner are contacts from the start, and so are the members of an organisation. Leaving ends the contacts
that joining has made, not those that were asked for.
"""

from datetime import datetime

import msgspec

from agrenting.db import agents, contacts, people, private, room_sides, states
from agrenting.db.changes import carry_out
from agrenting.db.people import Organisation, User
from agrenting.db.transaction import WriterTx
from agrenting.deciding import THE_HOUSE
from agrenting.ids import new_id, new_token
from channels.agents import Agent
from channels.contact_book import ContactRequest, Entity, Origin, Pair, RequestPhase, befriended, resolved
from channels.errors import Conflict
from channels.handlers import Context, Decision
from channels.identity import Identity
from channels.limits import Market
from channels.private_ends import without_agent
from channels.revocation import combined, ended_by_clock, severed, unblocked
from channels.room_seats import without_entity
from channels.told import Told

AGENTS_MAX = 1_000_000


class Moved(msgspec.Struct, frozen=True):
    """What follows once it is durable: what is told, and the socket ids whose sockets have to come back."""

    told: tuple[Told, ...]
    disconnects: tuple[str, ...]


def house_context(*, now: datetime, market: Market, sender: Identity = THE_HOUSE, topic: str = "") -> Context:
    """What is decided with by the command line, and by the house itself."""
    return Context(sender=sender, now=now, market=market, new_id=new_id, new_token=new_token, topic=topic)


def befriend(tx: WriterTx, a: Entity, b: Entity, origin: Origin, context: Context) -> tuple[Told, ...]:
    """Make two entities contacts, unless they are, or one has blocked the other; what both are told."""
    pair = contacts.pair(tx, a, b)
    tie = pair.tie_at(context.now)
    if tie.is_contact or tie.is_blocked or tie.has_blocked:
        return ()
    changes, told = befriended(a, b, origin=origin, scope=None, tie=tie, context=context)
    return _carry_out(tx, context, ended_by_clock(pair, context), Decision(changes=changes, broadcasts=told))


def join_organisation(
    tx: WriterTx, user: User, organisation: Organisation, *, now: datetime, market: Market
) -> tuple[User, Moved]:
    """Make a user a member of an organisation, and a contact of every member.

    Raises:
        Conflict: `already_member`: of this one; `other_organisation`: it has to leave the one that it is in first.
    """
    if user.organisation_id == organisation.id:
        raise Conflict("already_member", "The user is a member of this organisation already.")
    if user.organisation_id is not None:
        raise Conflict(
            "other_organisation", "The user is a member of another organisation; it has to leave that first."
        )
    others = people.members(tx, organisation.id)
    after = msgspec.structs.replace(user, organisation_id=organisation.id)
    disconnects = _move(tx, user, after)
    return after, Moved(befriend_members(tx, after, others, house_context(now=now, market=market)), disconnects)


def befriend_members(tx: WriterTx, user: User, others: list[User], context: Context) -> tuple[Told, ...]:
    """Make a new member and the others contacts."""
    joining = contacts.of_user(user)
    return tuple(
        told
        for other in others
        for told in befriend(tx, joining, contacts.of_user(other), Origin.ORGANISATION, context)
    )


def leave_organisation(tx: WriterTx, user: User, *, now: datetime, market: Market) -> tuple[User, Moved]:
    """End a user's membership: its agents are shared with the others no more, and contacts that joining made end.

    Raises:
        Conflict: `no_organisation`.
    """
    if user.organisation_id is None:
        raise Conflict("no_organisation", "The user is in no organisation.")
    context = house_context(now=now, market=market)
    told = tuple(
        one
        for pair in _pairs(tx, contacts.of_user(user))
        if pair.contact is not None and pair.contact.origin is Origin.ORGANISATION
        for one in _carry_out(tx, context, severed(pair, context, by=user.id))
    )
    after = msgspec.structs.replace(user, organisation_id=None)
    return after, Moved(told, _move(tx, user, after))


def forget(tx: WriterTx, agent: Agent, context: Context) -> tuple[Told, ...]:
    """End all contacts, pending requests, blocks and private channels of an agent that is deleted or banned.

    It takes part in no chat room any more. Answers what the others are told.
    """
    own = contacts.of_agent(agent)
    ended = [severed(pair, context, by=context.sender.id or None) for pair in _pairs(tx, own)]
    requests: list[ContactRequest] = [
        states.load(tx, "contact_request", row[0])
        for row in tx.all(
            "SELECT id FROM contact_requests WHERE (requester_id = :id OR recipient_id = :id) AND status = 'pending'",
            id=agent.id,
        )
    ]
    for request in requests:
        status = RequestPhase.CANCELLED if request.requester_id == agent.id else RequestPhase.REJECTED
        if request.status_at(context.now) is RequestPhase.EXPIRED:
            status = RequestPhase.EXPIRED
        ended.append(resolved(request, status, context, by=context.sender.id or None))
    blocks = tx.all(
        "SELECT id FROM blocks WHERE (blocker_id = :id OR blocked_id = :id) AND status = 'active'", id=agent.id
    )
    for (block_id,) in blocks:
        pair = contacts.block_pair(tx, block_id, None, context)
        if pair is not None:
            ended.append(unblocked(pair, context))
    return (
        *(_carry_out(tx, context, *ended) if ended else ()),
        *_leave_private_channels(tx, agent.id, context),
        *_leave_rooms(tx, own, context),
    )


def _leave_private_channels(tx: WriterTx, agent_id: str, context: Context) -> tuple[Told, ...]:
    """Close an agent's private channels, and take it out of others'; what their members are told."""
    told: list[Told] = []
    for id_ in private.open_with_agent(tx, agent_id):
        decision = without_agent(states.load(tx, "private", id_), agent_id=agent_id, context=context)
        told += carry_out(tx, decision, context, store="private", state_id=id_)
    return tuple(told)


def _leave_rooms(tx: WriterTx, own: Entity, context: Context) -> tuple[Told, ...]:
    """Take an agent out of its chat rooms; what the other participants are told."""
    told: list[Told] = []
    for id_ in room_sides.rooms_of(tx, own.id):
        decision = without_entity(states.load(tx, "room", id_), own, context)
        told += carry_out(tx, decision, context, store="room", state_id=id_)
    return tuple(told)


def _pairs(tx: WriterTx, own: Entity) -> list[Pair]:
    """An entity and each of its contacts."""
    rows = tx.all("SELECT other_id FROM contact_sides WHERE entity_id = :id", id=own.id)
    others = [contacts.entity(tx, row[0]) for row in rows]
    return [contacts.pair(tx, own, other) for other in others if other is not None]


def _move(tx: WriterTx, before: User, after: User) -> tuple[str, ...]:
    """Store a user's organisation, also with each of its agents; the socket ids whose sockets have to come back."""
    people.update_user(tx, after)
    own = agents.of_owner(tx, after.id, after="", limit=AGENTS_MAX)
    for listed in own:
        agent: Agent = states.load(tx, "agent", listed.id)
        is_shared_with_left = agent.organisation_id is not None and agent.organisation_id == before.organisation_id
        moved = msgspec.structs.replace(
            agent,
            owner_organisation_id=after.organisation_id,
            organisation_id=None if is_shared_with_left else agent.organisation_id,
        )
        states.save(tx, "agent", agent.id, moved)
    return (f"user_socket:{after.id}", *(f"agent_socket:{agent.id}" for agent in own))


def _carry_out(tx: WriterTx, context: Context, *decisions: Decision) -> tuple[Told, ...]:
    return carry_out(tx, combined(*decisions), context, store="", state_id="")

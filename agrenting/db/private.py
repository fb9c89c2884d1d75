"""Private channels: what rules are decided on, the contexts in them, and the lists of them."""

from typing import Any, Final

import msgspec

from agrenting.db import contacts, states
from agrenting.db.transaction import Tx, WriterTx
from channels.agents import Agent
from channels.contacts import NO_TIE
from channels.errors import not_found
from channels.handlers import Context
from channels.identity import Identity
from channels.private_rules import Creating, PrivateContext, PrivateEntry
from channels.private_state import PREFIX, PrivateChannel

_OF_DEALS: Final = "SELECT id FROM private_channels WHERE status = 'open' AND party_agent_id"
_OWNED: Final = "SELECT id FROM private_channels WHERE status = 'open' AND owner_agent_id"
_JOINED: Final = "SELECT DISTINCT channel_id AS id FROM private_members WHERE agent_id"
_OF_CALLER: Final = {"agent": "= :own", "user": "IN (SELECT id FROM agents WHERE owner_id = :own)"}
"""Whose channels are listed: an agent's, or those of a user's agents."""


class StoredSeat(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a channel, as it is found at a start, when nobody is connected."""

    channel_id: str
    owner_agent_id: str
    agent_id: str
    instance_id: str


# What events are decided on.


def _channel(tx: Tx, topic_id: str, _request: Any, _context: Context) -> PrivateChannel | None:
    return find(tx, PREFIX + topic_id)


def _entry(tx: Tx, topic_id: str, _request: Any, context: Context) -> PrivateEntry:
    return entry(tx, PREFIX + topic_id, context)


def _inviting(tx: Tx, topic_id: str, request: Any, context: Context) -> PrivateEntry:
    guest: Agent | None = None if request.instance_id is None else states.load(tx, "agent", request.instance_id)
    found = _entry(tx, topic_id, request, context)
    return msgspec.structs.replace(found, guest_agent_id=None if guest is None else guest.id)


def _creating(tx: Tx, _topic_id: str, _request: Any, context: Context) -> Creating:
    owner: Agent | None = states.load(tx, "agent", context.sender.require_agent())
    if owner is None:
        raise not_found("agent")
    row = tx.one(f"SELECT count(*) FROM ({_OWNED} = :id AND party_agent_id IS NULL)", id=owner.id)
    return Creating(owner=owner, open_count=0 if row is None else row[0])


def _context(tx: Tx, topic_id: str, request: Any, _context: Context) -> PrivateContext:
    channel_id = PREFIX + topic_id
    return PrivateContext(
        channel=find(tx, channel_id), context=newest_context(tx, channel_id, type_=request.context_type)
    )


def find(tx: Tx, channel_id: str) -> PrivateChannel | None:
    """The channel of an id, open or closed."""
    found: PrivateChannel | None = states.load(tx, "private", channel_id)
    return found


def entry(tx: Tx, channel_id: str, context: Context) -> PrivateEntry:
    """A channel as it stands for who asks."""
    channel, sender = find(tx, channel_id), context.sender
    if channel is None:
        return PrivateEntry(channel=None)
    owner: Agent | None = states.load(tx, "agent", channel.owner_agent_id)
    party = None if owner is None else owner.party
    if sender.agent_id is None:
        return PrivateEntry(channel=channel, owner=party, is_active=owner is not None and owner.is_active)
    own: Agent | None = states.load(tx, "agent", sender.agent_id)
    is_other = sender.agent_id != channel.owner_agent_id
    return PrivateEntry(
        channel=channel,
        owner=party,
        tie=contacts.tie(tx, sender.agent_id, channel.owner_agent_id, now=context.now) if is_other else NO_TIE,
        is_active=own is not None and own.is_active,
    )


# Contexts.


def store_context(tx: WriterTx, channel_id: str, context: dict[str, Any], *, types_max: int) -> None:
    """Keep a context as the newest of its type; of more than `types_max` types the oldest is forgotten."""
    tx.run(
        "INSERT INTO private_contexts (channel_id, type, number, context) SELECT :channel_id, :type,"
        " coalesce(max(number), 0) + 1, :context FROM private_contexts WHERE channel_id = :channel_id"
        " ON CONFLICT (channel_id, type) DO UPDATE SET number = excluded.number, context = excluded.context",
        channel_id=channel_id,
        type=context["type"],
        context=msgspec.json.encode(context).decode(),
    )
    tx.run(
        "DELETE FROM private_contexts WHERE channel_id = :channel_id AND number <= (SELECT number FROM private_contexts"
        " WHERE channel_id = :channel_id ORDER BY number DESC LIMIT 1 OFFSET :types_max)",
        channel_id=channel_id,
        types_max=types_max,
    )


def drop_contexts(tx: WriterTx, channel_id: str) -> None:
    """Delete what was told in a channel that is there no more."""
    tx.run("DELETE FROM private_contexts WHERE channel_id = :channel_id", channel_id=channel_id)


def newest_context(tx: Tx, channel_id: str, *, type_: str | None) -> dict[str, Any] | None:
    """The newest context of a type, or of all; None where there is none."""
    row = tx.one(
        "SELECT context FROM private_contexts WHERE channel_id = :channel_id AND (:type IS NULL OR type = :type)"
        " ORDER BY number DESC LIMIT 1",
        channel_id=channel_id,
        type=type_,
    )
    return None if row is None else msgspec.json.decode(row[0], type=dict[str, Any])


# Lists.


def channels_of(tx: Tx, caller: Identity, *, before: str, limit: int) -> list[PrivateChannel]:
    """The open channels that an agent, or a user's agents, own, sit in or are the party of, newest first.

    Args:
        tx: Any transaction.
        caller: The agent or the user.
        before: Only those whose id is less.
        limit: At most so many.
    """
    whose = _OF_CALLER[caller.kind]
    rows = tx.all(
        "SELECT state FROM private_channels WHERE id IN ("
        f"SELECT id FROM ({_OWNED} {whose} AND id < :before ORDER BY id DESC LIMIT :limit) UNION "
        f"SELECT id FROM ({_OF_DEALS} {whose} AND id < :before ORDER BY id DESC LIMIT :limit) UNION "
        f"SELECT id FROM ({_JOINED} {whose} AND channel_id < :before ORDER BY channel_id DESC LIMIT :limit))"
        " ORDER BY id DESC LIMIT :limit",
        own=caller.id,
        before=before,
        limit=limit,
    )
    return [states.decode("private", row) for row in rows]


def all_channels(tx: Tx) -> list[PrivateChannel]:
    """Every open channel, newest first: what the operator may see."""
    rows = tx.all("SELECT state FROM private_channels WHERE status = 'open' ORDER BY id DESC")
    return [states.decode("private", row) for row in rows]


def open_with_agent(tx: Tx, agent_id: str) -> list[str]:
    """The ids of the open channels that an agent owns or sits in."""
    rows = tx.all(f"{_OWNED} = :own UNION {_JOINED} = :own ORDER BY id", own=agent_id)
    return [row[0] for row in rows]


def has_part(tx: Tx, caller: Identity, channel_id: str) -> bool:
    """Whether an agent, or one of a user's agents, sits in a channel, or may always come, as the party of a deal."""
    whose = _OF_CALLER[caller.kind]
    row = tx.one(
        f"SELECT id FROM ({_JOINED} {whose} AND channel_id = :id UNION {_OF_DEALS} {whose} AND id = :id) LIMIT 1",
        own=caller.id,
        id=channel_id,
    )
    return row is not None


def all_seats(tx: Tx) -> list[StoredSeat]:
    """Everybody who sits in a channel: at a start, each of them is awaited."""
    rows = tx.all(
        "SELECT m.channel_id, c.owner_agent_id, m.agent_id, m.instance_id FROM private_members m"
        " JOIN private_channels c ON c.id = m.channel_id ORDER BY m.channel_id, m.agent_id"
    )
    return [StoredSeat(channel_id=row[0], owner_agent_id=row[1], agent_id=row[2], instance_id=row[3]) for row in rows]


LOADERS: Final = {
    "private_channel": _channel,
    "private_entry": _entry,
    "private_inviting": _inviting,
    "private_creating": _creating,
    "private_context": _context,
}
STATES: Final = ("private_channel", "private_entry", "private_inviting")
"""The loaders whose decisions' states are the channel's."""

"""Agents as rows, and the listings, tags and text by which they are found."""

from typing import Any, Final

import msgspec

from agrenting.clock import to_ms
from agrenting.db.parties import IS_HELD, SIDES_OF, UNFINISHED
from agrenting.db.transaction import Loaded, Row, Tx, WriterTx
from channels.agents import REPUTATION_MAX_CENTI, Agent, AgentStatus
from channels.changes import Changed
from channels.errors import Conflict

NO_PRICE: Final = 2**62
"""Stands for no price in the order of listings: after every real one."""

OFFLINE: Final = "offline"

NUMBER_BITS: Final = 40
"""Bits of a place that hold the agent's number; those above, how far its reputation is from the best."""


def _encode(agent: Agent) -> str:
    return msgspec.json.encode(agent).decode()


_decode = msgspec.json.Decoder(Agent).decode


def insert(tx: WriterTx, agent: Agent) -> None:
    """Store a new agent.

    Raises:
        Conflict: `handle_taken` or `public_key_taken`.
    """
    require_free_key(tx, agent)
    if tx.one("SELECT 1 FROM agents WHERE handle = :handle", handle=agent.handle):
        raise Conflict("handle_taken", "Another agent has this handle; choose another name.", handle=agent.handle)
    tx.run(
        "INSERT INTO agents (id, owner_id, handle, status, organisation_id, is_global, is_findable, public_key,"
        " presence, version, state, created_at, number, place) SELECT :id, :owner_id, :handle, :status,"
        " :organisation_id, :is_global, :is_findable, :public_key, 'offline', 1, :state, :created_at,"
        " coalesce(max(number), 0) + 1, 0 FROM agents",
        id=agent.id,
        owner_id=agent.owner_id,
        state=_encode(agent),
        created_at=to_ms(agent.created_at),
        **_columns(agent),
    )
    tx.loaded["agent", agent.id] = Loaded(1, agent.status, agent)
    tx.happened.append(Changed("agent", None, agent))
    index(tx, agent)


def index(tx: WriterTx, agent: Agent) -> None:
    """Bring columns, listings, tags and text up to what the agent now is. Whether it is online stays as it was."""
    require_free_key(tx, agent)
    row = tx.one("SELECT presence, number FROM agents WHERE id = :id", id=agent.id)
    assert row is not None, "an agent is stored before it is indexed"
    presence, number = row
    _unlist(tx, agent.id)
    tx.run(
        "UPDATE agents SET handle = :handle, status = :status, organisation_id = :organisation_id,"
        " is_global = :is_global, is_findable = :is_findable, public_key = :public_key,"
        " place = :place WHERE id = :id",
        id=agent.id,
        place=place_of(agent, number=number),
        **_columns(agent),
    )
    if agent.is_active:
        _list(tx, agent, presence)


def place_of(agent: Agent, *, number: int) -> int:
    """An agent's place in the directory: reputation down, then by its number. Less is better."""
    return ((REPUTATION_MAX_CENTI - agent.reputation_centi) << NUMBER_BITS) | number


def _list(tx: WriterTx, agent: Agent, presence: str) -> None:
    for capability, price in (
        ("", agent.base_price),
        *((own.name, agent.price_of(own.name)) for own in agent.capabilities),
    ):
        tx.run(
            "INSERT INTO listings (agent_id, capability, is_online, presence, reputation_centi, price)"
            " VALUES (:id, :capability, :is_online, :presence, :reputation_centi, :price)",
            id=agent.id,
            capability=capability,
            is_online=int(presence != OFFLINE),
            presence=presence,
            reputation_centi=agent.reputation_centi,
            price=NO_PRICE if price is None else price,
        )
    for tag in agent.tags:
        tx.run("INSERT INTO agent_tags (agent_id, tag) VALUES (:id, :tag)", id=agent.id, tag=tag)
    tx.run(
        "INSERT INTO agents_text (rowid, agent_id, name, description, tags, capabilities)"
        " SELECT place, id, :name, :description, :tags, :capabilities FROM agents WHERE id = :id",
        id=agent.id,
        name=agent.name,
        description=agent.description,
        tags=" ".join(agent.tags),
        capabilities=" ".join(own.name for own in agent.capabilities),
    )


def _unlist(tx: WriterTx, agent_id: str) -> None:
    """Take an agent out of what it is found by. Its text stands at its place, as that is before it moves."""
    for table in ("listings", "agent_tags"):
        tx.run(f"DELETE FROM {table} WHERE agent_id = :id", id=agent_id)
    tx.run("DELETE FROM agents_text WHERE rowid = (SELECT place FROM agents WHERE id = :id)", id=agent_id)


def set_presence(tx: WriterTx, agent_id: str, presence: str) -> None:
    """Note an agent as online, busy, away or offline, so that `discover` puts it in its place."""
    tx.run("UPDATE agents SET presence = :presence WHERE id = :id", id=agent_id, presence=presence)
    tx.run(
        "UPDATE listings SET presence = :presence, is_online = :is_online"
        " WHERE agent_id = :id AND presence != :presence",
        id=agent_id,
        presence=presence,
        is_online=int(presence != OFFLINE),
    )


def presence_of(tx: Tx, agent_id: str) -> str:
    """Whether an agent is online, busy, away or offline."""
    row = tx.one("SELECT presence FROM agents WHERE id = :id", id=agent_id)
    return OFFLINE if row is None else str(row[0])


def all_offline(tx: WriterTx) -> None:
    """At the start nobody is connected yet, whatever was noted before the last stop."""
    tx.run("UPDATE agents SET presence = 'offline' WHERE presence != 'offline'")
    tx.run("UPDATE listings SET presence = 'offline', is_online = 0 WHERE is_online = 1")


def require_free_key(tx: WriterTx, agent: Agent) -> None:
    """Refuse a public key that another agent has: a key serves one agent.

    Raises:
        Conflict: `public_key_taken`.
    """
    if agent.public_key is None:
        return
    taken = tx.one(
        "SELECT 1 FROM agents WHERE public_key = :public_key AND id != :id", public_key=agent.public_key, id=agent.id
    )
    if taken:
        raise Conflict("public_key_taken", "Another agent has this public key; make a key of its own for each agent.")


def by_handle(tx: Tx, handle: str) -> Agent | None:
    """The agent of an exact handle."""
    row = tx.one("SELECT state FROM agents WHERE handle = :handle", handle=handle)
    return None if row is None else _decode(row[0])


def of_owner(tx: Tx, owner_id: str, *, after: str, limit: int) -> list[Agent]:
    """An owner's agents by id, after `after`."""
    rows = tx.all(
        "SELECT state FROM agents WHERE owner_id = :owner_id AND id > :after ORDER BY id LIMIT :limit",
        owner_id=owner_id,
        after=after,
        limit=limit,
    )
    return [_decode(row[0]) for row in rows]


def decode(row: Row) -> Agent:
    """The agent in a row's first column."""
    return _decode(row[0])


def has_open_signatures(tx: Tx, agent_id: str) -> bool:
    """Whether a negotiation or a payment channel is open that this agent's key signs in, so that it must not change."""
    return _has_unfinished(tx, "negotiation", "negotiations", agent_id) or _has_unfinished(
        tx, "payment", "payment_channels", agent_id
    )


def _has_unfinished(tx: Tx, store: str, table: str, agent_id: str) -> bool:
    return any(
        tx.one(f"SELECT 1 FROM {table} WHERE {side} = :id AND status IN ({UNFINISHED[store]})", id=agent_id)
        for side in SIDES_OF[store]
    )


def is_in_use(tx: Tx, agent_id: str) -> bool:
    """Whether an agent has money, or what has not ended, so that it cannot be deleted."""
    if has_open_signatures(tx, agent_id):
        return True
    row = tx.one("SELECT balance FROM accounts WHERE name = :name", name=f"agent:{agent_id}:available")
    if row is not None and row[0] != 0:
        return True
    return _has_unfinished(tx, "task", "tasks", agent_id) or any(
        tx.one(f"SELECT 1 FROM tasks WHERE {side} = :id AND {IS_HELD}", id=agent_id) for side in SIDES_OF["task"]
    )


def delete(tx: WriterTx, agent_id: str) -> None:
    """Remove an agent that is not in use; what it did stays in others' records, and counts for its owner as before."""
    _unlist(tx, agent_id)
    tx.run(
        "INSERT INTO former_agents (agent_id, owner_id, handle) SELECT id, owner_id, handle FROM agents WHERE id = :id",
        id=agent_id,
    )
    tx.run("DELETE FROM agents WHERE id = :id", id=agent_id)


def _columns(agent: Agent) -> dict[str, Any]:
    return {
        "handle": agent.handle,
        "status": agent.status,
        "organisation_id": agent.organisation_id,
        "is_global": agent.is_global,
        "is_findable": agent.is_listed and bool(agent.tags) and agent.status is AgentStatus.ACTIVE,
        "public_key": agent.public_key,
    }

"""The states that topics have: loaded by id, saved on condition that nobody changed them meanwhile."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from agrenting.clock import to_ms
from agrenting.db import agents, private_sides, room_sides, sides, streams
from agrenting.db.transaction import Loaded, Row, StaleState, Tx, WriterTx
from channels.agents import Agent
from channels.alerts import Alert
from channels.changes import Changed
from channels.contact_book import Block, Contact, ContactRequest
from channels.messages import StoredMessage
from channels.negotiation import NegotiationSession
from channels.payment_state import PaymentChannel
from channels.private_state import PrivateChannel
from channels.room_state import Delivery, Room
from channels.task import Task


class Store(msgspec.Struct, frozen=True):
    """One kind of state: its table, its struct, and the columns that stand beside the JSON.

    `columns` are attributes of the state; `table` and they come from here alone, never from input.
    """

    table: str
    decoder: msgspec.json.Decoder[Any]
    columns: tuple[str, ...]
    has_created_at: str = "created_at"


STORES: Final = {
    "agent": Store("agents", msgspec.json.Decoder(Agent), ()),
    "negotiation": Store(
        "negotiations", msgspec.json.Decoder(NegotiationSession), ("client_agent_id", "provider_agent_id")
    ),
    "task": Store("tasks", msgspec.json.Decoder(Task), ("client_agent_id", "provider_agent_id")),
    "payment": Store("payment_channels", msgspec.json.Decoder(PaymentChannel), ("agent_a_id", "agent_b_id")),
    "message": Store(
        "messages",
        msgspec.json.Decoder(StoredMessage),
        ("to_agent_id", "from_agent_id", "dedup_key", "expires_at", "from_owner_id"),
        "inserted_at",
    ),
    "room": Store("rooms", msgspec.json.Decoder(Room), ("maker_user_id",), "inserted_at"),
    "room_delivery": Store(
        "room_deliveries", msgspec.json.Decoder(Delivery), ("message_id", "room_id", "recipient_id"), "inserted_at"
    ),
    "private": Store("private_channels", msgspec.json.Decoder(PrivateChannel), ("owner_agent_id", "party_agent_id")),
    "contact_request": Store(
        "contact_requests",
        msgspec.json.Decoder(ContactRequest),
        ("requester_id", "recipient_id", "is_to_stranger", "expires_at"),
        "inserted_at",
    ),
    "contact": Store("contacts", msgspec.json.Decoder(Contact), ("requester_id", "recipient_id"), "inserted_at"),
    "block": Store("blocks", msgspec.json.Decoder(Block), ("blocker_id", "blocked_id", "expires_at"), "inserted_at"),
    "alert": Store(
        "alerts",
        msgspec.json.Decoder(Alert),
        ("agent_id", "owner_id", "type", "severity", "subject"),
        "inserted_at",
    ),
}


INDEXES: Final[Mapping[str, Callable[[WriterTx, Any], None]]] = {
    "agent": agents.index,
    "contact": sides.index,
    "room": room_sides.index,
    "private": private_sides.index,
}
"""Store → what keeps its index."""


def _encode(state: Any) -> str:
    return msgspec.json.encode(state).decode()


def _column(value: Any) -> Any:
    return to_ms(value) if isinstance(value, datetime) else value


def decode(store: str, row: Row) -> Any:
    """The state in a row's first column."""
    return STORES[store].decoder.decode(row[0])


def load(tx: Tx, store: str, id_: str) -> Any:
    """The state of that id, or None. A later save in this transaction is conditional on what was loaded here."""
    row = tx.one(f"SELECT state, version FROM {STORES[store].table} WHERE id = :id", id=id_)
    if row is None:
        return None
    state = decode(store, row)
    if isinstance(tx, WriterTx):
        tx.loaded[store, id_] = Loaded(row[1], state.status, state)
    return state


def insert(tx: WriterTx, store: str, id_: str, state: Any) -> None:
    """Store a new state."""
    if store == "agent":
        agents.insert(tx, state)
        return
    kind = STORES[store]
    names = ("id", "status", *kind.columns, "state", "version", "created_at")
    tx.run(
        f"INSERT INTO {kind.table} ({', '.join(names)}) VALUES ({', '.join(':' + name for name in names)})",
        id=id_,
        state=_encode(state),
        status=state.status,
        version=1,
        created_at=to_ms(getattr(state, kind.has_created_at)),
        **{name: _column(getattr(state, name)) for name in kind.columns},
    )
    tx.loaded[store, id_] = Loaded(1, state.status, state)
    tx.happened.append(Changed(store, None, state))
    _index(tx, store, state)


def save(tx: WriterTx, store: str, id_: str, state: Any) -> None:
    """Save a state that was loaded in this transaction.

    Raises:
        StaleState: Somebody has changed it since.
    """
    before = tx.loaded[store, id_]
    # Naming a column writes every index that it stands in anew, also where its value stays: mostly it does.
    status = "" if state.status == before.status else ", status = :status"
    changed = tx.run(
        f"UPDATE {STORES[store].table} SET state = :state{status}, version = version + 1"
        " WHERE id = :id AND version = :before",
        id=id_,
        state=_encode(state),
        status=state.status,
        before=before.version,
    )
    if changed != 1:
        raise StaleState
    tx.loaded[store, id_] = Loaded(before.version + 1, state.status, state)
    tx.happened.append(Changed(store, before.state, state))
    _index(tx, store, state)
    if store == "task" and state.is_final:
        streams.forget(tx, task_id=id_)


def _index(tx: WriterTx, store: str, state: Any) -> None:
    """What is found by more than a state's own columns follows it."""
    follow = INDEXES.get(store)
    if follow is not None:
        follow(tx, state)

"""Stored messages: an agent's mailbox."""

from datetime import datetime
from typing import Any, Final

from agrenting.db import states
from agrenting.db.transaction import Tx, WriterTx
from agrenting.ids import new_id
from channels.handlers import Broadcast, Mail
from channels.messages import StoredMessage, delivery

DELIVERED_AT_JOIN_MAX: Final = 1_000


def deliver(tx: WriterTx, mail: Mail, *, now: datetime) -> Broadcast:
    """Store a message, and what its mailbox's sockets are told once it is durable."""
    message = StoredMessage(
        id=new_id(),
        to_agent_id=mail.to_agent_id,
        from_agent_id=mail.from_agent_id,
        type=mail.type,
        payload=mail.payload,
        inserted_at=now,
    )
    states.insert(tx, "message", message.id, message)
    return Broadcast(f"messages:{mail.to_agent_id}", "new_message", delivery(message))


def undelivered(tx: Tx, agent_id: str) -> tuple[Any, ...]:
    """An agent's unacknowledged messages, oldest first."""
    rows = tx.all(
        "SELECT state FROM messages WHERE to_agent_id = :agent_id AND status = 'queued' ORDER BY id LIMIT :limit",
        agent_id=agent_id,
        limit=DELIVERED_AT_JOIN_MAX,
    )
    return tuple(states.decode("message", row) for row in rows)

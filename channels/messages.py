"""messages:{agent_id}: an agent's mailbox, which keeps what it is told until it says that it has it.

Who may join: the agent itself.

    stored ─► QUEUED ── acknowledge ──► ACKNOWLEDGED

Joining pushes every undelivered message, oldest first; what is stored while the agent is joined is pushed at once. A
message may come more than once, so a receiver tells them apart by id. What was stored survives a crash.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from channels.errors import not_found
from channels.handlers import Access, Context, Decision, Empty, Handler, Push
from channels.own_topics import own_agent

TOPIC = "messages:*"


class Phase(StrEnum):
    """Where a message stands."""

    QUEUED = "queued"
    ACKNOWLEDGED = "acknowledged"


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message in a mailbox.

    Args:
        type: What it is about: `negotiation`, `task_handoff`, …; `payload` follows from it.
        from_agent_id: None: the marketplace itself.
        protocol_version: Of the payload.
    """

    id: str
    to_agent_id: str
    type: str
    payload: dict[str, Any]
    from_agent_id: str | None = None
    protocol_version: str = "1.0"
    inserted_at: datetime
    status: Phase = Phase.QUEUED


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True):
    """The agent has the message; it is not delivered again."""

    message_id: str


def delivery(message: StoredMessage) -> dict[str, Any]:
    """A message as its receiver gets it, with `new_message`."""
    return {
        "id": message.id,
        "type": message.type,
        "payload": message.payload,
        "from_agent_id": message.from_agent_id,
        "protocol_version": message.protocol_version,
        "inserted_at": message.inserted_at,
    }


def join(undelivered: tuple[StoredMessage, ...], request: Empty, context: Context) -> Decision:
    """How many messages are undelivered; each follows as `new_message`, oldest first.

    Raises:
        Forbidden: `unauthorized`.
    """
    del request
    _require_own(context)
    return Decision(
        reply={"undelivered": len(undelivered)},
        pushes=tuple(Push("new_message", delivery(message)) for message in undelivered),
    )


def acknowledge(message: StoredMessage | None, request: Acknowledge, context: Context) -> Decision:
    """Take a message as delivered. A second time is a duplicate.

    Raises:
        Forbidden: `unauthorized`.
        NotFound: `not_found`: there is no such message, or it is another agent's.
    """
    del request
    _require_own(context)
    if message is None or message.to_agent_id != context.sender.agent_id:
        raise not_found("message")
    acknowledged = {"message_id": message.id, "status": Phase.ACKNOWLEDGED}
    if message.status is Phase.ACKNOWLEDGED:
        return Decision(reply={**acknowledged, "duplicate": True})
    return Decision(state=msgspec.structs.replace(message, status=Phase.ACKNOWLEDGED), reply=acknowledged)


def _require_own(context: Context) -> None:
    own_agent(context.sender, context.topic.partition(":")[2])


ACCESS = own_agent
JOIN = Handler(Empty, join, loads="mailbox", access=Access.WRITE, scope="messages")
HANDLERS = {"acknowledge": Handler(Acknowledge, acknowledge, loads="message", access=Access.WRITE, scope="messages")}

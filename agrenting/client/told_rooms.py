"""What the market tells of chat rooms. Fields that this version does not know are ignored."""

from datetime import datetime
from typing import Any, Literal

import msgspec

Role = Literal["owner", "admin", "member"]
EntityType = Literal["User", "Agent"]


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A chat room.

    Args:
        task_id: What its maker says that it is about.
        updated_at: When its title or its participants changed.
    """

    id: str
    title: str | None
    task_id: str | None
    inserted_at: datetime
    updated_at: datetime


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who takes part in a room.

    Args:
        id: Of the agent or the user.
        online: Whether a connection of it is open; None: not told.
    """

    id: str
    type: EntityType
    role: Role
    name: str
    handle: str
    online: bool | None = None
    description: str | None = None


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom the agent may open things with, and may add to its rooms.

    Args:
        source: `contact`: by a contact alone; `registry`: its owner, siblings, its organisation, agents for all.
        online: Whether a connection of it is open.
    """

    id: str
    handle: str
    name: str
    type: EntityType
    source: str
    is_contact: bool
    online: bool
    description: str | None = None
    tags: tuple[str, ...] | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """How far a reader is with a text.

    Args:
        attempt_number: Of the newest attempt; 0: none has begun.
    """

    status: Literal["delivered", "processing", "processed", "failed"]
    attempt_number: int = 0


class RoomText(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody has written in a room, or an event that was put on record.

    Args:
        content: With a marker `@[[id]]` for each who is mentioned.
        message_type: `text`, or an event's.
        sender_name: As it was then.
        metadata: Of a text `mentions` and `delivery_status`; of an event what its sender has added.
    """

    id: str
    chat_room_id: str
    content: str
    message_type: str
    sender_id: str
    sender_type: EntityType
    sender_name: str | None
    inserted_at: datetime
    metadata: dict[str, Any] | None = None

    def delivery_to(self, agent_id: str) -> Delivery:
        """How far a reader is, as far as it was told."""
        try:
            deliveries = msgspec.convert((self.metadata or {}).get("delivery_status"), dict[str, Any])
            return msgspec.convert(deliveries.get(agent_id), Delivery)
        except msgspec.ValidationError:
            return Delivery(status="delivered")


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets a text."""

    id: str
    handle: str
    name: str | None = None


class SentText(msgspec.Struct, frozen=True, kw_only=True):
    """A text that the agent has written, stored for those whom it mentions."""

    id: str
    recipients: tuple[Recipient, ...]


class PutEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the agent has put on record."""

    id: str
    message_type: str


class Marked(msgspec.Struct, frozen=True, kw_only=True):
    """How far the agent is with a text."""

    id: str
    status: str
    attempt_number: int


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the agent has said that it is at work."""

    working: bool

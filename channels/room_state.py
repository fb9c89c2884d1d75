"""What a chat room is: its participants, what was written in it, and how far each reader is with what names it.

delivery   DELIVERED ──► PROCESSING ──► PROCESSED | FAILED
                             ▲                │
                             └── attempt n+1 ─┘
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from channels.identity import EntityType


class Role(StrEnum):
    """What a participant may do: owners and admins also remove others and give roles."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"


class RoomStatus(StrEnum):
    """Whether a room is there."""

    OPEN = "open"
    DELETED = "deleted"


class Participant(msgspec.Struct, frozen=True, kw_only=True):
    """One participant of a room. `user_id` is the agent's owner, or the user itself; a handle never changes."""

    id: str
    type: EntityType
    user_id: str
    handle: str
    role: Role = Role.MEMBER
    joined_at: datetime


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """A chat room.

    Args:
        title: None without one.
        task_id: What its maker says that it is about.
        maker_user_id: The user who made it, or whose agent did; it stays so whoever owns the room later.
        participants: In the order in which they came.
        updated_at: When its title or its participants changed.
    """

    id: str
    maker_user_id: str
    title: str | None = None
    task_id: str | None = None
    participants: tuple[Participant, ...] = ()
    status: RoomStatus = RoomStatus.OPEN
    inserted_at: datetime
    updated_at: datetime

    def participant(self, entity_id: str) -> Participant | None:
        """The participant of an id; None for an outsider."""
        return next((one for one in self.participants if one.id == entity_id), None)


class Mention(msgspec.Struct, frozen=True, kw_only=True):
    """Whom a message names, as it was then."""

    id: str
    handle: str
    name: str | None = None


class RoomMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What was written in a room: a text, or an event such as a thought. It never changes.

    Args:
        content: Of a text, with a `@[[id]]` marker for each mention.
        message_type: `text`, or the kind of the event.
        sender_name: As it was then.
        mentions: Whom a text is for.
        metadata: What the sender of an event has added.
    """

    id: str
    room_id: str
    content: str
    message_type: str
    sender_id: str
    sender_type: EntityType
    sender_name: str | None = None
    mentions: tuple[Mention, ...] = ()
    metadata: dict[str, Any] | None = None
    inserted_at: datetime

    @property
    def is_text(self) -> bool:
        """Whether it is a text, which has readers, and no event."""
        return self.message_type == "text"


class DeliveryStatus(StrEnum):
    """How far a reader is with a message."""

    DELIVERED = "delivered"
    PROCESSING = "processing"
    PROCESSED = "processed"
    FAILED = "failed"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a reader to work on a message; `error` where it has failed, of the newest one that has."""

    number: int
    status: DeliveryStatus
    started_at: datetime
    ended_at: datetime | None = None
    error: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """A message, as it stands for one of those whom it names.

    Args:
        id: `{message_id}:{recipient_id}`.
        attempt_number: Of the newest attempt; 0 before the first.
        attempts: The newest ones, oldest first.
    """

    id: str
    message_id: str
    room_id: str
    recipient_id: str
    status: DeliveryStatus = DeliveryStatus.DELIVERED
    attempt_number: int = 0
    attempts: tuple[Attempt, ...] = ()
    inserted_at: datetime
    updated_at: datetime

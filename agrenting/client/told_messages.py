"""What the market tells of stored messages. Fields that this version does not know are ignored."""

from datetime import datetime
from typing import Any, Literal

import msgspec

MessageStatus = Literal["queued", "delivered", "acknowledged", "rejected", "expired"]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message in the agent's own mailbox.

    Args:
        type: `negotiation`, `task_handoff`, `status_update`, `collaboration`, `system`, `x_…`, or what the market
            announces.
        payload: Any JSON; what it means follows from the type.
        from_agent_id: Who sent it, or whose doing the market announces; None: the market itself.
        from_market: Whether the market wrote it. No agent can make a message look like that.
        protocol_version: Of the payload.
    """

    id: str
    type: str
    payload: Any
    from_agent_id: str | None
    from_market: bool
    inserted_at: datetime
    protocol_version: str = "1.0"


class SentMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that the agent has sent, as it stands.

    Args:
        status: `queued` until it was pushed to its receiver, `delivered` until that has answered; the others are final.
        reason: Why it was rejected.
        dedup_key: The sender's own name for it.
        duplicate: Whether it was sent before, with the same key.
    """

    id: str
    to_agent_id: str
    type: str
    payload: Any
    status: MessageStatus
    reason: str | None
    dedup_key: str | None
    inserted_at: datetime
    updated_at: datetime
    expires_at: datetime
    duplicate: bool = False

    @property
    def is_answered(self) -> bool:
        """Whether its status is final."""
        return self.status in {"acknowledged", "rejected", "expired"}

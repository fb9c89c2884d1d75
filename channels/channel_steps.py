"""The steps of a payment channel: everything that ever changed it, in order, none ever altered.

Each says what the channel was after it, so the steps alone prove every balance. They are exported as they stand here,
one a line (crypto/SIGNING.md, "Histories").
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec


class StepKind(StrEnum):
    """What happened."""

    OPENED = "opened"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    DEPOSIT = "deposit"
    TRANSFER = "transfer"
    VOIDED = "voided"
    CLOSE_REQUEST = "close_request"
    FORCE_CLOSE = "force_close"
    REVOKED = "revoked"
    DISPUTE = "dispute"
    DISPUTE_WITHDRAWN = "dispute_withdrawn"
    DISPUTE_SETTLED = "dispute_settled"
    STATE_LOST = "state_lost"
    CLOSED = "closed"


class ChannelStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step.

    Args:
        number: Counts the channel's steps from 1.
        agent_id: Who did it; None for the clock and for operators.
        balance_a, balance_b, last_nonce: After it.
        details: What belongs to the kind; of `transfer` and `voided` the nonce that they consume.
    """

    number: int
    kind: StepKind
    at: datetime
    agent_id: str | None
    balance_a: int
    balance_b: int
    last_nonce: int
    details: dict[str, Any]

    @property
    def nonce(self) -> int | None:
        """The nonce that it consumes; None where it consumes none."""
        return self.last_nonce if self.kind in {StepKind.TRANSFER, StepKind.VOIDED} else None

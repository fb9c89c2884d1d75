"""What an agent is: what it offers, at which price, in which status, with which key, and how it did so far.

    draft ──► active ◄──► inactive        by its owner
                ▲ │           │
                │ ▼           │           by an operator; a ban also from draft, active and inactive
               suspended ◄────┘
                  │
                  ▼
                banned

Only active agents are found, hired, or open anything; suspended ones finish what runs.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from channels.contacts import Party
from channels.errors import Conflict

REPUTATION_MAX_CENTI: Final = 500
PRIOR_COMPLETED_CENTI: Final = 350
PRIOR_TASKS: Final = 5
"""A new agent counts as if it had completed 3.5 of 5 tasks, so that one task neither makes nor breaks it."""


class AgentStatus(StrEnum):
    """Where an agent stands."""

    DRAFT = "draft"
    ACTIVE = "active"
    INACTIVE = "inactive"
    SUSPENDED = "suspended"
    BANNED = "banned"


class PricingModel(StrEnum):
    """How a price comes about: by list or bargaining, by list only, or by bargaining only."""

    HYBRID = "hybrid"
    FIXED = "fixed"
    AUCTION = "auction"


class Capability(msgspec.Struct, frozen=True):
    """Something an agent can do; `price` in minor units, None for the agent's base price."""

    name: str
    price: int | None = None


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """One agent.

    Args:
        handle: `owner/slug`, without `@`.
        organisation_id: Set by the operator or owner: all of that organisation see it and may hire it.
        owner_organisation_id: The organisation of the owner.
        public_key: Ed25519, 32 bytes in base64; None: it may discover, message and work, but sign nothing.
        tasks_completed, tasks_failed: Counted for reputation, as a provider.
        dispute_delta_centi: What operators' decisions have added to it, in hundredths of a star.
    """

    id: str
    owner_id: str
    name: str
    handle: str
    description: str
    capabilities: tuple[Capability, ...] = ()
    base_price: int | None = None
    pricing_model: PricingModel = PricingModel.HYBRID
    tags: tuple[str, ...] = ()
    is_listed: bool = True
    is_global: bool = False
    organisation_id: str | None = None
    owner_organisation_id: str | None = None
    public_key: str | None = None
    protocol_versions: tuple[str, ...] = ("1.0",)
    metadata: dict[str, Any] = {}
    status: AgentStatus = AgentStatus.ACTIVE
    tasks_completed: int = 0
    tasks_failed: int = 0
    dispute_delta_centi: int = 0
    created_at: datetime
    updated_at: datetime

    @property
    def is_active(self) -> bool:
        """Whether it may be found, hired, or open anything."""
        return self.status is AgentStatus.ACTIVE

    @property
    def is_hidden(self) -> bool:
        """Whether it is as if it did not exist for all strangers, by its handle too: a draft, or banned."""
        return self.status is AgentStatus.DRAFT or self.status is AgentStatus.BANNED

    @property
    def party(self) -> Party:
        """What the relation to another entity rests on."""
        return Party(
            id=self.id,
            user_id=self.owner_id,
            organisation_id=self.organisation_id,
            owner_organisation_id=self.owner_organisation_id,
            is_global=self.is_global,
            is_listed=self.is_listed,
            has_tags=bool(self.tags),
        )

    def offers(self, capability: str) -> bool:
        """Whether it has the capability."""
        return any(own.name == capability for own in self.capabilities)

    def price_of(self, capability: str) -> int | None:
        """The list price of a capability in minor units; None where it cannot be hired for it."""
        for own in self.capabilities:
            if own.name == capability:
                return self.base_price if own.price is None else own.price
        return None

    @property
    def reputation_centi(self) -> int:
        """Hundredths of 0-5 stars: 5 × (completed + 3.5) / (counted + 5) + the disputes' deltas, within the bounds."""
        counted = self.tasks_completed + self.tasks_failed
        stars = (5 * (100 * self.tasks_completed + PRIOR_COMPLETED_CENTI) * 2 + counted + PRIOR_TASKS) // (
            2 * (counted + PRIOR_TASKS)
        )  # Rounds half up, to the nearest hundredth.
        return max(0, min(REPUTATION_MAX_CENTI, stars + self.dispute_delta_centi))

    @property
    def success_rate(self) -> float | None:
        """Completed of counted tasks, 0-1; None before the first."""
        counted = self.tasks_completed + self.tasks_failed
        return self.tasks_completed / counted if counted else None


def require_active(agent: Agent) -> None:
    """Refuse an agent that is not active.

    Raises:
        Conflict: `agent_unavailable`.
    """
    if not agent.is_active:
        raise Conflict("agent_unavailable", "This agent is not active at present.", agent_id=agent.id)


def require_public_key(agent: Agent) -> str:
    """The agent's public key, in base64.

    Raises:
        Conflict: `public_key_required`.
    """
    if agent.public_key is None:
        raise Conflict(
            "public_key_required",
            "This needs an agent with a signing key; register a public key for it first.",
            agent_id=agent.id,
        )
    return agent.public_key

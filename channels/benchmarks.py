"""Benchmarks: how an agent stands to the others that share a capability, without giving any of them away.

A number of others is told only as a median, and only where values of at least `OWNERS_MIN` owners go into it.
"""

from datetime import datetime
from typing import Any, Final

import msgspec

OWNERS_MIN: Final = 5


class Median(msgspec.Struct, frozen=True):
    """The median of one number over a group of agents: of how many owners it has values, and it itself, if any."""

    owners: int
    value: float | None

    @property
    def told(self) -> float | None:
        """The median, where enough owners stand behind it."""
        return self.value if self.owners >= OWNERS_MIN else None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """The active agents that share a capability.

    Args:
        owners, agents: How many.
        price: In minor units.
        success_rate: 0-1, of each agent's completed and failed tasks of that capability.
        execution_time: Mean of each agent's completed tasks of that capability, in milliseconds.
        computed_at: When: the numbers of a large group are kept for a while.
    """

    capability: str
    owners: int
    agents: int
    price: Median
    success_rate: Median
    execution_time: Median
    computed_at: datetime


class Own(msgspec.Struct, frozen=True, kw_only=True):
    """The same numbers of one agent; None where it has none."""

    capability: str
    price: int | None
    success_rate: float | None
    execution_time: int | None


def benchmarks(pairs: list[tuple[Own, Group]]) -> list[dict[str, Any]]:
    """An agent's numbers against the medians of each of its capabilities that enough owners share."""
    return [
        {
            "capability": own.capability,
            "owners": group.owners,
            "agents": group.agents,
            "price": {"own": own.price, "median": _whole(group.price.told)},
            "success_rate": {"own": own.success_rate, "median": group.success_rate.told},
            "execution_time_ms": {"own": own.execution_time, "median": _whole(group.execution_time.told)},
            "computed_at": group.computed_at,
        }
        for own, group in pairs
        if group.owners >= OWNERS_MIN
    ]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)  # Rounds down: between two of them there may be half a unit.

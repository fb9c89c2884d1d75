"""The strategies of bargaining by the names that they have on the command line."""

from typing import Final

from ..amounts import Amount
from ..strategies import AspirationStrategy, Boulware, Conceder, FixedLimit, Strategy, TitForTat

STRATEGIES: Final[dict[str, type[AspirationStrategy]]] = {
    "boulware": Boulware,
    "conceder": Conceder,
    "tit-for-tat": TitForTat,
    "fixed": FixedLimit,
}
"""Firm until the end, generous from the beginning, giving what is given, and the limit alone."""


def strategy_of(name: str, *, limit: Amount, first: Amount | None = None) -> Strategy:
    """A strategy.

    Args:
        name: One of `STRATEGIES`.
        limit: The price that it never crosses.
        first: What it would be content with at the beginning; None: the strategy's own.
    """
    return STRATEGIES[name](limit=limit, first=first)

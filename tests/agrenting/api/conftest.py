"""A fresh marketplace for every test, on a copy of the database that was migrated once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.agrenting.api.market import Caller, Marketplace, Player, marketplace


@pytest.fixture
async def market(folder: Path) -> AsyncIterator[Marketplace]:
    """A running marketplace."""
    async with marketplace(folder) as running:
        yield running


@pytest.fixture
async def olga(market: Marketplace) -> Caller:
    """The operator."""
    return await market.user("olga", is_operator=True)


@pytest.fixture
async def deal(market: Marketplace) -> tuple[Player, Player]:
    """Alice's client and Bob's translator."""
    return await market.deal()


@pytest.fixture
def alice(deal: tuple[Player, Player]) -> Player:
    """The hiring agent, with 100,000 to spend."""
    return deal[0]


@pytest.fixture
def bob(deal: tuple[Player, Player]) -> Player:
    """The hired agent: translates for 1,000, whoever asks."""
    return deal[1]


@pytest.fixture
async def mallory(market: Marketplace) -> Player:
    """An agent of somebody else."""
    await market.user("mallory")
    return await market.agent("mallory", "Snoop", deposit=5_000)

"""One server for each module, its players, and two agents in a room."""

# ruff: noqa: PLC0415 - without Band's SDK its tests are skipped one by one; imported here, all others would be, too.

import logging
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.system.harness import MarketProcess

if TYPE_CHECKING:
    from tests.system.band import Player, Stage
    from tests.system.band_rooms import Room


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MarketProcess]:
    from tests.system.band import served

    with served(tmp_path_factory.mktemp("band")) as market:
        yield market


@pytest.fixture
async def stage(
    market: MarketProcess, caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> "AsyncIterator[Stage]":
    """The players. The runtime logs what goes wrong and goes on: a module's EXPECTED_COMPLAINTS are all that it may."""
    from tests.system.band import Stage
    from tests.system.band_rooms import complaints

    caplog.set_level(logging.INFO, "band")
    async with Stage(market) as stage:
        yield stage
    expected: tuple[str, ...] | None = getattr(request.module, "EXPECTED_COMPLAINTS", None)
    assert expected is None or complaints(caplog, *expected) == []


@pytest.fixture
async def alice(stage: "Stage") -> "Player":
    return stage.agent("alice", called="Alice")


@pytest.fixture
async def bob(stage: "Stage", alice: "Player") -> "Player":
    """An agent that is Alice's contact."""
    bob = stage.agent("bob", called="Bob")
    await alice.befriend(bob)
    return bob


@pytest.fixture
async def room(alice: "Player", bob: "Player") -> "Room":
    """Alice's room, in which Bob is."""
    from tests.system.band_rooms import Room

    return await Room.create(alice, bob)

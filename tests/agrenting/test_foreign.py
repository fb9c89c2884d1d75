"""What another process has announced is told once, in full, also where the first try fails."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.announcements import Announcement
from agrenting.config import Settings
from agrenting.folder import Folder
from agrenting.foreign import ForeignChanges
from channels.told import Broadcast, Saved
from tests.agrenting.api.market import FakeSocket, Marketplace, Player, marketplace

DISCOVERY = "agents:discovery"


class House:
    """A running server, Alice's socket on it, and the command line beside it."""

    def __init__(self, market: Marketplace, alice: Player, socket: FakeSocket, foreign: ForeignChanges) -> None:
        self.market = market
        self.alice = alice
        self.socket = socket
        self.foreign = foreign

    def announce(self, announcement: Announcement) -> None:
        """As another process does."""
        settings: Settings = self.market.server.settings
        Folder(settings).change(lambda _tx, _market: (None, announcement))

    @property
    def socket_id(self) -> str:
        return f"agent_socket:{self.alice.id}"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with marketplace(tmp_path / "var") as market:
        await market.user("alice")
        alice = await market.agent("alice", "Client")
        _, socket = await market.socket(alice.api_key)
        foreign = ForeignChanges(market.server.engine, market.server.hub, poll_s=3_600.0)
        await foreign.begin()
        yield House(market, alice, socket, foreign)


async def test_an_announced_disconnect_closes_the_sockets(house: House) -> None:
    house.announce(Announcement(disconnects=(house.socket_id,)))
    await house.foreign.tell()

    assert house.socket.closed_with == 1001


async def test_a_dead_key_closes_the_sockets_that_it_has_opened_and_no_other(house: House) -> None:
    _, by_user = await house.market.socket(house.market.user_keys["alice"], agent_id=house.alice.id)
    connection = next(iter(house.market.server.hub.connections))
    house.announce(Announcement(dead_keys=(connection.identity.key_id, "another")))
    await house.foreign.tell()

    assert (house.socket.closed_with, by_user.closed_with) == (1001, None)


async def test_announced_broadcasts_reach_subscribers_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(house.market.server.engine, "publish", lambda broadcasts, *_: told.extend(broadcasts))
    broadcast = Broadcast(DISCOVERY, "agent_updated", {"a": 1})
    house.announce(Announcement(broadcasts=(broadcast,)))
    for _ in range(3):
        await house.foreign.tell()

    assert told == [broadcast]


async def test_an_announced_task_is_forgotten_and_read_anew_and_no_socket_is_told(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which state it has come to is not announced: it may have gone on since."""
    saved: list[Any] = []
    told: list[Any] = []
    lanes = house.market.server.engine.lanes
    monkeypatch.setattr(lanes, "saved", lambda topic, state: saved.append((topic, state)))
    monkeypatch.setattr(house.market.server.engine, "publish", lambda broadcasts, *_: told.extend(broadcasts))
    broadcast = Broadcast("task:1", "task_cancelled", {"a": 1})
    house.announce(Announcement(broadcasts=(broadcast, Saved("task:1", {"secret": "state"}), Saved("task:2"))))
    for _ in range(2):
        await house.foreign.tell()

    assert saved == [("task:1", None), ("task:2", None)]
    assert told == [broadcast]
    stored = await house.market.server.database.read(lambda tx: tx.all("SELECT body FROM announcements"))
    assert len(stored) == 1
    assert "secret" not in stored[0][0]


async def test_what_could_not_be_read_is_told_at_the_next_look(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.announce(Announcement(disconnects=(house.socket_id,)))
    with monkeypatch.context() as broken:

        async def fail(_question: Any) -> Any:
            raise OSError("the disk is gone")

        broken.setattr(house.market.server.engine, "read", fail)
        with pytest.raises(OSError, match="gone"):
            await house.foreign.tell()
    assert house.socket.closed_with is None

    await house.foreign.tell()

    assert house.socket.closed_with == 1001


async def test_what_was_announced_before_the_start_concerns_nobody(house: House) -> None:
    house.announce(Announcement(disconnects=(house.socket_id,)))
    later = ForeignChanges(house.market.server.engine, house.market.server.hub, poll_s=3_600.0)
    await later.begin()
    await later.tell()

    assert house.socket.closed_with is None

"""ChannelManager: the owner, the members and the outstanding invitations of a private channel, for a program."""

import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from sqlite3 import OperationalError

import pytest

from agrenting.channel_manager import ChannelManager
from agrenting.clock import system_clock
from channels.handlers import Empty
from channels.private_ends import CLOSE
from tests.agrenting.api.market import Clock, Marketplace, marketplace, settings_of
from tests.agrenting.private_hall import PrivateHall


@pytest.fixture
async def market(tmp_path: Path) -> AsyncIterator[Marketplace]:
    """Under the present, because the manager of a folder has no other clock."""
    clock = Clock()
    clock.now = system_clock()
    async with marketplace(tmp_path / "a folder", clock) as running:
        yield running


@pytest.fixture
async def hall(market: Marketplace) -> PrivateHall:
    await market.user("alice")
    return PrivateHall(market, await market.agent("alice", "Client"))


@pytest.fixture
def manager(market: Marketplace) -> ChannelManager:
    return ChannelManager.of_folder(market.server.settings)


async def test_a_new_channel_has_an_owner_and_nothing_else(hall: PrivateHall, manager: ChannelManager) -> None:
    channel_id = await hall.create()

    state = manager.get_private_channel_state(channel_id)
    assert state == {"id": channel_id, "owner": hall.alice.id, "members": [], "invites": []}


async def test_members_and_outstanding_invitations_are_told(
    market: Marketplace, hall: PrivateHall, manager: ChannelManager
) -> None:
    await market.user("bob")
    bob = await market.agent("bob", "Guest")
    channel_id = await hall.create()
    await hall.enter(channel_id, hall.alice, at="desk")
    await hall.enter(channel_id, bob, await hall.invite(channel_id), at="phone")
    free, bound = await hall.invite(channel_id), await hall.invite(channel_id, instance_id="laptop")
    for_bob = await hall.invite(channel_id, instance_id=bob.id)
    revoked = await hall.invite(channel_id)
    await hall.alice.call("DELETE", f"/private-channels/{channel_id}/invitations/{revoked}")

    assert manager.get_private_channel_state(channel_id) == {
        "id": channel_id,
        "owner": hall.alice.id,
        "members": [
            {"agentId": hall.alice.id, "instanceId": "desk", "role": "owner"},
            {"agentId": bob.id, "instanceId": "phone", "role": "member"},
        ],
        "invites": [
            {"token": free, "instanceId": None},
            {"token": bound, "instanceId": "laptop"},
            {"token": for_bob, "instanceId": bob.id},
        ],
    }


async def test_an_invitation_that_is_over_by_the_clock_is_not_outstanding(
    market: Marketplace, hall: PrivateHall
) -> None:
    channel_id = await hall.create()
    await hall.invite(channel_id, expires_in=60)
    late = await hall.invite(channel_id, expires_in=61)
    market.clock.advance(seconds=60)
    found = await hall.channel(channel_id)

    state = ChannelManager(lambda _: found, clock=market.clock).get_private_channel_state(channel_id)

    assert state is not None
    assert state["invites"] == [{"token": late, "instanceId": None}]


async def test_what_is_no_private_channel_is_none(hall: PrivateHall, manager: ChannelManager) -> None:
    channel_id = await hall.create()
    bare = channel_id.removeprefix("private:")

    for unknown in (bare, f"private:{channel_id}", "private:none", "agents:discovery", ""):
        assert manager.get_private_channel_state(unknown) is None
    await hall.do(hall.alice, CLOSE, Empty(), topic=channel_id)
    assert manager.get_private_channel_state(channel_id) is None


async def test_the_owner_is_told_after_it_has_left(hall: PrivateHall, manager: ChannelManager) -> None:
    channel_id = await hall.create()
    await hall.enter(channel_id, hall.alice)
    await hall.leave(channel_id, hall.alice)

    state = manager.get_private_channel_state(channel_id)
    assert state is not None
    assert (state["owner"], state["members"]) == (hall.alice.id, [])


def test_it_answers_at_once_to_whoever_asks_without_a_loop() -> None:
    manager = ChannelManager(lambda _: None)

    assert not inspect.iscoroutinefunction(manager.get_private_channel_state)
    assert manager.get_private_channel_state("private:1") is None


def test_a_folder_without_a_database_is_left_without_one(tmp_path: Path) -> None:
    with pytest.raises(OperationalError):
        ChannelManager.of_folder(settings_of(tmp_path)).get_private_channel_state("private:1")

    assert list(tmp_path.iterdir()) == []

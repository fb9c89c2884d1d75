"""Connections of the unmodified FDC3 client that end or are lost, and instances that come back as themselves."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.system.guests import dacp
from tests.system.private_halls import (
    CONTACT,
    GONE,
    INSTRUMENT,
    Cast,
    PrivateHall,
    opened,
    private_hall,
    unsubscribed,
)

DENIED = "AccessDenied"
GRACE_S = 0.5
IDLE_S = 5.0


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    """Who is away for half a second has left, and who is mute for some is away."""
    settings = {"AGRENTING_PRIVATE_GRACE_S": str(GRACE_S), "AGRENTING_DACP_HEARTBEAT_S": "0.5"}
    with private_hall(
        tmp_path_factory.mktemp("hasty") / "var", **settings, AGRENTING_SOCKET_IDLE_S=str(IDLE_S)
    ) as hall:
        yield hall


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    """Who is away may come back for longer than any test takes."""
    with private_hall(tmp_path_factory.mktemp("patient") / "var", AGRENTING_PRIVATE_GRACE_S="300") as hall:
        yield hall


async def watched_channel(cast: Cast) -> str:
    """A channel in which Bob has two context listeners, and Alice watches."""
    channel = await cast.seated()
    await cast.bob.do("listen", channel, "fdc3.contact")
    await cast.bob.do("listen", channel, None)
    await cast.alice.do("watch", channel, None)
    await cast.alice.hears(["*", opened("fdc3.contact")], ["*", opened(None)])
    return channel


@pytest.mark.parametrize("way", ["lose", "goodbye"])
async def test_who_is_away_for_longer_than_the_grace_has_left(hasty: PrivateHall, node: str, way: str) -> None:
    async with hasty.stage(node) as cast:
        await cast.attach(cast.bob)
        channel = await watched_channel(cast)
        scoped = await cast.invite(channel, instanceId=hasty.bob.id)

        lost_at = time.monotonic()
        await cast.bob.do(way)
        await cast.alice.hears(["*", unsubscribed("fdc3.contact")], ["*", unsubscribed(None)], ["*", GONE])
        assert time.monotonic() - lost_at >= GRACE_S * 0.9

        bob = await cast.another("bob anew", hasty.bob)
        await bob.do("seat", channel)
        assert await bob.refused("broadcast", channel, CONTACT) == DENIED
        assert await bob.refused("join", channel, None) == DENIED
        await bob.do("join", channel, scoped)
        await bob.do("listen", channel, None)
        await cast.alice.hears(["*", opened(None)])
        await cast.alice.do("broadcast", channel, CONTACT)
        await bob.hears(["*", CONTACT])


async def test_a_goodbye_closes_the_socket(patient: PrivateHall, node: str) -> None:
    async with patient.stage(node) as cast:
        assert await cast.bob.do("goodbye") == 1000


@pytest.mark.parametrize("way", ["lose", "goodbye"])
async def test_an_instance_comes_back_as_itself_within_the_grace(patient: PrivateHall, node: str, way: str) -> None:
    async with patient.stage(node) as cast:
        mine = await cast.attach(cast.bob)
        channel = await watched_channel(cast)

        await cast.bob.do(way)
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.stage.open("bob", patient.bob)
        again = await cast.attach(cast.bob)
        assert (again["instanceId"], again["instanceUuid"]) == (mine["instanceId"], mine["instanceUuid"])
        assert (await cast.bob.do("info"))["appMetadata"]["instanceId"] == mine["instanceId"]

        await cast.bob.hears_nothing()
        assert await cast.bob.do("current", channel, None) == CONTACT
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await cast.bob.hears(["*", INSTRUMENT])
        await cast.bob.do("broadcast", channel, CONTACT)
        await cast.alice.hears_nothing()
        await cast.bob.do("disconnect", channel)
        await cast.alice.hears(["*", unsubscribed("fdc3.contact")], ["*", unsubscribed(None)], ["*", GONE])


async def test_nobody_else_comes_back_as_an_instance(patient: PrivateHall, node: str) -> None:
    async with patient.stage(node) as cast:
        mine = await cast.attach(cast.bob)
        channel = await watched_channel(cast)
        await cast.bob.do("lose")
        identity = {"instanceId": mine["instanceId"], "instanceUuid": mine["instanceUuid"]}
        guessed = {**identity, "instanceUuid": "00000000-0000-4000-8000-000000000000"}
        for name, account, claim in (
            ("mallory", patient.mallory, identity),
            ("mallory guessing", patient.mallory, guessed),
            ("bob guessing", patient.bob, guessed),
        ):
            program = await cast.another(name, account)
            await asyncio.gather(program.do("attach", claim), return_exceptions=True)
            assert (await program.do("info"))["appMetadata"]["instanceId"] != mine["instanceId"]
            await program.do("seat", channel)
            assert await program.refused("broadcast", channel, CONTACT) == DENIED
        await cast.stage.open("bob", patient.bob)
        assert (await cast.attach(cast.bob))["instanceId"] == mine["instanceId"]
        await cast.alice.hears_nothing()


async def test_an_invitation_for_an_instance_holds_when_it_comes_back(patient: PrivateHall, node: str) -> None:
    async with patient.stage(node) as cast:
        mine = await cast.attach(cast.bob)
        channel = await cast.channel()
        token = await cast.invite(channel, instanceId=mine["instanceId"])
        await cast.bob.do("lose")
        await cast.stage.open("bob", patient.bob)
        await cast.attach(cast.bob)

        await cast.bob.do("join", channel, token)
        await cast.bob.do("listen", channel, None)
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.bob.hears(["*", CONTACT])
        await cast.bob.hears_nothing()


async def test_after_a_restart_channels_are_there_and_listeners_are_not(patient: PrivateHall, node: str) -> None:
    async with patient.stage(node) as cast:
        mine = await cast.attach(cast.bob)
        channel = await watched_channel(cast)
        pending = await cast.invite(channel)
        await cast.alice.do("broadcast", channel, CONTACT)
        await cast.bob.hears(["fdc3.contact", CONTACT], ["*", CONTACT])
        port = patient.market.url.rpartition(":")[2]

        await asyncio.to_thread(patient.market.stop)
        assert {await cast.alice.do("ended"), await cast.bob.do("ended")} == {1012}
        await asyncio.to_thread(patient.market.start, port)
        for name, account in (("alice", patient.alice), ("bob", patient.bob)):
            await cast.stage.open(name, account)

        assert (await cast.attach(cast.bob))["instanceId"] != mine["instanceId"]
        assert await cast.bob.refused("broadcast", channel, CONTACT) == DENIED
        await cast.alice.do("join", channel, None)
        assert await cast.alice.do("current", channel, None) == CONTACT
        await cast.bob.do("join", channel, pending)
        await cast.alice.do("broadcast", channel, INSTRUMENT)
        await cast.bob.hears_nothing()
        assert len(cast.bob.came("broadcastEvent")) == 1


async def test_heartbeats_tell_the_living_from_the_mute(hasty: PrivateHall, node: str) -> None:
    async with hasty.stage(node) as cast, dacp(hasty.market, hasty.mallory) as mute:
        channel = await cast.seated()
        await cast.alice.do("watch", channel, None)
        await mute.ask("joinPrivateChannel", channelId=channel, invitationToken=await cast.invite(channel))
        await mute.ask("addContextListenerRequest", channelId=channel, contextType=None)
        await cast.alice.hears(["*", opened(None)])
        acknowledged = len(cast.bob.sent("heartbeatAcknowledgementRequest"))

        await mute.socket.wait_closed()
        await cast.alice.hears(["*", unsubscribed(None)], ["*", GONE])
        assert len(cast.bob.sent("heartbeatAcknowledgementRequest")) >= acknowledged + 2
        await cast.bob.do("broadcast", channel, CONTACT)

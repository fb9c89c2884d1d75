"""Many programs on both transports come, go, are lost and come back at random: what the others are told adds up.

Two watchers sit there all the time, one on each transport, and do nothing. In the end both have been told the same, and
what they have been told of listeners and departures is what the actors did.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.system.guests import Dacp, Denied, dacp, lose_socket
from tests.system.harness import AgentAccount, Client, Refused
from tests.system.private_halls import CHANNEL_OPENED, DISCONNECTED, UNSUBSCRIBED, PrivateHall, private_hall

GRACE_S = 0.3
STEPS = 25
TYPES = ("a", "b", None)


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateHall]:
    settings = {"AGRENTING_PRIVATE_FAILURES_BURST": "10000", "AGRENTING_PRIVATE_GRACE_S": str(GRACE_S)}
    with private_hall(tmp_path_factory.mktemp("storms") / "var", **settings) as hall:
        yield hall


class Actor:
    """One program that acts at random; `listeners` are those that it has open, `said` what it has broadcast."""

    def __init__(self, storm: "Storm", account: AgentAccount, name: str, rng: random.Random) -> None:
        self.storm = storm
        self.account = account
        self.name = name
        self.rng = rng
        self.is_seated = False
        self.said = 0
        self.stack = AsyncExitStack()

    async def act(self) -> None:
        """Take many steps."""
        await self.open()
        for _ in range(STEPS):
            await self.rng.choice(
                (self.come, self.come, self.speak, self.speak, self.listen, self.unlisten, self.go, self.be_lost)
            )()

    async def come(self) -> None:
        """Join, if it does not sit there."""
        if not self.is_seated:
            is_owner = self.account is self.storm.hall.alice  # It needs no token, and would leave one unused.
            await self.join(None if is_owner else await self.storm.invite())
            self.is_seated = True

    async def go(self) -> None:
        """Leave, if it sits there."""
        if self.is_seated:
            await self.leave()
            self.is_seated = False

    async def speak(self) -> None:
        """Broadcast; only who sits there may."""
        try:
            await self.say({"type": "a", "by": self.name, "number": self.said})
        except Denied:
            assert not self.is_seated
        else:
            assert self.is_seated
            self.said += 1

    async def be_lost(self) -> None:
        """Lose the connection and come back, mostly in time."""
        await self.cut()
        if self.rng.random() < 0.3 and self.is_seated:
            await self.storm.is_gone(self.account.id, self.instance_id)
        await self.stack.aclose()
        await self.open()
        await self.find_out()

    # What differs between the transports.

    instance_id: str

    async def open(self) -> None:
        """Connect, as the instance that it was."""
        raise NotImplementedError

    async def cut(self) -> None:
        """Lose the connection."""
        raise NotImplementedError

    async def find_out(self) -> None:
        """After a loss: whether it still sits there."""
        raise NotImplementedError

    async def join(self, token: str | None) -> None:
        """Join."""
        raise NotImplementedError

    async def leave(self) -> None:
        """Leave."""
        raise NotImplementedError

    async def say(self, context: dict[str, Any]) -> None:
        """Broadcast."""
        raise NotImplementedError

    async def listen(self) -> None:
        """Add a listener."""

    async def unlisten(self) -> None:
        """Remove one."""

    def open_types(self) -> list[str | None]:
        """The types that it listens to."""
        raise NotImplementedError


class Fdc3Actor(Actor):
    """Speaks FDC3."""

    socket: Dacp
    identity: dict[str, str] | None = None
    listeners: dict[str, str | None]

    async def open(self) -> None:
        """Connect, as the instance that it was."""
        self.socket = await self.stack.enter_async_context(dacp(self.storm.hall.market, self.account))
        told = await self.socket.attach(**(self.identity or {}))
        self.instance_id = told["instanceId"]
        if self.identity is None or told["instanceId"] != self.identity["instanceId"]:
            self.listeners = {}
        self.identity = {"instanceId": told["instanceId"], "instanceUuid": told["instanceUuid"]}

    async def cut(self) -> None:
        """Lose the connection."""
        await lose_socket(self.socket.socket)

    async def find_out(self) -> None:
        """After a loss: whether it still sits there."""
        try:
            await self.socket.ask("getCurrentContextRequest", channelId=self.storm.channel, contextType=None)
        except Denied:
            self.is_seated, self.listeners = False, {}

    async def join(self, token: str | None) -> None:
        """Join."""
        self.listeners = {}
        await self.socket.ask("joinPrivateChannel", channelId=self.storm.channel, invitationToken=token)

    async def leave(self) -> None:
        """Leave."""
        self.listeners = {}
        await self.socket.ask("privateChannelDisconnectRequest", channelId=self.storm.channel)

    async def say(self, context: dict[str, Any]) -> None:
        """Broadcast."""
        await self.socket.ask("broadcastRequest", channelId=self.storm.channel, context=context)

    async def listen(self) -> None:
        """Add a listener."""
        if self.is_seated:
            wanted = self.rng.choice(TYPES)
            told = await self.socket.ask("addContextListenerRequest", channelId=self.storm.channel, contextType=wanted)
            self.listeners[told["listenerUUID"]] = wanted

    async def unlisten(self) -> None:
        """Remove one."""
        if self.listeners:
            one, _ = self.listeners.popitem()
            await self.socket.ask("contextListenerUnsubscribeRequest", listenerUUID=one)

    def open_types(self) -> list[str | None]:
        """The types that it listens to."""
        return list(self.listeners.values())


class PhoenixActor(Actor):
    """Speaks Phoenix; a join is its one listener."""

    socket: Client

    async def open(self) -> None:
        """Connect, as the instance that it was."""
        self.instance_id = self.name
        self.socket = await self.stack.enter_async_context(
            self.storm.hall.market.client(self.account.api_key, f"&instance_id={self.name}")
        )

    async def cut(self) -> None:
        """Lose the connection."""
        await lose_socket(self.socket.socket)

    async def find_out(self) -> None:
        """After a loss: whether it still sits there, which a join without a token tells of a guest."""
        if self.is_seated:
            try:
                await self.join(None)
            except Refused:
                self.is_seated = False

    async def join(self, token: str | None) -> None:
        """Join."""
        await self.socket.join(self.storm.channel, {"invitation_token": token})

    async def leave(self) -> None:
        """Leave."""
        await self.socket.push(self.storm.channel, "phx_leave")

    async def say(self, context: dict[str, Any]) -> None:
        """Broadcast."""
        try:
            await self.socket.push(self.storm.channel, "broadcastRequest", {"context": context})
        except Refused as refused:
            raise Denied(refused.reason) from refused

    def open_types(self) -> list[str | None]:
        """The types that it listens to."""
        return [None] if self.is_seated else []


class Storm:
    """A channel of Alice and its two watchers."""

    def __init__(self, hall: PrivateHall, channel: str, owner: Dacp, watcher: Client) -> None:
        self.hall = hall
        self.channel = channel
        self.owner = owner
        self.watcher = watcher

    async def invite(self) -> str:
        """A token."""
        told = await self.owner.ask("createPrivateChannelInvitation", channelId=self.channel)
        return self.hall.keep_secret(told["invitationToken"])

    async def state(self) -> dict[str, Any]:
        """As REST tells it."""
        told: dict[str, Any] = await asyncio.to_thread(
            self.hall.call, self.hall.alice, "GET", f"private-channels/{self.channel}"
        )
        return told

    async def is_gone(self, agent_id: str, instance_id: str) -> None:
        """Wait until an instance sits there no more."""
        async with asyncio.timeout(30):
            while (agent_id, instance_id) in await self.members():
                pass  # Each look is a request of its own.

    async def members(self) -> set[tuple[str, str]]:
        """Agents and instances."""
        return {(one["agentId"], one["instanceId"]) for one in (await self.state())["members"]}

    async def told(self) -> tuple[list[Any], list[Any]]:
        """What the watchers were told of the channel's life and of its contexts, all of it."""
        await self.owner.ask("getInfoRequest")
        await self.watcher.flush()
        kinds = {CHANNEL_OPENED, UNSUBSCRIBED, DISCONNECTED}
        over_dacp = [(body["type"], body["payload"]) for body in self.owner.inbox if body["type"] in kinds]
        over_phoenix = [(event, payload) for _, event, payload in self.watcher.inbox if event in kinds]
        return over_dacp, over_phoenix


@asynccontextmanager
async def storm_of(hall: PrivateHall) -> AsyncIterator[Storm]:
    """The channel, in which both watchers sit."""
    async with dacp(hall.market, hall.alice) as owner, hall.market.client(hall.alice.api_key) as watcher:
        channel = (await owner.ask("createPrivateChannelRequest"))["privateChannel"]["id"]
        await owner.ask("privateChannelAddEventListenerRequest", privateChannelId=channel, listenerType=None)
        await owner.ask("addContextListenerRequest", channelId=channel, contextType="a")
        await watcher.join(channel, {"listen": False})
        yield Storm(hall, channel, owner, watcher)


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_the_watchers_are_told_what_the_actors_did(hall: PrivateHall, seed: int) -> None:
    async with storm_of(hall) as storm, AsyncExitStack() as stack:
        actors: list[Actor] = []
        for number, account in enumerate((hall.bob, hall.mallory, hall.alice)):
            for kind in (Fdc3Actor, PhoenixActor):
                name = f"{kind.__name__}-{number}-{seed}"
                actors.append(kind(storm, account, name, random.Random(f"{seed} {name}")))
                stack.push_async_callback(actors[-1].stack.aclose)
        before = await storm.members()
        await asyncio.gather(*[actor.act() for actor in actors])

        over_dacp, over_phoenix = await storm.told()
        initial = (CHANNEL_OPENED, {"privateChannelId": storm.channel, "contextType": "a"})
        assert over_phoenix[0] == initial
        assert over_dacp == over_phoenix[1:]
        balance: Counter[str | None] = Counter()
        for event, payload in over_dacp:
            if event != DISCONNECTED:
                balance[payload["contextType"]] += 1 if event == CHANNEL_OPENED else -1
                assert balance[payload["contextType"]] >= 0
        assert +balance == Counter(type_ for actor in actors for type_ in actor.open_types())
        seated = {(actor.account.id, actor.instance_id) for actor in actors if actor.is_seated}
        assert await storm.members() == before | seated
        contexts = [body["payload"]["context"] for body in storm.owner.inbox if body["type"] == "broadcastEvent"]
        for actor in actors:
            assert [one["number"] for one in contexts if one["by"] == actor.name] == list(range(actor.said))
        await storm.watcher.refute("broadcastEvent")

"""A server, Alice who owns private channels, Bob whom she invites and Mallory whom she does not."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.system.fdc3_programs import Program, Stage, staged
from tests.system.harness import AgentAccount, MarketProcess
from tests.system.raw import WatchedMarket, watched

INSTRUMENT = {"type": "fdc3.instrument", "id": {"ticker": "ÄPL"}, "name": "Apple"}
CONTACT = {"type": "fdc3.contact", "id": {"email": "bob@example.org"}}
CHANNEL_OPENED, UNSUBSCRIBED, DISCONNECTED = (
    "privateChannelOnAddContextListenerEvent",
    "privateChannelOnUnsubscribeEvent",
    "privateChannelOnDisconnectEvent",
)
NO_SUCH = "private:01890000-0000-7000-8000-000000000000"


class PrivateHall(NamedTuple):
    """The server and three agents, of three users."""

    market: WatchedMarket
    alice: AgentAccount
    bob: AgentAccount
    mallory: AgentAccount

    @asynccontextmanager
    async def stage(self, node: str) -> AsyncIterator["Cast"]:
        """FDC3 programs: one of Alice, one of Bob."""
        async with staged(node, self.market) as stage:
            alice, bob = await asyncio.gather(stage.open("alice", self.alice), stage.open("bob", self.bob))
            yield Cast(self, stage, alice, bob)

    def call(self, account: AgentAccount | str, method: str, path: str, **body: Any) -> Any:
        """A REST call that is taken; its data."""
        with self.market.rest(account if isinstance(account, str) else account.api_key) as rest:
            answer = rest.request(method, f"/api/v1/{path}", json=body or None)
            assert answer.is_success, answer.text
            return answer.json()["data"] if answer.content else None

    def keep_secret(self, token: str) -> str:
        """A token or another secret: it must stand in no log."""
        self.market.secrets.add(token)
        return token


class Cast(NamedTuple):
    """The hall and its programs."""

    hall: PrivateHall
    stage: Stage
    alice: Program
    bob: Program

    async def mallory(self) -> Program:
        """A program of Mallory."""
        return await self.stage.open("mallory", self.hall.mallory)

    async def another(self, name: str, account: AgentAccount) -> Program:
        """One more program of somebody."""
        return await self.stage.open(name, account)

    async def attach(self, program: Program) -> dict[str, Any]:
        """FDC3's last handshake step; its answer, of which a part is secret."""
        told: dict[str, Any] = await program.do("attach")
        self.hall.keep_secret(told["instanceUuid"])
        return told

    async def channel(self) -> str:
        """A channel of Alice in which she sits alone."""
        channel: str = (await self.alice.do("create"))["id"]
        return channel

    async def invite(self, channel: str, **fields: Any) -> str:
        """A token that Alice issues."""
        payload = {"channelId": channel, **fields}
        told = await self.alice.do("ask", "createPrivateChannelInvitation", payload)
        return self.hall.keep_secret(told["invitationToken"])

    async def admit(self, program: Program, channel: str) -> None:
        """Alice invites and the program joins."""
        await program.do("join", channel, await self.invite(channel))

    async def seated(self) -> str:
        """A channel in which Alice and Bob sit."""
        channel = await self.channel()
        await self.admit(self.bob, channel)
        return channel


@contextmanager
def private_hall(data_dir: Path, **settings: str) -> Iterator[PrivateHall]:
    """A watched server with the three agents."""
    with watched(data_dir, **settings) as market:
        yield PrivateHall(market, *people(market))


def people(market: MarketProcess) -> tuple[AgentAccount, AgentAccount, AgentAccount]:
    """Alice's, Bob's and Mallory's agents; none is a contact of another."""
    for owner in ("alice", "bob", "mallory"):
        market.user(owner)
    return market.agent("alice", "Owner"), market.agent("bob", "Guest"), market.agent("mallory", "Stranger")


def opened(context_type: str | None) -> dict[str, Any]:
    """What an event listener is called with when somebody listens."""
    return {"type": "addContextListener", "details": {"contextType": context_type}}


def unsubscribed(context_type: str | None) -> dict[str, Any]:
    """What an event listener is called with when somebody listens no more."""
    return {"type": "unsubscribe", "details": {"contextType": context_type}}


GONE: dict[str, Any] = {"type": "disconnect", "details": None}
"""What an event listener is called with when somebody has left."""

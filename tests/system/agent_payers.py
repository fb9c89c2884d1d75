"""Alice and Bob with the client's `Agent` on a running server, who pay each other; and a program that is killed."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from agrenting.client import AcknowledgeUpTo, Agent, SigningKey
from agrenting.client.backoff import Backoff
from agrenting.client.incoming_channels import AcceptChannels, AnyChannel
from agrenting.client.offline_channel import OfflineChannel
from agrenting.client.payment_channel import PaymentChannel
from tests.system.harness import AgentAccount, MarketProcess

DEPOSIT = 100_000
PURSE = 1_000_000
WITHIN_S = 60.0
SOON = Backoff(first_s=0.05, most_s=0.2)
ANY = AcknowledgeUpTo(DEPOSIT)

Frame = tuple[str, str]
"""Its direction, `>` or `<`, and its event."""


class Cutter:
    """Cuts an agent's connection when a certain frame goes by, a few times.

    Args:
        frame: Which one.
        times: How often.
    """

    def __init__(self, frame: Frame, times: int) -> None:
        self.left = times
        self._frame = frame
        self._agent: Agent | None = None

    def __call__(self, direction: str, frame: Any) -> None:
        if self.left and self._agent is not None and (direction, frame[3]) == self._frame:
            self.left -= 1
            cut(self._agent)

    def aim(self, agent: Agent) -> None:
        """Begin with it."""
        self._agent = agent


def cut(agent: Agent) -> None:
    """The network goes away, without a word."""
    socket = agent._context.connection._socket  # noqa: SLF001 - the client has no reason to offer this
    if socket is not None:
        socket.abort()


def agent_of(market: MarketProcess, account: AgentAccount, folder: Path, **options: Any) -> Agent:
    """A program of an agent, with the files that it has."""
    key = SigningKey(account.seed)
    return Agent(market.url, account.api_key, key, folder=folder / account.id, backoff=SOON, **options)


class Town:
    """Alice and Bob, on a server that may be killed and started again at the same address.

    Args:
        market: The server.
        folder: Where both keep their state.
    """

    def __init__(self, market: MarketProcess, folder: Path) -> None:
        self.market = market
        self.folder = folder
        for owner in ("alice", "bob"):
            market.user(owner)
        self.alice = market.agent("alice", "Client", deposit=PURSE)
        self.bob = market.agent("bob", "Translator", "--global", "--capability", "translate=1000", deposit=PURSE)
        self.port = market.url.rpartition(":")[2]

    @contextlib.asynccontextmanager
    async def agents(self, **options: Any) -> AsyncIterator[tuple[Agent, Agent]]:
        """A program of each."""
        async with (
            agent_of(self.market, self.alice, self.folder, **options.get("alice", {})) as alice,
            agent_of(self.market, self.bob, self.folder, **options.get("bob", {})) as bob,
        ):
            yield alice, bob

    def verify(self, channel_id: str, amounts: dict[str, list[int]]) -> None:
        """The books are in order, and each agent has made just these payments in the channel, in their order."""
        found = self.market.here("doctor")
        assert found["ok"], found
        assert found["differences"] == []
        with self.market.rest(self.bob.api_key) as rest:
            path, after, states = f"/api/v1/payment-channels/{channel_id}/transfers", 0, []
            while page := rest.get(path, params={"after": after, "limit": 100}).json()["data"]:
                states += page
                after = page[-1]["nonce"]
        for agent_id, made in amounts.items():
            assert [state["amount"] for state in states if state["from_agent_id"] == agent_id] == made


async def both_sides(alice: Agent, bob: Agent, town: Town, **options: Any) -> tuple[PaymentChannel, PaymentChannel]:
    """An online channel that Alice opens with Bob; both put money in, and confirm whatever is paid."""
    opened: asyncio.Queue[AnyChannel] = asyncio.Queue()
    await bob.payments.accept(AcceptChannels(ANY, own_deposit=DEPOSIT, opened=opened.put_nowait))
    channel = await alice.open_channel(town.bob.handle, DEPOSIT, acknowledge=ANY, **options)
    while (other := await within(opened.get())).id != channel.id:
        pass  # One of before, which he has taken up again.
    assert isinstance(channel, PaymentChannel)
    assert isinstance(other, PaymentChannel)
    return channel, other


async def both_sides_offline(alice: Agent, bob: Agent, town: Town) -> tuple[OfflineChannel, OfflineChannel]:
    """The same of an offline channel."""
    opened: asyncio.Queue[AnyChannel] = asyncio.Queue()
    policy = AcceptChannels(ANY, own_deposit=DEPOSIT, modes=("offline",), opened=opened.put_nowait)
    await bob.payments.accept(policy)
    channel = await alice.open_channel(town.bob.handle, DEPOSIT, mode="offline")
    other = await within(opened.get())
    assert isinstance(other, OfflineChannel)
    return channel, other


async def pay_each(channel: PaymentChannel, amounts: list[int]) -> None:
    """One payment after another."""
    for amount in amounts:
        await channel.pay(amount)


async def within(act: Any) -> Any:
    """What comes of it, in a while."""
    async with asyncio.timeout(WITHIN_S):
        return await act


# A program that pays bills 1, 2, 3 … each of its own amount, and dies at a frame.


async def pay_bills(agent: Agent, channel_id: str, count: int, aim: Callable[[], None]) -> None:
    """Pay what is not paid yet: what the channel's record says is paid is not paid again."""
    async with agent:
        channel = await agent.channel(channel_id)
        assert isinstance(channel, PaymentChannel)
        if channel.unfinished is not None:
            await channel.resume()
        last = channel.last_payment
        for bill in range(1 if last is None else last.amount + bool(last.is_paid), count + 1):
            if bill % 2 == 0:
                aim()
            await channel.pay(bill)


class Dying:
    """Ends its own process when a frame goes by."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.is_aimed = False

    def __call__(self, direction: str, frame: Any) -> None:
        if self.is_aimed and (direction, frame[3]) == self._frame:
            os.kill(os.getpid(), signal.SIGKILL)

    def aim(self) -> None:
        """From now on."""
        self.is_aimed = True


def main() -> None:
    """`url api_key seed folder channel count direction event`: the last two may be empty."""
    url, api_key, seed, folder, channel_id, count, direction, event = sys.argv[1:]
    dying = Dying((direction, event))
    agent = Agent(url, api_key, SigningKey(bytes.fromhex(seed)), folder=folder, on_frame=dying, backoff=SOON)
    asyncio.run(pay_bills(agent, channel_id, int(count), dying.aim))


if __name__ == "__main__":
    main()

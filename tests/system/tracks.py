"""Where two things are done at once to one payment channel, on one server or on two of the same data folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.system.harness import AgentAccount, Client, MarketProcess
from tests.system.payers import PURSE, Payers, Snapshot, outcomes, reason_of, topic_of

ROUNDS_MAX = 60
DEPOSIT = 1_000
UNBOUND = {
    f"AGRENTING_{name}": "1000000"
    for name in ("CONTROL_PER_S", "CONTROL_BURST", "JOINS_PER_S", "JOINS_BURST", "LIMITS_CHANNELS_OPEN_MAX")
}

Act = Awaitable[Any]
Ends = dict[tuple[str, str], Snapshot]


def start_nodes(folder: Path, count: int) -> list[MarketProcess]:
    """Servers that share a data folder, and slow nobody down."""
    return [MarketProcess(folder, **UNBOUND).start() for _ in range(count)]


class Track(Payers):
    """Where races are run: Alice's part comes in at the first server, Bob's at the last."""

    @property
    def last(self) -> int:
        return len(self.nodes) - 1

    def wire(self, who: AgentAccount, event: str, payload: Any, *, node: int | None = None) -> Act:
        """An event on the agent's socket there."""
        place = (0 if who is self.alice else self.last) if node is None else node
        return self.sockets[who.id, place].push(self.topic, event, payload)

    def rest(self, who: AgentAccount, what: str, body: Any = None, *, node: int | None = None) -> Act:
        """The same by REST."""
        place = (0 if who is self.alice else self.last) if node is None else node
        return self.post(who, self.channel, what, body, node=place)

    async def begin(self, counter: int | None = DEPOSIT, **fields: Any) -> Snapshot:
        """A channel to race on."""
        self.channel = await self.open_channel(deposit=DEPOSIT, counter=counter, **fields)
        self.topic = topic_of(self.channel)
        for socket in self.sockets.values():
            await socket.join(self.topic)
        return self.channel

    async def connect(self) -> None:
        """A socket of each agent at each server, and a second one of Bob's at the first."""
        self.sockets: dict[tuple[str, int], Client] = {}
        for who in (self.alice, self.bob):
            for node in {0, self.last}:
                self.sockets[who.id, node] = await self.socket(who, node=node)


Setting = Callable[[Track], Awaitable[tuple[Act, Act, Ends]]]


@asynccontextmanager
async def track_on(nodes: list[MarketProcess], suffix: str) -> AsyncIterator[Track]:
    async with Track(*nodes, suffix=suffix) as track:
        await track.connect()
        yield track
        assert sum(await track.purses()) == 2 * PURSE


async def run(track: Track, setting: Setting, rounds: int) -> None:
    """Run a race so many times at least, and on until it has ended in every way that it can, if it does that soon."""
    seen: set[tuple[str, str]] = set()
    ends: Ends = {}
    for number in range(max(rounds + 1, ROUNDS_MAX)):
        left, right, ends = await setting(track)
        acts = (left, right) if number % 2 else (right, left)
        answers = await outcomes(*acts)
        first, second = (reason_of(answer) for answer in (answers if number % 2 else answers[::-1]))
        reasons = (first, second)
        assert reasons in ends, reasons
        for node in range(len(track.nodes)):
            now = await track.see(track.channel, node=node)
            assert {name: now[name] for name in ends[reasons]} == ends[reasons], (reasons, now)
            assert now["balance_a"] + now["balance_b"] == now["deposit_a"] + now["deposit_b"]
        seen.add(reasons)
        for socket in track.sockets.values():
            await socket.push(track.topic, "phx_leave")
        if number >= rounds and (len(seen) == len(ends)):
            break


def balances(balance_a: int, balance_b: int, **fields: Any) -> Snapshot:
    """A channel as it should be."""
    return {"balance_a": balance_a, "balance_b": balance_b, **fields}


OPEN = {"status": "open", "pending_proposal": None}


async def proposed(track: Track, amount: int = 100) -> tuple[Snapshot, Snapshot]:
    """A pending proposal of Alice's, and what Bob acknowledges it with."""
    channel = await track.begin()
    pending = await track.wire(track.alice, "propose_transfer", track.proposal(channel, track.alice, amount))
    return pending, track.answer(pending, track.bob)

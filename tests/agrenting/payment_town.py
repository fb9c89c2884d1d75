"""Alice and Bob, each with a program of the client, and the marketplace's own rules between them instead of a server.

What is sent is decided by `Stage` and told to whom a server would tell it. Connections are cut where a test says so:
before something has taken effect, or after that and before its answer. A test may also put a lie in the server's mouth,
or an older copy in its place.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from agrenting.client.acknowledging import Acknowledging
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection, State
from agrenting.client.context import AgentContext
from agrenting.client.errors import Disconnected, NoAnswer, RefusedByServer, TopicEnded
from agrenting.client.folder import StateFolder
from agrenting.client.market import MarketFacts, Me
from agrenting.client.offline_channel import OfflineChannel
from agrenting.client.payment_channel import PaymentChannel
from agrenting.client.rest import RestClient
from agrenting.client.signer import Signer
from channels.errors import Refusal
from channels.payment_state import Mode
from channels.told import Audience
from crypto import format_public_key, public_key_of
from tests.agrenting.test_client_paying import StageWithTask
from tests.channels.payment_stage import PLATFORM, Stage
from tests.channels.roles import ALICE, BOB, MARKET, Player, as_told

Json = dict[str, Any]
TASK_ID = "7a0b4c3e-1111-4222-8333-444455556666"
SOON = Backoff(first_s=0.0, most_s=0.0)
WITHIN_S = 30.0
CALLS = {"force-close": "force_close"}


class HeardTopic:
    """What a joined topic of the client's socket is, with the stage behind it."""

    def __init__(self, side: "Side", state: Json) -> None:
        self.state = state
        self.ended: Disconnected | TopicEnded | None = None
        self._side = side
        self._inbox: asyncio.Queue[tuple[str, Json] | Exception] = asyncio.Queue()

    async def push(self, event: str, payload: Json, timeout_s: float) -> Json:
        side = self._side
        await asyncio.sleep(0)
        if self.ended is not None:
            raise self.ended
        side.pushed.append((event, payload))
        cut = side.cuts.pop(0) if side.cuts and side.cuts[0][1] == event else None
        if cut is not None and cut[0] == "before":
            raise side.lose()
        reply = side.town.send(side.player, event, payload)
        if cut is not None and cut[0] == "silent":
            raise NoAnswer(f"no reply to {event} within {timeout_s} s")
        if cut is not None:
            raise side.lose()
        told: Json = side.told(reply)
        return told

    async def next_event(self, timeout_s: float | None = None) -> tuple[str, Json]:
        assert timeout_s is None
        heard = await self._inbox.get()
        if isinstance(heard, Exception):
            self._inbox.put_nowait(heard)
            raise heard
        return heard

    async def leave(self) -> None:
        self.end(TopicEnded("it was left"))

    def end(self, error: Disconnected | TopicEnded) -> None:
        if self.ended is None:
            self.ended = error
            self._inbox.put_nowait(error)

    def hear(self, event: str, payload: Json) -> None:
        if not self._side.is_deaf:
            self._inbox.put_nowait((event, payload))


class Side:
    """One agent's program: its context, and what lies between it and the server.

    Args:
        town: Where.
        player: Who.
        folder: Its state.
    """

    def __init__(self, town: "Town", player: Player, folder: Path) -> None:
        self.town = town
        self.player = player
        self.topic: HeardTopic | None = None
        self.cuts: list[tuple[str, str]] = []
        """Where its connection is lost next: `before` or `after` which event; `silent`: no answer comes."""
        self.pushed: list[tuple[str, Json]] = []
        self.joined_with: list[Json] = []
        self.lie: Callable[[Json], Json] = lambda told: told
        """What the server makes of what it tells this side."""
        self.is_deaf = False
        """Whether events are lost on their way to it."""
        self.state = State.CONNECTED
        self.backoff = SOON
        self.folder = folder
        self.gate = asyncio.Event()
        """Whether it can connect."""
        self.gate.set()

    # What the client asks of a connection and of REST.

    async def socket(self) -> Self:
        await self.gate.wait()
        if self.state is State.CLOSED:
            raise Disconnected("closed")
        return self

    async def repeat(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            await self.socket()
            try:
                return await ask()
            except Disconnected:
                if self.state is State.CLOSED:
                    raise

    async def join(self, _name: str, payload: Json) -> HeardTopic:
        await asyncio.sleep(0)
        self.joined_with.append(payload["known"])
        self.topic = HeardTopic(self, self.told(self.town.send(self.player, "join", payload)))
        return self.topic

    async def get(self, path: str, **query: Any) -> Any:
        await asyncio.sleep(0)
        return self.told(self.town.look_up(path, query))

    async def post(self, path: str, body: Json | None = None, _key: str | None = None) -> Any:
        await asyncio.sleep(0)
        what = path.rpartition("/")[2]
        return self.told(self.town.send(self.player, CALLS.get(what, what), body or {}))

    async def file(self, path: str, _media_type: str) -> bytes:
        await asyncio.sleep(0)
        return json.dumps({"data": self.town.listed(path), "metadata": {"has_more": False}}).encode()

    # What a test does with it.

    def told(self, told: Any) -> Any:
        is_channel = isinstance(told, dict) and "balance_a" in told
        return self.lie(told) if is_channel else told

    def lose(self) -> Disconnected:
        """The connection is lost, and back at once."""
        error = Disconnected("lost")
        if self.topic is not None:
            self.topic.end(error)
        return error

    def end(self) -> None:
        """The connection is closed for good."""
        self.state = State.CLOSED
        self.lose()

    def pushes(self, event: str) -> list[Json]:
        """What was pushed with an event so far."""
        return [payload for name, payload in self.pushed if name == event]


class Town:
    """Alice, Bob and the stage. Use it as an asynchronous context.

    Args:
        folder: Where both keep their state.
        mode: Of the channel.
        counter_deposit: Bob's; None: he has not accepted yet.
    """

    def __init__(self, folder: Path, *, mode: Mode = Mode.ONLINE, counter_deposit: int | None = 1_000) -> None:
        self.stage: Stage = StageWithTask(mode=mode, counter_deposit=counter_deposit)
        self.stage.told.clear()
        self.folder = folder
        self.alice, self.bob = Side(self, ALICE, folder / "alice"), Side(self, BOB, folder / "bob")

    async def __aenter__(self) -> Self:
        self._open = AsyncExitStack()
        await self._open.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for context in self._contexts:
            context.cancel_background()
            context.release_folder()
        await self._open.aclose()

    _contexts: tuple[AgentContext, ...] = ()

    async def context(self, side: Side) -> AgentContext:
        """A program of an agent, which has just started."""
        group = await self._open.enter_async_context(asyncio.TaskGroup())
        context = AgentContext(cast("Connection", side), cast("RestClient", side))
        context.fill(
            me=_me(side.player),
            market=_market(),
            folder=StateFolder(side.folder),
            signer=Signer(side.player.secret_key, MARKET.signing_domain),
            group=group,
        )
        self._contexts = (*self._contexts, context)
        return context

    async def online(self, side: Side, acknowledge: Acknowledging | None = None, **options: Any) -> PaymentChannel:
        """The channel, as a program of an agent that has just started keeps it."""
        context = await self.context(side)
        channel = PaymentChannel(context, self.stage.channel.id, acknowledge=acknowledge, **options)
        await channel.start()
        return channel

    async def offline(self, side: Side, acknowledge: Acknowledging | None = None, **options: Any) -> OfflineChannel:
        """The same of an offline one."""
        context = await self.context(side)
        channel = OfflineChannel(context, self.stage.channel.id, acknowledge=acknowledge, **options)
        await channel.start()
        return channel

    # The server.

    def send(self, who: Player, event: str, payload: Json) -> Json:
        """Decide, and tell whoever is to be told."""
        try:
            reply = self.stage.send(who, event, **payload)
        except Refusal as refusal:
            raise RefusedByServer(refusal.reason, refusal.message, refusal.context) from None
        self.tell(who)
        return reply

    def tell(self, who: Player = ALICE) -> None:
        """Tell what was not told yet."""
        told, self.stage.told = self.stage.told, []
        for broadcast in told:
            payload = cast("Json", as_told(broadcast.payload))
            for side in (self.alice, self.bob):
                is_other = broadcast.audience is not Audience.OTHER_AGENTS or side.player is not who
                if is_other and side.topic is not None and side.topic.ended is None:
                    lied = {**payload, "channel": side.told(payload["channel"])} if "channel" in payload else payload
                    side.topic.hear(broadcast.event, json.loads(json.dumps(lied)))

    def look_up(self, path: str, query: Json) -> Any:
        """What REST answers."""
        if path == f"/tasks/{TASK_ID}":
            return {"client_agent_id": ALICE.id, "provider_agent_id": BOB.id}
        if path.startswith("/tasks/"):
            return {"client_agent_id": ALICE.id, "provider_agent_id": ALICE.id}
        if path.endswith("/transfers"):
            after = query["after"]
            steps = [cast("Json", as_told(step)) for step in self.stage.steps if step.kind == "transfer"]
            states = [{**step, **step["details"]} for step in steps]
            return [state for state in states if state["nonce"] > after][: query["limit"]]
        return self.stage.snapshot

    def listed(self, path: str) -> list[Json]:
        """The page of a list."""
        wanted = parse_qs(urlsplit(path).query)
        assert urlsplit(path).path == "/payment-channels"
        return [self.stage.snapshot] if self.stage.channel.status in wanted["status"] else []

    def wait(self, seconds: int) -> None:
        """Let time pass at the server."""
        self.stage.wait(seconds)
        self.tell()

    def restore(self, stage: Stage) -> None:
        """The server is another one, with an older copy; both connections are lost."""
        self.stage = stage
        self.stage.told.clear()
        for side in (self.alice, self.bob):
            side.lose()


async def within(act: Awaitable[Any]) -> Any:
    """What comes of it, soon."""
    async with asyncio.timeout(WITHIN_S):
        return await act


def busy_once(town: Town, event: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server refuses the next event of a name, for longer than a client has patience with one push."""
    send, busy = town.send, [event]

    def refuse(who: Player, event: str, payload: Json) -> Json:
        if event in busy:
            busy.remove(event)
            raise RefusedByServer("rate_limited", "Too often.", {"retry_after": 3_600})
        return send(who, event, payload)

    monkeypatch.setattr(town, "send", refuse)


def _me(player: Player) -> Me:
    fields = {"base_price": None, "status": "online", "capabilities": ()}
    names = ("id", "handle", "name", "description", "owner_id", "public_key")
    return msgspec.convert({**fields, **{name: getattr(player.agent, name) for name in names}}, Me)


def _market() -> MarketFacts:
    key = format_public_key(public_key_of(PLATFORM))
    limits = {"memo_chars_max": 200, "transfers_per_frame_max": 3}
    sizes = {"frame_bytes_max": 1_048_576, "body_bytes_max": 1_048_576, "socket_idle_s": 60}
    fields = {"signing_domain": MARKET.signing_domain, "currency": MARKET.currency, "exponent": MARKET.exponent}
    return msgspec.convert(
        {**fields, "fee_bps": 500, "platform": {"public_key": key}, "limits": limits, "sizes": sizes}, MarketFacts
    )

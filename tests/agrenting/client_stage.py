"""A stage for parts of the client: an agent's context whose topics and REST are played by the test."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from agrenting.client.connection import Connection
from agrenting.client.context import AgentContext
from agrenting.client.errors import Disconnected, NoAnswer, RefusedByServer
from agrenting.client.folder import StateFolder
from agrenting.client.kept_topic import JOINED
from agrenting.client.market import MarketFacts, Me, PlatformKey, Sizes
from agrenting.client.rest import RestClient

T = TypeVar("T")
OWN_ID = "00000000-0000-4000-8000-00000000000a"
OTHER_ID = "00000000-0000-4000-8000-00000000000b"
OWNER_ID = "00000000-0000-4000-8000-0000000000ff"
NOW = "2026-03-01T12:00:00Z"
PARTS = ("mailbox", "contacts", "rooms", "private_channels", "watching")
Asked = tuple[str, str, dict[str, Any]]
Play = Callable[[dict[str, Any]], Any]


def refusal(reason: str) -> RefusedByServer:
    return RefusedByServer(reason, f"It is {reason}.", {})


async def settle() -> None:
    """Let everybody do what can be done without waiting for anybody else; nothing on a stage takes time."""
    for _ in range(100):
        await asyncio.sleep(0)


class StageTopic:
    """A topic: what comes on it is put by the test, what is pushed is noted."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self.name = name
        self.joined: list[dict[str, Any]] = []
        self.is_left = False
        self.pushed: list[tuple[str, dict[str, Any]]] = []
        self.payload: Callable[[], dict[str, Any]] = dict
        self._stage = stage
        self._coming: asyncio.Queue[tuple[str, Any] | Exception] = asyncio.Queue()
        self._news = asyncio.Condition()

    async def join(self) -> Any:
        self.joined.append(self.payload())
        return self._stage.play("join", self.name, self.joined[-1])

    async def next_event(self, timeout_s: float | None = None) -> tuple[str, Any]:
        coming = await self._coming.get()
        if isinstance(coming, Exception):
            raise coming
        return coming

    async def push(self, event: str, payload: dict[str, Any] | None = None, **_: Any) -> Any:
        try:
            return self._stage.play("push", event, payload or {})
        finally:
            async with self._news:
                self.pushed.append((event, payload or {}))
                self._news.notify_all()

    async def leave(self) -> None:
        self.is_left = True

    # What the test does.

    def come(self, event: str, payload: Any) -> None:
        """Something is told."""
        self._coming.put_nowait((event, payload))

    def rejoin(self, state: Any = None) -> None:
        """The connection was lost, and the topic was joined again."""
        self.come(JOINED, {} if state is None else state)

    def end(self, error: Exception | None = None) -> None:
        """The connection is closed, or worse."""
        self._coming.put_nowait(error or Disconnected("the connection is closed"))

    async def settled(self) -> None:
        """Everything that came was taken, and what follows from it without waiting for anybody was done."""
        await settle()
        assert self._coming.empty()

    async def has_pushed(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """Wait for so many pushes."""
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(self.pushed) >= count)
        return self.pushed


class Stage:
    """What is asked, and what is answered to that: the first play whose pattern fits."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.topics: dict[str, StageTopic] = {}
        self.losses = 0
        """How many questions by REST are answered with a loss, after they have taken effect."""
        self.context: AgentContext
        self._plays: list[tuple[str, re.Pattern[str], Play]] = []

    def on(self, method: str, pattern: str, answer: Any) -> None:
        """Answer so: with a value, with what a function says to the body or the query, or with a refusal."""
        play: Play = answer if callable(answer) else lambda _: answer
        self._plays.insert(0, (method, re.compile(pattern), play))

    def play(self, method: str, path: str, body: dict[str, Any]) -> Any:
        self.asked.append((method, path, body))
        for known, pattern, play in self._plays:
            if known == method and pattern.fullmatch(path):
                answer = play(body)
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return {}

    def topic(self, name: str) -> StageTopic:
        return self.topics.setdefault(name, StageTopic(self, name))

    def bodies(self, method: str, path: str) -> list[dict[str, Any]]:
        """What was sent there."""
        return [body for asked, where, body in self.asked if (asked, where) == (method, path)]


class StageRest:
    """REST that the stage answers. A list is one page."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def get(self, path: str, **query: Any) -> Any:
        return self._answer("GET", path, {name: value for name, value in query.items() if value is not None})

    async def file(self, path: str, media_type: str) -> bytes:
        address = urlsplit(path)
        answer = self._answer("GET", address.path, dict(parse_qsl(address.query)))
        if isinstance(answer, list):
            answer = {"data": answer, "metadata": {"has_more": False}}
        return msgspec.json.encode(answer)

    async def post(self, path: str, body: dict[str, Any] | None = None, idempotency_key: str | None = None) -> Any:
        return self._answer("POST", path, {**(body or {}), "key": idempotency_key})

    async def put(self, path: str, body: dict[str, Any]) -> Any:
        return self._answer("PUT", path, body)

    async def patch(self, path: str, body: dict[str, Any]) -> Any:
        return self._answer("PATCH", path, body)

    async def delete(self, path: str) -> Any:
        return self._answer("DELETE", path, {})

    def _answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        answer = self._stage.play(method, path, body)
        if self._stage.losses:
            self._stage.losses -= 1
            raise NoAnswer("the answer is lost")
        return answer


class StageConnection:
    """Repeats at once."""

    async def repeat(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except NoAnswer:
                continue


@asynccontextmanager
async def staged(monkeypatch: pytest.MonkeyPatch, folder: Path) -> AsyncIterator[Stage]:
    """An open agent whose world is a stage. What goes wrong behind it goes wrong in the test."""
    stage = Stage()

    def kept(_: Any, name: str, payload: Callable[[], dict[str, Any]] = dict) -> StageTopic:
        topic = stage.topic(name)
        topic.payload = payload
        return topic

    for part in PARTS:
        monkeypatch.setattr(f"agrenting.client.{part}.KeptTopic", kept)
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        context = AgentContext(cast("Connection", StageConnection()), cast("RestClient", StageRest(stage)))
        context.fill(me=ALICE, market=MARKET, folder=StateFolder(folder), signer=None, group=group)
        stage.context = context
        try:
            yield stage
        finally:
            context.cancel_background()


ALICE = Me(
    id=OWN_ID,
    handle="alice/scout",
    name="Scout",
    description="Looks around.",
    owner_id=OWNER_ID,
    public_key=None,
    capabilities=(),
    base_price=None,
    status="active",
)
MARKET = MarketFacts(
    signing_domain="test",
    currency="USD",
    exponent=6,
    fee_bps=500,
    platform=PlatformKey(public_key="A" * 43 + "="),
    limits={},
    sizes=Sizes(frame_bytes_max=1, body_bytes_max=1, socket_idle_s=1),
)

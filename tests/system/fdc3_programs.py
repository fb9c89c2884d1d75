"""Programs of the unmodified `@finos/fdc3-agent-proxy` in one Node.js, led step by step.

A step is a method of `Party` in js/fdc3_client.mjs, by its name. At the end every frame that went either way is held
against FDC3's schemas.
"""

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.system.fdc3_schemas import Frame, faults_of
from tests.system.harness import ROOT, AgentAccount, MarketProcess, free_environment

SCRIPT = ROOT / "tests/system/js/fdc3_program.mjs"
WITHIN_S = 30.0
LINE_BYTES_MAX = 16 * 1_024 * 1_024


class Fdc3Error(Exception):
    """What the client has thrown, by its message: one of FDC3's error values."""


class Program:
    """One program, which speaks FDC3 alone."""

    def __init__(self, stage: "Stage", name: str) -> None:
        self._stage = stage
        self.name = name
        self.frames: list[Frame] = []
        self.meant: set[str] = set()
        """Requests that break their schema on purpose."""
        self.heard: list[list[Any]] = []
        """What handlers were called with and nobody has asked for yet: `[listener, value]`."""

    async def do(self, step: str, *args: Any) -> Any:
        """Take a step; what it gives, or Fdc3Error."""
        return await self._stage.ask(self.name, step, args)

    async def refused(self, step: str, *args: Any) -> str:
        """Take a step that must fail; the error's message."""
        try:
            value = await self.do(step, *args)
        except Fdc3Error as error:
            return str(error)
        raise AssertionError(f"{self.name} may {step}: {value}")

    async def hears(self, *expected: list[Any]) -> None:
        """The next things that its handlers are called with, in this order."""
        await self._stage.until(lambda: len(self.heard) >= len(expected))
        came = self.heard[: len(expected)]
        del self.heard[: len(expected)]
        assert came == list(expected), f"{self.name} heard {came}"

    async def hears_nothing(self) -> None:
        """Nothing else has come: the answer to a request comes after all that was told before it."""
        await self.do("info")
        assert self.heard == [], f"{self.name} heard {self.heard}"

    def came(self, type_: str) -> list[dict[str, Any]]:
        """The payloads of the frames of one type that came, all of them."""
        return [frame.body["payload"] for frame in self.frames if not frame.is_sent and frame.body["type"] == type_]

    def sent(self, type_: str) -> list[dict[str, Any]]:
        """The frames of one type that it sent, all of them."""
        return [frame.body for frame in self.frames if frame.is_sent and frame.body["type"] == type_]

    async def misspeak(self, step: str, *args: Any) -> str:
        """Send what breaks FDC3's schema, on purpose; the error."""
        count = len(self.frames)
        reason = await self.refused(step, *args)
        self.meant |= {frame.body["meta"]["requestUuid"] for frame in self.frames[count:] if frame.is_sent}
        return reason


class Stage:
    """The Node.js process and its programs."""

    def __init__(self, process: asyncio.subprocess.Process, market: MarketProcess) -> None:
        self._process = process
        self._market = market
        self._programs: dict[str, Program] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._count = 0
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def open(self, name: str, account: AgentAccount, *, query: str = "") -> Program:
        """A program that is connected with a session token of an agent."""
        program = self._programs.setdefault(name, Program(self, name))
        await program.do("open", await asyncio.to_thread(dacp_url, self._market, account) + query)
        return program

    async def ask(self, who: str, step: str, args: tuple[Any, ...]) -> Any:
        """Have a program take a step."""
        assert self._process.stdin is not None
        self._count += 1
        answer = self._answers[self._count] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": self._count, "who": who, "step": step, "args": args})
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(WITHIN_S):
            return await answer

    async def until(self, is_so: Any) -> None:
        """Wait for what programs hear."""
        async with asyncio.timeout(WITHIN_S), self._news:
            await self._news.wait_for(is_so)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            await self._take(json.loads(line))
        for answer in self._answers.values():
            answer.set_exception(ConnectionError("Node.js has ended"))

    async def _take(self, told: dict[str, Any]) -> None:
        if "id" in told:
            answer = self._answers.pop(told["id"])
            if answer.done():
                return  # Nobody waits for it any more.
            if "error" in told:
                answer.set_exception(Fdc3Error(told["error"]))
            else:
                answer.set_result(told["value"])
            return
        program = self._programs[told["who"]]
        async with self._news:
            if "heard" in told:
                program.heard.append(told["heard"])
            else:
                program.frames.append(Frame(told["frame"], told["sent"]))
            self._news.notify_all()

    async def end(self) -> str:
        """End the process; what it said besides."""
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._process.stdin.close()
        watchdog = asyncio.get_running_loop().call_later(WITHIN_S, self._process.kill)
        said = (await self._process.stderr.read()).decode()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._process.wait()
        watchdog.cancel()
        return said

    def faults(self) -> dict[str, list[str]]:
        """What is wrong with the frames of each program, where anything is."""
        found = {
            name: faults_of(program.frames, meant=frozenset(program.meant)) for name, program in self._programs.items()
        }
        return {name: faults for name, faults in found.items() if faults}


def session_token(market: MarketProcess, account: AgentAccount) -> str:
    """A fresh one, for a URL."""
    with market.rest(account.api_key) as rest:
        token: str = rest.post("/api/v1/auth/authenticate").json()["data"]["session_token"]
    return token


def dacp_url(market: MarketProcess, account: AgentAccount) -> str:
    """Where an agent connects to with FDC3."""
    return market.url.replace("http", "ws", 1) + f"/socket/dacp?token={session_token(market, account)}"


@asynccontextmanager
async def staged(node: str, market: MarketProcess) -> AsyncIterator[Stage]:
    """A Node.js for FDC3 programs; at a good end, what they sent and got is examined."""
    process = await asyncio.create_subprocess_exec(
        node, str(SCRIPT), cwd=SCRIPT.parent, env=free_environment(), stdin=PIPE, stdout=PIPE, stderr=PIPE,
        limit=LINE_BYTES_MAX,
    )  # fmt: skip
    stage = Stage(process, market)
    said = ""
    try:
        yield stage
    finally:
        said = await stage.end()
    faults = stage.faults()
    assert process.returncode == 0, said
    assert not said, said
    assert not faults, json.dumps(faults, indent=1)

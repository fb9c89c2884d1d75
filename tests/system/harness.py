"""A real server in a process of its own, and raw clients for it: what every system test stands on.

The server is started as the README says, on a free port and a temporary data folder; agents are made with the command
line that scripts rely on. `Client` speaks plain Phoenix V2 frames and hides nothing.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

from agrenting.cli import build_parser
from agrenting.config import load_settings
from crypto import (
    accept_message,
    format_public_key,
    generate_secret_key,
    offer_message,
    public_key_of,
    sign,
)

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
REPLY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 60.0


def free_environment(**settings: str) -> dict[str, str]:
    """The process's environment without settings of ours, and with these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AGRENTING_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


class AgentAccount:
    """An agent as its author knows it: id, key, signing key."""

    def __init__(self, fields: dict[str, Any], seed: bytes) -> None:
        self.id: str = fields["id"]
        self.handle: str = fields["handle"]
        self.api_key: str = fields["api_key"]
        self.seed = seed


class MarketProcess:
    """One data folder, and the server process that serves it; it may be killed and started again."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        self.data_dir = data_dir
        self.settings = {"AGRENTING_LOG_FORMAT": "json", **settings}
        self.command: tuple[str, ...] = ("agrenting",)
        """The module that is run, and what stands before `serve`."""
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.operator_key: str | None = None
        self.log: deque[str] = deque(maxlen=5_000)

    # The process.

    def start(self, port: str = "0") -> Self:
        """Start it, on a free port unless one is named, and wait for the line that says it listens."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.command, "serve", "--port", port, "--data-dir", str(self.data_dir)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=free_environment(**self.settings),
        )
        assert self.process.stderr is not None
        self._log_thread = threading.Thread(target=self._keep_log, args=(self.process.stderr,), daemon=True)
        self._log_thread.start()
        assert self.process.stdout is not None
        watchdog = threading.Timer(START_TIMEOUT_S, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                key = re.search(r"operator's key.*: (\S+)", line)
                if key:
                    self.operator_key = key[1]
                listening = re.match(r"listening on (http://\S+)", line)
                if listening:
                    self.url = listening[1]
                    return self
        finally:
            watchdog.cancel()
        self.kill()
        raise AssertionError("the server did not start:\n" + "\n".join(self.log))

    def _keep_log(self, stderr: Any) -> None:
        with stderr:
            for line in stderr:
                self.log.append(line.rstrip())

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self.process is not None
        self.process.kill()
        self._reap()

    def stop(self) -> int:
        """End it as an operator would; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        try:
            code = self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log_thread.join(STOP_TIMEOUT_S)
        self.process = None
        return code

    # The command line.

    def cli(self, *arguments: str, check: bool = True) -> Any:
        """Run a command with `--json`; its answer."""
        done = subprocess.run(
            [sys.executable, "-m", "agrenting", *arguments, "--json", "--data-dir", str(self.data_dir)],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=free_environment(**self.settings),
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"agrenting {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout)

    def user(self, handle: str, *options: str) -> dict[str, Any]:
        """Make a user with the command line, inside this process: starting one for each would take most of a test."""
        fields: dict[str, Any] = self.here("user", "create", handle, *options)
        return fields

    def agent(self, owner: str, name: str, *options: str, deposit: int = 0) -> AgentAccount:
        """Make an agent with a signing key, and put money in for it."""
        seed = generate_secret_key()
        fields = self.here(
            "agent", "create", owner, name, "--description", f"{name} of {owner}",
            "--public-key", format_public_key(public_key_of(seed)), *options,
        )  # fmt: skip
        account = AgentAccount(fields, seed)
        if deposit:
            self.here("deposit", account.handle, str(deposit))
        return account

    def here(self, *arguments: str) -> Any:
        """Run a command of the command line in this process; what it answers as JSON."""
        chosen = build_parser().parse_args([*arguments, "--data-dir", str(self.data_dir)])
        answer = chosen.run(chosen, load_settings({"data_dir": str(self.data_dir)}, environment={}))
        return answer.fields

    def pair(self, price: int = 1_000, deposit: int = 100_000) -> tuple[AgentAccount, AgentAccount]:
        """Alice's client and Bob's global translator."""
        self.user("alice")
        self.user("bob")
        client = self.agent("alice", "Client", deposit=deposit)
        provider = self.agent("bob", "Translator", "--capability", f"translate={price}", "--global", "--tag", "words")
        return client, provider

    def rest(self, key: str | None) -> httpx.Client:
        """A REST client with a key."""
        headers = {} if key is None else {"x-api-key": key}
        return httpx.Client(base_url=self.url, headers=headers, timeout=REPLY_TIMEOUT_S)

    @property
    def socket_url(self) -> str:
        """The agent socket, V2."""
        return self.url.replace("http", "ws", 1) + "/socket/websocket?vsn=2.0.0"

    @asynccontextmanager
    async def client(self, key: str, query: str = "") -> "AsyncIterator[Client]":
        """An open socket."""
        async with connect(
            self.socket_url + query,
            additional_headers={"x-api-key": key},
            compression=None,
            max_size=None,
            open_timeout=REPLY_TIMEOUT_S,
        ) as socket:
            client = Client(socket)
            try:
                yield client
            finally:
                await client.close()


class Refused(Exception):
    """An error reply."""

    def __init__(self, response: dict[str, Any]) -> None:
        super().__init__(json.dumps(response))
        self.response = response
        self.reason: str = response.get("reason", "")


class Client:
    """Plain Phoenix V2 frames on one socket, with Phoenix's verbs: join, push, expect, refute."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.join_refs: dict[str, str] = {}
        self.inbox: list[tuple[str, str, Any]] = []
        self.close_code: int | None = None
        self.close_reason = ""
        self._ref = 0
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._news = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for raw in self.socket:
                if isinstance(raw, bytes):
                    await self._put(("", "binary", raw))
                    continue
                _join_ref, ref, topic, event, payload = json.loads(raw)
                if event == "phx_reply" and ref in self._replies:
                    future = self._replies.pop(ref)
                    if not future.done():
                        future.set_result(payload)
                else:
                    await self._put((topic, event, payload))
        finally:
            self.close_code, self.close_reason = self.socket.close_code, self.socket.close_reason or ""
            for future in list(self._replies.values()):
                if not future.done():
                    future.set_exception(ConnectionError(f"closed with {self.close_code}: {self.close_reason}"))
            await self._put(("", "closed", self.close_code))

    async def _put(self, message: tuple[str, str, Any]) -> None:
        async with self._news:
            self.inbox.append(message)
            self._news.notify_all()

    async def request(self, topic: str, event: str, payload: Any, join_ref: str | None = None) -> dict[str, Any]:
        """Send a message and wait for its reply: `{"status", "response"}`."""
        self._ref += 1
        ref = str(self._ref)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[ref] = future
        joined = ref if event == "phx_join" else (join_ref or self.join_refs.get(topic))
        if event == "phx_join":
            self.join_refs[topic] = ref
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                await self.socket.send(json.dumps([joined, ref, topic, event, payload]))
                return await future
        finally:
            self._replies.pop(ref, None)
            future.cancel()

    async def join(self, topic: str, payload: Any | None = None) -> Any:
        """Join; the response, or Refused."""
        return _ok(await self.request(topic, "phx_join", payload or {}))

    async def push(self, topic: str, event: str, payload: Any | None = None) -> Any:
        """Push; the response, or Refused."""
        return _ok(await self.request(topic, event, payload if payload is not None else {}))

    async def expect(self, event: str, topic: str | None = None, within_s: float = REPLY_TIMEOUT_S) -> Any:
        """The payload of the first message of that event that has come or comes; it is taken from the inbox."""

        def found() -> int | None:
            return next(
                (n for n, (t, e, _) in enumerate(self.inbox) if e == event and (topic is None or t == topic)), None
            )

        async with asyncio.timeout(within_s), self._news:
            await self._news.wait_for(lambda: found() is not None)
            number = found()
            assert number is not None
            return self.inbox.pop(number)[2]

    async def flush(self) -> None:
        """Wait until all that the server had said before this is here: a heartbeat's reply comes after it."""
        await self.request("phoenix", "heartbeat", {})

    async def refute(self, event: str) -> None:
        """No message of that event has come."""
        await self.flush()
        assert not [message for message in self.inbox if message[1] == event]

    async def close(self) -> None:
        """Close the socket."""
        await self.socket.close()
        await asyncio.gather(self._reader, return_exceptions=True)


def _ok(payload: dict[str, Any]) -> Any:
    if payload["status"] != "ok":
        raise Refused(payload["response"])
    return payload["response"]


def signed_offer(session: dict[str, Any], agent: AgentAccount, amount: int) -> dict[str, Any]:
    """An offer's payload, signed over the session as the server told it."""
    answered = session["offers"][-1]["digest"] if session["offers"] else session["session_digest"]
    message = offer_message(
        signing_domain=session["signing_domain"],
        session_id=session["id"],
        agent_id=agent.id,
        round_number=session["next_round"],
        amount=amount,
        answered_digest=answered,
    )
    return {"amount": amount, "signature": sign(agent.seed, message), "round": session["next_round"]}


def signed_accept(session: dict[str, Any], agent: AgentAccount) -> dict[str, Any]:
    """An acceptance of the midpoint, signed."""
    standing = {offer["agent_id"]: offer["digest"] for offer in session["offers"]}
    message = accept_message(
        signing_domain=session["signing_domain"],
        session_id=session["id"],
        agent_id=agent.id,
        amount=session["midpoint"],
        client_offer_digest=standing[session["client_agent_id"]],
        provider_offer_digest=standing[session["provider_agent_id"]],
    )
    return {"amount": session["midpoint"], "signature": sign(agent.seed, message)}

"""A whole server in this process, REST callers with roles, and their answers held against the OpenAPI document.

Olga operates the market. Alice's agent hires, Bob's agent works, Carol's and Mallory's have no part in it. `clock` is
the only present that there is.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator
from litestar import Litestar

from agrenting import auth, registry
from agrenting.api import reading
from agrenting.api.operation import as_pattern
from agrenting.api.rest import OPERATIONS
from agrenting.app import create_app
from agrenting.config import Settings
from agrenting.connection import Connection
from agrenting.server import Server
from channels.registration import AgentDraft, CapabilityDraft
from channels.wire import Vsn
from crypto import (
    accept_message,
    format_public_key,
    generate_secret_key,
    key_proof_message,
    offer_message,
    public_key_of,
    sign,
)

START = datetime(2030, 1, 1, 12, tzinfo=UTC)
PRICE = 1_000
HEARD_WITHIN_S = 30.0
PATTERNS = [(operation, as_pattern(operation.full_path)) for operation in OPERATIONS]


class Clock:
    """The present, which stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **step: float) -> None:
        self.now += timedelta(**step)


def settings_of(folder: Path, **changed: Any) -> Settings:
    """Settings under which nothing runs by itself while a test is at work."""
    return Settings(**{"data_dir": str(folder), "timer_poll_s": 3_600.0, "drain_s": 0.0, **changed})


class Caller:
    """Somebody with a credential, who calls; every answer is held against the document."""

    def __init__(self, http: httpx.AsyncClient, headers: dict[str, str] | None = None) -> None:
        self.http = http
        self.headers = headers or {}

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request below the API's root, or at the server's."""
        headers = {**self.headers, **options.pop("headers", {})}
        full_path = path if path.startswith(("/health", "/metrics", "/schema")) else f"/api/v1{path}"
        answer = await self.http.request(method, full_path, headers=headers, **options)
        require_documented(method, full_path.partition("?")[0], answer)
        return answer

    async def get(self, path: str, **options: Any) -> Any:
        """The data of a good answer."""
        return good(await self.call("GET", path, **options))["data"]

    async def page(self, path: str, **options: Any) -> Any:
        """The whole of a good answer: data and metadata."""
        return good(await self.call("GET", path, **options))

    async def post(self, path: str, body: Any | None = None, **options: Any) -> Any:
        """The data of a good answer to a body."""
        return good(await self.call("POST", path, **_with_body(body), **options))["data"]

    async def put(self, path: str, body: Any, **options: Any) -> Any:
        """The data of a good answer to a change of what is always there."""
        return good(await self.call("PUT", path, json=body, **options))["data"]

    async def patch(self, path: str, body: Any, **options: Any) -> Any:
        """The data of a good answer to a change."""
        return good(await self.call("PATCH", path, json=body, **options))["data"]

    async def delete(self, path: str, **options: Any) -> Any:
        """The data of a good answer to an end."""
        return good(await self.call("DELETE", path, **options))["data"]

    async def refused(self, method: str, path: str, body: Any | None = None, **options: Any) -> "Refused":
        """How a request is refused."""
        answer = await self.call(method, path, **_with_body(body), **options)
        assert answer.status_code >= 400, answer.text
        return Refused(answer)


class Refused:
    """An error answer: `(status, code)`, and what more it says."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.error: dict[str, Any] = answer.json()["error"]

    @property
    def why(self) -> tuple[int, str]:
        return self.answer.status_code, self.error["code"]

    @property
    def details(self) -> dict[str, Any]:
        details: dict[str, Any] = self.error["details"]
        return details


class Player(Caller):
    """An agent's own caller: its id, its signing key."""

    def __init__(
        self, http: httpx.AsyncClient, *, id_: str, handle: str, api_key: str, seed: bytes, domain: str
    ) -> None:
        super().__init__(http, {"x-api-key": api_key})
        self.id = id_
        self.handle = handle
        self.api_key = api_key
        self.seed = seed
        self.domain = domain

    def offer(self, session: dict[str, Any], amount: int) -> dict[str, Any]:
        """The body of a signed offer."""
        message = offer_message(
            signing_domain=self.domain,
            session_id=session["id"],
            agent_id=self.id,
            round_number=session["next_round"],
            amount=amount,
            answered_digest=session["offers"][-1]["digest"] if session["offers"] else session["session_digest"],
        )
        return {"amount": amount, "signature": sign(self.seed, message), "round": session["next_round"]}

    def acceptance(self, session: dict[str, Any]) -> dict[str, Any]:
        """The body of a signed acceptance of the midpoint."""
        standing = {offer["agent_id"]: offer["digest"] for offer in session["offers"]}
        message = accept_message(
            signing_domain=self.domain,
            session_id=session["id"],
            agent_id=self.id,
            amount=session["midpoint"],
            client_offer_digest=standing[session["client_agent_id"]],
            provider_offer_digest=standing[session["provider_agent_id"]],
        )
        return {"amount": session["midpoint"], "signature": sign(self.seed, message)}


class FakeSocket:
    """The transport of a socket that only notes what is sent and how it is closed."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.closed_with: int | None = None
        self.outbox_bytes = 0
        self.is_full = False
        self.close_sent = False
        self._more = asyncio.Event()

    def send_message(self, message: str | bytes) -> None:
        self.sent.append(json.loads(message))
        self._more.set()

    async def drained(self) -> None:
        """It reads as fast as it is sent to."""

    async def heard(self, event: str, count: int) -> list[Any]:
        """The payloads of an event, once so many of them have come."""
        async with asyncio.timeout(HEARD_WITHIN_S):
            while len(found := [message[4] for message in self.sent if message[3] == event]) < count:
                self._more.clear()
                await self._more.wait()
        return found

    def close_with(self, code: int, reason: str) -> None:
        self.closed_with = code

    def events(self) -> list[str]:
        return [message[3] for message in self.sent]


class Marketplace:
    """A running server and its callers."""

    def __init__(self, app: Litestar, http: httpx.AsyncClient, clock: Clock) -> None:
        self.app = app
        self.server: Server = app.state.server
        self.http = http
        self.clock = clock
        self.anybody = Caller(http)
        self.user_keys: dict[str, str] = {}

    def with_key(self, key: str, **headers: str) -> Caller:
        """Somebody with a key."""
        return Caller(self.http, {"x-api-key": key, **headers})

    async def user(self, handle: str, *, is_operator: bool = False, organisation: str | None = None) -> Caller:
        """A new user."""
        user, key, _told = await self.server.database.write(
            lambda tx: registry.create_user(
                tx,
                handle,
                organisation=organisation,
                is_operator=is_operator,
                now=self.clock(),
                market=self.server.engine.market,
            )
        )
        self.user_keys[handle] = key
        caller = self.with_key(key)
        caller.headers["x-user-id"] = user.id
        return caller

    async def agent(self, owner: str, name: str, *, deposit: int = 0, **draft: Any) -> Player:
        """A new agent with a signing key, and money."""
        seed = generate_secret_key()
        described = AgentDraft(
            **{
                "name": name,
                "description": f"{name} of {owner}",
                "public_key": format_public_key(public_key_of(seed)),
                **draft,
            }
        )

        def make(tx: Any) -> Any:
            agent, key, _told = registry.create_agent(
                tx,
                registry.require_user(tx, owner),
                described,
                organisation=None,
                by_operator=True,
                maker=None,
                now=self.clock(),
                market=self.server.engine.market,
            )
            if deposit:
                registry.deposit(tx, agent, deposit, memo="test", now=self.clock())
            return agent, key

        agent, key = await self.server.database.write(make)
        domain = self.server.engine.market.signing_domain
        return Player(self.http, id_=agent.id, handle=agent.handle, api_key=key, seed=seed, domain=domain)

    async def deal(self) -> tuple[Player, Player]:
        """Alice's client with money, and Bob's translator whom everybody may hire."""
        await self.user("alice")
        await self.user("bob")
        client = await self.agent("alice", "Client", deposit=100_000)
        return client, await self.translator()

    async def translator(self, name: str = "Translator", *, price: int = PRICE) -> Player:
        """Bob's translator, whom everybody may hire."""
        capabilities = (CapabilityDraft(name="translate", price=price),)
        return await self.agent("bob", name, capabilities=capabilities, tags=("words",), is_global=True)

    async def proof(self, owner: Caller, seed: bytes, *, agent_id: str | None = None) -> dict[str, str]:
        """A signed challenge for a new public key."""
        challenge = (await owner.post("/key-challenges"))["challenge"]
        message = key_proof_message(
            signing_domain=self.server.engine.market.signing_domain,
            owner_id=owner.headers["x-user-id"],
            agent_id=agent_id,
            challenge=challenge,
        )
        return {"challenge": challenge, "signature": sign(seed, message)}

    async def socket(self, key: str, *, agent_id: str | None = None) -> tuple[Connection, FakeSocket]:
        """An open socket of whoever the key stands for."""
        credential = await self.server.database.read(
            lambda tx: auth.resolve(tx, key, agent_id=agent_id, now=self.clock())
        )
        transport: Any = FakeSocket()
        connection = Connection(self.server.hub, transport, credential.identity, Vsn.V2)
        self.server.hub.add(connection)
        return connection, transport


@asynccontextmanager
async def running(app: Litestar) -> AsyncIterator[None]:
    """The application between start and stop: in one task, because fixtures are set up and torn down in two."""
    started, stopping = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        try:
            async with app.lifespan():
                started.set()
                await stopping.wait()
        finally:
            started.set()

    life = asyncio.create_task(live())
    await started.wait()
    try:
        yield
    finally:
        stopping.set()
        await life


async def first_looks(server: Server) -> None:
    """Wait until everything that runs beside has looked once and sleeps: a late first look would see what a test does.

    Whatever a test counts, patches or puts out of order, it is not found by a timer of the server's own then.
    """
    waking = {*server._background}  # noqa: SLF001 - nothing tells when a look is over
    async with asyncio.timeout(HEARD_WITHIN_S):
        while waking := {task for task in waking if not (task.done() or _sleeps(task))}:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.001)


def _sleeps(task: "asyncio.Task[None]") -> bool:
    """Whether what a task waits for in the end is time."""
    step: Any = task.get_coro()
    while step is not None and getattr(step, "__name__", "") != "sleep":
        step = getattr(step, "cr_await", None)
    return step is not None


@asynccontextmanager
async def marketplace(folder: Path, clock: Clock | None = None, **changed: Any) -> AsyncIterator[Marketplace]:
    """A running server on a data folder."""
    clock = clock or Clock()
    app = create_app(settings_of(folder, **changed), clock)
    async with running(app):
        await first_looks(app.state.server)
        served: Any = app  # Litestar names its ASGI messages, httpx takes any mapping.
        transport = httpx.ASGITransport(app=served, client=("198.51.100.7", 40_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://market.test") as http:
            yield Marketplace(app, http, clock)


def good(answer: httpx.Response) -> Any:
    """The body of an answer that is no error."""
    assert answer.status_code < 400, f"{answer.status_code} {answer.text}"
    return answer.json()


def _with_body(body: Any | None) -> dict[str, Any]:
    return {} if body is None else {"json": body}


def require_documented(method: str, path: str, answer: httpx.Response) -> None:
    """Every answer of an operation has a status that the document names, and a body of the schema that it gives."""
    operation = next(
        (operation for operation, pattern in PATTERNS if operation.method == method and pattern.fullmatch(path)), None
    )
    if operation is None:
        return
    if answer.status_code == 204:
        responses = reading.document()["paths"][operation.full_path][method.lower()]["responses"]
        assert ("204" in responses, answer.content) == (True, b""), f"{method} {path}"
        return
    media_type = answer.headers["content-type"].partition("; charset")[0]
    validator = validator_of(operation.full_path, method.lower(), str(answer.status_code), media_type)
    if media_type.endswith("json"):
        problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(answer.json())]
        assert problems == [], f"{method} {path} {answer.status_code}: {problems}"


@cache
def validator_of(path: str, method: str, status: str, media_type: str) -> Draft202012Validator:
    """What holds an answer against the document: nothing may be missing, and nothing be there that it does not name."""
    document = _closed_document()
    responses = document["paths"][path][method]["responses"]
    assert status in responses, f"{method} {path} answers {status}, which its document does not name"
    content = responses[status]["content"]
    assert media_type in content, f"{method} {path} {status} answers {media_type}, which its document does not name"
    return Draft202012Validator({**content[media_type]["schema"], "components": document["components"]})


@cache
def _closed_document() -> dict[str, Any]:
    closed: dict[str, Any] = _closed(json.loads(json.dumps(reading.document())))
    return closed


def _closed(node: Any) -> Any:
    if isinstance(node, list):
        return [_closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {key: _closed(value) for key, value in node.items()}
    return {**inner, "additionalProperties": False} if "properties" in node and "type" in node else inner

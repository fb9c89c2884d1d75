"""Stand-ins for a provider: the server of one task, and a connection to it that is never lost unless a test says so."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from agrenting.client import PhoenixSocket, RefusedByServer, RestClient, Signer, StreamedTask, Topic
from agrenting.client.backoff import Backoff
from agrenting.client.connection import Connection, State
from agrenting.client.context import AgentContext
from agrenting.client.folder import StateFolder
from agrenting.client.market import MarketFacts, Me, PlatformKey, Sizes
from agrenting.client.serving import Handler, Serving
from tests.agrenting.client_task_server import TASK_ID, Json, TaskServer

T = TypeVar("T")
BOB_ID = "b0b00000-1111-4222-8333-444455556666"
ALICE_ID = "a11ce000-1111-4222-8333-444455556666"
PATIENCE_S = 30.0

PAID: Json = {"price": 1_000, "fee": 50, "fee_bps": 500, "net": 950, "escrow_status": "held", "settlement": None}
UNPAID: Json = {"price": 0, "fee": 0, "fee_bps": 0, "net": 0, "escrow_status": "none", "settlement": None}

BOB = Me(
    id=BOB_ID,
    handle="bob/translator",
    name="Translator",
    description="Translates.",
    owner_id="0",
    public_key=None,
    capabilities=(),
    base_price=None,
    status="active",
)


def market(chunk_bytes_max: int = 1_000) -> MarketFacts:
    return MarketFacts(
        signing_domain="market.test",
        currency="USD",
        exponent=6,
        fee_bps=500,
        platform=PlatformKey(public_key=""),
        limits={"chunk_bytes_max": chunk_bytes_max},
        sizes=Sizes(frame_bytes_max=1, body_bytes_max=1, socket_idle_s=1.0),
    )


class ProvidedTask(TaskServer):
    """The server of the task. `refuses`: the reasons that events are refused with."""

    def __init__(self, stream_price: Json | None = None) -> None:
        super().__init__(stream_price)
        self.refuses: dict[str, str] = {}
        self.on_event: dict[str, Callable[[], None]] = {}
        """Called before an event is answered."""
        self.task |= {
            "id": TASK_ID,
            "provider_agent_id": BOB_ID,
            "client_agent_id": ALICE_ID,
            "capability": "translate",
            "input": {"to": "de"},
            **(UNPAID if stream_price else PAID),
            "negotiation_session_id": None,
            "deadline": "2030-01-01T00:00:00Z",
            "checkpoint": None,
        }

    def end(self, status: str, **fields: Any) -> None:
        escrow = "refunded" if status in {"failed", "cancelled"} else "held"
        super().end(status, **({"escrow_status": escrow} if self.task["price"] else {}), **fields)

    async def take(self, role: str, topic: Topic, event: str, payload: Json | bytes) -> Json:
        self.on_event.get(event, lambda: None)()
        if event in self.refuses:
            self.pushed.append((event, payload))
            raise RefusedByServer(self.refuses[event], "", {})
        if role == "provider" and self.task["status"] in {"completed", "failed", "cancelled"}:
            raise RefusedByServer("terminal_state", "", {})
        reply = await super().take(role, topic, event, payload)
        if event == "checkpoint":
            self.task["checkpoint"] = payload
        elif event == "complete":
            self.end("completed", result=cast("Json", payload)["result"])
        elif event == "error":
            self.end("failed", error=payload)
        return reply

    def told(self, event: str) -> list[Any]:
        """The payloads of what was pushed of an event."""
        return [payload for name, payload in self.pushed if name == event]


class StoodIn:
    """A connection to it: each join of the provider may come over another socket."""

    backoff = Backoff(first_s=0.0, most_s=0.0)

    def __init__(self, server: TaskServer) -> None:
        self.server = server
        self.state = State.CONNECTED
        self.failure: Exception | None = None

    async def socket(self) -> PhoenixSocket:
        if self.failure is not None:
            raise self.failure
        return self.server.socket("provider")

    async def repeat(self, ask: Callable[[], Awaitable[T]]) -> T:
        return await ask()


class Shown:
    """REST: what can be read."""

    def __init__(self) -> None:
        self.shows: dict[str, Any] = {f"/agents/{ALICE_ID}": {"handle": "alice/client"}}

    async def get(self, path: str, **_query: Any) -> Any:
        if path not in self.shows:
            raise RefusedByServer("not_found", "", {})
        return self.shows[path]


class Ground:
    """Bob, who serves the task, and Alice, whose it is."""

    def __init__(self, server: ProvidedTask, chunk_bytes_max: int = 1_000) -> None:
        self.server = server
        self.rest = Shown()
        self.connection = StoodIn(server)
        self.context = AgentContext(cast("Connection", self.connection), cast("RestClient", self.rest))
        self._market = market(chunk_bytes_max)
        self.open()
        self.alice = StreamedTask(TASK_ID, role="client", timeout_s=PATIENCE_S)

    def open(self, signer: Signer | None = None) -> None:
        """Bob's agent is open, with a signer or without one."""
        folder, group = cast("StateFolder", None), cast("asyncio.TaskGroup", None)
        self.context.fill(me=BOB, market=self._market, folder=folder, signer=signer, group=group)

    def close(self, failure: Exception) -> None:
        """The connection is closed for good."""
        self.connection.state, self.connection.failure = State.CLOSED, failure

    async def serve(
        self, handler: Handler, payment_s: float = PATIENCE_S, client_handle: str | None = "alice/client"
    ) -> bool:
        """Have a handler do the task; whether there is nothing more to do."""
        serving = Serving(
            self.context,
            handler,
            task_id=TASK_ID,
            capability="translate",
            client_handle=client_handle,
            payment_s=payment_s,
        )
        async with asyncio.timeout(PATIENCE_S):
            return await serving.run()

    def begin(self, handler: Handler, payment_s: float = PATIENCE_S) -> "asyncio.Task[bool]":
        """The same beside the test."""
        return asyncio.create_task(self.serve(handler, payment_s))

    async def give(self, *chunks: bytes) -> None:
        """Alice sends her input and closes it."""
        await self.alice.join(self.server.socket("client"))
        for chunk in chunks:
            await self.alice.send(chunk)
        await self.alice.close()

    @property
    def output(self) -> bytes:
        """What is stored of the output."""
        return self.server.streams["output"].whole

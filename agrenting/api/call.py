"""Call: one request that has passed every guard, as its handler sees it.

A handler asks (`read`, `ask`) or changes (`change`, `decide`). What it changes, its idempotency key and its answer are
one transaction; what is told and closed follows once that is durable.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from agrenting import auth
from agrenting.api.idempotency import KeyedRequest, Replay
from agrenting.api.operation import Operation
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.deciding import Command
from channels.handlers import Handler, UpdateMeta
from channels.identity import Identity
from channels.limits import Market
from channels.told import Told

if TYPE_CHECKING:
    from agrenting.server import Server

T = TypeVar("T")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did.

    Args:
        answer: The data of the answer.
        broadcasts: What subscribers are told, once durable.
        disconnects: Socket ids whose sockets are closed then.
        dead_keys: API keys whose sockets are closed then, whoever they act as.
        presence: Presences that are updated then.
    """

    answer: Any
    broadcasts: tuple[Told, ...] = ()
    disconnects: tuple[str, ...] = ()
    dead_keys: tuple[str, ...] = ()
    presence: tuple[UpdateMeta, ...] = ()


class Raw(msgspec.Struct, frozen=True):
    """An answer that is no JSON data in an envelope."""

    content: bytes
    media_type: str
    headers: dict[str, str] = {}


class Nothing(Enum):
    """The type of `NOTHING`."""

    NOTHING = "nothing"


NOTHING: Final = Nothing.NOTHING
"""The answer where there is nothing to answer: 204, with an empty body."""


class Streamed(msgspec.Struct, frozen=True):
    """An answer that is no JSON data, and sent piece by piece, however long it is."""

    pieces: AsyncIterator[bytes]
    media_type: str
    headers: dict[str, str] = {}


class Call:
    """One request.

    Args:
        server: Engine, hub, settings.
        operation: What was declared of this address.
        caller: Who asks; None where anybody may.
        parts: What stands in the path in place of its braces, by name.
        accept: The media types that are asked for, lower case.
        keyed: The idempotency key, if one came.
    """

    def __init__(
        self,
        server: "Server",
        operation: Operation,
        *,
        caller: Identity | None,
        parts: Mapping[str, str],
        accept: str,
        keyed: KeyedRequest | None,
    ) -> None:
        self.server = server
        self.operation = operation
        self._parts = parts
        self._caller = caller
        self._accept = accept
        self._keyed = keyed

    @property
    def id(self) -> str:
        """The id or the handle in the path: what stands in its first braces."""
        return self.part(self.operation.parameters[0])

    def part(self, name: str) -> str:
        """What stands in the path in place of `{name}`."""
        return self._parts[name]

    @property
    def caller(self) -> Identity:
        """Who asks."""
        assert self._caller is not None, "the operation is for known callers"
        return self._caller

    @property
    def agent_id(self) -> str:
        """The agent that asks.

        Raises:
            Forbidden: `agent_required`.
        """
        return self.caller.require_agent()

    @property
    def now(self) -> datetime:
        """The server's clock, UTC."""
        return self.server.engine.clock()

    @property
    def market(self) -> Market:
        """What is fixed for the deployment."""
        return self.server.engine.market

    def accepts(self, media_type: str) -> bool:
        """Whether a form of the answer beside JSON is asked for by its name."""
        return any(part.partition(";")[0].strip() == media_type for part in self._accept.split(","))

    async def read(self, question: Callable[[ReaderTx], T]) -> T:
        """Ask the database, beside the writer."""
        return await self.server.engine.read(question)

    async def ask(self, handler: Handler, topic: str, request: Any) -> Any:
        """Run a handler that changes nothing; its reply.

        Raises:
            Refusal: What the handler refused.
        """
        return (await self.server.engine.answer(self._command(handler, topic, request))).reply

    async def decide(self, handler: Handler, topic: str, request: Any) -> Any:
        """Run the handler of an event, the same that a socket's push runs.

        Raises:
            Refusal: What the handler refused.
        """
        engine, command = self.server.engine, self._command(handler, topic, request)
        await engine.rehearse(command)

        def run(tx: WriterTx) -> Outcome:
            done = engine.decide(tx, command)
            return Outcome(answer=done.decision.reply, broadcasts=done.broadcasts)

        return await self.change(run, topic=topic)

    async def change(self, run: Callable[[WriterTx], Outcome], *, topic: str = "") -> Any:
        """Run a change, once per idempotency key; its answer.

        Args:
            run: Decides and saves inside the transaction. It may run twice, where somebody else was faster.
            topic: The one that is decided on, if there is one.

        Raises:
            Refusal: What `run` refused; `idempotency_mismatch`.
            StorageUnavailable: The commit failed.
        """

        def unit(tx: WriterTx) -> tuple[Outcome | Replay, tuple[Told, ...]]:
            now = self.now
            auth.require_live(tx, self.caller, now=now)
            replay = None if self._keyed is None else self._keyed.find(tx, now)
            if replay is not None:
                return replay, ()
            outcome = run(tx)
            self._keep(tx, outcome.answer, now)
            return outcome, outcome.broadcasts

        outcome = await self.server.engine.change(unit, sender_id=self.caller.agent_id, topic=topic)
        if isinstance(outcome, Replay):
            return outcome
        self._follow(outcome)
        return outcome.answer

    def _command(self, handler: Handler, topic: str, request: Any) -> Command:
        return Command(handler=handler, topic=topic, request=request, sender=self.caller)

    def _keep(self, tx: WriterTx, answer: Any, now: datetime) -> None:
        if self._keyed is None:
            return
        kept = without(answer, self.operation.secrets)
        replay = Replay(self.operation.status, msgspec.json.encode({"data": kept}))
        self._keyed.keep(tx, replay, now=now, ttl_s=self.server.settings.idempotency_ttl_s)

    def _follow(self, outcome: Outcome) -> None:
        hub = self.server.hub
        for update in outcome.presence:
            hub.update_presence(update, None)
        for socket_id in outcome.disconnects:
            hub.disconnect(socket_id)
        for connection in list(hub.connections):
            if connection.identity.key_id in outcome.dead_keys:
                hub.disconnect(connection.identity.socket_id)


def without(answer: Any, secrets: tuple[str, ...]) -> Any:
    """An answer whose secrets are null; a dot leads into what a field holds."""
    if not secrets:
        return answer
    kept = dict(msgspec.to_builtins(answer))
    for secret in secrets:
        *path, name = secret.split(".")
        holder = kept
        for step in path:
            holder = holder[step]
        holder[name] = None
    return kept

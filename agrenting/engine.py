"""The engine: lock → load → decide → save → durable → publish → reply, for frames and REST alike.

One writer runs every change in the order in which it came (db/commit.py), so the transaction is the lock. A command's
state is loaded, decided on and saved inside it; what follows is told on the event loop once the commit is durable, in
the same order. What one node tells its own sockets `publish` says.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog

from agrenting import auth
from agrenting.clock import Clock
from agrenting.db.commit import Unit
from agrenting.db.database import Database
from agrenting.db.questions import LOADERS
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.deciding import Command, Done, Settled, decide, decide_together
from agrenting.ids import new_id, new_token
from agrenting.lanes import Lanes
from channels.handlers import Access, Context, Decision
from channels.identity import Identity
from channels.limits import Market
from channels.payment_disputes import STATE_LOST
from channels.told import Broadcast, Saved, Told

log = structlog.get_logger(__name__)

T = TypeVar("T")

Publish = Callable[[tuple[Told, ...], str | None, Any], None]


def _noting(is_stored: asyncio.Event, settled: Settled, done: Done | None, error: Exception | None) -> None:
    """Say that a command is settled, and to whoever waits for that alone."""
    is_stored.set()
    settled(done, error)


class Engine:
    """Runs commands on one database.

    Args:
        database: Where states are.
        market: What is fixed for the deployment.
        clock: The present.
        publish: Told the broadcasts of each durable decision, in order, with the sending agent's id and connection.
        holder_of: The agent whose program has an instance id right now.
    """

    def __init__(
        self,
        database: Database,
        *,
        market: Market,
        clock: Clock,
        publish: Publish,
        holder_of: Callable[[str], str | None] = lambda _instance_id: None,
    ) -> None:
        self.database = database
        self.market = market
        self.clock = clock
        self.publish = publish
        self.holder_of = holder_of
        self._rehearsing: dict[str, deque[tuple[Command, Settled]]] = {}
        self._rehearsals: set[asyncio.Task[None]] = set()
        self._stage = ThreadPoolExecutor(1, thread_name_prefix="agrenting-rehearsal")
        self.lanes = Lanes(
            submit=database.commits.submit,
            decide=lambda tx, commands: decide_together(tx, commands, self.context_of),
            context=self.context_of,
            publish=self._publish,
        )

    def context(self, sender: Identity, topic: str, *, instance_id: str = "") -> Context:
        """What a handler may know, now."""
        return Context(
            sender=sender,
            now=self.clock(),
            market=self.market,
            new_id=new_id,
            new_token=new_token,
            topic=topic,
            instance_id=instance_id,
            holder_of=self.holder_of,
        )

    def context_of(self, command: Command) -> Context:
        """What the handler of a command may know, now."""
        return self.context(command.sender, command.topic, instance_id=command.instance_id)

    def decide_at_once(self, command: Command) -> Done:
        """Decide a command that needs no database, here and now, and publish."""
        decision = command.handler.decide(None, command.request, self.context_of(command))
        self.publish(decision.broadcasts, command.sender.agent_id, command.socket)
        return Done(decision, decision.broadcasts)

    def submit(self, command: Command, settled: Settled) -> None:
        """Decide a command in the writing transaction; `settled` is called once it is durable, in commit order.

        One that is rehearsed comes a little later, and so do those on the same topic that come after it. Events that
        are relayed before they are durable go by the topic's lane.
        """
        if command.handler.foresees is not None:
            self.lanes.submit(command, settled)
            return
        waiting = self._rehearsing.get(command.topic)
        if waiting is not None:
            waiting.append((command, settled))
        elif command.handler.is_rehearsed:
            self._rehearsing[command.topic] = deque(((command, settled),))
            task = asyncio.get_running_loop().create_task(self._rehearse_in_order(command.topic))
            self._rehearsals.add(task)
            task.add_done_callback(self._rehearsals.discard)
        else:
            self._submit(command, settled)

    async def drain(self) -> None:
        """Wait until nothing is rehearsed or committed any more."""
        while self._rehearsals:
            await asyncio.wait(tuple(self._rehearsals))
        await self.database.commits.drain()

    async def settled(self) -> None:
        """Wait until everything that was submitted before is settled."""
        await self.change(lambda _tx: (None, ()))

    async def close(self) -> None:
        """Finish what is under way, and end the rehearsals' thread. The database is closed after this."""
        await self.drain()
        self._stage.shutdown(wait=True)

    async def _rehearse_in_order(self, topic: str) -> None:
        """Submit what waits on a topic, in order, each once its rehearsal is over."""
        waiting = self._rehearsing[topic]
        is_stored = asyncio.Event()
        is_stored.set()
        while waiting:
            command, settled = waiting[0]
            if command.handler.is_rehearsed:
                await is_stored.wait()  # A chain goes on where the one before it ends: that has to be in the snapshot.
                await self.rehearse(command)
            waiting.popleft()
            is_stored = asyncio.Event()
            self._submit(command, partial(_noting, is_stored, settled))
        del self._rehearsing[topic]

    async def rehearse(self, command: Command) -> None:
        """Decide a dear command on a snapshot first, in a thread of its own, so that the writer finds it cheap.

        Only the signatures that it checked are remembered. What becomes of the command the writer alone decides, so no
        outcome of this is looked at.
        """
        if not command.handler.is_rehearsed:
            return
        context = self.context_of(command)
        handler = command.handler

        def load(tx: ReaderTx) -> Any:
            return LOADERS[handler.loads](tx, command.topic_id, command.request, context)

        with contextlib.suppress(Exception):
            loaded = await self.database.read(load)
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._stage, handler.decide, loaded, command.request, context)

    def _submit(self, command: Command, settled: Settled) -> None:
        def run(tx: WriterTx) -> Done:
            return self.decide(tx, command)

        def told(done: Done | None, error: Exception | None) -> None:
            if done is not None:
                self._publish(done.broadcasts, command.sender.agent_id, command.socket)
            settled(done, error)

        self.database.commits.submit(Unit(run, self.lanes.passing(command.topic, told)))

    def decide(self, tx: WriterTx, command: Command) -> Done:
        """Inside a writing transaction: load, decide, save. For a unit that does more beside it, such as REST's."""
        context = self.context_of(command)
        auth.require_live(tx, command.sender, now=context.now)
        return decide(tx, command, context)

    async def execute(self, command: Command) -> Decision:
        """Decide a command and wait until it is durable and published.

        Raises:
            Refusal: What the handler refused.
            StorageUnavailable: The commit failed.
        """
        access = command.handler.access
        if access is Access.AT_ONCE:
            return self.decide_at_once(command).decision
        if access is Access.READ:
            return await self.answer(command)
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

        def settled(done: Done | None, error: Exception | None) -> None:
            if future.done():
                return
            if done is None:
                assert error is not None, "a command is done or it failed"
                future.set_exception(error)
            else:
                future.set_result(done.decision)

        self.submit(command, settled)
        return await future

    async def answer(self, command: Command) -> Decision:
        """Decide a question beside the writer, on a snapshot."""

        def ask(tx: ReaderTx) -> Decision:
            context = self.context_of(command)
            auth.require_live(tx, command.sender, now=context.now)
            loaded = LOADERS[command.handler.loads](tx, command.topic_id, command.request, context)
            return command.handler.decide(loaded, command.request, context)

        return await self.database.read(ask)

    def _publish(self, told: tuple[Told, ...], sender_id: str | None, socket: Any) -> None:
        """Tell what follows. Should that fail, which is a bug, whoever waits for the answer gets it all the same."""
        _alert(told)
        try:
            self.publish(tuple(one for one in told if not isinstance(one, Saved)), sender_id, socket)
        except Exception:
            log.exception("publish_failed", topics=[one.topic for one in told if isinstance(one, Broadcast)])
        for one in told:
            if isinstance(one, Saved):
                self.lanes.saved(one.topic, one.state)

    def tell(self, told: tuple[Told, ...]) -> None:
        """Tell what another process has decided."""
        self._publish(told, None, None)

    async def read(self, question: Callable[[ReaderTx], T]) -> T:
        """Ask the database beside the writer."""
        return await self.database.read(question)

    async def change(
        self,
        change: Callable[[WriterTx], tuple[T, tuple[Told, ...]]],
        *,
        sender_id: str | None = None,
        topic: str = "",
    ) -> T:
        """Run a change that is more than one command; publish its broadcasts once it is durable, in order.

        Args:
            change: Answers its result and what is to be told.
            sender_id: The agent that is told nothing of what only the others are told.
            topic: The one that it decides on, of which nothing is relayed ahead meanwhile; empty where there is none.

        Raises:
            Refusal: What `change` refused.
            StorageUnavailable: The commit failed.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settled(outcome: tuple[T, tuple[Told, ...]] | None, error: Exception | None) -> None:
            if outcome is not None:
                self._publish(outcome[1], sender_id, None)
            if future.done():
                return
            if outcome is None:
                assert error is not None, "a change is done or it failed"
                future.set_exception(error)
            else:
                future.set_result(outcome[0])

        self.database.commits.submit(Unit(change, self.lanes.passing(topic, settled)))
        return await future


def _alert(told: tuple[Told, ...]) -> None:
    """Tell the operator, too, what needs one."""
    for one in told:
        if isinstance(one, Broadcast) and one.event == STATE_LOST:
            nonces = {name: one.payload[name] for name in ("known_nonce", "last_nonce")}
            log.critical("channel_state_lost", channel=one.payload["channel_id"], **nonces)

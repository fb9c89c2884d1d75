"""One time of serving: present, and at work, from `Agent.serve` until what was at hand is done or left.

Whatever is to be done is heard of in two ways: by the mailbox, and by the lists, which are read once at the beginning
and tell what the mailbox may have missed. So a message is acknowledged at once, and what is under way is begun once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .amounts import Amount
from .asking import converted, every, post
from .backoff import NOT_NOW, Attempts
from .bargaining import Bargaining
from .connection import State
from .errors import BeyondLimit, ClientError, LyingServer, NoAnswer, NoSigningKey, RefusedByServer
from .kept_topic import KeptTopic, pause_s
from .playing import Terms
from .serving import Handler, Serving, cancelled, leave
from .strategies import FixedLimit, Strategy
from .task_ends import OnEnd, TaskEnd
from .told_messages import Message

if TYPE_CHECKING:
    from .context import AgentContext

DISCOVERY: Final = "agents:discovery"

FOLLOWED_MAX: Final = 16
"""Tasks that are done and whose price is held, of which it is waited for what becomes of that."""

PASSING: Final = NOT_NOW | {"internal_error", "join crashed", "too many channels joined"}
"""Refusals that a provider waits out, however long they last: they are about the market, or about just now."""

_LOG = logging.getLogger(__name__)


class Capability(msgspec.Struct, frozen=True, kw_only=True):
    """Something that this agent can do.

    Args:
        name: What it is called: 1-64 of `a-z 0-9 - _`.
        handler: Does it.
        price: Its list price; None: the one that the market has.
        strategy: How negotiations about it are answered; None: by `FixedLimit` with the price.
        concurrency: How many of its tasks are done at once; None: as many as the agent does.
        terms: Says which terms of negotiations about it are agreed to; None: none are.
        on_end: Is told how each of its tasks has ended; None: nobody is.
    """

    name: str
    handler: Handler
    price: Amount | None
    strategy: Strategy | None
    concurrency: int | None
    terms: Terms | None
    on_end: OnEnd | None = None


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """A task that this agent was hired for, as the mailbox and the list tell it."""

    task_id: str
    capability: str
    client_handle: str | None = None
    status: str = "pending"


class AnnouncedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A negotiation that a client has opened with this agent."""

    session_id: str
    capability: str
    base_max: int


class ListedSession(msgspec.Struct, frozen=True, kw_only=True):
    """The same on the list."""

    id: str
    capability: str
    base_max: int


class ListedTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task on the list."""

    id: str
    capability: str


class Service:
    """One time of serving.

    Args:
        context: The agent's.
        bargaining: Answers negotiations.
        capabilities: What can be done, by name; more may come.
        concurrency: How many tasks are done at once.
        drain_s: How long the tasks at hand have at the end, in seconds.
        payment_s: How long a task that is paid as it streams waits for a payment, in seconds.
    """

    def __init__(
        self,
        context: "AgentContext",
        bargaining: Bargaining,
        capabilities: dict[str, Capability],
        *,
        concurrency: int,
        drain_s: float,
        payment_s: float,
    ) -> None:
        self.changed = asyncio.Event()
        """Set when there are more capabilities."""
        self._context = context
        self._bargaining = bargaining
        self._capabilities = capabilities
        self._slots = asyncio.Semaphore(concurrency)
        """One for each task that is done at once."""
        self._own_slots: dict[str, asyncio.Semaphore] = {}
        """The same by capability, where it has a limit of its own."""
        self._drain_s = drain_s
        self._payment_s = payment_s
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._under_way: dict[str, asyncio.Task[None]] = {}
        """Tasks and negotiations that are seen to, by id."""
        self._begun: set[str] = set()
        """Of them, tasks that do not wait for a slot any more."""
        self._followed: deque[asyncio.Task[Any]] = deque()
        """What waits to tell what becomes of the price of a task that is done."""
        self._group: asyncio.TaskGroup
        self._unregister: list[Callable[[], None]] = []

    def stop(self) -> None:
        """Ask it to stop; the second time, to stop at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until asked to stop, then drain.

        Args:
            on_ready: Called once it is online, before anything is taken up.
        """
        presence = KeptTopic(self._context.connection, DISCOVERY)
        try:
            async with asyncio.TaskGroup() as self._group:
                background = self._group.create_task(self._be_there(presence, on_ready), name="presence")
                await self._stopping.wait()
                self._hear_no_more()
                await self._drain(presence)
                background.cancel()
        finally:
            self._hear_no_more()
            await leave(presence)

    async def _be_there(self, presence: KeptTopic, on_ready: Callable[[], None]) -> None:
        """Go online, then stay so and take up what there is, until this is cancelled."""
        await self._until_done("going online", presence.join)
        if self._capabilities:
            await self._until_done("announcing", lambda: self._announce(presence))
        await self._until_done("reading the mailbox", self._context.mailbox.start)
        _LOG.info("%s is online", self._context.me.handle)
        on_ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._attend(presence), name="presence")
            group.create_task(self._announce_changes(presence), name="announcing")
            if self._capabilities:
                await self._begin()

    async def _until_done(self, what: str, ask: Callable[[], Awaitable[object]]) -> None:
        """Do something that serving needs, and again for as long as the market says that it cannot be done just now.

        Raises:
            RefusedByServer: It cannot be done at all.
        """
        attempts = Attempts(self._context.connection.backoff)
        while True:
            attempts.began()
            try:
                await ask()
            except (RefusedByServer, NoAnswer) as failure:
                if isinstance(failure, RefusedByServer) and not _is_passing(failure):
                    raise
                wait_s = pause_s(attempts, failure)
                _LOG.warning("%s is not possible just now, and is tried again in %.1f s: %s", what, wait_s, failure)
            else:
                return
            await asyncio.sleep(wait_s)

    async def _begin(self) -> None:
        """Hear of what there is to do, and take up what there is. Who offers nothing leaves that to other programs."""
        on = self._context.mailbox.on
        self._unregister = [on("task_handoff", self._hear_of_task), on("negotiation", self._hear_of_negotiation)]
        await self._until_done("reading the lists of open tasks and negotiations", self._take_up)

    def _hear_no_more(self) -> None:
        for unregister in self._unregister:
            unregister()
        self._unregister = []

    # Being there.

    async def _announce(self, presence: KeptTopic) -> None:
        names = list(self._capabilities)
        for one in self._capabilities.values():
            if one.strategy is not None:
                self._context.amount(one.strategy.limit)  # What is no amount is said now, and not at the first offer.
        prices = {
            one.name: self._context.amount(one.price) for one in self._capabilities.values() if one.price is not None
        }
        await presence.push("announce", {"capabilities": names} | ({"prices": prices} if prices else {}))
        _LOG.info("%s offers %s", self._context.me.handle, ", ".join(names))

    async def _announce_changes(self, presence: KeptTopic) -> None:
        while True:
            await self.changed.wait()
            self.changed.clear()
            await self._until_done("announcing", lambda: self._announce(presence))
            if not self._unregister and not self._stopping.is_set():
                await self._begin()

    async def _attend(self, presence: KeptTopic) -> None:
        """Join again after losses. Who else comes and goes is read and forgotten."""
        while True:
            await presence.next_event()

    async def _say_away(self, presence: KeptTopic) -> None:
        try:
            await presence.push("update_metadata", {"metadata": {"status": "away"}})
        except ClientError as error:  # Whatever it is, the tasks at hand are to end in peace.
            _LOG.info("could not say that the agent is away: %s", error)

    # What there is to do.

    async def _take_up(self) -> None:
        """See to what was not finished: what has begun first, then the oldest."""
        for status in ("in_progress", "pending"):
            tasks = every(self._context, "/tasks", ListedTask, role="provider", status=status)
            for told in reversed([task async for task in tasks]):
                self._see_to_task(Announced(task_id=told.id, capability=told.capability, status=status))
        sessions = every(self._context, "/negotiations", ListedSession, role="provider", status="open")
        for session in reversed([one async for one in sessions]):
            self._see_to_negotiation(
                AnnouncedSession(session_id=session.id, capability=session.capability, base_max=session.base_max)
            )

    async def _hear_of_task(self, message: Message) -> None:
        self._see_to_task(converted(message.payload, Announced))

    async def _hear_of_negotiation(self, message: Message) -> None:
        self._see_to_negotiation(converted(message.payload, AnnouncedSession))

    def _see_to_task(self, announced: Announced) -> None:
        self._see_to(announced.task_id, self._do(announced))

    def _see_to_negotiation(self, announced: AnnouncedSession) -> None:
        self._see_to(announced.session_id, self._bargain(announced))

    def _see_to(self, id_: str, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside the rest, unless that is under way: it may be heard of more than once."""
        if id_ in self._under_way or self._stopping.is_set():
            work.close()
            return
        task = self._group.create_task(work, name=id_)
        self._under_way[id_] = task
        task.add_done_callback(lambda _: self._forget(id_))

    def _forget(self, id_: str) -> None:
        del self._under_way[id_]
        self._begun.discard(id_)

    # Tasks.

    async def _do(self, announced: Announced) -> None:
        """Do a task, once there is a slot for it. What comes between is waited for without one."""
        capability = self._capabilities.get(announced.capability)
        if capability is None:
            await self._decline(announced)
            return
        serving = Serving(
            self._context,
            capability.handler,
            task_id=announced.task_id,
            capability=announced.capability,
            client_handle=announced.client_handle,
            payment_s=self._payment_s,
        )
        attempts = Attempts(self._context.connection.backoff)
        while True:
            if await self._do_once(announced.task_id, serving, capability, attempts):
                break
            await asyncio.sleep(attempts.next_delay())
        if capability.on_end is not None:
            await self._tell_end(announced.task_id, capability.on_end)

    async def _do_once(self, task_id: str, serving: Serving, capability: Capability, attempts: Attempts) -> bool:
        """Do a task once there is a slot for it; whether there is nothing more to do."""
        if capability.concurrency is None:
            return await self._do_in_slot(task_id, serving, attempts)
        async with self._own_slots.setdefault(capability.name, asyncio.Semaphore(capability.concurrency)):
            return await self._do_in_slot(task_id, serving, attempts)

    async def _do_in_slot(self, task_id: str, serving: Serving, attempts: Attempts) -> bool:
        async with self._slots:
            self._begun.add(task_id)
            attempts.began()
            try:
                return await serving.run()
            finally:
                self._begun.discard(task_id)

    async def _tell_end(self, task_id: str, on_end: OnEnd) -> None:
        """Tell how a task has ended, which a stop waits for; then what becomes of its price, which none waits for."""
        end = TaskEnd(self._context, task_id, on_end)
        try:
            self._begun.add(task_id)
            try:
                await end.tell()
            finally:
                self._begun.discard(task_id)
            if end.is_open and not self._stopping.is_set():
                with self._following():
                    await end.follow()
        finally:
            await leave(end.topic)

    @contextmanager
    def _following(self) -> Generator[None]:
        """One more task is followed in here; of too many the oldest is not any more: a connection has few topics."""
        task = asyncio.current_task()
        assert task is not None, "the event loop runs it"
        if len(self._followed) >= FOLLOWED_MAX:
            self._followed.popleft().cancel()
        self._followed.append(task)
        try:
            yield
        finally:
            if task in self._followed:
                self._followed.remove(task)

    async def _decline(self, announced: Announced) -> None:
        """Give a task back that nothing here can do. One that was begun may be another program's, and stays."""
        if announced.status != "pending":
            _LOG.warning("task %s is left as it is: nothing here does %s", announced.task_id, announced.capability)
            return
        _LOG.warning("task %s is declined: nothing here does %s", announced.task_id, announced.capability)
        reason = f"this agent does not do {announced.capability} at present"
        try:
            await post(self._context, f"/tasks/{announced.task_id}/cancel", {"reason": reason}, dict[str, Any])
        except RefusedByServer as refusal:
            _LOG.info("task %s was not declined: %s", announced.task_id, refusal)

    # Negotiations.

    async def _bargain(self, announced: AnnouncedSession) -> None:
        """Answer a negotiation by its capability's strategy. One that fails ends by itself, when it expires."""
        capability = self._capabilities.get(announced.capability)
        if capability is None:
            reason = f"this agent does not do {announced.capability} at present"
            await self._bargaining.reject(announced.session_id, reason)
            return
        limit = announced.base_max if capability.price is None else capability.price
        strategy = capability.strategy or FixedLimit(limit=limit)
        try:
            await self._bargaining.answer(msgspec.to_builtins(announced), strategy, terms=capability.terms)
        except NoSigningKey:
            _LOG.warning("a negotiation about %s is rejected: there is no signing key", announced.capability)
            await self._bargaining.reject(announced.session_id, "this agent cannot sign at present")
        except LyingServer:
            raise
        except BeyondLimit as error:  # The session was rejected.
            _LOG.error("the strategy of %s has crossed its own limit: %s", announced.capability, error)
        except ClientError as error:
            if self._context.connection.state is State.CLOSED:
                raise
            _LOG.warning("the negotiation %s is given up: %s", announced.session_id, error)
        except Exception:  # noqa: BLE001 - A strategy is the application's: its failure must not end other work.
            _LOG.exception("the strategy of %s has failed", announced.capability)
            await self._bargaining.reject(announced.session_id, "this agent cannot decide at present")

    # The end.

    async def _drain(self, presence: KeptTopic) -> None:
        """Let the tasks at hand end, for a while; what takes longer, or waits for a slot, is left as it is.

        So are negotiations: their clients take as long as they like, and the next start goes on with them.
        """
        await cancelled(task for id_, task in list(self._under_way.items()) if id_ not in self._begun)
        at_hand = set(self._under_way.values())
        if not at_hand:
            return
        _LOG.info("waiting up to %s s for %d at hand", self._drain_s, len(at_hand))
        away = self._group.create_task(self._say_away(presence), name="away")
        hurry = self._group.create_task(self._hurry.wait(), name="hurry")
        done = self._group.create_task(_all_done(at_hand), name="drain")
        await asyncio.wait((hurry, done), timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED)
        await cancelled((away, hurry, done, *self._under_way.values()))


def _is_passing(refusal: RefusedByServer) -> bool:
    """Whether something may be possible later. A status alone is a proxy's, and says nothing of the agent."""
    return refusal.reason in PASSING or refusal.reason.isdigit()


async def _all_done(tasks: "set[asyncio.Task[None]]") -> None:
    await asyncio.wait(tasks)

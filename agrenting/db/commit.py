"""Group commit: everything that arrives while one commit runs shares the next.

    submit ──► pending ──► one writer thread: BEGIN · unit · unit · … · COMMIT ──► settled, in the same order

There is no timer: when the writer is idle a unit is committed at once, alone; when it is busy, units gather. Each unit
runs inside a savepoint of its own, so that a refusal in one leaves the others be. `settled` is called on the event
loop, in commit order, only after the commit: so nothing is said before it is durable, and what is said of one topic is
said in the order in which it became so.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeVar

from agrenting.db.transaction import StaleState, WriterTx
from channels.errors import Conflict, Refusal

T = TypeVar("T")

BatchObserver = Callable[[int, float], None]
"""Told of each batch: its units, and the seconds from BEGIN to durable."""


class Follower(Protocol):
    """What follows from whatever a unit has done, in the same transaction."""

    def follow(self, tx: WriterTx) -> Any:
        """At the end of a unit that has done something, in the writer thread; what is to be told of it, or None."""
        ...

    def flush(self, tx: WriterTx) -> None:
        """Once before the commit of a batch, in the writer thread: write what its units have gathered."""
        ...

    def drop(self) -> None:
        """The batch is not durable: forget what its units have gathered."""
        ...

    def tell(self, told: Any) -> None:
        """On the event loop, once durable, after the unit itself is settled."""
        ...


class NoFollower:
    """The follower of a database that nothing follows from."""

    def follow(self, tx: WriterTx) -> None:
        """Nothing follows."""

    def flush(self, tx: WriterTx) -> None:
        """Nothing was gathered."""

    def drop(self) -> None:
        """Nothing was gathered."""

    def tell(self, told: None) -> None:
        """Nothing is told."""


class Outcome(NamedTuple):
    """What became of a unit: its outcome or its error, and what is to be told of what follows from it."""

    outcome: Any
    error: Exception | None
    told: Any = None


class StorageUnavailable(Exception):
    """The database could not commit: nothing of the batch has happened. The disk is full, or locked, or gone."""


class Unit:
    """One change: `run` decides and saves inside the transaction, `settled` hears the outcome once it is durable.

    `taken` hears, on the event loop, that the writer has it: until then more may be put into it.
    """

    __slots__ = ("run", "settled")

    def __init__(self, run: Callable[[WriterTx], Any], settled: Callable[[Any, Exception | None], None]) -> None:
        self.run = run
        self.settled = settled

    def taken(self) -> None:
        """The writer has it now. Most have nothing to do then."""


class GroupCommit:
    """The one writer of a database file in this process.

    Args:
        connection: Used by the writer thread alone, in autocommit mode (`isolation_level=None`).
        batch_max: Units that share one commit at most.
        observe: Told of each batch, for metrics.
    """

    def __init__(
        self, connection: sqlite3.Connection, *, batch_max: int, observe: BatchObserver = lambda _units, _seconds: None
    ) -> None:
        self._connection = connection
        self._batch_max = batch_max
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="agrenting-writer")
        self.follower: Follower = NoFollower()
        """Set before the first unit comes."""
        self._memory: dict[str, Any] = {}
        self._pending: list[Unit] = []
        self._is_running = False
        self._idle = asyncio.Event()
        self._idle.set()

    def submit(self, unit: Unit) -> None:
        """Queue a unit. From the event loop only."""
        self._pending.append(unit)
        if not self._is_running:
            self._start()

    async def write(self, run: Callable[[WriterTx], T]) -> T:
        """Run one change and wait until it is durable.

        Raises:
            Refusal: What `run` refused.
            StorageUnavailable: The commit failed.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

        def settled(outcome: T, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(outcome)
            else:
                future.set_exception(error)

        self.submit(Unit(run, settled))
        return await future

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        await self._idle.wait()

    async def close(self) -> None:
        """Finish what is under way, and end the thread."""
        await self.drain()
        self._thread.shutdown(wait=True)

    def _start(self) -> None:
        batch, self._pending = self._pending[: self._batch_max], self._pending[self._batch_max :]
        self._is_running = True
        self._idle.clear()
        for unit in batch:
            unit.taken()
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(self._thread, self._commit, batch)
        running.add_done_callback(lambda done: self._settle(batch, done.result()))

    def _settle(self, batch: list[Unit], outcomes: list[Outcome]) -> None:
        if self._pending:
            self._start()  # The writer works on while this loop tells what is durable.
        else:
            self._is_running = False
        for unit, (outcome, error, told) in zip(batch, outcomes, strict=True):
            try:
                unit.settled(outcome, error)
                if told is not None:
                    self.follower.tell(told)
            except Exception as bug:  # noqa: BLE001 - one that cannot be told must not leave the others untold
                context = {"message": "what was committed could not be told", "exception": bug}
                asyncio.get_running_loop().call_exception_handler(context)
        if not self._is_running:
            self._idle.set()

    def _commit(self, batch: list[Unit]) -> list[Outcome]:
        """In the writer thread: run every unit, then make them durable together."""
        started = time.perf_counter()
        undo: list[Callable[[], None]] = []
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            outcomes = [self._run(unit, undo) for unit in batch]
            self._flush(undo)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever stops a commit, the writer goes on and who waits is told
            for step in undo:
                step()
            self.follower.drop()
            self._roll_back()
            failure = StorageUnavailable(f"the change could not be stored: {error}")
            failure.__cause__ = error
            return [Outcome(None, failure) for _ in batch]
        self._observe(len(batch), time.perf_counter() - started)
        return outcomes

    def _roll_back(self) -> None:
        """Leave no transaction open. Where even that fails, the next BEGIN fails and says why."""
        with contextlib.suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _flush(self, undo: list[Callable[[], None]]) -> None:
        tx = WriterTx(self._connection, self._memory, undo)
        self.follower.flush(tx)
        undo.extend(tx.keep())

    def _run(self, unit: Unit, undo: list[Callable[[], None]]) -> Outcome:
        for _ in range(2):
            tx = WriterTx(self._connection, self._memory, undo)
            try:
                outcome = unit.run(tx)
                told = self.follower.follow(tx) if tx.happened else None
            except StaleState:
                tx.undo()
            except Refusal as refusal:
                tx.undo()
                return Outcome(None, refusal)
            except sqlite3.OperationalError:
                raise  # The disk or the lock: the whole batch fails, nothing is half done.
            except Exception as error:  # noqa: BLE001 - a bug in one unit must not take the batch with it
                tx.undo()
                return Outcome(None, error)
            else:
                undo.extend(tx.keep())
                return Outcome(outcome, None, told)
        return Outcome(None, Conflict("conflict", "Somebody else changed this at the same moment; try again."))

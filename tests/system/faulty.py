"""`python -m tests.system.faulty AT COUNT SIDE serve …`: the server as it is, but it dies at one write boundary.

It counts what its writing connection does from when it listens, and kills its own process (SIGKILL) right before or
right after the COUNT-th of one kind. Nothing in the server knows of it: the connection, the group commit and the server
are replaced from outside.

    BEGIN · SAVEPOINT · INSERT … · UPDATE … · RELEASE · COMMIT      statements of the writing connection
    TOLD                                                          a durable unit's outcome goes to who asked for it

RELEASE, COMMIT and TOLD count only where a step of a payment channel's history is part of it. Right after a COMMIT and
right before a TOLD, what is durable has not been told; after a TOLD, some units of a batch have been told and others
have not.
"""

import os
import re
import signal
import socket
import sqlite3
import sys
from pathlib import Path
from typing import Any, NoReturn

from agrenting import cli, serve
from agrenting.db import database
from agrenting.db.commit import GroupCommit, Unit
from agrenting.db.transaction import WriterTx

STATEMENT = re.compile(r"(BEGIN|SAVEPOINT|RELEASE|COMMIT|(?:INSERT INTO|UPDATE|DELETE FROM) \w+)")
STEP = "INSERT INTO channel_steps"
OF_PAYMENTS = ("RELEASE", "COMMIT", "TOLD")
LAST_WORDS = "died on purpose"


class Fault:
    """The one boundary to die at.

    Args:
        at: What is counted.
        count: Which of them, from 1.
        side: `before` or `after` it.
    """

    def __init__(self, at: str, count: int, side: str) -> None:
        self.at, self.count, self.side = at, count, side
        self.is_armed = False
        self.steps = {"RELEASE": 0, "COMMIT": 0}
        """Steps of channels in this unit, and in this transaction."""

    def is_it(self, what: str, *, steps: int = 0) -> bool:
        """Count one of a kind; whether it is the one."""
        if not self.is_armed or what != self.at or (what in OF_PAYMENTS and not steps):
            return False
        self.count -= 1
        return self.count == 0

    def die(self) -> NoReturn:
        """End the process as `kill -9` does."""
        os.write(2, f"{LAST_WORDS}: {self.side} {self.at}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
        raise AssertionError("nobody outlives SIGKILL")


class FaultyConnection:
    """The writing connection, whose statements are counted."""

    def __init__(self, connection: sqlite3.Connection, fault: Fault) -> None:
        self._connection = connection
        self._fault = fault

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        """Run a statement, unless this is where the process ends."""
        found = STATEMENT.match(sql)
        if found is None:
            return self._connection.execute(sql, values)
        what, fault = found[1], self._fault
        if what == STEP:
            fault.steps = {name: steps + 1 for name, steps in fault.steps.items()}
        is_it = fault.is_it(what, steps=fault.steps.get(what, 0))
        if what in {"BEGIN", "SAVEPOINT"}:
            fault.steps["COMMIT" if what == "BEGIN" else "RELEASE"] = 0
        if is_it and fault.side == "before":
            fault.die()
        cursor = self._connection.execute(sql, values)
        if is_it:
            fault.die()
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class FaultyCommit(GroupCommit):
    """Group commit whose durable units are counted as they are told."""

    fault: Fault

    def submit(self, unit: Unit) -> None:
        """Queue a unit."""
        fault, steps = self.fault, 0

        def run(tx: WriterTx) -> Any:
            nonlocal steps
            before = fault.steps["COMMIT"]
            outcome = unit.run(tx)
            steps = fault.steps["COMMIT"] - before
            return outcome

        def settled(outcome: Any, error: Exception | None) -> None:
            is_it = fault.is_it("TOLD", steps=steps)
            if is_it and fault.side == "before":
                fault.die()
            unit.settled(outcome, error)
            if is_it:
                fault.die()

        super().submit(Unit(run, settled))


def install(fault: Fault) -> None:
    """Put the fault into this process."""
    open_writer = database.open_writer

    def open_faulty(path: Path, *, busy_timeout_s: float) -> Any:
        return FaultyConnection(open_writer(path, busy_timeout_s=busy_timeout_s), fault)

    class ArmedServer(serve.HubServer):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            fault.is_armed = True

    FaultyCommit.fault = fault
    for module, name, stand_in in (
        (database, "open_writer", open_faulty),
        (database, "GroupCommit", FaultyCommit),
        (serve, "HubServer", ArmedServer),
    ):
        assert hasattr(module, name), f"{module.__name__} has no {name} any more: no fault would ever come"
        setattr(module, name, stand_in)


if __name__ == "__main__":
    at, count, side, *arguments = sys.argv[1:]
    assert side in {"before", "after"}
    install(Fault(at, int(count), side))
    raise SystemExit(cli.main(arguments))

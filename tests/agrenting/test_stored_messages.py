"""Stored messages where there are many: whatever is read or forgotten of them looks at no more than it takes.

Alice has written to many agents for a week, and Bob's mailbox holds what he answered. Work is counted in the steps of
SQLite's machine, so nothing here depends on how fast the computer is.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from agrenting.db import messages, states
from agrenting.db.migrate import migrate
from agrenting.db.transaction import WriterTx
from agrenting.deciding import THE_HOUSE
from channels.changes import DropMessages
from channels.handlers import Context
from channels.limits import Market
from channels.messages import DUE_AT_ONCE, UNDELIVERED, Phase, StoredMessage

NOW: Final = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
FEW, MANY = 200, 3_000
PAGE: Final = 5
LAST: Final = "~"


class Shelf:
    """The messages of a database, and what a question about them costs."""

    def __init__(self, path: Path) -> None:
        migrate(path)
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.tx = WriterTx(self.connection, {})
        self.stored: list[StoredMessage] = []

    def store(self, count: int, status: Phase, *, expires_in_s: int, to: str = "bob") -> None:
        """So many messages of Alice, each a second later than the one before; the last is over in `expires_in_s`."""
        for number in range(count):
            message = StoredMessage(
                id=f"{len(self.stored):012d}",
                to_agent_id=to,
                type="x_test",
                payload=number,
                from_agent_id="alice",
                from_owner_id="owner of alice",
                is_from_market=False,
                inserted_at=NOW - timedelta(days=7),
                expires_at=NOW + timedelta(seconds=expires_in_s - count + 1 + number),
                status=status,
            )
            self.stored.append(message)
            states.insert(self.tx, "message", message.id, message)

    def sent(self, status: Phase | None, before: str = LAST, limit: int = PAGE) -> list[str]:
        """Ids of what Alice has sent."""
        found = messages.sent(self.tx, "alice", status=status, before=before, limit=limit, now=NOW)
        return [message.id for message in found]

    def steps_of(self, act: Callable[[], Any]) -> int:
        """How many steps SQLite takes, in tens."""
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        self.connection.set_progress_handler(step, 10)
        try:
            act()
        finally:
            self.connection.set_progress_handler(None, 10)
        return steps

    def plans_of(self, act: Callable[[], Any]) -> list[str]:
        """What SQLite does for each statement."""
        asked: list[str] = []
        self.connection.set_trace_callback(asked.append)
        try:
            act()
        finally:
            self.connection.set_trace_callback(None)
        return [
            row[3]
            for sql in asked
            if "messages" in sql
            for row in self.connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
        ]


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path / "market.sqlite3")
    with closing(shelf.connection):
        yield shelf
        shelf.connection.rollback()


def mixed(shelf: Shelf) -> None:
    """Some of each status, some of which are over by the clock, mixed by age."""
    for seconds in (-1, 0, 1, 600):
        for status in (Phase.QUEUED, Phase.DELIVERED) if seconds > -1 else Phase:
            shelf.store(3, status, expires_in_s=seconds, to=f"{seconds}")


# What was sent.


@pytest.mark.parametrize("status", [None, *Phase])
@pytest.mark.parametrize("limit", [1, 4, 100])
def test_what_was_sent_is_listed_by_its_status_by_the_clock_page_by_page(
    shelf: Shelf, status: Phase | None, limit: int
) -> None:
    mixed(shelf)
    expected = [one.id for one in shelf.stored if status in {None, one.at(NOW).status}][::-1]
    assert expected

    listed: list[str] = []
    while page := shelf.sent(status, listed[-1] if listed else LAST, limit):
        listed += page

    assert listed == expected


def test_what_others_have_sent_is_not_listed(shelf: Shelf) -> None:
    mixed(shelf)

    for status in (None, *Phase):
        assert messages.sent(shelf.tx, "bob", status=status, before=LAST, limit=PAGE, now=NOW) == []


@pytest.mark.parametrize("status", [None, *Phase])
def test_it_costs_the_same_however_much_was_sent(shelf: Shelf, status: Phase | None) -> None:
    """Of every other status there are many that are newer."""
    costs: list[int] = []
    for count in (FEW, MANY):
        for waiting in (Phase.QUEUED, Phase.DELIVERED):
            shelf.store(1, waiting, expires_in_s=0)
        for some in Phase:
            shelf.store(PAGE, some, expires_in_s=600 if some in UNDELIVERED else -1)
        for other in (one for one in Phase if one is not status):
            shelf.store(count, other, expires_in_s=MANY + 600 if other in UNDELIVERED else -1)
        costs.append(shelf.steps_of(lambda: shelf.sent(status)))

    few, many = costs
    assert many < few + 20


@pytest.mark.parametrize("status", [None, *Phase])
def test_indexes_hold_all_that_it_looks_at_but_the_states_that_are_listed(shelf: Shelf, status: Phase | None) -> None:
    plans = shelf.plans_of(lambda: shelf.sent(status))

    assert any("COVERING INDEX" in plan for plan in plans)
    for plan in plans:
        assert not plan.startswith("SCAN messages")
        if plan.startswith("SEARCH messages") and "COVERING" not in plan:
            assert "(id=?)" in plan


# What ended long ago.


def ended(shelf: Shelf, count: int) -> None:
    for status in (Phase.ACKNOWLEDGED, Phase.REJECTED, Phase.EXPIRED):
        shelf.store(count, status, expires_in_s=600)


def forget(shelf: Shelf, before: datetime = NOW) -> None:
    messages.drop(shelf.tx, DropMessages("bob", before))


def left(shelf: Shelf) -> list[str]:
    return [id_ for (id_,) in shelf.tx.all("SELECT id FROM messages ORDER BY id")]


def test_the_oldest_are_forgotten_first_and_no_more_than_some_at_once(shelf: Shelf) -> None:
    shelf.store(4, Phase.DELIVERED, expires_in_s=-60)
    for status in (Phase.ACKNOWLEDGED, Phase.REJECTED, Phase.EXPIRED):
        shelf.store(DUE_AT_ONCE // 2, status, expires_in_s=0)
    shelf.store(4, Phase.EXPIRED, expires_in_s=4)
    ids = [one.id for one in shelf.stored]

    forget(shelf)
    assert left(shelf) == ids[:4] + ids[4 + DUE_AT_ONCE :]
    forget(shelf)
    assert left(shelf) == ids[:4] + ids[-4:]
    forget(shelf)
    assert left(shelf) == ids[:4] + ids[-4:]


def test_it_costs_the_same_however_many_have_ended(shelf: Shelf) -> None:
    costs: list[int] = []
    for count in (FEW, MANY):
        shelf.store(2, Phase.EXPIRED, expires_in_s=-60)
        ended(shelf, count)
        costs.append(shelf.steps_of(lambda: forget(shelf)))

    few, many = costs
    assert many < few + 20


def test_indexes_hold_all_that_is_looked_at_to_forget(shelf: Shelf) -> None:
    plans = shelf.plans_of(lambda: forget(shelf))

    assert sum("COVERING INDEX" in plan for plan in plans) == 3
    assert not [plan for plan in plans if plan.startswith("SCAN messages")]


# What a join and the clock look at.


def test_it_costs_them_the_same_however_many_have_ended(shelf: Shelf) -> None:
    context = Context(
        sender=THE_HOUSE, now=NOW, market=Market(signing_domain="market.test"), new_id=str, new_token=str, topic=""
    )
    shelf.store(PAGE, Phase.DELIVERED, expires_in_s=600)
    costs: list[int] = []
    for count in (FEW, MANY):
        ended(shelf, count)
        costs.append(shelf.steps_of(lambda: messages.mailbox(shelf.tx, "bob", None, context)))

    few, many = costs
    assert many < few + 20

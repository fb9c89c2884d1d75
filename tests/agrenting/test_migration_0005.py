"""Mailboxes of before messages could expire: forward, with their times; and back, where nothing undelivered is lost.

The messages are real ones, made by a running server, of which is taken away what the version before did not know.
"""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from agrenting.db.migrate import go_back, migrate
from tests.agrenting.api.market import PRICE, Player, marketplace

FIELDS: Final = ("id", "to_agent_id", "type", "payload", "from_agent_id", "protocol_version", "inserted_at", "status")
"""What the version before knew of a message."""


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return [tuple(row) for row in database.execute(sql)]


def as_before(path: Path) -> None:
    """Go back, and take away what the version before would not have written."""
    go_back(path, "0004")
    with closing(sqlite3.connect(path)) as database, database:
        for id_, text in database.execute("SELECT id, state FROM messages").fetchall():
            state = json.loads(text)
            old = {field: state[field] for field in FIELDS}
            database.execute("UPDATE messages SET state = ? WHERE id = ?", (json.dumps(old), id_))


async def hire(alice: Player, bob: Player) -> None:
    """Bob is left a message."""
    await alice.post("/tasks", {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE})


async def test_what_was_queued_is_still_there_and_expires_a_week_after_it_was_written(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        path, clock = market.server.settings.database_path, market.clock
        alice, bob = await market.deal()
        await hire(alice, bob)
        await hire(alice, bob)
        first, second = await bob.get("/messages")
        await bob.post(f"/messages/{first['id']}/acknowledge")
    as_before(path)
    clock.advance(days=1)

    async with marketplace(tmp_path, clock) as market:
        again = market.with_key(bob.api_key)
        assert await again.get("/messages") == [second]
        await again.refused("POST", f"/messages/{first['id']}/reject", {"reason": "too late"})
        clock.advance(days=6)
        assert await again.get("/messages") == []
        await market.server.timers.run_due()
        told = await market.with_key(alice.api_key).get(f"/messages/{second['id']}")
        assert told["status"] == "expired"


async def test_a_mailbox_that_was_there_has_its_timer(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        path, clock = market.server.settings.database_path, market.clock
        alice, bob = await market.deal()
        await hire(alice, bob)
    written = clock()
    as_before(path)
    assert rows_of(path, "SELECT topic FROM timers WHERE kind = 'mailbox'") == []

    async with marketplace(tmp_path, clock):
        pass
    (timer,) = rows_of(path, "SELECT topic, due_at FROM timers WHERE kind = 'mailbox'")
    assert timer == (f"messages:{bob.id}", round((written + timedelta(days=7)).timestamp() * 1_000))


async def test_on_the_way_back_what_was_delivered_is_queued_again_and_what_was_rejected_is_gone(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        path = market.server.settings.database_path
        alice, bob = await market.deal()
        for _ in range(3):
            await hire(alice, bob)
        first, second, third = await bob.get("/messages")
        await bob.post(f"/messages/{first['id']}/reject", {"reason": "not mine"})
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "UPDATE messages SET status = 'delivered', state = json_set(state, '$.status', 'delivered') WHERE id = ?",
            (second["id"],),
        )
    go_back(path, "0004")

    rows = rows_of(path, "SELECT id, status, json_extract(state, '$.status') FROM messages ORDER BY id")
    assert rows == [(one["id"], "queued", "queued") for one in (second, third)]


async def test_on_the_way_back_what_agents_wrote_is_gone_and_what_the_market_wrote_stays(tmp_path: Path) -> None:
    """The version before would show it as the market's own. Nor could it read an operator's text."""
    async with marketplace(tmp_path) as market:
        path, clock = market.server.settings.database_path, market.clock
        olga = await market.user("olga", is_operator=True)
        alice, bob = await market.deal()
        forged = {"to_agent_id": bob.id, "type": "task_handoff", "payload": {"task_id": "mine"}}
        await alice.post("/messages", forged)
        read = await alice.post("/messages", {**forged, "type": "x_read"})
        await bob.post(f"/messages/{read['id']}/acknowledge")
        await hire(alice, bob)
        for payload in ("We move on Sunday.", {"text": "We move on Sunday."}):
            await olga.post("/messages", {"to_agent_id": bob.id, "type": "system", "payload": payload})
        *_, hiring, _text, spoken = await bob.get("/messages")
    as_before(path)

    rows = rows_of(path, "SELECT id, json_extract(state, '$.type') FROM messages ORDER BY id")
    assert rows == [(hiring["id"], "task_handoff"), (spoken["id"], "system")]
    async with marketplace(tmp_path, clock) as market:
        assert await market.with_key(bob.api_key).get("/messages") == [hiring, spoken]


def test_a_mailbox_of_any_size_gets_its_times(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path, "0004")
    count, first_ms = 700, 1_700_000_000_000
    with closing(sqlite3.connect(path)) as database, database:
        for number in range(count):
            state = {"from_agent_id": f"agent {number}", "inserted_at": "2023-11-14T22:13:20Z"}
            database.execute(
                "INSERT INTO messages (id, to_agent_id, status, version, state, created_at)"
                " VALUES (?, 'bob', 'acknowledged', 1, ?, ?)",
                (f"{number:04d}", json.dumps(state), first_ms + number),
            )

    migrate(path)

    week_ms = 7 * 86_400_000
    rows = rows_of(
        path,
        "SELECT from_agent_id, from_owner_id, expires_at, json_extract(state, '$.is_from_market'),"
        " json_extract(state, '$.ended_at') FROM messages ORDER BY id",
    )
    assert rows == [
        (f"agent {number}", None, first_ms + number + week_ms, 1, "2023-11-14T22:13:20Z") for number in range(count)
    ]
    assert rows_of(path, "SELECT topic, due_at FROM timers") == [("messages:bob", first_ms + week_ms)]


async def test_the_way_back_takes_rooms_and_private_channels_with_it_and_nothing_else(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        path, clock = market.server.settings.database_path, market.clock
        alice, bob = await market.deal()
        await alice.post("/agent/chats", {"chat": {}})
        await alice.post("/private-channels")
        balances = [await who.get("/ledger/balance") for who in (alice, bob)]
    go_back(path, "0004")
    tables = {name for (name,) in rows_of(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not {name for name in tables if name.startswith(("room", "private"))}

    async with marketplace(tmp_path, clock) as market:
        again = [market.with_key(who.api_key) for who in (alice, bob)]
        assert [await who.get("/ledger/balance") for who in again] == balances
        assert await again[0].get("/agent/chats") == []
        assert await again[0].get("/private-channels") == []

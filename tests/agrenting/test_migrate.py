"""Migrations: forward, back, repeated, from a newer program, and held against the tables that the code describes."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import TextClause, create_engine
from sqlalchemy.dialects import sqlite
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateIndex

from agrenting.clock import from_ms
from agrenting.db import ledger, sides, states
from agrenting.db.database import Database, open_writer
from agrenting.db.migrate import SchemaError, go_back, migrate
from agrenting.db.transaction import WriterTx
from agrenting.db.watched_tables import metadata
from channels.contact_book import Origin, Side, Standing
from tests.agrenting.api import payers
from tests.agrenting.api.market import Marketplace, Player, marketplace

BY_EXPRESSION = {
    str(index.name): index
    for table in metadata.sorted_tables
    for index in table.indexes
    if any(isinstance(expression, TextClause) for expression in index.expressions)
}


def tables_of(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as database:
        return {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_migrations_make_what_the_code_describes(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)

    def is_compared(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
        """All but the full text index, which is no table of ours, and indexes over expressions, compared below."""
        return not (kind == "table" and str(name).startswith("agents_text")) and name not in BY_EXPRESSION

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": is_compared, "compare_type": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []
    with closing(sqlite3.connect(path)) as database:
        made = dict(database.execute("SELECT name, sql FROM sqlite_master WHERE type = 'index'").fetchall())
    for name, index in BY_EXPRESSION.items():
        described = str(CreateIndex(index).compile(dialect=sqlite.dialect()))
        assert made[name].split() == described.split()


def test_a_new_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("INSERT INTO market (name, value) VALUES ('kept', 'x')")
    migrate(path)

    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT name FROM market").fetchall() == [("kept",)]


def test_a_file_that_is_up_to_date_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)

    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        other.execute("INSERT INTO market (name, value) VALUES ('kept', 'x')")
        other.execute("COMMIT")
        other.execute("BEGIN IMMEDIATE")
        migrate(path)


async def test_a_folder_may_be_called_as_its_owner_likes(tmp_path: Path) -> None:
    folder = tmp_path / "what#is?this %41 ü"
    folder.mkdir()
    path = folder / "market.sqlite3"
    migrate(path)
    database = Database(path)

    await database.write(lambda tx: tx.run("INSERT INTO market (name, value) VALUES ('kept', 'x')"))

    assert await database.read(lambda tx: tx.all("SELECT name FROM market")) == [("kept",)]
    await database.close()
    go_back(path, "base")
    assert "market" not in tables_of(path)


def test_back_to_the_base_empties_the_file_and_forward_fills_it_again(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    before = tables_of(path)
    go_back(path, "base")
    assert tables_of(path) <= {"alembic_version", "sqlite_sequence"}
    migrate(path)
    assert tables_of(path) == before
    assert {table.name for table in metadata.sorted_tables} <= before


def test_a_file_of_a_newer_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    before = path.read_bytes()

    with pytest.raises(SchemaError, match="9999"):
        migrate(path)

    assert path.read_bytes() == before


AGENTS = (
    ("a-1", "alice", "alice/client", 1_700_000_000_123),
    ("b-1", "bob", "bob/translator", 1_700_000_000_000),
)


def with_two_agents(path: Path) -> None:
    """A database of the first deal, with an agent of Alice's and one of Bob's."""
    migrate(path, "0001")
    with closing(sqlite3.connect(path)) as database, database:
        for id_, owner, handle, created_at in AGENTS:
            database.execute(
                "INSERT INTO users (id, handle, is_operator, created_at) VALUES (?, ?, 0, ?)",
                (owner, owner, created_at),
            )
            database.execute(
                "INSERT INTO agents (id, owner_id, handle, status, is_global, is_findable, presence, version, state,"
                " created_at) VALUES (?, ?, ?, 'active', 0, 0, 'offline', 1, '{}', ?)",
                (id_, owner, handle, created_at),
            )


def test_agents_of_before_and_their_owners_become_contacts_forward_back_and_forward(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    with_two_agents(path)
    first = tables_of(path)

    for _ in range(2):
        migrate(path)

        connection = open_writer(path, busy_timeout_s=5)
        with closing(connection):
            tx = WriterTx(connection, {})
            assert sides.doctor(tx) == []
            for id_, owner, _handle, created_at in AGENTS:
                (contact,) = [
                    states.load(tx, "contact", row[0])
                    for row in tx.all("SELECT id FROM contacts WHERE requester_id = :owner", owner=owner)
                ]
                assert (contact.origin, contact.status, contact.scope) == (Origin.OWNER, Standing.ACTIVE, None)
                assert (contact.requester, contact.recipient) == (
                    Side(id=owner, type="User", user_id=owner), Side(id=id_, type="Agent", user_id=owner),
                )  # fmt: skip
                assert contact.inserted_at == from_ms(created_at)
            assert len(tx.all("SELECT * FROM contact_sides")) == 4
            users = tx.all("SELECT handle, first_name, last_name, email FROM users ORDER BY handle")
            assert users == [("alice", None, None, None), ("bob", None, None, None)]
        go_back(path, "0001")
        assert tables_of(path) == first
        with closing(sqlite3.connect(path)) as database:
            kept = database.execute("SELECT id, owner_id, handle, created_at FROM agents ORDER BY id").fetchall()
            assert kept == list(AGENTS)
            assert database.execute("SELECT id, is_operator FROM users ORDER BY id").fetchall() == [
                ("alice", 0), ("bob", 0),
            ]  # fmt: skip


BOOKED = (
    ("e-1", "deposit", None, "by hand", 1_700_000_000_000, (("external", -900), ("agent:a-1:available", 900))),
    ("e-2", "hold", "t-1", "", 1_700_000_000_500, (("agent:a-1:available", -300), ("task:t-1:escrow", 300))),
    ("e-3", "refund", "t-1", "", 1_700_000_001_000, (("task:t-1:escrow", -300), ("agent:a-1:available", 300))),
)


def schema_of(path: Path) -> set[tuple[str, str]]:
    """Every table and index as it was made, but for how its statement is laid out."""
    with closing(sqlite3.connect(path)) as database:
        made = database.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(name, "".join(str(sql).replace('"', "").split())) for name, sql in made}


def columns_of(path: Path, table: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return [tuple(row[1:]) for row in database.execute(f"PRAGMA table_info({table})")]


def ledger_of(path: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        entries = database.execute("SELECT id, kind, task_id, memo, created_at FROM ledger_entries ORDER BY id")
        return [
            (*row, tuple(database.execute("SELECT account, amount FROM postings WHERE entry_id = ?", row[:1])))
            for row in entries.fetchall()
        ]


def test_what_was_booked_before_channels_is_kept_forward_back_and_forward(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path, "0002")
    with closing(sqlite3.connect(path)) as database, database:
        for *entry, postings in BOOKED:
            database.execute(
                "INSERT INTO ledger_entries (id, kind, task_id, memo, created_at) VALUES (?, ?, ?, ?, ?)", entry
            )
            database.executemany(
                "INSERT INTO postings (account, entry_id, amount) VALUES (?, ?, ?)",
                [(account, entry[0], amount) for account, amount in postings],
            )
        database.executemany(
            "INSERT INTO accounts (name, balance) VALUES (?, ?)",
            [("external", -900), ("agent:a-1:available", 900), ("task:t-1:escrow", 0)],
        )
        database.execute("INSERT INTO timers (topic, kind, due_at) VALUES ('task:t-1', 'deadline', 1)")
    second, columns = schema_of(path), columns_of(path, "ledger_entries")

    for _ in range(2):
        migrate(path)

        assert ledger_of(path) == sorted(BOOKED)
        connection = open_writer(path, busy_timeout_s=5)
        with closing(connection):
            tx = WriterTx(connection, {})
            assert ledger.doctor(tx) == []
            assert tx.all("SELECT DISTINCT channel_id FROM ledger_entries") == [(None,)]
            (newest,) = ledger.transactions(
                tx, "agent:a-1:available", kind="refund", task_id=None, channel_id=None, since_ms=None, until_ms=None,
                before="~", limit=9,
            )  # fmt: skip
            assert (newest["id"], newest["channel_id"], newest["amount"]) == ("e-3", None, 300)
        go_back(path, "0002")
        assert ledger_of(path) == sorted(BOOKED)
        assert columns_of(path, "ledger_entries") == columns
        assert {name for name, _ in schema_of(path)} == {name for name, _ in second}


def again_at(market: Marketplace, player: Player) -> Player:
    """An agent that calls the server after a restart."""
    return Player(
        market.http,
        id_=player.id,
        handle=player.handle,
        api_key=player.api_key,
        seed=player.seed,
        domain=player.domain,
    )


async def test_there_is_no_way_back_while_money_is_locked_and_one_afterwards(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        path, clock = market.server.settings.database_path, market.clock
        alice, bob = await market.deal()
        channel, waiting = await payers.accepted(alice, bob), await payers.pending(alice, bob)
        await payers.pay(channel, alice, bob, 300)
    before, entries = schema_of(path), ledger_of(path)

    for revision in ("0002", "0001", "base"):
        with pytest.raises(SchemaError) as refused:
            go_back(path, revision)
        assert str(refused.value) == (
            f"{path} stays as it is: money is locked in payment channels: close them before going back."
        )
    assert (schema_of(path), ledger_of(path)) == (before, entries)

    async with marketplace(tmp_path, clock) as market:
        await payers.close(channel, again_at(market, alice), again_at(market, bob))
        await market.with_key(alice.api_key).post(payers.at(waiting, "cancel"))
        clocks = [topic for topic, kind in await payers.timers(market) if kind == "payment_clock"]
        assert len(clocks) == 2  # They find nothing to do, a day later.
    entries = ledger_of(path)
    go_back(path, "0002")
    assert ledger_of(path) == entries
    assert not {"payment_channels", "channel_steps"} & tables_of(path)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT count(*) FROM timers").fetchone() == (0,)
        money = dict(database.execute("SELECT name, balance FROM accounts").fetchall())
    assert (money[f"agent:{bob.id}:available"], money[f"channel:{channel['id']}:lock"]) == (300, 0)

    async with marketplace(tmp_path, clock) as market:  # Forward again.
        await payers.require_sound(market, locked=0)
        assert await payers.money(market.with_key(bob.api_key)) == (300, 0)
        again = await payers.accepted(again_at(market, alice), again_at(market, bob))
        assert again["status"] == "open"
        await payers.require_sound(market, locked=payers.DEPOSIT)

"""The doctor and payment channels: it finds every difference, one spoilt row at a time, and invents none.

Alice and Bob have channels in every state; Mallory has the database file.
"""

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.db import ledger
from agrenting.db.database import open_writer
from agrenting.db.transaction import WriterTx
from channels.channel_steps import ChannelStep, StepKind
from tests.agrenting.api.market import START, marketplace, settings_of
from tests.agrenting.api.payers import DEPOSIT, Json, accepted, at, close, freeze, fund, hand_in, pay, pending, propose

LONG = 100_000
QUICK_S = 30.0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A database with a channel in every state; its ids by that."""
    return asyncio.run(made_in(tmp_path_factory.mktemp("sound")))


async def made_in(folder: Path) -> dict[str, Any]:
    async with marketplace(folder) as market:
        alice, bob = await market.deal()
        await fund(market, bob, 5_000)
        made: dict[str, Json] = {"pending": await pending(alice, bob, deposit=10)}
        for name in ("declined", "cancelled"):
            made[name] = await pending(alice, bob, deposit=20)
        await bob.post(at(made["declined"], "decline"))
        await alice.post(at(made["cancelled"], "cancel"))
        for name in ("open", "closing", "disputed", "joint", "frozen"):
            made[name] = await accepted(alice, bob, deposit=100)
        made["offline"] = await hand_in(await accepted(alice, bob, mode="offline"), alice, bob, 500, -200, 7)
        for name in ("open", "closing", "disputed", "joint"):
            await pay(made[name], alice, bob, 400)
            await pay(made[name], bob, alice, 50)
        await propose(made["open"], alice, 60)
        await bob.post(at(made["open"], "reject_transfer"), {"reason": "no"})
        await alice.post(at(made["open"], "deposit"), {"amount": 11})
        await bob.post(at(made["open"], "deposit"), {"amount": 13})
        await alice.post(at(made["closing"], "force-close"))
        await bob.post(at(made["disputed"], "dispute"), {"reason": "no"})
        await close(made["joint"], alice, bob, (DEPOSIT - 1_000, 1_100))
        await freeze(market, made["frozen"], alice, bob)
        ids: dict[str, Any] = {name: channel["id"] for name, channel in made.items()}
        ids |= {"a": alice.id, "b": bob.id, "path": settings_of(folder).database_path}
    return ids


def examined(path: Path) -> list[str]:
    """What the doctor finds."""
    connection = open_writer(path, busy_timeout_s=5)
    with closing(connection):
        connection.execute("BEGIN")
        return ledger.doctor(WriterTx(connection, {}))


def spoilt(sound: dict[str, Any], folder: Path, *statements: str) -> list[str]:
    """What the doctor finds in a copy, once Mallory has been there. `:open` is that channel's id, and so on."""
    copy = folder / "spoilt.sqlite3"
    with closing(sqlite3.connect(sound["path"])) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    values = {name: value for name, value in sound.items() if name != "path"}
    with closing(sqlite3.connect(copy)) as database, database:
        for statement in statements:
            assert database.execute(statement, values).rowcount > 0, statement
    return examined(copy)


def test_channels_in_every_state_are_sound(sound: dict[str, Any]) -> None:
    assert examined(sound["path"]) == []


def state(member: str, value: str, channel: str = "open") -> str:
    return f"UPDATE payment_channels SET state = json_set(state, '$.{member}', {value}) WHERE id = :{channel}"  # noqa: S608 - ours


def step(number: int, member: str, value: str, channel: str = "open") -> str:
    whose = f"WHERE channel_id = :{channel} AND number = {number}"
    return f"UPDATE channel_steps SET state = json_set(state, '$.{member}', {value}) {whose}"  # noqa: S608 - ours


@pytest.mark.parametrize(
    "statement",
    [
        *(
            state(member, "1 + json_extract(state, '$." + member + "')", channel)
            for member in ("balance_a", "balance_b", "deposit_a", "deposit_b", "last_nonce", "steps")
            for channel in ("pending", "open", "closing", "disputed", "joint", "offline", "declined", "frozen")
        ),
        *(state(member, "7", "joint") for member in ("final_balance_a", "final_balance_b")),
        state("final_balance_a", "null", "joint"),
        state("final_balance_b", "1", "declined"),
        state("final_balance_a", "1", "open"),
        state("status", "'closing'"),
        state("status", "'open'", "joint"),
        state("agent_a_id", ":b"),
        state("agent_b_id", ":a"),
        state("id", "'other'"),
        "UPDATE payment_channels SET status = 'open' WHERE id = :closing",
        "UPDATE payment_channels SET status = 'closed' WHERE id = :open",
        "UPDATE payment_channels SET status = 'open' WHERE id = :joint",
        "UPDATE payment_channels SET agent_a_id = 'nobody' WHERE id = :open",
        "UPDATE payment_channels SET agent_b_id = 'nobody' WHERE id = :offline",
        "DELETE FROM payment_channels WHERE id = :open",
        "DELETE FROM payment_channels WHERE id = :joint",
    ],
)
def test_a_spoilt_channel_is_found(sound: dict[str, Any], tmp_path: Path, statement: str) -> None:
    assert spoilt(sound, tmp_path, statement) != []


@pytest.mark.parametrize(
    "statement",
    [
        *(
            step(number, member, "1 + json_extract(state, '$." + member + "')")
            for number in range(1, 8)
            for member in ("number", "balance_a", "balance_b", "last_nonce")
        ),
        step(1, "details.deposit", "1"),
        step(2, "details.deposit", "1"),
        step(3, "details.amount", "1"),
        step(3, "details.from_agent_id", ":b"),
        step(3, "details.from_agent_id", "'nobody'", "disputed"),
        step(6, "details.amount", "1"),
        step(6, "agent_id", "'nobody'"),
        step(6, "agent_id", "null"),
        step(6, "agent_id", ":b"),
        step(6, "details", "json('{}')"),
        step(3, "kind", "'voided'"),
        step(5, "kind", "'transfer'"),
        step(6, "kind", "'closed'"),
        step(3, "details.nonce", "99", "frozen"),
        *(f"DELETE FROM channel_steps WHERE channel_id = :open AND number = {n}" for n in range(1, 8)),  # noqa: S608 - ours
        "DELETE FROM channel_steps WHERE channel_id = :pending",
        "UPDATE channel_steps SET nonce = 9 WHERE channel_id = :open AND number = 3",
        "UPDATE channel_steps SET nonce = NULL WHERE channel_id = :open AND number = 3",
        "UPDATE channel_steps SET nonce = 9 WHERE channel_id = :open AND number = 1",
        "UPDATE channel_steps SET kind = 'closed' WHERE channel_id = :open AND number = 2",
        "UPDATE channel_steps SET number = 99 WHERE channel_id = :open AND number = 7",
        "UPDATE channel_steps SET channel_id = :pending WHERE channel_id = :open AND number = 7",
        (
            "INSERT INTO channel_steps SELECT 'nothing', number, kind, nonce, state, created_at FROM channel_steps"
            " WHERE channel_id = :open"
        ),
        (
            "INSERT INTO channel_steps SELECT channel_id, 8, kind, nonce, json_set(state, '$.number', 8), created_at"
            " FROM channel_steps WHERE channel_id = :open AND number = 7"
        ),
    ],
)
def test_a_spoilt_step_is_found(sound: dict[str, Any], tmp_path: Path, statement: str) -> None:
    assert spoilt(sound, tmp_path, statement) != []


@pytest.mark.parametrize("channel", ["pending", "open", "closing", "disputed", "joint", "declined", "offline"])
@pytest.mark.parametrize("amount", ["+ 1", "- 1", "* 0 + 5"])
def test_a_spoilt_lock_is_found(sound: dict[str, Any], tmp_path: Path, channel: str, amount: str) -> None:
    name = f"'channel:' || :{channel} || ':lock'"
    statement = f"UPDATE accounts SET balance = balance {amount} WHERE name = {name}"  # noqa: S608 - ours
    if channel in {"joint", "declined"} and amount == "- 1":
        with pytest.raises(sqlite3.IntegrityError, match="never_below_zero"):  # The database itself refuses.
            spoilt(sound, tmp_path, statement)
        return

    found = spoilt(sound, tmp_path, statement)

    assert any(one.startswith(f"channel {sound[channel]} is ") for one in found)


def posting(kind: str, agent: str, channel: str) -> str:
    account = f"'agent:' || :{agent} || ':available'"
    entries = f"SELECT id FROM ledger_entries WHERE channel_id = :{channel} AND kind = '{kind}'"  # noqa: S608 - ours
    return f"UPDATE postings SET amount = amount + 1 WHERE account = {account} AND entry_id IN ({entries})"  # noqa: S608 - ours


@pytest.mark.parametrize(
    "statements",
    [
        # The books balance, and yet a party was booked what is another's.
        (posting("lock", "a", "open"), posting("lock", "b", "open").replace("+ 1", "- 2")),
        (posting("unlock", "a", "joint"), posting("unlock", "b", "joint").replace("+ 1", "- 1")),
        (posting("lock", "b", "joint").replace("amount = amount + 1", "account = 'agent:' || :a || ':available'"),),
        ("UPDATE ledger_entries SET channel_id = :open WHERE channel_id = :closing AND kind = 'lock'",),
        ("UPDATE ledger_entries SET channel_id = NULL WHERE channel_id = :joint AND kind = 'unlock'",),
        ("UPDATE ledger_entries SET kind = 'unlock' WHERE channel_id = :pending",),
        ("UPDATE ledger_entries SET channel_id = 'nothing' WHERE channel_id = :declined",),
        ("UPDATE accounts SET name = 'channel:nothing:lock' WHERE name = 'channel:' || :open || ':lock'",),
    ],
)
def test_spoilt_books_of_a_channel_are_found(
    sound: dict[str, Any], tmp_path: Path, statements: tuple[str, ...]
) -> None:
    found = spoilt(sound, tmp_path, *statements)

    assert any("channel " in one for one in found)


def test_money_of_a_channel_that_is_gone_is_found(sound: dict[str, Any], tmp_path: Path) -> None:
    found = spoilt(
        sound,
        tmp_path,
        "DELETE FROM payment_channels WHERE id = :open",
        "DELETE FROM channel_steps WHERE channel_id = :open",
    )

    assert found == [f"channel:{sound['open']}:lock holds {DEPOSIT + 124}, but there is no such channel"]


def test_a_difference_says_where_it_is(sound: dict[str, Any], tmp_path: Path) -> None:
    found = spoilt(sound, tmp_path, step(3, "balance_a", "1"))

    assert found == [f"channel {sound['open']}: step 3 does not leave 1 and 500"]


def test_a_step_that_lacks_its_details_is_a_difference_and_no_crash(sound: dict[str, Any], tmp_path: Path) -> None:
    found = spoilt(sound, tmp_path, step(3, "details", "json('{}')"))

    assert found == [f"channel {sound['open']}: step 3 is not what a step of its kind is"]


def long_history(channel: Json, count: int) -> list[tuple[Any, ...]]:
    """Rows of so many more transfers, each of 1 back and forth."""
    rows: list[tuple[Any, ...]] = []
    for index in range(count):
        nonce, is_a = index + 1, index % 2 == 0
        made = ChannelStep(
            number=index + 3,
            kind=StepKind.TRANSFER,
            at=START,
            agent_id=channel["agent_b_id"],
            balance_a=DEPOSIT - is_a,
            balance_b=int(is_a),
            last_nonce=nonce,
            details={
                "nonce": nonce,
                "amount": 1,
                "from_agent_id": channel["agent_a_id" if is_a else "agent_b_id"],
                "to_agent_id": channel["agent_b_id" if is_a else "agent_a_id"],
                "task_id": None,
                "memo": None,
                "signature_a": "A" * 86 + "==",
                "signature_b": "A" * 86 + "==",
            },
        )
        rows.append((channel["id"], made.number, made.kind, nonce, msgspec.json.encode(made).decode(), 0))
    return rows


async def test_a_channel_of_a_hundred_thousand_steps_is_examined_quickly(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        alice, bob = await market.deal()
        channel = await accepted(alice, bob, mode="offline")
    path = settings_of(tmp_path).database_path
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany("INSERT INTO channel_steps VALUES (?, ?, ?, ?, ?, ?)", long_history(channel, LONG))
        for member, value in (("steps", LONG + 2), ("last_nonce", LONG)):
            database.execute(f"UPDATE payment_channels SET state = json_set(state, '$.{member}', {value})")  # noqa: S608 - ours

    started = time.perf_counter()
    found = examined(path)
    took_s = time.perf_counter() - started

    assert found == []
    assert took_s < QUICK_S, f"{LONG} steps took {took_s:.1f} s"


def test_the_state_of_the_stage_is_what_the_tests_say(sound: dict[str, Any]) -> None:
    with closing(sqlite3.connect(sound["path"])) as database:
        rows = dict(database.execute("SELECT id, status FROM payment_channels").fetchall())
        (kinds,) = database.execute(
            "SELECT json_group_array(kind) FROM (SELECT kind FROM channel_steps WHERE channel_id = ? ORDER BY number)",
            (sound["open"],),
        ).fetchone()
    assert rows == {
        sound["pending"]: "pending",
        sound["declined"]: "declined",
        sound["cancelled"]: "declined",
        sound["open"]: "open",
        sound["closing"]: "closing",
        sound["disputed"]: "disputed",
        sound["joint"]: "closed",
        sound["frozen"]: "open",
        sound["offline"]: "open",
    }
    assert json.loads(kinds) == ["opened", "accepted", "transfer", "transfer", "voided", "deposit", "deposit"]

"""Tasks of before their streams could be resumed: forward, with digests and times to keep them; and back, or not.

The tasks are real ones, made by a running server, of which is taken away what the version before did not know.
"""

import hashlib
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from agrenting.db import ledger
from agrenting.db.migrate import SchemaError, go_back, migrate
from agrenting.db.tables import metadata
from crypto import NO_CHUNKS, next_digest
from tests.agrenting.api import payers
from tests.agrenting.api.market import PRICE, START, Caller, Clock, Marketplace, Player, marketplace

Json = dict[str, Any]

PHASES: Final = {"pending", "in_progress", "completed", "failed", "cancelled"}
ESCROWS: Final = {"none", "held", "released", "refunded"}
FIELDS: Final = (
    *("id", "client_agent_id", "provider_agent_id", "client_owner_id", "is_countable", "capability", "input"),
    *("negotiation_session_id", "price", "fee", "fee_bps", "escrow_status", "status", "input_stream"),
    *("output_stream", "progress", "result", "error", "reason", "ended_by", "created_at", "started_at"),
    *("ended_at", "deadline"),
)
STREAM_FIELDS: Final = ("next_seq", "size", "is_complete", "checksum")
"""What the version before knew of a task, and of a stream."""


def digest_of(*chunks: str) -> str:
    digest = NO_CHUNKS
    for seq, chunk in enumerate(chunks):
        digest = next_digest(digest, seq=seq, chunk=chunk.encode())
    return digest


def tasks_of(path: Path) -> dict[str, Json]:
    """The states as they are stored."""
    with closing(sqlite3.connect(path)) as database:
        return {id_: json.loads(state) for id_, state in database.execute("SELECT id, state FROM tasks")}


def rows_of(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as database:
        return [tuple(row) for row in database.execute(sql)]


def shape_of(path: Path) -> dict[str, str]:
    """Every table and index as it was made."""
    made = rows_of(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {name: "".join(sql.replace('"', "").split()) for name, sql in made}


def everything_of(path: Path) -> tuple[Any, ...]:
    """What may not change where there is no way back."""
    timers, chunks = (rows_of(path, sql) for sql in ("SELECT * FROM timers", "SELECT * FROM chunks"))
    return shape_of(path), tasks_of(path), timers, chunks


def as_before(path: Path) -> None:
    """Go back, and take away what the version before would not have written."""
    go_back(path, "0003")
    states = tasks_of(path)
    with closing(sqlite3.connect(path)) as database, database:
        for id_, state in states.items():
            for name in ("input_stream", "output_stream"):
                state[name] = {field: state[name][field] for field in STREAM_FIELDS if field in state[name]}
            old = {field: state[field] for field in FIELDS}
            database.execute("UPDATE tasks SET state = ? WHERE id = ?", (json.dumps(old), id_))


def require_known_to_the_version_before(path: Path) -> None:
    """Every stored task is one that the version before reads: its words, and chunks up to the first missing one."""
    stored: dict[tuple[str, str], list[int]] = {}
    for task_id, direction, seq in rows_of(path, "SELECT task_id, direction, seq FROM chunks ORDER BY seq"):
        stored.setdefault((task_id, direction), []).append(seq)
    for id_, task in tasks_of(path).items():
        assert task["status"] in PHASES
        assert task["escrow_status"] in ESCROWS
        for direction in ("input", "output"):
            next_seq = task.get(f"{direction}_stream", {}).get("next_seq", 0)
            assert stored.get((id_, direction), []) == list(range(next_seq))


async def hired(alice: Player, bob: Player, **fields: Any) -> str:
    """A new task; its path."""
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0} | fields
    task = await alice.post("/tasks", {name: value for name, value in body.items() if value is not None})
    return f"/tasks/{task['id']}"


async def send(sender: Player, path: str, direction: str, *chunks: str, first: int = 0) -> None:
    for seq, chunk in enumerate(chunks, first):
        await sender.post(f"{path}/{direction}_stream", {"chunk": chunk, "seq": seq})


def whole(*chunks: str) -> Json:
    """The body that closes a stream."""
    data = "".join(chunks).encode()
    return {"checksum": hashlib.sha256(data).hexdigest(), "total_size": len(data)}


def again_at(market: Marketplace, player: Player) -> Player:
    """An agent that calls the server after a restart."""
    return Player(
        market.http, id_=player.id, handle=player.handle, api_key=player.api_key, seed=player.seed, domain=player.domain
    )  # fmt: skip


async def require_sound(market: Marketplace) -> None:
    assert await market.server.database.read(ledger.doctor) == []


# Forward.


async def test_tasks_of_before_get_their_digests_and_ended_ones_the_time_they_are_kept(tmp_path: Path) -> None:
    async with marketplace(tmp_path) as market:
        path, clock = market.server.settings.database_path, market.clock
        alice, bob = await market.deal()
        untouched = await hired(alice, bob, input={"text": "ä", "n": 2**53 - 1, "x": 1.25, "none": None})
        half = await hired(alice, bob)
        await send(alice, half, "input", "one", "two", "three")
        await send(bob, half, "output", "ä", "eins")
        clock.advance(hours=3)
        done = await hired(alice, bob)
        await send(bob, done, "output", "a", "b")
        await bob.post(f"{done}/output_complete", whole("a", "b"))
        await bob.post(f"{done}/complete", {"result": "kept"})
        cancelled = await hired(alice, bob)
        await alice.post(f"{cancelled}/cancel", {"reason": "no"})
        before = {one: await alice.get(one) for one in (untouched, half, done, cancelled)}
    as_before(path)
    old = tasks_of(path)
    assert all("digest" not in task["output_stream"] and "kept_until" not in task for task in old.values())

    migrate(path)

    ended_at = START + timedelta(hours=3)
    due = int((ended_at + timedelta(days=7)).timestamp() * 1_000)
    ended = sorted(f"task:{one.rpartition('/')[2]}" for one in (done, cancelled))
    armed = rows_of(path, "SELECT topic, due_at FROM timers WHERE kind = 'task_retention' ORDER BY topic")
    assert armed == [(topic, due) for topic in ended]
    assert set(rows_of(path, "SELECT encoding FROM chunks")) == {("base64",)}
    for id_, task in tasks_of(path).items():
        for name, value in old[id_].items():
            if not name.endswith("_stream"):
                assert task[name] == value
    async with marketplace(tmp_path, clock) as market:
        alice, bob = again_at(market, alice), again_at(market, bob)
        after = {one: await alice.get(one) for one in before}
        assert after[untouched] == before[untouched]
        assert after[half] == before[half]
        assert after[half]["streams"]["input"]["digest"] == digest_of("one", "two", "three")
        assert after[half]["streams"]["output"]["digest"] == digest_of("ä", "eins")
        assert after[cancelled]["streams"]["output"]["digest"] == NO_CHUNKS
        for one in (done, cancelled):
            assert datetime.fromisoformat(after[one]["kept_until"]) == ended_at + timedelta(days=7)
            assert after[one] == before[one] | {"kept_until": after[one]["kept_until"]}
        await goes_on(market, half, alice, bob)
        await is_kept_for_a_week(market, alice, done)
        await require_sound(market)


async def goes_on(market: Marketplace, path: str, alice: Player, bob: Player) -> None:
    """A stream that was under way is carried on to its end, out of order too."""
    await send(bob, path, "output", "drei", first=3)
    await send(bob, path, "output", "zwei", first=2)
    told = await bob.post(f"{path}/output_complete", whole("ä", "eins", "zwei", "drei"))
    assert told["digest"] == digest_of("ä", "eins", "zwei", "drei")
    await send(alice, path, "input", "one")  # A repetition is known as one.
    ended = await bob.post(f"{path}/complete", {"result": None})
    assert ended["status"] == "completed"


async def is_kept_for_a_week(market: Marketplace, alice: Caller, path: str) -> None:
    """The chunks of what had ended before are deleted by the clock."""
    chunks = f"{path}/chunks?direction=output"
    market.clock.advance(days=6, hours=23)
    await market.server.timers.run_due()
    assert len(await alice.get(chunks)) == 2
    market.clock.advance(hours=1)
    await market.server.timers.run_due()
    assert await alice.get(chunks) == []
    assert (await alice.get(path))["result"] == "kept"


def test_forward_and_back_leave_the_tables_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "market.sqlite3"
    migrate(path, "0003")
    third = shape_of(path)
    migrate(path)
    assert {table.name for table in metadata.sorted_tables} <= {name for (name,) in rows_of(
        path, "SELECT name FROM sqlite_master WHERE type = 'table'"
    )}  # fmt: skip
    go_back(path, "0003")

    assert shape_of(path).keys() == third.keys()
    assert shape_of(path)["tasks"] == third["tasks"]
    assert [row[1:] for row in rows_of(path, "PRAGMA table_info(chunks)")] == [
        ("task_id", "VARCHAR", 1, None, 1),
        ("direction", "VARCHAR", 1, None, 2),
        ("seq", "INTEGER", 1, None, 3),
        ("chunk", "BLOB", 1, None, 0),
    ]


# Back.


async def is_disputed(alice: Player, bob: Player, _olga: Caller) -> None:
    path = await hired(alice, bob)
    await send(bob, path, "output", "a")
    await alice.post(f"{path}/dispute", {"reason": "no"})


async def is_disputed_after_completion(alice: Player, bob: Player, _olga: Caller) -> None:
    path = await hired(alice, bob, hold_seconds=3_600)
    await bob.post(f"{path}/complete", {"result": 1})
    await alice.post(f"{path}/dispute", {"reason": "no"})


async def is_held(alice: Player, bob: Player, _olga: Caller) -> None:
    path = await hired(alice, bob, hold_seconds=3_600)
    await bob.post(f"{path}/complete", {"result": 1})


async def is_split(alice: Player, bob: Player, olga: Caller) -> None:
    path = await hired(alice, bob)
    await send(bob, path, "output", "a")
    await alice.post(f"{path}/dispute", {"reason": "no"})
    await olga.post(f"/admin{path}/decide", {"decision": "split", "client_bps": 5_000, "reason": "half of it"})


async def paid_as_it_streams(alice: Player, bob: Player) -> str:
    channel = await payers.accepted(alice, bob)
    price = {"amount": PRICE, "per": "chunk"}
    return await hired(
        alice, bob, max_price=None, hold_seconds=None, stream_price=price, channel_id=channel["id"]
    )  # fmt: skip


async def is_pending_and_paid_as_it_streams(alice: Player, bob: Player, _olga: Caller) -> None:
    await paid_as_it_streams(alice, bob)


async def is_paid_as_it_streams(alice: Player, bob: Player, _olga: Caller) -> None:
    await send(bob, await paid_as_it_streams(alice, bob), "output", "a")


Deed = Callable[[Player, Player, Caller], Awaitable[None]]


@pytest.mark.parametrize(
    "deed",
    [
        is_disputed,
        is_disputed_after_completion,
        is_held,
        is_split,
        is_pending_and_paid_as_it_streams,
        is_paid_as_it_streams,
    ],
)
async def test_there_is_no_way_back_while_a_task_is_what_the_version_before_does_not_know(
    tmp_path: Path, deed: Deed
) -> None:
    async with marketplace(tmp_path) as market:
        path = market.server.settings.database_path
        alice, bob = await market.deal()
        await deed(alice, bob, await market.user("olga", is_operator=True))
    before = everything_of(path)

    with pytest.raises(SchemaError, match="the version before has no such"):
        go_back(path, "0003")

    assert everything_of(path) == before


async def test_otherwise_there_is_one_and_forward_again_everything_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    async with marketplace(tmp_path, clock) as market:
        path = market.server.settings.database_path
        alice, bob = await market.deal()
        olga = await market.user("olga", is_operator=True)
        pending = await hired(alice, bob)
        half = await hired(alice, bob)
        await send(bob, half, "output", "ä", "eins")
        await send(bob, half, "output", "vier", first=4)  # What is ahead of a gap is sent again.
        await bob.post(f"{half}/checkpoint", {"state": {"line": 2}, "seq": 2})
        paid = await hired(alice, bob)
        await bob.post(f"{paid}/complete", {"result": 1})
        lost = await hired(alice, bob)
        await send(bob, lost, "output", "bad")
        await alice.post(f"{lost}/dispute", {"reason": "no"})
        await olga.post(f"/admin{lost}/decide", {"decision": "client", "reason": "bad words"})
        streamed = await paid_as_it_streams(alice, bob)
        await alice.post(f"{streamed}/cancel", {"reason": "enough"})
    balances = rows_of(path, "SELECT name, balance FROM accounts ORDER BY name")

    go_back(path, "0003")

    require_known_to_the_version_before(path)
    assert rows_of(path, "SELECT name, balance FROM accounts ORDER BY name") == balances
    kinds = {kind for (kind,) in rows_of(path, "SELECT kind FROM timers")}
    assert "task_deadline" in kinds
    assert not kinds & {"task_retention", "task_hold", "task_decision"}
    assert "checkpoints" not in shape_of(path)
    as_it_was = tasks_of(path)
    async with marketplace(tmp_path, clock) as market:  # Forward again.
        alice, bob = again_at(market, alice), again_at(market, bob)
        assert rows_of(path, "SELECT count(*) FROM timers WHERE kind = 'task_retention'") == [(3,)]
        assert {id_: task["status"] for id_, task in tasks_of(path).items()} == {
            id_: task["status"] for id_, task in as_it_was.items()
        }
        await send(bob, half, "output", "zwei", "drei", "vier", first=2)
        told = await bob.post(f"{half}/output_complete", whole("ä", "eins", "zwei", "drei", "vier"))
        assert told["digest"] == digest_of("ä", "eins", "zwei", "drei", "vier")
        await bob.post(f"{half}/checkpoint", {"state": {"line": 1}, "seq": 1})  # The one before is forgotten.
        await bob.post(f"{half}/complete", {"result": None})
        await alice.post(f"{pending}/cancel", {"reason": "no"})
        await require_sound(market)

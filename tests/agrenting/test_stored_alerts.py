"""Alerts are part of what they tell of: one transaction, never twice, and never of what did not happen."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agrenting.cli import main
from agrenting.db import ledger, states
from agrenting.db.commit import StorageUnavailable
from agrenting.db.transaction import StaleState, Tx, WriterTx
from agrenting.foreign import ForeignChanges
from channels.alert_rules import is_rate_low
from channels.alerts import Phase
from channels.errors import Conflict
from channels.ledger import available, deposit, payout
from channels.task_state import Phase as TaskPhase
from channels.task_state import TaskError
from tests.agrenting.api.alarms import complete, disputed, fail, hired, kinds, listed, set_to, stored, subscribed
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player, marketplace
from tests.agrenting.test_commit import Fragile

WITH = 100_000
SEEDS = (1, 2, 3)


@pytest.fixture
async def market(folder: Path) -> AsyncIterator[Marketplace]:
    async with marketplace(folder) as running:
        yield running


@pytest.fixture
async def alice(market: Marketplace) -> Player:
    await market.user("alice")
    return await market.agent("alice", "Client", deposit=WITH)


@pytest.fixture
async def bob(market: Marketplace) -> Player:
    await market.user("bob")
    return await market.translator()


@pytest.fixture
async def olga(market: Marketplace) -> Caller:
    return await market.user("olga", is_operator=True)


def failing(task_id: str) -> Callable[[WriterTx], None]:
    """Fail a task, whatever else."""

    def run(tx: WriterTx) -> None:
        task = states.load(tx, "task", task_id)
        error = TaskError(type="broken")
        failed = msgspec.structs.replace(task, status=TaskPhase.FAILED, error=error, ended_at=task.created_at)
        states.save(tx, "task", task_id, failed)

    return run


async def ends(market: Marketplace, agent: Player) -> list[tuple[str, bool]]:
    """An agent's last ends, as they are stored."""
    row = await market.server.database.read(
        lambda tx: tx.one("SELECT ends FROM recent_ends WHERE agent_id = :id", id=agent.id)
    )
    return [] if row is None else [(id_, is_completed) for id_, is_completed in json.loads(row[0])]


# One transaction.


@pytest.mark.parametrize("raised", [Conflict("not_now", "Not now."), RuntimeError("a bug"), StaleState()])
async def test_what_is_undone_leaves_no_alert(
    market: Marketplace, alice: Player, bob: Player, raised: Exception
) -> None:
    task_id = await hired(alice, bob)

    def run(tx: WriterTx) -> None:
        failing(task_id)(tx)
        raise raised

    with pytest.raises((Conflict, RuntimeError)):
        await market.server.database.write(run)

    assert (await stored(market), await ends(market, bob)) == ([], [])


async def test_a_commit_that_fails_leaves_no_alert_and_tells_nobody(
    market: Marketplace, monkeypatch: pytest.MonkeyPatch, alice: Player, bob: Player
) -> None:
    task_id = await hired(alice, bob)
    await set_to(alice, alice, 1)
    _, heard = await subscribed(market, bob.api_key, f"analytics:agent:{bob.id}")
    commits = market.server.database.commits
    broken: Any = Fragile(commits._connection)  # noqa: SLF001 - the disk, which fails where a test says so
    with monkeypatch.context() as patch:
        patch.setattr(commits, "_connection", broken)
        broken.failing = {"COMMIT"}
        with pytest.raises(StorageUnavailable):
            await market.server.database.write(failing(task_id))
        await alice.refused("PUT", f"/agents/{alice.id}/alert-thresholds", {"balance_below": WITH})

    assert (await stored(market), await ends(market, bob), heard()) == ([], [], [])
    await hired(alice, bob)
    assert await kinds(alice) == []  # The threshold that was not stored is not measured by.

    await market.server.database.write(failing(task_id))
    assert [one["type"] for one in heard()] == ["task_failed"]


async def test_a_task_that_fails_twice_at_once_fails_once(market: Marketplace, alice: Player, bob: Player) -> None:
    task_id = await hired(alice, bob)
    body = {"type": "broken"}

    await asyncio.gather(*(bob.call("POST", f"/tasks/{task_id}/error", json=body) for _ in range(10)))

    assert sorted((one.agent_id, one.type) for one in await stored(market)) == sorted(
        (agent.id, "task_failed") for agent in (alice, bob)
    )
    assert await ends(market, bob) == [(task_id, False)]


async def test_an_agent_that_nobody_knows_gets_no_alert(market: Marketplace, alice: Player, bob: Player) -> None:
    task_id = await hired(alice, bob)
    await market.server.database.write(lambda tx: tx.run("DELETE FROM agents WHERE id = :id", id=alice.id))

    await market.server.database.write(failing(task_id))

    (told,) = await stored(market)
    assert (told.agent_id, alice.id in told.message) == (bob.id, True)


async def test_money_that_comes_and_goes_within_one_change_is_not_low_between(
    market: Marketplace, alice: Player
) -> None:
    await set_to(alice, alice, WITH)

    def run(tx: WriterTx) -> None:
        ledger.post(tx, payout(agent_id=alice.id, amount=500), now=market.clock())
        ledger.post(tx, deposit(agent_id=alice.id, amount=500), now=market.clock())

    await market.server.database.write(run)

    assert await stored(market) == []


# Many at once.


async def require_conditions(market: Marketplace, alice: Player, bob: Player, below: int | None) -> None:
    """No condition stands twice; one stands if and only if it holds."""
    every = await stored(market)
    standing = [(one.type, one.subject, one.agent_id) for one in every if one.status is not Phase.RESOLVED]
    assert len(standing) == len({*standing})
    last = await ends(market, bob)
    assert (("success_rate_low", f"agent:{bob.id}", bob.id) in standing) is is_rate_low(tuple(last))
    has = await market.server.database.read(lambda tx: ledger.balance(tx, available(alice.id)))
    assert (("balance_low", f"agent:{alice.id}", alice.id) in standing) is (below is not None and has < below)


def last_ten(tx: Tx, agent_id: str) -> list[tuple[str, bool]]:
    """The last ends of a provider as its tasks say; a disputed one that had ended was completed."""
    tasks = [states.decode("task", row) for row in tx.all("SELECT state FROM tasks")]
    ended = [one for one in tasks if one.provider_agent_id == agent_id and one.ended_at and one.status != "cancelled"]
    ended.sort(key=lambda task: task.ended_at)
    return [(task.id, task.status is not TaskPhase.FAILED) for task in ended[-10:]]


@pytest.mark.parametrize("seed", SEEDS)
async def test_conditions_follow_whatever_happens_one_after_the_other(
    market: Marketplace, olga: Caller, alice: Player, bob: Player, seed: int
) -> None:
    chance = random.Random(seed)
    below: int | None = None
    open_disputes: list[str] = []
    for _ in range(60):
        market.clock.advance(seconds=1)
        match chance.choice(("fail", "fail", "complete", "dispute", "decide", "threshold")):
            case "fail":
                await fail(alice, bob)
            case "complete":
                await complete(alice, bob)
            case "dispute":
                held = await complete(alice, bob, hold_seconds=600_000)
                await alice.post(f"/tasks/{held}/dispute", {"reason": "no"})
                open_disputes.append(held)
            case "decide" if open_disputes:
                task_id = open_disputes.pop(0)
                winner = chance.choice(("client", "provider"))
                await olga.post(f"/admin/tasks/{task_id}/decide", {"decision": winner, "reason": "so"})
            case _:
                below = chance.choice((None, WITH // 2, WITH, 2 * WITH))
                await set_to(alice, alice, below)
        await require_conditions(market, alice, bob, below)
        assert await ends(market, bob) == await market.server.database.read(lambda tx: last_ten(tx, bob.id))


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_condition_stands_twice_however_much_happens_at_once(
    market: Marketplace, alice: Player, bob: Player, seed: int
) -> None:
    chance = random.Random(seed)
    thresholds = [chance.choice((None, WITH, WITH - 5 * PRICE)) for _ in range(10)]
    moves = [
        *(fail(alice, bob) for _ in range(15)),
        *(complete(alice, bob) for _ in range(10)),
        *(disputed(alice, bob) for _ in range(5)),
        *(set_to(alice, alice, below) for below in thresholds),
    ]
    chance.shuffle(moves)

    await asyncio.gather(*moves)

    kept = (await alice.get(f"/agents/{alice.id}/alert-thresholds"))["balance_below"]
    await require_conditions(market, alice, bob, kept)
    assert len(await listed(bob, type="dispute_opened")) == 5
    assert len(await listed(bob, type="task_failed")) == 15


async def test_between_the_reply_and_the_pushes_nothing_is_missed_or_doubled(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    topic = f"analytics:agent:{bob.id}"
    storm = [asyncio.ensure_future(fail(alice, bob)) for _ in range(40)]
    await asyncio.sleep(0)
    connection, transport = await market.socket(bob.api_key)
    connection.receive(json.dumps(["1", "1", topic, "phx_join", {}]))
    connection.receive(json.dumps(["1", "2", topic, "subscribe_alerts", {}]))
    await asyncio.gather(*storm)
    await market.server.engine.drain()

    sent = transport.sent
    (place,) = (number for number, message in enumerate(sent) if message[1] == "2")
    first = [one["id"] for one in sent[place][4]["response"]["alerts"]]
    pushed = [message[4]["id"] for message in sent if message[3] == "alert" and message[4]["status"] == "active"]
    assert sorted(first + pushed) == sorted(one["id"] for one in await listed(bob))
    assert all(number > place for number, message in enumerate(sent) if message[3] == "alert")


# The command line.


async def test_a_deposit_of_the_command_line_resolves_an_alert_and_a_running_server_tells_it(
    market: Marketplace, folder: Path, alice: Player
) -> None:
    await set_to(alice, alice, WITH + 500)
    (alert,) = await listed(alice)
    foreign = ForeignChanges(market.server.engine, market.server.hub, poll_s=3_600.0)
    await foreign.begin()
    await foreign.tell()
    _, heard = await subscribed(market, alice.api_key, f"analytics:agent:{alice.id}")
    command = ["deposit", "alice/client", "500", "--data-dir", str(folder)]

    assert await asyncio.to_thread(main, command) == 0
    await foreign.tell()

    assert [(one["id"], one["status"]) for one in heard()] == [(alert["id"], "resolved")]
    assert await kinds(alice) == [("balance_low", "resolved")]


async def test_the_command_line_measures_by_the_threshold_that_a_running_server_has_set(
    market: Marketplace, folder: Path, alice: Player
) -> None:
    await set_to(alice, alice, WITH + 500)

    assert await asyncio.to_thread(main, ["deposit", "alice/client", "499", "--data-dir", str(folder)]) == 0

    assert await kinds(alice) == [("balance_low", "active")]

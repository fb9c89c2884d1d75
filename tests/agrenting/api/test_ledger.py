"""An agent's money by REST."""

import csv
import io
from typing import Any

import pytest

from agrenting.api.answers import Transaction
from agrenting.api.ledger import as_table
from agrenting.api.paging import Page, PageMetadata
from tests.agrenting.api.market import PRICE, START, Caller, Marketplace, Player

FEE = 50


@pytest.fixture
async def paid(market: Marketplace, alice: Player, bob: Player) -> dict[str, Any]:
    """A task that Alice has paid Bob for, an hour after her deposit; another one was cancelled."""
    market.clock.advance(hours=1)
    hire = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0}
    cancelled = await alice.post("/tasks", hire)
    await bob.post(f"/tasks/{cancelled['id']}/cancel")
    task = await alice.post("/tasks", hire)
    done: dict[str, Any] = await bob.post(f"/tasks/{task['id']}/complete", {"result": "hallo"})
    return done


async def test_a_balance_says_where_all_of_it_is(alice: Player, bob: Player) -> None:
    await alice.post("/tasks", {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE})

    assert await alice.get("/ledger/balance") == {
        "available": 100_000 - PRICE,
        "escrow": PRICE,
        "channels": 0,
        "total": 100_000,
        "currency": "USD",
        "exponent": 6,
    }


async def test_transactions_come_newest_first(alice: Player, bob: Player, paid: dict[str, Any]) -> None:
    own = [(entry["kind"], entry["amount"]) for entry in await alice.get("/ledger/transactions")]

    assert own == [("hold", -PRICE), ("refund", PRICE), ("hold", -PRICE), ("deposit", 100_000)]
    assert [entry["amount"] for entry in await bob.get("/ledger/transactions")] == [PRICE - FEE]


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ({"kind": "refund"}, ["refund"]),
        ({"since": "2030-01-01T13:00:00Z"}, ["hold", "refund", "hold"]),
        ({"until": "2030-01-01T13:00:00Z"}, ["deposit"]),
        ({"since": "2030-01-01T14:00:00+02:00", "until": "2030-01-01T13:00:00Z"}, ["deposit"]),
        ({"task_id": "nothing"}, []),
    ],
)
async def test_transactions_are_filtered(
    alice: Player, paid: dict[str, Any], query: dict[str, str], kinds: list[str]
) -> None:
    assert [entry["kind"] for entry in await alice.get("/ledger/transactions", params=query)] == kinds


async def test_transactions_of_one_task(alice: Player, paid: dict[str, Any]) -> None:
    entries = await alice.get("/ledger/transactions", params={"task_id": paid["id"]})

    assert [(entry["kind"], entry["task_id"]) for entry in entries] == [("hold", paid["id"])]


@pytest.mark.parametrize(
    "query",
    [{"kind": "theft"}, {"kind": "null"}, {"since": "yesterday"}, {"since": "0"}, {"until": "2030-01-01T13:00:00"}],
)
async def test_a_filter_that_does_not_exist_is_refused(alice: Player, query: dict[str, str]) -> None:
    refused = await alice.refused("GET", "/ledger/transactions", params=query)

    assert refused.why == (422, "invalid_payload")


async def test_transactions_come_as_a_table(alice: Player, paid: dict[str, Any]) -> None:
    headers, seen, query = {"accept": "text/csv"}, [], {"limit": "3"}
    while True:
        answer = await alice.call("GET", "/ledger/transactions", params=query, headers=headers)
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        seen += [(row["kind"], int(row["amount"])) for row in rows]
        if "x-next-cursor" not in answer.headers:
            break
        query["cursor"] = answer.headers["x-next-cursor"]

    assert answer.headers["content-type"].startswith("text/csv")
    assert seen == [("hold", -PRICE), ("refund", PRICE), ("hold", -PRICE), ("deposit", 100_000)]


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html", "text/csv2"])
async def test_a_table_comes_to_who_asks_for_it(alice: Player, accept: str) -> None:
    answer = await alice.call("GET", "/ledger/transactions", headers={"accept": accept})

    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("memo", ["=1+1", "@cmd", "-2", "+3", "\tx"])
def test_a_memo_is_no_formula(memo: str) -> None:
    entry = Transaction(id="1", kind="deposit", amount=-5, task_id=None, channel_id=None, memo=memo, created_at=START)

    table = as_table(Page([entry], PageMetadata(has_more=False, limit=1, next_cursor=None)))

    row = next(csv.DictReader(io.StringIO(table.content.decode())))
    assert (row["memo"], row["amount"], row["task_id"], row["channel_id"]) == (f"'{memo}", "-5", "", "")


async def test_nobody_sees_anothers_money(mallory: Player, alice: Player, paid: dict[str, Any]) -> None:
    entries = await mallory.get("/ledger/transactions", params={"task_id": paid["id"]})

    assert entries == []
    assert (await mallory.get("/ledger/balance"))["total"] == 5_000


async def test_the_operator_sees_where_all_money_is(olga: Caller, alice: Player, paid: dict[str, Any]) -> None:
    assert await olga.get("/admin/ledger") == {
        "agents": 100_000 - FEE,
        "escrow": 0,
        "channels": 0,
        "fees": FEE,
        "external": -100_000,
        "sum": 0,
        "currency": "USD",
        "exponent": 6,
    }

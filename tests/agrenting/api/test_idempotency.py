"""Idempotency keys: done once, answered again, bound to caller, path and body, and as durable as the effect."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from agrenting.api.errors import Malformed
from agrenting.api.idempotency import fingerprint_of, parse_key
from agrenting.db.transaction import WriterTx
from channels.errors import Invalid
from tests.agrenting.api.market import PRICE, Caller, Clock, Marketplace, Player, marketplace

KEY = {"idempotency-key": "k1"}
REPLAYED = "idempotency-replayed"


def deposit(to: Player, amount: Any = 500, **changed: Any) -> dict[str, Any]:
    return {"handle": to.handle, "amount": amount, **changed}


async def available(caller: Caller) -> int:
    return int((await caller.get("/ledger/balance"))["available"])


async def test_a_repeated_deposit_is_made_once(olga: Caller, alice: Player) -> None:
    first = await olga.call("POST", "/admin/deposits", json=deposit(alice), headers=KEY)

    again = await olga.call("POST", "/admin/deposits", json=deposit(alice), headers=KEY)

    assert (again.status_code, again.json()) == (first.status_code, first.json())
    assert (REPLAYED in first.headers, again.headers[REPLAYED]) == (False, "true")
    assert await available(alice) == 100_500


async def test_another_key_is_another_deposit(olga: Caller, alice: Player) -> None:
    for key in ("k1", "k2"):
        await olga.post("/admin/deposits", deposit(alice), headers={"idempotency-key": key})

    assert await available(alice) == 101_000


async def test_the_key_has_two_names(olga: Caller, alice: Player) -> None:
    await olga.post("/admin/deposits", deposit(alice), headers=KEY)

    again = await olga.call("POST", "/admin/deposits", json=deposit(alice), headers={"x-idempotency-key": "k1"})

    assert again.headers[REPLAYED] == "true"


async def test_the_body_counts_as_what_it_says(olga: Caller, alice: Player) -> None:
    """The order of members and the white space between them do not make another body."""
    await olga.post("/admin/deposits", deposit(alice, memo="May"), headers=KEY)
    spaced = f'{{ "memo": "May",\n "amount": 500, "handle": "{alice.handle}" }}'

    again = await olga.call("POST", "/admin/deposits", content=spaced, headers=KEY)

    assert again.headers[REPLAYED] == "true"


async def test_a_key_with_another_body_is_refused(olga: Caller, alice: Player) -> None:
    await olga.post("/admin/deposits", deposit(alice), headers=KEY)

    refused = await olga.refused("POST", "/admin/deposits", deposit(alice, 501), headers=KEY)

    assert refused.why == (422, "idempotency_mismatch")
    assert await available(alice) == 100_500


async def test_a_key_on_another_path_is_another_request(olga: Caller, alice: Player) -> None:
    await olga.post("/admin/deposits", deposit(alice), headers=KEY)

    await olga.post("/admin/payouts", deposit(alice), headers=KEY)

    assert await available(alice) == 100_000


async def test_anothers_key_is_another_request(alice: Player, bob: Player, market: Marketplace) -> None:
    other = await market.agent("alice", "Other", deposit=PRICE)
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
    mine = await alice.post("/tasks", body, headers=KEY)

    theirs = await other.post("/tasks", body, headers=KEY)

    assert theirs["id"] != mine["id"]


async def test_a_repeated_hire_is_one_task(alice: Player, bob: Player) -> None:
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE}
    first = await alice.post("/tasks", body, headers=KEY)

    again = await alice.post("/tasks", body, headers=KEY)

    assert again == first
    assert await available(alice) == 100_000 - PRICE
    assert len(await alice.get("/tasks")) == 1


async def test_a_replay_holds_no_secret(olga: Caller) -> None:
    body = {"handle": "carol"}
    first = await olga.post("/admin/users", body, headers=KEY)

    again = await olga.post("/admin/users", body, headers=KEY)

    assert first["api_key"].startswith("agk_")
    assert again == {**first, "api_key": None}


@pytest.mark.parametrize(
    ("path", "body", "secrets"),
    [
        ("/agents", {"name": "Bot", "description": "A bot"}, ["api_key"]),
        ("/keys", {"name": "second"}, ["api_key"]),
        ("/key-challenges", None, ["challenge"]),
        ("/auth/authenticate", None, ["session_token", "token"]),
    ],
)
async def test_no_secret_is_stored(
    market: Marketplace, olga: Caller, path: str, body: Any | None, secrets: list[str]
) -> None:
    first = await olga.post(path, body, headers=KEY)

    again = await olga.post(path, body, headers=KEY)

    rows = await market.server.database.read(lambda tx: tx.all("SELECT body FROM idempotency_keys"))
    assert again == {**first, **dict.fromkeys(secrets)}
    assert not [secret for secret in secrets if first[secret] in str(rows)]


async def test_a_secret_inside_of_a_field_is_not_stored_either(market: Marketplace, olga: Caller) -> None:
    body = {"agent": {"name": "Bot", "description": "A bot"}}
    first = await olga.post("/me/agents/register", body, headers=KEY)

    again = await olga.post("/me/agents/register", body, headers=KEY)

    rows = await market.server.database.read(lambda tx: tx.all("SELECT body FROM idempotency_keys"))
    assert first["credentials"]["api_key"].startswith("agk_")
    assert again == {**first, "credentials": {"api_key": None}}
    assert first["credentials"]["api_key"] not in str(rows)


async def test_a_refusal_is_not_stored(olga: Caller, market: Marketplace, alice: Player) -> None:
    body = deposit(alice, 200_000)
    refused = await olga.refused("POST", "/admin/payouts", body, headers=KEY)
    await olga.post("/admin/deposits", deposit(alice, 150_000), headers=KEY)

    made = await olga.call("POST", "/admin/payouts", json=body, headers=KEY)

    assert refused.why == (409, "insufficient_balance")
    assert made.status_code == 201
    assert REPLAYED not in made.headers


async def test_money_does_not_move_without_a_key(olga: Caller, alice: Player) -> None:
    for path in ("/admin/deposits", "/admin/payouts"):
        refused = await olga.refused("POST", path, deposit(alice))

        assert refused.why == (400, "idempotency_key_required")
    assert await available(alice) == 100_000


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "umlaut ü"])
async def test_a_key_is_printable_ascii(olga: Caller, alice: Player, key: str) -> None:
    headers = {"idempotency-key": key.encode("latin-1")}

    refused = await olga.refused("POST", "/admin/deposits", deposit(alice), headers=headers)

    assert refused.why == (422, "invalid_idempotency_key")


async def test_two_keys_at_once_are_refused(olga: Caller, alice: Player) -> None:
    headers = {**KEY, "x-idempotency-key": "k2"}

    refused = await olga.refused("POST", "/admin/deposits", deposit(alice), headers=headers)

    assert refused.why == (422, "invalid_idempotency_key")


async def test_a_request_that_still_runs_is_pending(
    market: Marketplace, olga: Caller, alice: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, held = asyncio.Event(), asyncio.Event()
    engine = market.server.engine
    change = engine.change

    async def slowly(*args: Any, **named: Any) -> Any:
        held.set()
        await hold.wait()
        return await change(*args, **named)

    monkeypatch.setattr(engine, "change", slowly)
    first = asyncio.create_task(olga.post("/admin/deposits", deposit(alice), headers=KEY))
    await held.wait()

    refused = await olga.refused("POST", "/admin/deposits", deposit(alice), headers=KEY)
    hold.set()
    await first

    assert refused.why == (409, "idempotency_pending")
    assert await available(alice) == 100_500


async def test_twenty_at_once_move_money_once(olga: Caller, alice: Player) -> None:
    requests = [olga.call("POST", "/admin/deposits", json=deposit(alice), headers=KEY) for _ in range(20)]

    answers = await asyncio.gather(*requests)

    assert {answer.status_code for answer in answers} <= {201, 409}
    assert await available(alice) == 100_500


async def test_a_key_is_forgotten_after_a_day(market: Marketplace, olga: Caller, alice: Player) -> None:
    await olga.post("/admin/deposits", deposit(alice), headers=KEY)
    market.clock.advance(hours=24)

    again = await olga.call("POST", "/admin/deposits", json=deposit(alice, 7), headers=KEY)

    assert REPLAYED not in again.headers
    assert await available(alice) == 100_507


async def test_an_answer_that_was_lost_is_given_after_a_restart(folder: Path) -> None:
    """The server dies after the commit and before the answer: the key knows what happened."""
    clock = Clock()
    async with marketplace(folder, clock) as market:
        olga = await market.user("olga", is_operator=True)
        alice, _ = await market.deal()
        first = await olga.post("/admin/deposits", deposit(alice), headers=KEY)
    async with marketplace(folder, clock) as market:
        again = await Caller(market.http, olga.headers).call(
            "POST", "/admin/deposits", json=deposit(alice), headers=KEY
        )

        assert again.json()["data"] == first
        assert again.headers[REPLAYED] == "true"
        assert await available(Caller(market.http, alice.headers)) == 100_500


async def test_what_was_not_committed_is_not_answered(
    market: Marketplace, olga: Caller, alice: Player, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fails before the commit: neither the money nor the key is there."""
    commits = market.server.database.commits
    submit = commits.submit

    def fail(unit: Any) -> None:
        run = unit.run

        def run_and_fail(tx: WriterTx) -> Any:
            run(tx)
            raise sqlite3.OperationalError("disk I/O error")

        unit.run = run_and_fail
        submit(unit)

    monkeypatch.setattr(commits, "submit", fail)
    refused = await olga.refused("POST", "/admin/deposits", deposit(alice), headers=KEY)
    monkeypatch.undo()

    assert refused.why == (503, "unavailable")
    assert await available(alice) == 100_000
    again = await olga.call("POST", "/admin/deposits", json=deposit(alice), headers=KEY)
    assert REPLAYED not in again.headers
    assert await available(alice) == 100_500


def test_the_fingerprint_is_of_what_a_body_says() -> None:
    assert fingerprint_of(b'{"a": 1, "b": [2]}') == fingerprint_of(b'{"b":[2],"a":1}')
    assert fingerprint_of(b'{"a": 1}') != fingerprint_of(b'{"a": "1"}')
    assert fingerprint_of(b"") != fingerprint_of(b"{}")


def test_no_key_is_none_unless_one_is_needed() -> None:
    assert parse_key([], is_required=False) is None
    with pytest.raises(Malformed):
        parse_key([], is_required=True)
    with pytest.raises(Invalid):
        parse_key(["a", "b"], is_required=False)

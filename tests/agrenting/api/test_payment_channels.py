"""Payment channels by REST: money in, the way out alone, where money is, and lists; Alice opens, Bob answers."""

import csv
import io
from datetime import timedelta
from typing import Any

import pytest

from tests.agrenting.api.market import START, Caller, Marketplace, Player
from tests.agrenting.api.payers import (
    CHANNELS,
    DEPOSIT,
    WITH,
    Json,
    accepted,
    at,
    close,
    entries,
    fund,
    hand_in,
    money,
    pay,
    pending,
    propose,
    require_sound,
)

NOTHING = "00000000-0000-0000-0000-000000000000"
DAY_S = 86_400


@pytest.fixture
async def channel(alice: Player, bob: Player) -> Json:
    """An open online channel with Alice's 10,000 in it."""
    return await accepted(alice, bob)


# Deposits.


async def test_deposits_raise_their_own_side_and_leave_the_nonce(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    await fund(market, bob, 300)
    await pay(channel, alice, bob, 1_000)

    await alice.post(at(channel, "deposit"), {"amount": 50})
    after = await bob.post(at(channel, "deposit"), {"amount": "0.0003"})

    assert (after["balance_a"], after["balance_b"], after["last_nonce"]) == (DEPOSIT - 950, 1_300, 1)
    assert (after["deposit_a"], after["deposit_b"]) == (DEPOSIT + 50, 300)
    assert (after["deposited_since_a"], after["deposited_since_b"]) == (50, 300)
    assert (await money(alice), await money(bob)) == ((WITH - DEPOSIT - 50, DEPOSIT - 950), (0, 1_300))
    await require_sound(market, locked=DEPOSIT + 350)


@pytest.mark.parametrize("amount", [0, -1, "0", "1e3", 1.5, None])
async def test_what_is_no_amount_is_not_deposited(alice: Player, channel: Json, amount: Any) -> None:
    refused = await alice.refused("POST", at(channel, "deposit"), {"amount": amount})

    assert refused.answer.status_code == 422
    assert await money(alice) == (WITH - DEPOSIT, DEPOSIT)


async def test_more_than_there_is_is_not_deposited(alice: Player, channel: Json) -> None:
    refused = await alice.refused("POST", at(channel, "deposit"), {"amount": WITH})

    assert (refused.why, refused.details["available"]) == ((409, "insufficient_balance"), WITH - DEPOSIT)


async def test_nothing_is_deposited_while_a_transfer_is_pending_or_it_is_not_open(
    alice: Player, bob: Player, channel: Json
) -> None:
    waiting = await pending(alice, bob)
    offline = await accepted(alice, bob, mode="offline")
    await propose(channel, alice, 1)
    body = {"amount": 1}

    assert (await alice.refused("POST", at(waiting, "deposit"), body)).why == (409, "channel_not_open")
    refused = await alice.refused("POST", at(offline, "deposit"), body)
    assert (refused.why, refused.details) == ((409, "wrong_mode"), {"mode": "offline"})
    refused = await alice.refused("POST", at(channel, "deposit"), body)
    assert (refused.why, refused.details) == ((409, "transfer_pending"), {"nonce": 1})
    await alice.post(at(channel, "force-close"))
    assert (await alice.refused("POST", at(channel, "deposit"), body)).why == (409, "channel_not_open")
    await close(channel, alice, bob)
    assert (await alice.refused("POST", at(channel, "deposit"), body)).why == (409, "terminal_state")


# The way out alone.


async def test_a_force_close_opens_the_window(market: Marketplace, alice: Player, bob: Player) -> None:
    channel = await accepted(alice, bob, window_s=2 * DAY_S)
    await propose(channel, alice, 10)

    closing = await bob.post(at(channel, "force-close"))
    again = await alice.post(at(channel, "force-close"))

    ends_at = (START + timedelta(days=2)).isoformat().replace("+00:00", "Z")
    assert (closing["status"], closing["closing"]) == (
        "closing", {"by": bob.id, "began_at": "2030-01-01T12:00:00Z", "ends_at": ends_at},
    )  # fmt: skip
    assert (closing["pending_proposal"], closing["last_nonce"]) == (None, 1)  # The proposal is voided.
    assert (again["duplicate"], again["closing"]) == (True, closing["closing"])
    market.clock.advance(days=2)
    closed = await alice.get(at(channel))
    assert (closed["status"], closed["cause"], closed["final_balance_a"]) == ("closed", "force_close", DEPOSIT)


async def test_only_an_open_channel_is_force_closed(alice: Player, bob: Player) -> None:
    waiting = await pending(alice, bob)

    assert (await alice.refused("POST", at(waiting, "force-close"))).why == (409, "channel_not_open")
    await alice.post(at(waiting, "cancel"))
    assert (await alice.refused("POST", at(waiting, "force-close"))).why == (409, "terminal_state")


# Money through a whole life.


async def test_money_is_where_the_balances_say_through_a_whole_life(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    await fund(market, bob, 2_000)
    channel = await pending(alice, bob)
    assert (await money(alice), await money(bob)) == ((WITH - DEPOSIT, DEPOSIT), (2_000, 0))
    await bob.post(at(channel, "accept"), {"deposit": 2_000})
    assert (await money(alice), await money(bob)) == ((WITH - DEPOSIT, DEPOSIT), (0, 2_000))
    await pay(channel, alice, bob, 3_000)
    await pay(channel, bob, alice, 500)
    await propose(channel, alice, 100)  # What is only proposed has not moved.
    assert (await money(alice), await money(bob)) == ((WITH - DEPOSIT, DEPOSIT - 2_500), (0, 4_500))
    await bob.post(at(channel, "reject_transfer"), {"reason": "no"})
    await alice.post(at(channel, "deposit"), {"amount": 1_000})
    assert (await money(alice), await money(bob)) == ((WITH - DEPOSIT - 1_000, DEPOSIT - 1_500), (0, 4_500))
    other = await accepted(alice, bob, mode="offline")
    await hand_in(other, alice, bob, 400, -100)
    assert (await money(alice), await money(bob)) == (
        (WITH - 2 * DEPOSIT - 1_000, 2 * DEPOSIT - 1_800), (0, 4_800),
    )  # fmt: skip
    await require_sound(market, locked=2 * DEPOSIT + 3_000)

    await close(channel, alice, bob, (9_000, 4_000))  # Other than the balances: both have signed it.
    assert (await money(alice), await money(bob)) == (
        (WITH - 2 * DEPOSIT + 8_000, DEPOSIT - 300), (4_000, 300),
    )  # fmt: skip
    await bob.post(at(other, "force-close"))
    market.clock.advance(days=1)
    await market.server.timers.run_due()
    assert (await money(alice), await money(bob)) == ((WITH - 2_300, 0), (4_300, 0))
    await require_sound(market, locked=0)


async def test_transactions_name_their_channel(market: Marketplace, alice: Player, bob: Player) -> None:
    channel = await accepted(alice, bob)
    other = await pending(alice, bob, deposit=77)
    await alice.post(at(channel, "deposit"), {"amount": 5})
    await pay(channel, alice, bob, 1_000)
    await close(channel, alice, bob)

    assert await entries(alice) == [
        ("unlock", DEPOSIT - 995), ("lock", -5), ("lock", -77), ("lock", -DEPOSIT), ("deposit", WITH),
    ]  # fmt: skip
    assert await entries(bob) == [("unlock", 1_000)]
    assert await entries(alice, channel_id=channel["id"]) == [
        ("unlock", DEPOSIT - 995), ("lock", -5), ("lock", -DEPOSIT),
    ]  # fmt: skip
    assert await entries(alice, channel_id=other["id"]) == [("lock", -77)]
    assert await entries(alice, kind="lock") == [("lock", -5), ("lock", -77), ("lock", -DEPOSIT)]
    assert await entries(alice, kind="unlock", channel_id=other["id"]) == []
    assert await entries(alice, channel_id="nothing") == []
    (entry,) = await bob.get("/ledger/transactions")
    assert (entry["channel_id"], entry["task_id"]) == (channel["id"], None)
    (deposit,) = await alice.get("/ledger/transactions", params={"kind": "deposit"})
    assert deposit["channel_id"] is None


async def test_the_table_of_transactions_has_the_channel(alice: Player, bob: Player, channel: Json) -> None:
    answer = await alice.call("GET", "/ledger/transactions", headers={"accept": "text/csv"})

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [(row["kind"], row["amount"], row["channel_id"]) for row in rows] == [
        ("lock", str(-DEPOSIT), channel["id"]),
        ("deposit", str(WITH), ""),
    ]


async def test_the_operator_sees_what_is_locked(olga: Caller, alice: Player, channel: Json) -> None:
    held = await olga.get("/admin/ledger")

    assert (held["agents"], held["channels"], held["sum"]) == (WITH - DEPOSIT, DEPOSIT, 0)


# Reading.


async def test_both_read_a_channel_and_nobody_else(
    market: Marketplace, alice: Player, bob: Player, mallory: Player, channel: Json
) -> None:
    assert await alice.get(at(channel)) == await bob.get(at(channel)) == channel
    sibling = await market.agent("alice", "Sibling")
    paths = ("", "transfers", "history", "receipt")
    for who in (mallory, sibling):
        for path in paths:
            assert (await who.refused("GET", at(channel, path))).why == (404, "not_found")
    for path in paths:
        assert (await alice.refused("GET", at(NOTHING, path))).why == (404, "not_found")


@pytest.mark.parametrize(
    ("event", "body"),
    [
        ("accept", {"deposit": 0}),
        ("decline", {}),
        ("cancel", None),
        ("deposit", {"amount": 1}),
        ("force-close", None),
        ("propose_transfer", {"amount": 1, "nonce": 1, "signature": "x"}),
        ("acknowledge_transfer", {"amount": 1, "nonce": 1, "signature": "x"}),
        ("reject_transfer", {"reason": "no"}),
        ("close", {"final_balance_a": 1, "final_balance_b": 1, "signature_a": "x", "signature_b": "x"}),
        ("close_request", {"final_balance_a": 1, "final_balance_b": 1, "signature": "x"}),
        ("dispute", {"reason": "no"}),
        ("withdraw_dispute", None),
        ("submit_transfers", {"transfers": []}),
    ],
)
async def test_strangers_hear_that_there_is_no_such_channel(
    alice: Player, mallory: Player, channel: Json, event: str, body: Json | None
) -> None:
    foreign = await mallory.refused("POST", at(channel, event), body)
    missing = await alice.refused("POST", at(NOTHING, event), body)

    assert foreign.why == missing.why == (404, "not_found")
    assert foreign.error["message"] == missing.error["message"]


async def test_lists_know_roles_and_statuses(market: Marketplace, alice: Player, bob: Player) -> None:
    public = await market.agent("alice", "Public", is_global=True)
    await fund(market, bob, 100)
    expired = await pending(alice, bob, deposit=10)
    market.clock.advance(days=1)
    await market.server.timers.run_due()
    rest = ("pending", "open", "closing", "disputed", "closed", "declined")
    ids = {status: (await pending(alice, bob, deposit=10))["id"] for status in rest}
    for status in ("open", "closing", "disputed", "closed"):
        await bob.post(at(ids[status], "accept"))
    await alice.post(at(ids["closing"], "force-close"))
    await alice.post(at(ids["disputed"], "dispute"), {"reason": "no"})
    await close({"id": ids["closed"]}, alice, bob)
    await bob.post(at(ids["declined"], "decline"))
    theirs = await pending(bob, public, deposit=10)
    ids["expired"] = expired["id"]

    for status, id_ in ids.items():
        for who, role in ((alice, "opener"), (bob, "counterparty")):
            found = await who.get(CHANNELS, params={"status": status, "role": role})
            assert [(one["id"], one["status"]) for one in found] == [(id_, status)]
    assert [one["id"] for one in await bob.get(CHANNELS, params={"role": "opener"})] == [theirs["id"]]
    assert await alice.get(CHANNELS, params={"role": "counterparty"}) == []
    assert await alice.get(CHANNELS, params={"role": "counterparty", "status": "open"}) == []
    assert len(await bob.get(CHANNELS, params={"status": "pending"})) == 2
    assert len(await bob.get(CHANNELS)) == 8


async def test_lists_come_page_by_page_newest_first(alice: Player, bob: Player, mallory: Player) -> None:
    ids = [(await pending(alice, bob, deposit=1))["id"] for _ in range(7)]

    seen: list[str] = []
    query = {"limit": "3"}
    while True:
        page = await bob.page(CHANNELS, params=query)
        seen += [one["id"] for one in page["data"]]
        if not page["metadata"]["has_more"]:
            break
        query["cursor"] = page["metadata"]["next_cursor"]

    assert seen == ids[::-1]
    assert await mallory.get(CHANNELS) == []


@pytest.mark.parametrize(
    "query", [{"role": "client"}, {"status": "agreed"}, {"limit": "0"}, {"limit": "101"}, {"cursor": "x"}]
)
async def test_a_filter_that_does_not_exist_is_refused(alice: Player, query: dict[str, str]) -> None:
    assert (await alice.refused("GET", CHANNELS, params=query)).answer.status_code == 422

"""Payment channels by REST: opened and answered, and what stands in the way; Alice opens, Bob answers."""

import asyncio
from typing import Any

import pytest

from tests.agrenting.api.market import Marketplace, Player
from tests.agrenting.api.payers import (
    CHANNELS,
    DEPOSIT,
    WITH,
    Json,
    accepted,
    at,
    fund,
    money,
    pay,
    pending,
    require_sound,
    terms,
    timers,
)

NOTHING = "00000000-0000-0000-0000-000000000000"
DAY_S, WEEK_S = 86_400, 604_800
MONEY_MAX = 2**53 - 1


@pytest.fixture
async def channel(alice: Player, bob: Player) -> Json:
    """An open online channel with Alice's 10,000 in it."""
    return await accepted(alice, bob)


# Opening.


async def test_opening_locks_the_deposit_and_tells_the_counterparty(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    answer = await alice.call("POST", CHANNELS, json=terms(bob))
    channel = answer.json()["data"]

    assert answer.status_code == 201
    assert channel["id"] == channel["channel_id"]
    told = {name: channel[name] for name in ("status", "mode", "window_s", "agent_a_id", "agent_b_id", "deposit_a")}
    assert told == {
        "status": "pending",
        "mode": "online",
        "window_s": DAY_S,
        "agent_a_id": alice.id,
        "agent_b_id": bob.id,
        "deposit_a": DEPOSIT,
    }
    assert (channel["balance_a"], channel["balance_b"], channel["last_nonce"], channel["next_nonce"]) == (
        DEPOSIT, 0, 0, 1,
    )  # fmt: skip
    assert channel["expires_at"] == "2030-01-02T12:00:00Z"
    assert (channel["signing_domain"], channel["currency"], channel["exponent"]) == (alice.domain, "USD", 6)
    assert await money(alice) == (WITH - DEPOSIT, DEPOSIT)
    assert await money(bob) == (0, 0)
    (message,) = await bob.get("/messages")
    assert (message["type"], message["from_agent_id"]) == ("payment_channel", alice.id)
    assert message["payload"] == {
        "channel_id": channel["id"],
        "topic": f"payment:{channel['id']}",
        "status": "pending",
        "agent_a_id": alice.id,
        "agent_a_handle": alice.handle,
        "deposit": DEPOSIT,
        "mode": "online",
        "window_s": DAY_S,
        "expires_at": "2030-01-02T12:00:00Z",
    }
    assert await timers(market) == [(f"payment:{channel['id']}", "payment_clock")]
    await require_sound(market, locked=DEPOSIT)


@pytest.mark.parametrize(("deposit", "locked"), [(1, 1), ("0.01", 10_000), ("0.000001", 1), (WITH, WITH)])
async def test_a_deposit_comes_in_both_forms(alice: Player, bob: Player, deposit: int | str, locked: int) -> None:
    channel = await pending(alice, bob, deposit=deposit)

    assert channel["deposit_a"] == locked
    assert await money(alice) == (WITH - locked, locked)


@pytest.mark.parametrize("deposit", [0, -1, "0", "0.0000001", "-1", "1e3", 1.5, True, None, "", " 1"])
async def test_what_is_no_deposit_locks_nothing(alice: Player, bob: Player, deposit: Any) -> None:
    refused = await alice.refused("POST", CHANNELS, terms(bob, deposit=deposit))

    assert refused.answer.status_code == 422
    assert refused.error["code"] in {"amount_out_of_range", "invalid_amount", "invalid_payload"}
    assert await money(alice) == (WITH, 0)
    assert await alice.get(CHANNELS) == []


@pytest.mark.parametrize("deposit", [WITH + 1, MONEY_MAX])
async def test_more_than_there_is_is_refused(alice: Player, bob: Player, deposit: int) -> None:
    refused = await alice.refused("POST", CHANNELS, terms(bob, deposit=deposit))

    assert refused.why == (409, "insufficient_balance")
    assert refused.details == {"available": WITH, "required": deposit}
    assert await bob.get("/messages") == []


@pytest.mark.parametrize("window_s", [DAY_S, WEEK_S])
async def test_a_window_is_as_the_opener_says(alice: Player, bob: Player, window_s: int) -> None:
    assert (await pending(alice, bob, window_s=window_s, mode="offline"))["window_s"] == window_s


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"window_s": DAY_S - 1}, "window_out_of_range"),
        ({"window_s": WEEK_S + 1}, "window_out_of_range"),
        ({"window_s": 2**70}, "invalid_payload"),
        ({"window_s": "86400"}, "invalid_payload"),
        ({"mode": "both"}, "invalid_payload"),
        ({"mode": None}, "invalid_payload"),
        ({"counterparty_agent_id": None}, "invalid_payload"),
    ],
)
async def test_terms_that_cannot_be_are_refused(alice: Player, bob: Player, fields: Json, code: str) -> None:
    refused = await alice.refused("POST", CHANNELS, terms(bob, **fields))

    assert refused.why == (422, code)


async def test_nobody_opens_a_channel_with_itself_or_with_nobody(alice: Player, bob: Player) -> None:
    assert (await alice.refused("POST", CHANNELS, terms(alice))).why == (422, "same_agent")
    body = terms(bob, counterparty_agent_id=NOTHING)
    assert (await alice.refused("POST", CHANNELS, body)).why == (404, "not_found")


async def test_both_need_keys_to_sign_with(market: Marketplace, alice: Player, bob: Player) -> None:
    keyless = await market.agent("bob", "Keyless", public_key=None, is_global=True)
    pauper = await market.agent("alice", "Pauper", public_key=None, deposit=DEPOSIT)

    assert (await alice.refused("POST", CHANNELS, terms(keyless))).why == (409, "public_key_required")
    assert (await pauper.refused("POST", CHANNELS, terms(bob))).why == (409, "public_key_required")


async def test_two_agents_have_so_many_channels_open_whoever_opened_them(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    await fund(market, bob, 100)
    public = await market.agent("alice", "Public", deposit=100, is_global=True)
    last = await pending(public, bob, deposit=1)
    for _ in range(9):
        await pending(public, bob, deposit=1)
    for _ in range(10):
        await pending(bob, public, deposit=1)

    refused = await public.refused("POST", CHANNELS, terms(bob, deposit=1))
    assert refused.why == (409, "too_many_open")
    await pending(alice, bob, deposit=1)  # Others are not counted with them.
    await bob.post(at(last, "decline"))
    assert (await pending(public, bob, deposit=1))["status"] == "pending"


# The gate.


async def test_strangers_need_a_contact(market: Marketplace, alice: Player) -> None:
    await market.user("dave")
    dave = await market.agent("dave", "Writer")

    refused = await alice.refused("POST", CHANNELS, terms(dave))

    assert refused.why == (403, "contact_required")
    assert await money(alice) == (WITH, 0)


async def befriended(market: Marketplace, alice: Player, scope: Json) -> Player:
    """Dave's writer, whose contact with Alice's client is narrowed."""
    await market.user("dave")
    dave = await market.agent("dave", "Writer", deposit=WITH)
    await alice.post("/agent/contacts/add", {"handle": dave.handle})
    await dave.post("/agent/contacts/requests/respond", {"action": "approve", "handle": alice.handle, "scope": scope})
    return dave


async def test_a_scope_names_the_kind(market: Marketplace, alice: Player) -> None:
    dave = await befriended(market, alice, {"kinds": ["task"]})

    refused = await alice.refused("POST", CHANNELS, terms(dave))

    assert (refused.why, refused.details) == ((403, "contact_scope_exceeded"), {"kinds": ["task"]})


async def test_a_scope_bounds_what_the_opener_deposits_in_all(market: Marketplace, alice: Player) -> None:
    dave = await befriended(market, alice, {"kinds": ["payment_channel"], "max_price": 500, "max_open": 1})

    refused = await alice.refused("POST", CHANNELS, terms(dave, deposit=501))
    assert refused.why == (403, "contact_scope_exceeded")
    channel = await pending(alice, dave, deposit=400)
    assert (await alice.refused("POST", CHANNELS, terms(dave, deposit=1))).why == (403, "contact_scope_exceeded")
    await dave.post(at(channel, "accept"), {"deposit": 2_000})
    assert (await alice.refused("POST", at(channel, "deposit"), {"amount": 101})).why == (
        403, "contact_scope_exceeded",
    )  # fmt: skip
    await alice.post(at(channel, "deposit"), {"amount": 100})
    after = await dave.post(at(channel, "deposit"), {"amount": 3_000})

    assert (after["balance_a"], after["balance_b"], after["max_price"]) == (500, 5_000, 500)


# Idempotency keys.


async def test_a_repeated_opening_locks_once(market: Marketplace, alice: Player, bob: Player) -> None:
    headers = {"idempotency-key": "k-1"}

    first = await alice.call("POST", CHANNELS, json=terms(bob), headers=headers)
    again = await alice.call("POST", CHANNELS, json=terms(bob), headers=headers)

    assert again.json() == first.json()
    assert (again.status_code, again.headers["idempotency-replayed"]) == (201, "true")
    assert await money(alice) == (WITH - DEPOSIT, DEPOSIT)
    assert len(await bob.get("/messages")) == 1
    other = await alice.refused("POST", CHANNELS, terms(bob, deposit=1), headers=headers)
    assert other.why == (422, "idempotency_mismatch")
    await require_sound(market, locked=DEPOSIT)


async def test_openings_with_one_key_at_once_lock_once(market: Marketplace, alice: Player, bob: Player) -> None:
    headers = {"x-idempotency-key": "k-1"}

    answers = await asyncio.gather(*(alice.call("POST", CHANNELS, json=terms(bob), headers=headers) for _ in range(5)))

    statuses = {answer.status_code for answer in answers}
    assert 201 in statuses
    assert statuses <= {201, 409}
    assert {answer.json()["error"]["code"] for answer in answers if answer.status_code == 409} <= {
        "idempotency_pending"
    }
    assert await money(alice) == (WITH - DEPOSIT, DEPOSIT)
    await require_sound(market, locked=DEPOSIT)


async def test_a_repeated_deposit_moves_once_with_a_key_and_twice_without(alice: Player, channel: Json) -> None:
    for _ in range(2):
        await alice.post(at(channel, "deposit"), {"amount": 5}, headers={"idempotency-key": "more"})
    await alice.post(at(channel, "deposit"), {"amount": 7})
    after = await alice.post(at(channel, "deposit"), {"amount": 7})

    assert after["balance_a"] == DEPOSIT + 5 + 7 + 7


# Spending caps.


async def test_a_cap_holds_wherever_money_leaves_what_is_available(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    await fund(market, bob, 1_000)
    keys = {"name": "small", "max_amount": 500}
    small = market.with_key((await alice.post("/keys", keys))["api_key"])
    narrow = market.with_key((await bob.post("/keys", keys))["api_key"])
    other = await pending(alice, bob)
    before = (await money(alice), await money(bob))

    for who, path, body in (
        (small, CHANNELS, terms(bob, deposit=501)),
        (narrow, at(other, "accept"), {"deposit": 501}),
        (small, at(channel, "deposit"), {"amount": 501}),
        (narrow, at(channel, "deposit"), {"amount": "0.000501"}),
    ):
        refused = await who.refused("POST", path, body)
        assert (refused.why, refused.details) == ((409, "spend_cap_exceeded"), {"max_amount": 500})
    assert (await money(alice), await money(bob)) == before
    assert (await bob.get(at(other)))["status"] == "pending"

    await narrow.post(at(other, "accept"), {"deposit": 500})
    await small.post(at(channel, "deposit"), {"amount": 500})
    assert (await small.post(CHANNELS, terms(bob, deposit=500)))["deposit_a"] == 500


async def test_a_cap_of_a_day_counts_all_doors_and_refunds_give_nothing_back(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    made = await alice.post("/keys", {"name": "daily", "max_amount_per_day": 1_000})
    daily = market.with_key(made["api_key"])
    first = await daily.post(CHANNELS, terms(bob, deposit=600))
    await daily.post(at(first, "cancel"))  # The money is back; the cap has counted it.

    assert (await daily.refused("POST", CHANNELS, terms(bob, deposit=401))).details == {
        "max_amount_per_day": 1_000,
        "spent": 600,
    }
    await daily.post(at(channel, "deposit"), {"amount": 400})
    assert (await daily.refused("POST", at(channel, "deposit"), {"amount": 1})).why == (409, "spend_cap_exceeded")
    market.clock.advance(days=1)
    assert (await daily.post(at(channel, "deposit"), {"amount": 1_000}))["deposit_a"] == DEPOSIT + 1_400


async def test_transfers_inside_a_channel_count_for_no_cap(
    market: Marketplace, alice: Player, bob: Player, channel: Json
) -> None:
    made = await alice.post("/keys", {"name": "tiny", "max_amount": 1, "max_amount_per_day": 1})
    alice.headers["x-api-key"] = made["api_key"]

    after = await pay(channel, alice, bob, 5_000)

    assert after["balance_b"] == 5_000


# Answers of the counterparty.


async def test_an_acceptance_opens_with_a_deposit_of_its_own(market: Marketplace, alice: Player, bob: Player) -> None:
    await fund(market, bob, 500)
    channel = await pending(alice, bob)

    opened = await bob.post(at(channel, "accept"), {"deposit": "0.0005"})

    assert (opened["status"], opened["balance_a"], opened["balance_b"]) == ("open", DEPOSIT, 500)
    assert (opened["deposit_b"], opened["deposited_since_b"], opened["accepted_at"]) == (
        500, 500, "2030-01-01T12:00:00Z",
    )  # fmt: skip
    assert (await money(alice), await money(bob)) == ((WITH - DEPOSIT, DEPOSIT), (0, 500))
    (message,) = await alice.get("/messages")
    assert (message["type"], message["payload"]["status"], message["payload"]["deposit"]) == (
        "payment_channel", "open", 500,
    )  # fmt: skip
    await require_sound(market, locked=DEPOSIT + 500)


async def test_an_acceptance_needs_no_body(alice: Player, bob: Player) -> None:
    channel = await pending(alice, bob)

    assert (await bob.post(at(channel, "accept")))["deposit_b"] == 0


async def test_an_acceptance_repeated_is_a_duplicate_and_another_is_refused(
    market: Marketplace, alice: Player, bob: Player
) -> None:
    await fund(market, bob, 500)
    channel = await accepted(alice, bob, deposit=100)

    again = await bob.post(at(channel, "accept"), {"deposit": 100})
    other = await bob.refused("POST", at(channel, "accept"), {"deposit": 200})

    assert again["duplicate"] is True
    assert (other.why, other.details["status"]) == ((409, "channel_not_pending"), "open")
    assert await money(bob) == (400, 100)


async def test_what_one_cannot_pay_one_does_not_accept(alice: Player, bob: Player) -> None:
    channel = await pending(alice, bob)

    refused = await bob.refused("POST", at(channel, "accept"), {"deposit": 1})

    assert refused.why == (409, "insufficient_balance")
    assert (await bob.get(at(channel)))["status"] == "pending"
    assert (await bob.refused("POST", at(channel, "accept"), {"deposit": -1})).answer.status_code == 422


async def test_only_the_counterparty_accepts_and_declines_only_the_opener_takes_back(
    alice: Player, bob: Player
) -> None:
    channel = await pending(alice, bob)

    for who, event in ((alice, "accept"), (alice, "decline"), (bob, "cancel")):
        assert (await who.refused("POST", at(channel, event))).why == (403, "forbidden_role")


@pytest.mark.parametrize(
    ("event", "body", "cause", "reason"),
    [
        ("decline", {"reason": "no time"}, "declined", "no time"),
        ("decline", {}, "declined", ""),
        ("cancel", None, "cancelled", None),
    ],
)
async def test_a_channel_that_is_not_wanted_gives_the_deposit_back(
    market: Marketplace, alice: Player, bob: Player, event: str, *, body: Json | None, cause: str, reason: str | None
) -> None:
    channel = await pending(alice, bob)
    who = alice if event == "cancel" else bob

    ended = await who.post(at(channel, event), body)

    assert (ended["status"], ended["cause"], ended["reason"]) == ("declined", cause, reason)
    assert (ended["closed_at"], ended["final_balance_a"], ended["final_balance_b"]) == (
        "2030-01-01T12:00:00Z", DEPOSIT, 0,
    )  # fmt: skip
    assert await money(alice) == (WITH, 0)
    market.clock.advance(days=1)
    await market.server.timers.run_due()  # Its timer finds nothing to do.
    assert await timers(market) == []
    assert (await who.post(at(channel, event), body))["duplicate"] is True
    refused = await bob.refused("POST", at(channel, "accept"))
    assert (refused.why, refused.details["status"]) == ((409, "terminal_state"), "declined")
    await require_sound(market, locked=0)


async def test_a_reason_has_its_length(alice: Player, bob: Player) -> None:
    channel = await pending(alice, bob)

    assert (await bob.refused("POST", at(channel, "decline"), {"reason": "x" * 2_001})).why == (422, "invalid_payload")
    assert (await bob.post(at(channel, "decline"), {"reason": "x" * 2_000}))["status"] == "declined"


async def test_an_open_channel_is_neither_declined_nor_taken_back(alice: Player, bob: Player, channel: Json) -> None:
    for who, event in ((bob, "decline"), (alice, "cancel")):
        assert (await who.refused("POST", at(channel, event))).why == (409, "channel_not_pending")


async def test_after_a_day_nobody_answers_any_more(market: Marketplace, alice: Player, bob: Player) -> None:
    channel = await pending(alice, bob)
    market.clock.advance(days=1)

    for who, event in ((bob, "accept"), (bob, "decline"), (alice, "cancel")):
        assert (await who.refused("POST", at(channel, event))).why == (410, "expired")
    assert (await bob.get(at(channel)))["status"] == "expired"  # Whoever looks sees it, before a timer has run.

"""What operators do: organisations, users, money in and out."""

from typing import Any

import pytest

from agrenting.rails import MANUAL, Rail
from channels.ledger import MONEY_MAX
from tests.agrenting.api.market import Caller, Marketplace, Player

KEY = {"idempotency-key": "once"}


async def test_an_organisation_is_made_once(olga: Caller) -> None:
    made = await olga.post("/admin/organisations", {"name": " Acme  Inc "})

    assert made["name"] == "Acme Inc"
    assert (await olga.refused("POST", "/admin/organisations", {"name": "Acme Inc"})).why == (409, "name_taken")
    assert await olga.get("/admin/organisations") == [made]


async def test_a_user_is_made_with_a_key_shown_once(market: Marketplace, olga: Caller) -> None:
    organisation = await olga.post("/admin/organisations", {"name": "Acme"})

    made = await olga.post("/admin/users", {"handle": "@dave", "organisation": "Acme"})

    assert (made["handle"], made["organisation_id"], made["is_operator"]) == ("dave", organisation["id"], False)
    assert (await market.with_key(made["api_key"]).get("/me"))["id"] == made["id"]
    assert made["api_key"] not in str(await olga.get("/admin/users"))


async def test_an_operator_makes_operators(market: Marketplace, olga: Caller) -> None:
    made = await olga.post("/admin/users", {"handle": "otto", "is_operator": True})

    assert await market.with_key(made["api_key"]).get("/admin/users")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"handle": "olga"}, (409, "handle_taken")),
        ({"handle": "ad-min"}, (422, "reserved_handle")),
        ({"handle": "s.h-i_t"}, (422, "profane_handle")),
        ({"handle": "No Spaces"}, (422, "invalid_handle")),
        ({"handle": "dave", "organisation": "Nowhere"}, (404, "not_found")),
        ({"handle": "dave", "is_operator": "yes"}, (422, "invalid_payload")),
        ({}, (422, "invalid_payload")),
    ],
)
async def test_a_user_is_refused(olga: Caller, body: dict[str, Any], why: tuple[int, str]) -> None:
    assert (await olga.refused("POST", "/admin/users", body)).why == why


async def test_money_comes_in_and_goes_out(olga: Caller, mallory: Player) -> None:
    deposit = await olga.post(
        "/admin/deposits", {"agent_id": mallory.id, "amount": 300, "memo": " May "}, headers={"idempotency-key": "1"}
    )
    payout = await olga.post(
        "/admin/payouts", {"handle": "@mallory/snoop", "amount": 5_300}, headers={"idempotency-key": "2"}
    )

    assert deposit == {
        "agent_id": mallory.id,
        "handle": mallory.handle,
        "amount": 300,
        "available": 5_300,
        "rail": "manual",
    }
    assert payout["available"] == 0
    assert [(entry["kind"], entry["memo"]) for entry in await mallory.get("/ledger/transactions")] == [
        ("payout", ""),
        ("deposit", "May"),
        ("deposit", "test"),
    ]


@pytest.mark.parametrize("path", ["/admin/deposits", "/admin/payouts"])
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"handle": "nobody/bot"}, (404, "not_found")),
        ({"agent_id": "nobody"}, (404, "not_found")),
        ({}, (422, "invalid_payload")),
        ({"handle": "mallory/snoop", "agent_id": "both"}, (422, "invalid_payload")),
        ({"handle": "mallory/snoop", "amount": 0}, (422, "invalid_amount")),
        ({"handle": "mallory/snoop", "memo": "x" * 201}, (422, "invalid_payload")),
    ],
)
async def test_a_movement_is_refused(
    olga: Caller, mallory: Player, path: str, body: dict[str, Any], why: tuple[int, str]
) -> None:
    assert (await olga.refused("POST", path, {"amount": 1, **body}, headers=KEY)).why == why
    assert (await mallory.get("/ledger/balance"))["total"] == 5_000


async def test_nobody_takes_out_more_than_there_is(olga: Caller, mallory: Player) -> None:
    body = {"agent_id": mallory.id, "amount": 5_001}

    refused = await olga.refused("POST", "/admin/payouts", body, headers=KEY)

    assert refused.why == (409, "insufficient_balance")
    assert refused.details == {"available": 5_000, "required": 5_001}


async def test_all_money_together_stays_exact_in_every_client(olga: Caller, mallory: Player) -> None:
    body = {"agent_id": mallory.id, "amount": MONEY_MAX}

    assert (await olga.refused("POST", "/admin/deposits", body, headers=KEY)).why == (409, "money_limit")


async def test_a_payout_counts_against_the_operators_cap(market: Marketplace, olga: Caller, mallory: Player) -> None:
    scopes = (await olga.get("/keys"))[0]["scopes"]
    small = await olga.post("/keys", {"name": "small", "scopes": scopes, "max_amount": 100})
    body = {"agent_id": mallory.id, "amount": 101}

    refused = await market.with_key(small["api_key"]).refused("POST", "/admin/payouts", body, headers=KEY)

    assert refused.why == (409, "spend_cap_exceeded")


def test_the_built_in_rail_is_the_operators_own_hands() -> None:
    rail: Rail = MANUAL

    assert rail.name == "manual"

"""Money in bodies: both forms, everywhere, and nothing that would have to be rounded."""

from typing import Any

import pytest

from agrenting.api.money import parse_query_money
from channels.errors import Invalid
from channels.ledger import MONEY_MAX
from tests.agrenting.api.market import Caller, Marketplace, Player

GOOD: list[tuple[Any, int]] = [
    (1, 1),
    (8_500_000, 8_500_000),
    ("8.50", 8_500_000),
    ("8", 8_000_000),
    ("0.000001", 1),
]
BAD_FORMS: list[Any] = [
    -1,
    2**53 - 1 + 1,
    "-1",
    "+1",
    "1e3",
    "1.0000001",
    ".5",
    "5.",
    "",
    " 1",
    "1,5",
    "\uff11",
    "0x1",
    "01",
    "inf",
]
BAD_TYPES: list[Any] = [8.5, 8.0, True, None, [], {}, 10**40]


@pytest.fixture
async def deposits(market: Marketplace, olga: Caller) -> Player:
    """An agent without money yet."""
    await market.user("carol")
    return await market.agent("carol", "Saver")


async def put_in(olga: Caller, saver: Player, amount: Any) -> Any:
    body = {"agent_id": saver.id, "amount": amount}
    return await olga.call(
        "POST", "/admin/deposits", json=body, headers={"idempotency-key": f"of {ascii(amount)[:200]}"}
    )


async def test_both_forms_are_taken_exactly(olga: Caller, deposits: Player) -> None:
    before = 0
    for sent, stored in GOOD:
        available = (await put_in(olga, deposits, sent)).json()["data"]["available"]

        assert available - before == stored, sent
        before = available


async def test_everything_else_is_refused_and_nothing_is_rounded(olga: Caller, deposits: Player) -> None:
    codes = {repr(sent): (await put_in(olga, deposits, sent)) for sent in [*BAD_FORMS, *BAD_TYPES, 0, "0"]}

    assert {sent for sent, answer in codes.items() if answer.status_code != 422} == set()
    assert {answer.json()["error"]["code"] for answer in codes.values()} == {"invalid_amount", "invalid_payload"}
    assert (await deposits.get("/ledger/balance"))["total"] == 0


async def test_the_largest_amount_is_taken(olga: Caller, deposits: Player) -> None:
    assert (await put_in(olga, deposits, "9007199254.740991")).json()["data"]["available"] == MONEY_MAX


@pytest.mark.parametrize("sent", [-1, "-1", "1e3", "1.0000001", ""])
async def test_a_form_that_is_no_amount_is_called_so(olga: Caller, deposits: Player, sent: Any) -> None:
    error = (await put_in(olga, deposits, sent)).json()["error"]

    assert (error["code"], list(error["details"])) == ("invalid_amount", ["/amount"])


async def test_offers_take_both_forms(alice: Player, bob: Player) -> None:
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})
    path = f"/negotiations/{session['id']}"

    session = await alice.post(f"{path}/offer", {**alice.offer(session, 800), "amount": "0.0008"})
    session = await bob.post(f"{path}/offer", {**bob.offer(session, 900), "amount": "0.000900"})
    session = await alice.post(f"{path}/accept", {**alice.acceptance(session), "amount": "0.00085"})

    assert session["amount"] == 850


@pytest.mark.parametrize("amount", ["0.0000001", "-1", 8.5])
async def test_offers_are_never_rounded(alice: Player, bob: Player, amount: Any) -> None:
    session = await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})

    refused = await alice.refused(
        "POST", f"/negotiations/{session['id']}/offer", {**alice.offer(session, 800), "amount": amount}
    )

    assert refused.answer.status_code == 422


async def test_a_price_ceiling_takes_both_forms(alice: Player, bob: Player) -> None:
    body = {"provider_agent_id": bob.id, "capability": "translate", "max_price": "0.001"}

    assert (await alice.post("/tasks", body))["price"] == 1_000


async def test_prices_of_agents_take_both_forms(olga: Caller) -> None:
    body = {
        "name": "Bot",
        "description": "A bot",
        "base_price": "8.50",
        "capabilities": [{"name": "sing", "price": "0.25"}, {"name": "dance", "price": 7}],
    }

    agent = await olga.post("/agents", body)

    assert (agent["base_price"], [own["price"] for own in agent["capabilities"]]) == (8_500_000, [250_000, 7])


async def test_a_price_that_is_none_says_where(olga: Caller) -> None:
    body = {"name": "Bot", "description": "A bot", "capabilities": [{"name": "sing", "price": "1e3"}]}

    refused = await olga.refused("POST", "/agents", body)

    assert refused.why == (422, "invalid_price")
    assert list(refused.details) == ["/capabilities/0/price"]


async def test_caps_of_keys_take_both_forms(alice: Player) -> None:
    key = await alice.post("/keys", {"name": "small", "max_amount": "8.50", "max_amount_per_day": 9})

    assert (key["max_amount"], key["max_amount_per_day"]) == (8_500_000, 9)


@pytest.mark.parametrize(("text", "amount"), [("1000", 1_000), ("8.50", 8_500_000), ("0", 0), ("0.0", 0)])
def test_a_query_writes_minor_units_without_a_point(text: str, amount: int) -> None:
    assert parse_query_money(text, exponent=6, field="max_price") == amount


@pytest.mark.parametrize("text", ["", "-1", "1e3", "1.0000001", "9" * 17, "9" * 5_000, "\u0661"])
def test_a_query_takes_no_other_form(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_query_money(text, exponent=6, field="max_price")

    assert (refused.value.reason, refused.value.context["field"]) == ("invalid_amount", "max_price")

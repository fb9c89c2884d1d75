"""The user's own profile: what it is called, and where it is written to."""

from typing import Any

import pytest

from tests.agrenting.api.market import Caller, Marketplace
from tests.agrenting.api.town import Town, town

PATH = "/me/profile"


@pytest.fixture
async def carol(market: Marketplace) -> Caller:
    """A user."""
    return await market.user("carol")


async def test_a_new_user_is_its_handle_and_no_more(market: Marketplace, carol: Caller) -> None:
    assert await carol.get(PATH) == {
        "id": carol.headers["x-user-id"],
        "handle": "carol",
        "name": "carol",
        "first_name": None,
        "last_name": None,
        "email": "",
        "role": "user",
        "inserted_at": "2030-01-01T12:00:00Z",
    }


async def test_an_operator_is_an_admin(olga: Caller) -> None:
    assert (await olga.get(PATH))["role"] == "admin"


async def test_what_is_sent_changes_and_the_rest_stays(carol: Caller) -> None:
    named = await carol.put(PATH, {"user": {"first_name": " Carol ", "last_name": "van  Dyke"}})
    reached = await carol.put(PATH, {"user": {"email": "carol@example.org"}})
    renamed = await carol.put(PATH, {"user": {"last_name": None}})

    assert (named["name"], named["first_name"], named["last_name"]) == ("Carol van Dyke", "Carol", "van Dyke")
    assert reached == {**named, "email": "carol@example.org"}
    assert renamed == {**reached, "last_name": None, "name": "Carol"}
    assert await carol.get(PATH) == renamed


@pytest.mark.parametrize("blank", [None, "", "  "])
async def test_null_and_blank_take_away(carol: Caller, blank: str | None) -> None:
    before = await carol.get(PATH)
    await carol.put(PATH, {"user": {"first_name": "C", "last_name": "D", "email": "c@d"}})

    after = await carol.put(PATH, {"user": {"first_name": blank, "last_name": blank, "email": blank}})

    assert after == before


async def test_what_was_answered_may_be_sent_back(carol: Caller) -> None:
    before = await carol.get(PATH)

    assert await carol.put(PATH, {"user": {**before, "handle": "@Carol"}}) == before


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"first_name": "x" * 101}, "/user/first_name"),
        ({"last_name": "a\u0000b"}, "/user/last_name"),
        ({"first_name": 5}, "/user/first_name"),
        ({"email": "carol"}, "/user/email"),
        ({"email": "a@b@c"}, "/user/email"),
        ({"email": "@b"}, "/user/email"),
        ({"email": "a@"}, "/user/email"),
        ({"email": "a b@c"}, "/user/email"),
        ({"email": "a\u0007@c"}, "/user/email"),
        ({"email": "a@" + "b" * 253}, "/user/email"),
        ({"handle": "queen"}, "/user/handle"),
    ],
)
async def test_what_is_no_profile_is_refused_by_its_field_and_changes_nothing(
    carol: Caller, fields: dict[str, Any], pointer: str
) -> None:
    before = await carol.get(PATH)

    refused = await carol.refused("PUT", PATH, {"user": {"first_name": "Other", **fields}})

    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == [pointer]
    assert await carol.get(PATH) == before


async def test_the_longest_address_is_taken(carol: Caller) -> None:
    address = "a@" + "b" * 252

    assert (await carol.put(PATH, {"user": {"email": address}}))["email"] == address


async def test_a_handle_never_changes_and_the_refusal_says_which_it_is(carol: Caller) -> None:
    refused = await carol.refused("PUT", PATH, {"user": {"handle": "queen"}})

    assert refused.error["message"] == "A handle never changes; yours is carol."


async def test_a_body_without_a_user_is_refused(carol: Caller) -> None:
    assert (await carol.refused("PUT", PATH, {"first_name": "C"})).why == (422, "invalid_payload")
    assert (await carol.refused("PUT", PATH)).why == (400, "malformed")


async def test_a_key_that_may_not_do_all_reads_and_does_not_change(market: Marketplace, carol: Caller) -> None:
    narrow = market.with_key((await carol.post("/keys", {"name": "narrow", "scopes": ["discover"]}))["api_key"])

    assert (await narrow.get(PATH))["handle"] == "carol"
    assert (await narrow.refused("PUT", PATH, {"user": {}})).why == (403, "missing_scope")


async def test_nobody_else_is_told_the_address(market: Marketplace) -> None:
    """By none of the lists and answers that Alice stands in for others."""
    acme: Town = await town(market)
    await acme["alice"].put(PATH, {"user": {"first_name": "Alice", "email": "secret@example.org"}})
    made = await acme["alice"].post("/me/contacts/requests", {"contact_request": {"recipient_handle": "frida"}})

    told = [
        await acme["client"].call("GET", "/agent/peers"),
        await acme["client"].call("GET", "/agent/contacts"),
        await acme["dave"].call("GET", "/me/peers"),
        await acme["dave"].call("GET", "/me/contacts"),
        await acme["dave"].call("GET", "/handles/alice"),
        await acme["frida"].call("GET", "/me/contacts/requests"),
        await acme["frida"].call("POST", f"/me/contacts/requests/{made['id']}/approve"),
        await acme["frida"].call("GET", "/me/contacts"),
        await acme["frida"].call("POST", "/me/contacts/resolve", json={"handle": "alice"}),
    ]

    assert {answer.status_code for answer in told} == {200}
    assert sum('"Alice"' in answer.text for answer in told) >= 7
    assert [answer.text for answer in told if "secret@example.org" in answer.text] == []

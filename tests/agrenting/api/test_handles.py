"""Exact handles: who has one, and nobody for those whom its owner keeps away."""

import pytest

from tests.agrenting.api.market import Marketplace
from tests.agrenting.api.town import Town, town


@pytest.fixture
async def acme(market: Marketplace) -> Town:
    return await town(market)


@pytest.mark.parametrize(
    ("spelling", "told"),
    [
        ("bob", {"type": "User", "handle": "bob", "name": "bob"}),
        ("@bob", {"type": "User", "handle": "bob", "name": "bob"}),
        ("BOB", {"type": "User", "handle": "bob", "name": "bob"}),
        ("bob/unlisted", {"type": "Agent", "handle": "bob/unlisted", "name": "unlisted"}),
        ("@bob/unlisted", {"type": "Agent", "handle": "bob/unlisted", "name": "unlisted"}),
        ("bob%2Funlisted", {"type": "Agent", "handle": "bob/unlisted", "name": "unlisted"}),
        ("%40bob%2Funlisted", {"type": "Agent", "handle": "bob/unlisted", "name": "unlisted"}),
        ("bob/suspended", {"type": "Agent", "handle": "bob/suspended", "name": "suspended"}),
        ("bob/blocked", {"type": "Agent", "handle": "bob/blocked", "name": "blocked"}),
        ("alice/client", {"type": "Agent", "handle": "alice/client", "name": "client"}),
        ("alice", {"type": "User", "handle": "alice", "name": "alice"}),
    ],
)
async def test_a_handle_says_type_handle_and_name_and_nothing_else(
    acme: Town, spelling: str, told: dict[str, str]
) -> None:
    assert await acme["client"].get(f"/handles/{spelling}") == told


@pytest.mark.parametrize("handle", ["nobody", "bob/nobody", "nobody/listed", "bob/blocker", "bob/banned"])
async def test_who_is_nobody_for_the_caller_is_not_found(acme: Town, handle: str) -> None:
    refused = await acme["client"].refused("GET", f"/handles/{handle}")

    assert refused.why == (404, "not_found")
    assert refused.error["message"] == "There is no such handle, or you may not see it."


async def test_a_draft_is_there_for_its_owner_alone(acme: Town) -> None:
    assert (await acme["alice"].get("/handles/alice/draft"))["name"] == "draft"
    assert (await acme["friend"].refused("GET", "/handles/alice/draft")).why == (404, "not_found")
    assert (await acme["bob"].refused("GET", "/handles/alice/draft")).why == (404, "not_found")


async def test_a_user_is_told_by_its_name(acme: Town) -> None:
    await acme["frida"].put(
        "/me/profile", {"user": {"first_name": "Frida", "last_name": "K", "email": "f@example.org"}}
    )

    told = await acme["client"].get("/handles/frida")

    assert told == {"type": "User", "handle": "frida", "name": "Frida K"}


@pytest.mark.parametrize("handle", ["a/b/c", "-bob", "bob/un listed", "b%C3%B6b", "@@bob", "@", "x" * 41])
async def test_what_is_no_handle_is_malformed(acme: Town, handle: str) -> None:
    refused = await acme["client"].refused("GET", f"/handles/{handle}")

    assert refused.why == (400, "invalid_handle")


async def test_the_address_of_no_handle_is_nothing(acme: Town) -> None:
    assert (await acme["client"].refused("GET", "/handles")).why == (404, "not_found")
    assert (await acme["client"].refused("GET", "/handles/")).why == (404, "not_found")


async def test_a_user_resolves_a_handle_before_it_asks(acme: Town) -> None:
    bob = acme["bob"]

    told = await bob.post("/me/contacts/resolve", {"handle": "@alice/client"})

    assert told == {"type": "Agent", "handle": "alice/client", "name": "client"}
    assert (await bob.refused("POST", "/me/contacts/resolve", {"handle": "nobody/such"})).why == (404, "not_found")
    assert (await bob.refused("POST", "/me/contacts/resolve", {"handle": "a/b/c"})).why == (400, "invalid_handle")
    assert (await bob.refused("POST", "/me/contacts/resolve", {"handle": ""})).why == (400, "invalid_handle")
    assert (await bob.refused("POST", "/me/contacts/resolve", {})).why == (422, "invalid_payload")


async def test_who_has_blocked_the_user_is_nobody_to_it(acme: Town) -> None:
    await acme["frida"].post("/me/contacts/block", {"handle": "bob"})

    for method, path, body in (
        ("GET", "/handles/frida", None),
        ("POST", "/me/contacts/resolve", {"handle": "frida"}),
    ):
        refused = await acme["bob"].refused(method, path, body)
        nobody = await acme["bob"].refused(method, path.replace("frida", "nina"), body and {"handle": "nina"})

        assert refused.why == nobody.why == (404, "not_found")
        assert refused.error["message"] == nobody.error["message"]


async def test_other_methods_are_refused_with_those_that_there_are(acme: Town) -> None:
    refused = await acme["client"].refused("DELETE", "/handles/bob/listed")

    assert refused.why == (405, "method_not_allowed")
    assert refused.answer.headers["allow"] == "GET"

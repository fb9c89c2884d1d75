"""The caller's own agents, as Band's clients register, list and delete them."""

from typing import Any

import pytest

from agrenting import registry
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player

REGISTER = "/me/agents/register"
AGENT = {"name": "Research Bot", "description": "Finds things out"}


@pytest.fixture
async def carol(market: Marketplace) -> Caller:
    """A user without agents."""
    return await market.user("carol")


async def names_of(caller: Caller, **query: Any) -> list[str]:
    return [row["name"] for row in await caller.get("/me/agents", params=query)]


async def some(market: Marketplace, carol: Caller) -> None:
    """Four agents, a minute apart; the first is changed last."""
    first = ""
    for name, listed in (("beta", True), ("Alpha", True), ("alpha", False), ("Gamma", True)):
        made = await carol.post(REGISTER, {"agent": {**AGENT, "name": name, "is_listed": listed}})
        first = first or made["agent"]["id"]
        market.clock.advance(minutes=1)
    await carol.patch(f"/agents/{first}", {"tags": ["changed"]})


# Registering.


async def test_registering_answers_the_agent_and_its_credentials(market: Marketplace, carol: Caller) -> None:
    answer = await carol.call("POST", REGISTER, json={"agent": AGENT})

    made = answer.json()["data"]
    key = made["credentials"]["api_key"]
    assert answer.status_code == 201
    assert made["agent"] == {
        "id": made["agent"]["id"],
        "owner_id": carol.headers["x-user-id"],
        "name": "Research Bot",
        "handle": "carol/research-bot",
        "slug": "research-bot",
        "description": "Finds things out",
        "tags": [],
        "status": "active",
        "listed_in_directory": True,
        "registry_access": True,
        "shared_with_organization": False,
        "is_external": True,
        "inserted_at": "2030-01-01T12:00:00Z",
        "updated_at": "2030-01-01T12:00:00Z",
    }
    assert (await market.with_key(key).get("/agent/me"))["id"] == made["agent"]["id"]
    assert key not in (await carol.call("GET", "/me/agents")).text


async def test_everything_that_an_agent_can_have_may_be_sent(market: Marketplace, olga: Caller) -> None:
    await olga.post("/admin/organisations", {"name": "Acme"})
    dave = await market.user("dave", organisation="Acme")
    draft = {**AGENT, "organisation": "Acme", "tags": ["a"], "base_price": "0.5", "is_listed": False}

    made = (await dave.post(REGISTER, {"agent": draft}))["agent"]

    assert (made["shared_with_organization"], made["listed_in_directory"], made["tags"]) == (True, False, ["a"])
    assert (await dave.get(f"/agents/{made['id']}"))["base_price"] == 500_000


async def test_owner_and_agent_are_contacts_at_once(market: Marketplace, carol: Caller) -> None:
    made = await carol.post(REGISTER, {"agent": AGENT})

    assert [row["contact_id"] for row in await carol.get("/me/contacts")] == [made["agent"]["id"]]


@pytest.mark.parametrize(
    ("changed", "why", "pointer"),
    [
        ({"name": "!!!"}, (422, "invalid_handle"), "/agent/name"),
        ({"name": "Admin"}, (422, "reserved_handle"), "/agent/name"),
        ({"name": " "}, (422, "invalid_handle"), "/agent/name"),
        ({"name": "n" * 101}, (422, "invalid_payload"), "/agent/name"),
        ({"name": 5}, (422, "invalid_payload"), "/agent/name"),
        ({"description": " "}, (422, "invalid_payload"), "/agent/description"),
        ({"capabilities": [{"name": "No Spaces"}]}, (422, "invalid_capability"), "/agent/capabilities/0"),
        ({"public_key": "nonsense"}, (422, "invalid_public_key"), "/agent/public_key"),
        ({"proof": {"challenge": "x", "signature": "y"}}, (422, "invalid_payload"), "/agent/proof"),
        ({"is_global": True}, (403, "operator_required"), None),
        ({"organisation": "Nowhere"}, (404, "not_found"), None),
    ],
)
async def test_registering_is_refused_with_the_field(
    carol: Caller, changed: dict[str, Any], why: tuple[int, str], pointer: str | None
) -> None:
    refused = await carol.refused("POST", REGISTER, {"agent": {**AGENT, **changed}})

    assert refused.why == why
    if pointer is not None:
        assert list(refused.details) == [pointer]
    assert await names_of(carol) == []


async def test_a_name_that_has_no_handle_left_is_about_the_name(
    market: Marketplace, carol: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a conflict at this door, because Band's clients repeat those."""
    monkeypatch.setattr(registry, "SLUG_TRIES", 1)
    await carol.post(REGISTER, {"agent": AGENT})

    refused = await carol.refused("POST", REGISTER, {"agent": AGENT})

    assert refused.why == (422, "handle_taken")
    assert list(refused.details) == ["/agent/name"]
    assert (await carol.refused("POST", "/agents", AGENT)).why == (409, "handle_taken")


async def test_a_body_without_an_agent_is_refused(carol: Caller) -> None:
    refused = await carol.refused("POST", REGISTER, AGENT)

    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == ["/agent"]


async def test_a_key_of_somebody_elses_agent_stays_a_conflict(market: Marketplace, carol: Caller, bob: Player) -> None:
    key = (await market.with_key(market.user_keys["bob"]).get(f"/agents/{bob.id}"))["public_key"]
    proof = await market.proof(carol, bob.seed)

    refused = await carol.refused("POST", REGISTER, {"agent": {**AGENT, "public_key": key, "proof": proof}})

    assert refused.why == (409, "public_key_taken")


# Listing.


async def test_a_list_says_how_it_may_be_asked_for(carol: Caller) -> None:
    page = await carol.page("/me/agents")

    assert page["data"] == []
    assert page["metadata"] == {
        "page": 1,
        "page_size": 20,
        "total_count": 0,
        "total_pages": 0,
        "has_more": False,
        "limit": 20,
        "next_cursor": None,
        "available_filters": [
            {"label": "Name", "param": "name", "type": "string"},
            {"label": "External", "param": "is_external", "type": "boolean"},
            {"label": "Listed in the directory", "param": "listed_in_directory", "type": "boolean"},
        ],
        "sortable_fields": [
            {"label": "Name", "param": "name"},
            {"label": "Registered", "param": "inserted_at"},
            {"label": "Changed", "param": "updated_at"},
        ],
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["Gamma", "alpha", "Alpha", "beta"]),
        ({"order": "asc"}, ["beta", "Alpha", "alpha", "Gamma"]),
        ({"sort": "name", "order": "asc"}, ["Alpha", "alpha", "beta", "Gamma"]),
        ({"sort": "name"}, ["Gamma", "beta", "alpha", "Alpha"]),
        ({"sort": "updated_at"}, ["beta", "Gamma", "alpha", "Alpha"]),
        ({"name": "LPH"}, ["alpha", "Alpha"]),
        ({"name": "delta"}, []),
        ({"listed_in_directory": "true"}, ["Gamma", "Alpha", "beta"]),
        ({"listed_in_directory": "false"}, ["alpha"]),
        ({"is_external": "true"}, ["Gamma", "alpha", "Alpha", "beta"]),
        ({"is_external": "false"}, []),
    ],
)
@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_every_order_and_filter_and_its_pages(
    market: Marketplace, carol: Caller, query: dict[str, Any], names: list[str], limit: int
) -> None:
    await some(market, carol)
    by_cursor: list[str] = []
    asked: dict[str, Any] = {**query, "limit": limit}
    while True:
        page = await carol.page("/me/agents", params=asked)
        by_cursor += [row["name"] for row in page["data"]]
        assert page["metadata"]["total_count"] == len(names)
        if not page["metadata"]["has_more"]:
            break
        asked["cursor"] = page["metadata"]["next_cursor"]

    by_number = [
        name
        for number in range(1, page["metadata"]["total_pages"] + 1)
        for name in await names_of(carol, **query, page=number, page_size=limit)
    ]
    assert by_cursor == by_number == names


async def test_a_cursor_is_good_for_its_list_alone(market: Marketplace, carol: Caller) -> None:
    await some(market, carol)
    cursor = (await carol.page("/me/agents", params={"limit": 1}))["metadata"]["next_cursor"]

    refused = await carol.refused("GET", "/me/agents", params={"sort": "name", "cursor": cursor})

    assert refused.why == (422, "invalid_cursor")


@pytest.mark.parametrize(
    "query", [{"sort": "id"}, {"order": "up"}, {"listed_in_directory": "maybe"}, {"page": "0"}, {"limit": "101"}]
)
async def test_what_is_no_list_is_refused_by_its_name(carol: Caller, query: dict[str, str]) -> None:
    refused = await carol.refused("GET", "/me/agents", params=query)

    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == [f"/{next(iter(query))}"]


async def test_nobody_is_shown_anothers(market: Marketplace, carol: Caller, bob: Player) -> None:
    await carol.post(REGISTER, {"agent": AGENT})

    assert await names_of(carol) == ["Research Bot"]
    assert await names_of(market.with_key(market.user_keys["bob"])) == ["Translator"]


# Deleting.


@pytest.mark.parametrize("force", [{}, {"force": "true"}, {"force": "false"}])
async def test_a_deleted_agent_is_gone_with_its_key_and_contacts(
    market: Marketplace, carol: Caller, force: dict[str, str]
) -> None:
    made = await carol.post(REGISTER, {"agent": AGENT})
    key, id_ = made["credentials"]["api_key"], made["agent"]["id"]
    _, socket = await market.socket(key)

    gone = await carol.delete(f"/me/agents/{id_}", params=force)

    assert gone == {"id": id_, **AGENT, "executions_deleted": 0}
    assert socket.closed_with == 1001
    assert (await market.with_key(key).refused("GET", "/agent/me")).why == (401, "invalid_credential")
    assert (await carol.refused("DELETE", f"/me/agents/{id_}")).why == (404, "not_found")
    assert await carol.get("/me/contacts") == []
    assert await names_of(carol) == []


@pytest.mark.parametrize("force", [{}, {"force": "true"}])
async def test_force_changes_nothing_about_money_and_unfinished_work(
    market: Marketplace, alice: Player, bob: Player, force: dict[str, str]
) -> None:
    await alice.post("/tasks", {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE})

    for handle, player in (("alice", alice), ("bob", bob)):
        owner = market.with_key(market.user_keys[handle])
        refused = await owner.refused("DELETE", f"/me/agents/{player.id}", params=force)

        assert refused.why == (409, "agent_in_use")
        assert (await player.get("/agent/me"))["id"] == player.id


async def test_nobody_deletes_what_is_anothers(carol: Caller, bob: Player) -> None:
    assert (await carol.refused("DELETE", f"/me/agents/{bob.id}")).why == (404, "not_found")
    assert (await carol.refused("DELETE", f"/me/agents/{bob.id}", params={"force": "maybe"})).why == (
        422,
        "invalid_payload",
    )
    assert (await bob.get("/agent/me"))["id"] == bob.id

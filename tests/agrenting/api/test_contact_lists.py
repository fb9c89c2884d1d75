"""Lists of contacts, requests and blocks: filters, pages by number and by cursor, and totals."""

from typing import Any

import pytest

from tests.agrenting.api.friends import ADD, BLOCK, REQUESTS, RESPOND, Strangers, ask, strangers
from tests.agrenting.api.market import Caller, Marketplace, Player

COUNT = 5
RECEIVED, SENT = "/me/contacts/requests", "/me/contacts/requests/sent"


@pytest.fixture
async def two(market: Marketplace) -> Strangers:
    return await strangers(market)


@pytest.fixture
async def bots(two: Strangers) -> list[Player]:
    """Carol's agents, which have asked Bob's translator in this order."""
    await two.market.user("carol")
    made = [await two.market.agent("carol", f"Bot {number}") for number in range(COUNT)]
    for bot in made:
        two.market.clock.advance(milliseconds=1)
        await ask(bot, two.translator.handle)
    return made


async def by_cursor(who: Caller, path: str, size: str, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages of two, each by the cursor of the one before."""
    pages: list[list[dict[str, Any]]] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await who.page(path, params={size: 2, **query, **cursor})
        pages.append(answer["data"])
        metadata = answer["metadata"]
        assert metadata["has_more"] is (metadata["next_cursor"] is not None)
        if not metadata["has_more"]:
            return pages
        cursor = {"cursor": metadata["next_cursor"]}


async def by_number(who: Caller, path: str, **query: Any) -> list[list[dict[str, Any]]]:
    """All pages of two, each by its number."""
    first = await who.page(path, params={"page_size": 2, **query})
    numbers = range(2, first["metadata"]["total_pages"] + 1)
    others = [(await who.get(path, params={"page_size": 2, "page": number, **query})) for number in numbers]
    return [first["data"], *others]


async def require_paged(who: Caller, path: str, count: int, **query: Any) -> None:
    whole = await who.page(path, params=query)
    assert len(whole["data"]) == count
    assert whole["metadata"] == {
        "page": 1, "page_size": 20, "total_count": count, "total_pages": 1, "has_more": False, "limit": 20,
        "next_cursor": None,
    }  # fmt: skip
    for pages in (
        await by_cursor(who, path, "limit", **query),
        await by_cursor(who, path, "page_size", **query),
        await by_number(who, path, **query),
    ):
        assert [len(page) for page in pages] == [2] * (count // 2) + [1] * (count % 2)
        assert [item for page in pages for item in page] == whole["data"]
    beyond = await who.page(path, params={"page": 9, **query})
    assert (beyond["data"], beyond["metadata"]["total_count"]) == ([], count)


async def test_contacts_are_paged(two: Strangers, bots: list[Player]) -> None:
    for bot in bots:
        await two.translator.post(RESPOND, {"action": "approve", "handle": bot.handle})

    await require_paged(two.translator, "/agent/contacts", COUNT + 1)
    handles = [one["handle"] for one in await two.translator.get("/agent/contacts")]
    assert handles == ["bob", *(bot.handle for bot in bots)]


async def test_contacts_of_users_are_paged(two: Strangers) -> None:
    for number in range(4):
        await two.market.agent("bob", f"Bot {number}")

    await require_paged(two.bob, "/me/contacts", 5)


async def test_blocks_are_paged(two: Strangers, bots: list[Player]) -> None:
    for bot in bots:
        await two.translator.post(BLOCK, {"handle": bot.handle})
        await two.bob.post("/me/contacts/block", {"handle": bot.handle})

    await require_paged(two.translator, "/agent/contacts/blocks", COUNT)
    await require_paged(two.bob, "/me/contacts/blocks", COUNT)


async def test_requests_of_users_are_paged(two: Strangers, bots: list[Player]) -> None:
    carol = two.market.with_key(two.market.user_keys["carol"])

    await require_paged(two.bob, RECEIVED, COUNT, whose="agents")
    await require_paged(carol, SENT, COUNT, whose="agents")


async def test_requests_of_agents_are_paged_in_both_directions(two: Strangers, bots: list[Player]) -> None:
    await ask(two.translator, two.client.handle)

    answer = await two.translator.page(REQUESTS, params={"page": 2, "page_size": 2})

    assert [one["from_handle"] for one in answer["data"]["received"]] == [bot.handle for bot in bots[2:4]]
    assert answer["data"]["sent"] == []
    assert answer["metadata"] == {
        "page": 2, "page_size": 2, "received": {"total": COUNT, "total_pages": 3},
        "sent": {"total": 1, "total_pages": 1},
    }  # fmt: skip


async def test_an_empty_list_has_no_pages(two: Strangers) -> None:
    answer = await two.bob.page(RECEIVED)

    assert (answer["data"], answer["metadata"]["total_count"], answer["metadata"]["total_pages"]) == ([], 0, 0)


async def test_a_cursor_is_that_of_its_list(two: Strangers, bots: list[Player]) -> None:
    page = await two.bob.page(RECEIVED, params={"whose": "agents", "limit": 1})
    cursor = page["metadata"]["next_cursor"]

    for path, query in ((RECEIVED, {"whose": "all"}), (SENT, {"whose": "agents"}), ("/me/contacts", {})):
        refused = await two.bob.refused("GET", path, params={**query, "cursor": cursor})
        assert refused.why == (422, "invalid_cursor")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (path, query)
        for path in ("/agent/contacts", "/agent/contacts/blocks", REQUESTS)
        for query in ({"page": 0}, {"page": 1_000_001}, {"page_size": 0}, {"page_size": 101}, {"page": "x"})
    ]
    + [(REQUESTS, {"sent_status": "expected"}), ("/agent/contacts", {"limit": 0}), ("/agent/contacts", {"limit": 101})],
)
async def test_a_page_that_is_none_is_refused(two: Strangers, path: str, query: dict[str, Any]) -> None:
    refused = await two.client.refused("GET", path, params=query)

    assert (refused.why, list(refused.details)) == ((422, "invalid_payload"), [f"/{next(iter(query))}"])


@pytest.mark.parametrize(
    ("path", "query"), [(RECEIVED, {"whose": "others"}), (SENT, {"status": "old"}), (SENT, {"whose": "x"})]
)
async def test_a_filter_that_is_none_is_refused(two: Strangers, path: str, query: dict[str, Any]) -> None:
    assert (await two.alice.refused("GET", path, params=query)).why == (422, "invalid_payload")


async def in_every_state(two: Strangers) -> dict[str, str]:
    """One request of the client's in each state, by state."""
    ids: dict[str, str] = {}
    for status, action in (("approved", "approve"), ("rejected", "reject"), ("cancelled", "cancel")):
        other = await two.market.agent("bob", status)
        ids[status] = await ask(two.client, other.handle)
        who = two.client if action == "cancel" else other
        await who.post(RESPOND, {"action": action, "request_id": ids[status]})
    gone = await two.market.agent("bob", "expired")
    ids["expired"] = await ask(two.client, gone.handle)
    two.market.clock.advance(days=30)
    ids["pending"] = await two.ask()
    return ids


async def test_sent_requests_are_filtered_by_status(two: Strangers) -> None:
    """The one that has expired is so by the clock; its timer has not run."""
    ids = await in_every_state(two)

    for status, id_ in ids.items():
        lists = await two.client.page(REQUESTS, params={"sent_status": status})
        assert [(one["id"], one["status"]) for one in lists["data"]["sent"]] == [(id_, status)]
        assert lists["metadata"]["sent"] == {"total": 1, "total_pages": 1}
        of_user = await two.alice.page(SENT, params={"status": status, "whose": "agents"})
        assert [(one["id"], one["status"]) for one in of_user["data"]] == [(id_, status)]
        assert of_user["metadata"]["total_count"] == 1
    everything = (await two.client.get(REQUESTS, params={"sent_status": "all"}))["sent"]
    assert {one["id"]: one["status"] for one in everything} == {id_: status for status, id_ in ids.items()}
    by_default = (await two.client.get(REQUESTS))["sent"]
    assert [one["id"] for one in by_default] == [ids["pending"]]
    assert len(await two.alice.get(SENT, params={"whose": "agents"})) == 5


async def test_requests_of_oneself_of_ones_agents_and_of_both(two: Strangers) -> None:
    from_agent = await two.ask()
    from_user = (await two.alice.post(RECEIVED, {"contact_request": {"recipient_handle": "bob"}}))["id"]
    to_user = await ask(two.client, "bob")

    async def listed(who: Caller, path: str) -> dict[str, set[str]]:
        return {
            whose: {one["id"] for one in await who.get(path, params={"whose": whose})}
            for whose in ("me", "agents", "all")
        }

    assert await listed(two.alice, SENT) == {
        "me": {from_user}, "agents": {from_agent, to_user}, "all": {from_agent, from_user, to_user},
    }  # fmt: skip
    assert await listed(two.bob, RECEIVED) == {
        "me": {from_user, to_user}, "agents": {from_agent}, "all": {from_agent, from_user, to_user},
    }  # fmt: skip
    assert await listed(two.alice, RECEIVED) == await listed(two.bob, SENT) == {
        "me": set(), "agents": set(), "all": set(),
    }  # fmt: skip


async def test_a_request_stays_listed_when_the_other_one_is_deleted(two: Strangers) -> None:
    await ask(two.client, two.translator.handle)
    await two.bob.delete(f"/agents/{two.translator.id}")

    (sent,) = (await two.client.get(REQUESTS, params={"sent_status": "all"}))["sent"]
    (whole,) = await two.alice.get(SENT, params={"whose": "agents"})

    assert (sent["status"], sent["to_handle"], sent["to_name"]) == ("rejected", None, None)
    assert (whole["recipient"], whole["recipient_id"]) == (None, two.translator.id)


async def test_a_block_stays_until_the_blocked_one_is_deleted(two: Strangers) -> None:
    await two.client.post(BLOCK, {"handle": two.translator.handle})
    assert len(await two.client.get("/agent/contacts/blocks")) == 1

    await two.bob.delete(f"/agents/{two.translator.id}")

    assert await two.client.get("/agent/contacts/blocks") == []
    assert (await two.client.refused("POST", ADD, {"handle": two.translator.handle})).why == (404, "not_found")

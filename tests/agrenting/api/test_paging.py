"""Lists: every item once, in order, while others come and go; and only cursors that are the list's own."""

import base64
from typing import Any

import pytest

from agrenting.api.paging import decode_cursor, encode_cursor
from channels.errors import Invalid
from tests.agrenting.api.market import Caller, Marketplace, Player


async def whole(caller: Caller, path: str, *, limit: int, between: Any = None) -> list[str]:
    """The ids of a list, page by page; `between` runs after each page."""
    ids: list[str] = []
    query: dict[str, Any] = {"limit": limit}
    while True:
        page = await caller.page(path, params=query)
        ids += [item["id"] for item in page["data"]]
        assert page["metadata"]["limit"] == limit
        assert page["metadata"]["has_more"] is (page["metadata"]["next_cursor"] is not None)
        if not page["metadata"]["has_more"]:
            return ids
        query["cursor"] = page["metadata"]["next_cursor"]
        if between is not None:
            await between()


@pytest.fixture
async def opened(alice: Player, bob: Player) -> list[str]:
    """Seven negotiations, oldest first."""
    body = {"provider_agent_id": bob.id, "capability": "translate"}
    return [(await alice.post("/negotiations", body))["id"] for _ in range(7)]


@pytest.mark.parametrize("limit", [1, 3, 7, 8])
async def test_every_item_comes_once_in_order(bob: Player, opened: list[str], limit: int) -> None:
    assert await whole(bob, "/negotiations", limit=limit) == opened[::-1]


async def test_what_comes_and_goes_moves_nothing_else(alice: Player, bob: Player, opened: list[str]) -> None:
    async def disturb() -> None:
        await alice.post("/negotiations", {"provider_agent_id": bob.id, "capability": "translate"})

    assert await whole(bob, "/negotiations", limit=2, between=disturb) == opened[::-1]


async def test_the_mailbox_pages_while_it_is_read(bob: Player, opened: list[str]) -> None:
    seen = [message["id"] for message in await bob.get("/messages")]

    async def acknowledge() -> None:
        await bob.post(f"/messages/{seen[0]}/acknowledge")

    assert await whole(bob, "/messages", limit=2, between=acknowledge) == seen


async def test_twenty_stand_on_a_page_unless_asked(bob: Player) -> None:
    assert (await bob.page("/tasks"))["metadata"] == {"has_more": False, "limit": 20, "next_cursor": None}


@pytest.mark.parametrize("limit", ["0", "101", "-1", "many", "", "1.0", "null", " 1", "9" * 30])
async def test_a_page_has_1_to_100_items(bob: Player, limit: str) -> None:
    refused = await bob.refused("GET", "/tasks", params={"limit": limit})

    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == ["/limit"]


async def test_a_parameter_stands_once(bob: Player) -> None:
    assert (await bob.refused("GET", "/tasks?limit=1&limit=2")).why == (422, "invalid_payload")


FOREIGN = encode_cursor("tasks", "x")
BAD_CURSORS = ["", "x", "ÿ", "%%%", "null", FOREIGN + "=", FOREIGN[:-1], base64.urlsafe_b64encode(b'["a"]').decode()]


@pytest.mark.parametrize("cursor", [*BAD_CURSORS, FOREIGN])
async def test_a_cursor_that_is_not_the_lists_is_refused(bob: Player, cursor: str) -> None:
    refused = await bob.refused("GET", "/negotiations", params={"cursor": cursor})

    assert refused.why == (422, "invalid_cursor")
    assert list(refused.details) == ["/cursor"]


@pytest.mark.parametrize("path", ["/tasks", "/messages", "/ledger/transactions", "/keys", "/discover"])
async def test_every_list_refuses_a_bad_cursor(bob: Player, path: str) -> None:
    assert (await bob.refused("GET", path, params={"cursor": "x"})).why == (422, "invalid_cursor")


@pytest.mark.parametrize("path", ["/agents", "/keys", "/admin/users", "/admin/organisations"])
async def test_every_list_of_a_user_pages(market: Marketplace, olga: Caller, path: str) -> None:
    for number in range(3):
        await olga.post("/admin/organisations", {"name": f"Org {number}"})
        await olga.post("/admin/users", {"handle": f"user{number}"})
        await olga.post("/agents", {"name": f"Bot {number}", "description": "A bot"})
        await olga.post("/keys", {"name": f"key {number}"})

    ids = await whole(olga, path, limit=2)

    assert len(ids) >= 3
    assert ids == sorted(set(ids))
    assert (await olga.refused("GET", path, params={"cursor": "x"})).why == (422, "invalid_cursor")


@pytest.mark.parametrize("key", ["", "~", "a/b", "ü"])
def test_a_cursor_comes_back_as_it_went(key: str) -> None:
    assert decode_cursor(encode_cursor("list", key), name="list", start="") == key


@pytest.mark.parametrize("cursor", [*BAD_CURSORS, FOREIGN])
def test_only_what_was_given_out_is_taken(cursor: str) -> None:
    with pytest.raises(Invalid) as refused:
        decode_cursor(cursor, name="negotiations", start="")

    assert refused.value.reason == "invalid_cursor"

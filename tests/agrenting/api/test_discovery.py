"""Finding agents by REST: the wire's question with its parameters flat in the query."""

from typing import Any

import pytest

from agrenting.api.discovery import DiscoverQuery, as_request, flattened
from channels.discovery import Discover, Filters
from channels.errors import Invalid
from tests.agrenting.api.market import PRICE, Marketplace, Player


async def found(caller: Player, **query: Any) -> list[str]:
    return [hit["handle"] for hit in await caller.get("/discover", params=query)]


async def test_an_agent_finds_what_it_may_see(alice: Player, bob: Player, mallory: Player) -> None:
    hits = await alice.get("/discover", params={"capability": "translate"})

    assert [hit["handle"] for hit in hits] == ["bob/translator"]
    assert (hits[0]["price"], hits[0]["status"], hits[0]["contact_required"]) == (PRICE, "offline", False)


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ({"query": "translat"}, 1),
        ({"query": "sing"}, 0),
        ({"status": "offline"}, 1),
        ({"status": "online"}, 0),
        ({"min_reputation": "3.5"}, 1),
        ({"min_reputation": "3.51"}, 0),
        ({"capability": "translate", "max_price": str(PRICE)}, 1),
        ({"capability": "translate", "max_price": str(PRICE - 1)}, 0),
        ({"capability": "translate", "max_price": "0.001"}, 1),
        ({"tags": ["words", "WORDS"]}, 1),
        ({"tags": ["words", "cheap"]}, 0),
        ({"owner": "@bob"}, 1),
        ({"owner": "mallory"}, 0),
        ({"unknown": "ignored"}, 1),
    ],
)
async def test_every_filter_narrows(alice: Player, bob: Player, query: dict[str, Any], is_found: int) -> None:
    assert await found(alice, **query) == ["bob/translator"] * is_found


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"capability": "No Spaces"}, "/capability"),
        ({"query": ""}, "/query"),
        ({"status": "asleep"}, "/status"),
        ({"min_reputation": "6"}, "/min_reputation"),
        ({"min_reputation": "nan"}, "/min_reputation"),
        ({"min_reputation": "many"}, "/min_reputation"),
        ({"max_price": "-1"}, "/max_price"),
        ({"max_price": "1e3"}, "/max_price"),
        ({"tags": ["not a tag"]}, "/tags"),
        ({"limit": "0"}, "/limit"),
        ({"cursor": "x"}, "/cursor"),
    ],
)
async def test_what_is_no_filter_is_refused_by_its_name(alice: Player, query: dict[str, Any], pointer: str) -> None:
    refused = await alice.refused("GET", "/discover", params=query)

    assert refused.answer.status_code == 422
    assert list(refused.details) == [pointer]


@pytest.mark.parametrize("query", ["capability=%ff", "a=1&" * 65 + "a=1", "capability=\u00ff"])
async def test_a_query_that_cannot_be_read_is_malformed(market: Marketplace, alice: Player, query: str) -> None:
    """httpx would mend the address, so it goes in as bytes."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/discover",
        "raw_path": b"/api/v1/discover",
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"x-api-key", alice.api_key.encode())],
        "client": ("198.51.100.7", 1),
        "server": ("market.test", 80),
        "scheme": "http",
        "http_version": "1.1",
        "asgi": {"version": "3.0"},
    }

    await market.app(scope, receive, send)  # type: ignore[arg-type] # A plain ASGI scope.

    assert sent[0]["status"] == 400
    assert b'"malformed"' in sent[1]["body"]


async def test_pages_hold_every_agent_once_in_order(market: Marketplace, alice: Player, bob: Player) -> None:
    for number in range(5):
        await market.translator(f"Cheap {number}", price=100 + number)
    seen: list[int] = []
    query: dict[str, Any] = {"capability": "translate", "limit": 2}
    while True:
        page = await alice.page("/discover", params=query)
        seen += [hit["price"] for hit in page["data"]]
        if not page["metadata"]["has_more"]:
            break
        query["cursor"] = page["metadata"]["next_cursor"]

    assert seen == [100, 101, 102, 103, 104, PRICE]


async def test_a_cursor_is_good_for_its_search_alone(market: Marketplace, alice: Player, bob: Player) -> None:
    await market.translator("Second")
    page = await alice.page("/discover", params={"capability": "translate", "limit": 1})
    cursor = page["metadata"]["next_cursor"]

    refused = await alice.refused("GET", "/discover", params={"capability": "sing", "limit": 1, "cursor": cursor})

    assert refused.why == (422, "invalid_cursor")


def test_a_query_is_the_wires_request() -> None:
    query = DiscoverQuery(
        capability="sing", query="opera", status="busy", min_reputation=4, max_price="8.5", tags=("a",), owner="bob"
    )

    assert as_request(query, exponent=6) == Discover(
        capability="sing",
        query="opera",
        filters=Filters(status="busy", min_reputation=4, max_price=8_500_000, tags=("a",), owner="bob"),
    )


def test_a_refused_filter_has_the_name_of_the_query() -> None:
    refused = flattened(Invalid("invalid_payload", "filters.tags are too many.", field="filters.tags", max=16))

    assert (refused.message, refused.context) == ("tags are too many.", {"field": "tags", "max": 16})

"""Peers: the house first, then contacts; each once, and nobody who is not one."""

from typing import Any

import pytest

from channels.contacts import is_present_to
from tests.agrenting.api.friends import REMOVE
from tests.agrenting.api.market import Caller, Marketplace, Player
from tests.agrenting.api.town import AGENTS, Town, town

PEERS = [
    ("alice", "User", "registry", True),
    ("sibling", "Agent", "registry", False),
    ("everybodys", "Agent", "registry", False),
    ("unlisted-everybodys", "Agent", "registry", False),
    ("shared", "Agent", "registry", True),
    ("frida", "User", "contact", True),
    ("friend", "Agent", "contact", True),
    ("unlisted-friend", "Agent", "contact", True),
]
"""Those of Alice's client, in order: among equals by id, the older first."""


@pytest.fixture
async def acme(market: Marketplace) -> Town:
    return await town(market)


async def peers_of(caller: Caller, path: str = "/agent/peers", **query: Any) -> list[dict[str, Any]]:
    """All of them, page by page as Band's runtime reads them."""
    found: list[dict[str, Any]] = []
    page = 0
    while True:
        page += 1
        answer = await caller.page(path, params={"page_size": 100, **query, "page": page})
        metadata = answer["metadata"]
        assert metadata["page"] == page
        found += answer["data"]
        if page >= metadata["total_pages"]:
            assert metadata["total_count"] == len(found)
            return found


async def names_of(caller: Caller, path: str = "/agent/peers", **query: Any) -> list[str]:
    return [row["name"] for row in await peers_of(caller, path, **query)]


def is_user(acme: Town, name: str) -> bool:
    return name in acme.users


async def test_an_agents_peers_are_its_house_those_for_all_and_its_contacts(acme: Town) -> None:
    rows = await peers_of(acme["client"])

    assert [(row["name"], row["type"], row["source"], row["is_contact"]) for row in rows] == PEERS


@pytest.mark.parametrize(
    "name",
    [
        "client",
        "dave",
        "bob",
        "personal",
        "listed",
        "untagged",
        "unlisted",
        "blocker",
        "blocked",
        "blocking-sibling",
        "blocking-everybodys",
        "blocked-shared",
        "draft",
        "inactive",
        "suspended",
        "banned",
    ],
)
async def test_nobody_else_is_a_peer(acme: Town, name: str) -> None:
    """Itself, strangers, teammates of its owner, whoever there is a block with, and agents that are not active."""
    assert name not in await names_of(acme["client"])


async def test_an_agents_row_says_what_it_is(acme: Town) -> None:
    rows = {row["name"]: row for row in await peers_of(acme["client"])}

    assert rows["unlisted-friend"] == {
        "id": acme.ids["unlisted-friend"],
        "handle": "bob/unlisted-friend",
        "name": "unlisted-friend",
        "type": "Agent",
        "source": "contact",
        "is_contact": True,
        "online": False,
        "is_external": True,
        "description": "Of bob",
        "listed_in_directory": False,
        "tags": ["words"],
    }
    assert rows["alice"] == {
        "id": acme.ids["alice"],
        "handle": "alice",
        "name": "alice",
        "type": "User",
        "source": "registry",
        "is_contact": True,
        "online": False,
        "is_external": False,
    }


async def test_a_users_peers_are_its_agents_teammates_those_for_all_and_contacts(acme: Town) -> None:
    await acme.befriend("friend", "alice")

    rows = await peers_of(acme["alice"], "/me/peers")

    told = [(row["name"], row["source"]) for row in rows]
    of_others = {"everybodys", "blocking-everybodys", "unlisted-everybodys"}
    assert set(told) == {
        *((name, "registry") for name in ("client", "sibling", "blocking-sibling", "shared", "blocked-shared", "dave")),
        *((name, "registry") for name in of_others),
        ("friend", "contact"),
    }
    assert told[-1] == ("friend", "contact")
    assert [name for name, _ in told][:3] == ["client", "sibling", "blocking-sibling"]
    assert len(told) == len(set(told))


async def test_everybodys_peers_are_what_the_rule_says(acme: Town) -> None:
    """The statement against the rule, for every user and agent that may ask: agents, and a user's fellow users."""
    await acme.befriend("friend", "alice")
    parties = await acme.parties()
    for viewer in parties:
        if viewer in {"draft", "inactive", "suspended", "banned"}:
            continue
        expected = set()
        for name in parties:
            if name == viewer or (name in AGENTS and not (await acme.agent(name)).is_active):
                continue
            tie = await acme.tie(viewer, name)
            owner = AGENTS[viewer][0] if viewer in AGENTS else None
            is_teammate_of_owner = owner is not None and is_user(acme, name) and name != owner and not tie.is_contact
            if is_present_to(parties[viewer], parties[name], tie) and not is_teammate_of_owner:
                expected.add(name)

        path = "/me/peers" if is_user(acme, viewer) else "/agent/peers"
        assert set(await names_of(acme[viewer], path)) == expected, viewer


async def test_a_user_asks_for_users_or_for_agents(acme: Town) -> None:
    everybody = await peers_of(acme["alice"], "/me/peers")

    for type_ in ("User", "Agent"):
        assert await peers_of(acme["alice"], "/me/peers", type=type_) == [
            row for row in everybody if row["type"] == type_
        ]
    refused = await acme["alice"].refused("GET", "/me/peers", params={"type": "user"})
    assert refused.why == (422, "invalid_payload")
    assert list(refused.details) == ["/type"]


async def test_a_room_leaves_out_who_takes_part_in_it(acme: Town) -> None:
    client = acme["client"]
    room = (await client.post("/agent/chats", {"chat": {}}))["id"]
    for name in ("sibling", "frida", "friend"):
        body = {"participant": {"participant_id": acme.ids[name]}}
        await client.post(f"/agent/chats/{room}/participants", body)

    outside = [row for row in PEERS if row[0] not in {"sibling", "frida", "friend"}]
    rows = await peers_of(client, not_in_chat=room)
    assert [(row["name"], row["type"], row["source"], row["is_contact"]) for row in rows] == outside
    assert len(await peers_of(client)) == len(PEERS)


@pytest.mark.parametrize("room", ["3f0e8e0c-1111-4222-8333-444455556666", "", "of another"])
async def test_a_room_that_one_takes_no_part_in_is_not_found(acme: Town, room: str) -> None:
    if room == "of another":
        room = (await acme["friend"].post("/agent/chats", {"chat": {}}))["id"]

    for who, path in (("client", "/agent/peers"), ("alice", "/me/peers")):
        assert (await acme[who].refused("GET", path, params={"not_in_chat": room})).why == (404, "not_found")


async def test_a_removed_contact_is_a_peer_no_more_unless_for_another_reason(acme: Town) -> None:
    for name in ("friend", "shared", "alice"):
        await acme["client"].post(REMOVE, {"handle": acme.handle(name)})

    rows = {row["name"]: row for row in await peers_of(acme["client"])}

    assert "friend" not in rows
    assert [(rows[name]["source"], rows[name]["is_contact"]) for name in ("shared", "alice")] == [
        ("registry", False),
        ("registry", False),
    ]


async def test_a_contact_ends_by_the_clock(acme: Town) -> None:
    ends = acme.market.clock.now.replace(hour=13).isoformat()
    await acme.befriend("client", "listed", scope={"expires_at": ends})
    before = await names_of(acme["client"])

    acme.market.clock.advance(hours=1)

    assert "listed" in before
    assert "listed" not in await names_of(acme["client"])


async def test_who_is_connected_is_online(market: Marketplace, acme: Town) -> None:
    await market.socket(acme["friend"].headers["x-api-key"])
    await market.socket(market.user_keys["alice"])

    rows = {row["name"]: row["online"] for row in await peers_of(acme["client"])}

    assert [name for name, online in rows.items() if online] == ["alice", "friend"]


@pytest.mark.parametrize("size", [1, 2, 3, 8])
async def test_pages_hold_every_peer_once_in_order(acme: Town, size: int) -> None:
    whole = await peers_of(acme["client"])
    by_cursor: list[Any] = []
    query: dict[str, Any] = {"limit": size}
    while True:
        page = await acme["client"].page("/agent/peers", params=query)
        by_cursor += page["data"]
        if not page["metadata"]["has_more"]:
            break
        query["cursor"] = page["metadata"]["next_cursor"]

    assert await peers_of(acme["client"], page_size=size) == whole == by_cursor


async def test_a_page_behind_the_last_is_empty(acme: Town) -> None:
    page = await acme["client"].page("/agent/peers", params={"page": 1_000, "page_size": 2})

    assert page["data"] == []
    assert (page["metadata"]["total_count"], page["metadata"]["total_pages"]) == (8, 4)
    assert page["metadata"]["has_more"] is False


@pytest.mark.parametrize(
    "query", [{"page": "0"}, {"page_size": "0"}, {"page_size": "101"}, {"cursor": "x"}, {"limit": "101"}]
)
async def test_what_is_no_page_is_refused(alice: Player, query: dict[str, str]) -> None:
    assert (await alice.refused("GET", "/agent/peers", params=query)).answer.status_code == 422


async def test_a_cursor_of_other_peers_is_refused(acme: Town) -> None:
    page = await acme["alice"].page("/me/peers", params={"limit": 1})

    refused = await acme["alice"].refused(
        "GET", "/me/peers", params={"type": "Agent", "cursor": page["metadata"]["next_cursor"]}
    )

    assert refused.why == (422, "invalid_cursor")


async def test_who_is_alone_has_its_owner(market: Marketplace) -> None:
    await market.user("hermit")
    alone = await market.agent("hermit", "Alone")

    assert await names_of(alone) == ["hermit"]

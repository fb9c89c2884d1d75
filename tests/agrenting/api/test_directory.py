"""The directory: who is found by whom, best first, on pages that never repeat or skip."""

import base64
import json
from typing import Any

import msgspec
import pytest

from agrenting.api.directory import parse_mark
from agrenting.db import directory, states
from channels.agents import Agent
from channels.contacts import is_discoverable_by
from channels.discovery import Search
from channels.errors import Invalid
from tests.agrenting.api.friends import BLOCK
from tests.agrenting.api.market import Caller, Marketplace, Player
from tests.agrenting.api.town import AGENTS, Town, town

FOUND = {"sibling", "shared", "personal", "listed", "everybodys", "friend"}
"""Whom Alice's client finds: everybody that is listed with a tag, whatever the relation, but for blocks."""


@pytest.fixture
async def acme(market: Marketplace) -> Town:
    return await town(market)


@pytest.fixture
async def carol(market: Marketplace) -> Player:
    """A stranger to all, unlisted herself: she only looks."""
    await market.user("carol")
    return await market.agent("carol", "Looker", is_listed=False)


async def found(caller: Caller, **query: Any) -> list[str]:
    """The names of the agents on the first page."""
    rows = await caller.get("/directory", params={"limit": 100, **query})
    return [row["name"] for row in rows]


async def every_page(caller: Caller, **query: Any) -> list[str]:
    """The names of the agents on all pages."""
    names: list[str] = []
    while True:
        page = await caller.page("/directory", params=query)
        assert page["metadata"]["limit"] == query["limit"]
        names += [row["name"] for row in page["data"]]
        if not page["metadata"]["has_more"]:
            assert page["metadata"]["next_cursor"] is None
            return names
        query["cursor"] = page["metadata"]["next_cursor"]


async def listed(market: Marketplace, name: str, **draft: Any) -> Player:
    """An agent of Bob's that strangers find."""
    return await market.agent("bob", name, **{"tags": ("words",), **draft})


async def rate(market: Marketplace, player: Player, completed: int) -> None:
    """Give an agent a reputation, as so many completed tasks would."""

    def change(tx: Any) -> None:
        agent: Agent = states.load(tx, "agent", player.id)
        states.save(tx, "agent", agent.id, msgspec.structs.replace(agent, tasks_completed=completed))

    await market.server.database.write(change)


# Who is found by whom.


async def test_all_are_found_who_are_listed_with_a_tag_but_for_blocks(acme: Town) -> None:
    assert set(await found(acme["client"])) == FOUND
    assert set(await found(acme["client"], query="words")) == FOUND
    assert set(await found(acme["client"], tags="words")) == FOUND


@pytest.mark.parametrize(
    ("name", "is_contact", "contact_required"),
    [
        ("sibling", False, False),
        ("shared", True, False),
        ("personal", False, True),
        ("listed", False, True),
        ("everybodys", False, False),
        ("friend", True, False),
    ],
)
async def test_a_row_says_whether_to_ask_first(
    acme: Town, *, name: str, is_contact: bool, contact_required: bool
) -> None:
    rows = {row["name"]: row for row in await acme["client"].get("/directory")}

    assert (rows[name]["is_contact"], rows[name]["contact_required"]) == (is_contact, contact_required)


async def test_everybody_finds_what_the_rule_says(acme: Town) -> None:
    """The statement against the rule, for every user and agent that may ask, of every agent."""
    parties = await acme.parties()
    for viewer in parties:
        if viewer in {"draft", "inactive", "suspended", "banned"}:
            continue
        expected = set()
        for name in AGENTS:
            subject = await acme.agent(name)
            is_listed = subject.is_active and subject.is_listed and subject.tags
            tie = await acme.tie(viewer, name)
            if is_listed and name != viewer and is_discoverable_by(parties[viewer], parties[name], tie):
                expected.add(name)

        assert set(await found(acme[viewer])) == expected, viewer


async def test_a_block_ends_by_the_clock(acme: Town) -> None:
    ends = acme.market.clock.now.replace(hour=13).isoformat()
    await acme["listed"].post(BLOCK, {"handle": "alice/client", "expires_at": ends})
    before = await found(acme["client"])

    acme.market.clock.advance(hours=1)

    assert "listed" not in before
    assert "listed" in await found(acme["client"])


async def test_a_contact_ends_by_the_clock(acme: Town) -> None:
    ends = acme.market.clock.now.replace(hour=13).isoformat()
    await acme.befriend("client", "listed", scope={"expires_at": ends})
    before = {row["name"]: row["is_contact"] for row in await acme["client"].get("/directory")}

    acme.market.clock.advance(hours=1)

    after = {row["name"]: row["is_contact"] for row in await acme["client"].get("/directory")}
    assert (before["listed"], after["listed"]) == (True, False)


async def test_a_row_says_what_the_agent_is(market: Marketplace, alice: Player, bob: Player) -> None:
    (row,) = await alice.get("/directory", params={"query": "translator"})

    assert row == {
        "id": bob.id,
        "type": "Agent",
        "handle": "bob/translator",
        "name": "Translator",
        "description": "Translator of bob",
        "tags": ["words"],
        "capabilities": ["translate"],
        "reputation": 3.5,
        "is_contact": False,
        "contact_required": False,
        "online": False,
    }


async def test_who_is_connected_is_online(market: Marketplace, alice: Player, bob: Player) -> None:
    await market.socket(bob.api_key)

    assert [row["online"] for row in await alice.get("/directory")] == [True]


async def test_a_change_of_what_is_listed_counts_at_once(market: Marketplace, alice: Player, bob: Player) -> None:
    owner = market.with_key(market.user_keys["bob"])
    for change, names in (
        ({"is_listed": False}, []),
        ({"is_listed": True, "tags": []}, []),
        ({"tags": ["law"], "name": "Lawyer"}, ["Lawyer"]),
    ):
        await owner.patch(f"/agents/{bob.id}", change)

        assert await found(alice) == names
    assert await found(alice, query="translator of") == ["Lawyer"]
    assert await found(alice, query="words") == []
    assert await found(alice, tags="words") == []


# Best first.


async def test_the_name_counts_more_than_tags_and_these_more_than_the_description(
    market: Marketplace, carol: Player
) -> None:
    await market.user("bob")
    in_text = await listed(market, "Zeta", description="Knows law")
    tagged = await listed(market, "Able", tags=("law",))
    named = await listed(market, "Law Firm")
    both = await listed(market, "Bureau", tags=("law", "words"), description="Knows law")
    await listed(market, "Other")
    for player in (in_text, tagged, both):
        await rate(market, player, 50)  # However well it did: what it is comes first.
    assert named.id

    assert await found(carol, query="law") == ["Law Firm", "Able", "Bureau", "Zeta"]


async def test_words_may_be_spread_over_what_an_agent_says(market: Marketplace, carol: Player) -> None:
    await market.user("bob")
    await listed(market, "Plain", description="Contract law in German")
    await listed(market, "German Law Contract")
    await listed(market, "German", tags=("law", "contract"))
    await listed(market, "German law", description="Nothing more")

    for query in ("german law contract", "contract German LAW", "law german contr"):
        assert await found(carol, query=query) == ["German Law Contract", "German", "Plain"]


async def test_among_equals_reputation_decides_and_then_age(market: Marketplace, carol: Player) -> None:
    await market.user("bob")
    players = [await listed(market, name) for name in ("First", "Second", "Third")]
    await rate(market, players[2], 10)

    assert await found(carol) == ["Third", "First", "Second"]
    assert await found(carol, query="words") == ["Third", "First", "Second"]
    assert await found(carol, tags="words") == ["Third", "First", "Second"]


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("translat", True),
        ("ÜBERSETZER", True),
        ("ubersetz", True),
        ("translate words", True),
        ("transl words", False),
        ("translate sing", False),
        ("bob/translator", True),
        ('"translator"', True),
        ("translator*", True),
        ("name:translator", False),
        ("translator NOT words", False),
        ("translator OR nothing", False),
        ("(translator", True),
        ("_", False),
        ("translator _", True),
        ("-- ?!", False),
    ],
)
async def test_words_are_words_and_nothing_else(
    market: Marketplace, carol: Player, *, query: str, is_found: bool
) -> None:
    await market.user("bob")
    await market.translator()
    await listed(market, "Other", description="Der Übersetzer of Bob", tags=("x",))

    names = await found(carol, query=query)

    assert (len(names) > 0) is is_found, names


async def test_every_tag_must_be_there_whole(market: Marketplace, carol: Player) -> None:
    await market.user("bob")
    await listed(market, "Joined", tags=("law-firm",))
    await listed(market, "Apart", tags=("law", "firm"))
    await listed(market, "Spelt", tags=("my-law", "firm-x"))

    assert await found(carol, tags=["law-firm"]) == ["Joined"]
    assert await found(carol, tags=["FIRM", "law"]) == ["Apart"]
    assert await found(carol, tags=["law"], query="apart") == ["Apart"]
    assert await found(carol, tags=["law"], query="joined") == []
    assert await found(carol, tags=["none"]) == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"query": " "}, "/query"),
        ({"query": "x" * 201}, "/query"),
        ({"query": ["a", "b"]}, "/query"),
        ({"tags": ["no tag"]}, "/tags"),
        ({"tags": [f"tag{number}" for number in range(17)]}, "/tags"),
        ({"limit": "0"}, "/limit"),
        ({"limit": "101"}, "/limit"),
        ({"cursor": "x"}, "/cursor"),
    ],
)
async def test_what_is_no_search_is_refused_by_its_name(carol: Player, query: dict[str, Any], pointer: str) -> None:
    refused = await carol.refused("GET", "/directory", params=query)

    assert refused.answer.status_code == 422
    assert list(refused.details) == [pointer]


# Pages.


@pytest.mark.parametrize("query", [{}, {"query": "words"}, {"query": "number"}, {"tags": "words"}])
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_pages_hold_every_agent_once_in_order(
    market: Marketplace, carol: Player, query: dict[str, Any], limit: int
) -> None:
    await market.user("bob")
    for number in range(7):
        drafts: tuple[dict[str, Any], ...] = (
            {"name": f"Number {number}"},
            {"tags": ("number", "words")},
            {"description": "A number of words"},
        )
        await listed(market, **{"name": f"Other {number}", **drafts[number % 3]})

    pages = await every_page(carol, limit=limit, **query)

    assert pages == await found(carol, **query)
    assert len(pages) == len(set(pages)) == 7


async def test_others_come_go_and_rise_and_nothing_is_repeated_or_skipped(market: Marketplace, carol: Player) -> None:
    """A new agent changes how rare a word is in the whole market; those that did not change stay where they stand."""
    await market.user("bob")
    players = [await listed(market, f"Law {number}") for number in range(3)]
    players += [await listed(market, f"Tagged {number}", tags=("law",)) for number in range(3)]
    await listed(market, "Text", description="Some law")
    first = await carol.page("/directory", params={"query": "law", "limit": 2})
    for number in range(5):
        await listed(market, f"New law {number}", description="law law law", tags=("law",))
    await rate(market, players[5], 20)
    await market.with_key(market.user_keys["bob"]).delete(f"/agents/{players[1].id}")

    rest = await every_page(carol, query="law", limit=2, cursor=first["metadata"]["next_cursor"])

    seen = [row["name"] for row in first["data"]] + rest
    assert seen[:2] == ["Law 0", "Law 1"]
    assert [name for name in seen if not name.startswith("New")] == [
        "Law 0",
        "Law 1",
        "Law 2",
        "Tagged 2",
        "Tagged 0",
        "Tagged 1",
        "Text",
    ]
    assert len(seen) == len(set(seen))


async def test_a_cursor_is_good_for_its_search_alone(market: Marketplace, alice: Player, bob: Player) -> None:
    await market.translator("Second")
    page = await alice.page("/directory", params={"query": "words", "limit": 1})
    cursor = page["metadata"]["next_cursor"]

    for other in ({}, {"query": "word"}, {"query": "words", "tags": "words"}):
        refused = await alice.refused("GET", "/directory", params={**other, "cursor": cursor})

        assert refused.why == (422, "invalid_cursor")
        assert list(refused.details) == ["/cursor"]
    assert (await alice.page("/directory", params={"query": "words", "limit": 5, "cursor": cursor}))["data"]


@pytest.mark.parametrize("place", ["0", "0.", ".1", "0.-1", "0.1e3", "0.99999999999999999999", "0.9223372036854775808"])
async def test_a_cursor_that_somebody_made_up_is_refused(
    market: Marketplace, alice: Player, bob: Player, place: str
) -> None:
    await market.translator("Second")
    page = await alice.page("/directory", params={"limit": 1})
    name, _ = json.loads(base64.urlsafe_b64decode(page["metadata"]["next_cursor"] + "=="))
    made_up = base64.urlsafe_b64encode(msgspec.json.encode((name, place))).decode().rstrip("=")

    assert (await alice.refused("GET", "/directory", params={"cursor": made_up})).why == (422, "invalid_cursor")


def test_a_mark_is_what_a_cursor_says() -> None:
    assert parse_mark("") == directory.Mark(rank=0, place=-1)
    assert parse_mark("2.9223372036854775807") == directory.Mark(rank=2, place=directory.PLACE_MAX)
    with pytest.raises(Invalid):
        parse_mark("a.1")


@pytest.mark.parametrize(
    "search", [Search(), Search(tags=("words",)), Search(query="law"), Search(query="law", tags=("words", "x"))]
)
async def test_a_page_is_read_off_an_index_and_nothing_is_sorted(
    market: Marketplace, acme: Town, search: Search
) -> None:
    """So page 1,000 costs what page 1 costs."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Asking:
        def all(self, sql: str, **values: Any) -> list[Any]:
            asked.append((sql, values))
            return []

    (party,) = [party for name, party in (await acme.parties()).items() if name == "client"]
    noting: Any = Asking()
    mark = directory.Mark(place=1)
    directory.find(noting, search, viewer=party, after=mark, limit=5, now=market.clock())

    def explain(tx: Any) -> list[Any]:
        return [tx.all(f"EXPLAIN QUERY PLAN {sql}", **values) for sql, values in asked]

    plans = await market.server.database.read(explain)
    assert len(plans) == (3 if search.query else 1)
    for plan in plans:
        steps = " | ".join(row[3] for row in plan)
        assert "TEMP B-TREE" not in steps
        how = "place=?" if search != Search() else "place>?"
        assert f"ix_agents_is_findable_place (is_findable=? AND {how})" in steps
        assert "SCAN a" not in steps.replace("SCAN agents_text VIRTUAL TABLE", "")

"""PROTOCOL.md is true of contacts: a story is played, and all that both sides are told is held against its tables."""

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from channels import contact_requests
from channels.agents import Agent
from channels.contact_requests import Respond, ScopeDraft
from channels.contacts import Kind
from channels.routes import CLOCKS
from tests.channels.protocol_text import chapter, code, codes, section, table
from tests.channels.roles import ALICE, BOB, MARKET, Player
from tests.channels.test_protocol_told import fields, require_fits
from tests.channels.world import World

CONTACTS = chapter("Contacts")
AGENTS = chapter("`agent_contacts:{agent_id}`")
USERS = chapter("`user_contacts:{user_id}`")
OWN = {"agent_contacts": AGENTS, "user_contacts": USERS}
LIMITS = MARKET.limits


def in_house_of_its_own(who: Player) -> Player:
    """The same agent, of nobody's organisation."""
    agent: Agent = msgspec.structs.replace(who.agent, organisation_id=None, owner_organisation_id=None)
    return msgspec.structs.replace(who, agent=agent)


@pytest.fixture
def world() -> World:
    """Alice's agent and Bob's, who are strangers."""
    return World(in_house_of_its_own(ALICE), in_house_of_its_own(BOB))


def alice() -> Player:
    return in_house_of_its_own(ALICE)


def bob() -> Player:
    return in_house_of_its_own(BOB)


def told_in(world: World) -> dict[str, list[tuple[str, Any]]]:
    """Everything that can be told to agents and users, by the name of the topic."""
    owner = bob().agent.owner_id
    topics = [f"agent_contacts:{alice().id}", f"agent_contacts:{bob().id}", f"user_contacts:{owner}"]
    listeners = [world.listen(alice(), topic) for topic in topics]
    for handle in (bob().agent.handle, bob().agent.handle.partition("/")[0]):
        world.call(alice(), "add", handle=handle, message=None)
        world.call(alice(), "respond", action="cancel", handle=handle)
        world.call(alice(), "add", handle=handle, message="May I?")
        world.advance(LIMITS.contact_request_ttl_s)
    world.call(alice(), "add", handle=bob().agent.handle)
    world.call(bob(), "respond", action="reject", handle=alice().agent.handle)
    world.call(alice(), "add", handle=bob().agent.handle)
    world.call(bob(), "respond", action="approve", handle=alice().agent.handle)
    world.call(alice(), "remove", handle=bob().agent.handle)
    told: dict[str, list[tuple[str, Any]]] = {"agent_contacts": [], "user_contacts": []}
    for listener in listeners:
        name = listener.topic.partition(":")[0]
        told[name] += [(heard.event, heard.payload) for heard in listener.heard]
    return told


def test_what_agents_are_told_is_what_the_table_says(world: World) -> None:
    told = told_in(world)["agent_contacts"]
    rows = {code(row["told"]): row for row in table("told", AGENTS)}
    known = fields("told field", AGENTS)

    assert {event for event, _ in told} == rows.keys()
    for event, payload in told:
        require_fits(payload, {name: known[name] for name in codes(rows[event]["fields"])}, where=event)


def test_what_users_are_told_is_what_the_table_says(world: World) -> None:
    told = told_in(world)["user_contacts"]
    rows = {code(row["told"]): row for row in table("told", USERS)}
    known = fields("told field", USERS)

    assert {event for event, _ in told} == {"contact_request_received", "contact_request_updated"}
    for event, payload in told:
        require_fits(payload, {name: known[name] for name in codes(rows[event]["fields"])}, where=event)
    assert [*next(payload for event, payload in told if event == "contact_request_received")["requester"]] == codes(
        {code(row["told field"]): row for row in table("told field", USERS)}["requester"]["meaning"]
    )


def test_both_kinds_of_sides_are_told_of_contacts_in_the_same_way() -> None:
    agents, users = ({code(row["told"]): row["fields"] for row in table("told", text)} for text in (AGENTS, USERS))

    assert agents.keys() == users.keys()
    assert {name: agents[name] for name in agents if name != "contact_request_received"} == {
        name: users[name] for name in users if name != "contact_request_received"
    }


def test_each_field_that_is_explained_is_told() -> None:
    for text in OWN.values():
        told = {name for row in table("told", text) for name in codes(row["fields"])}
        assert fields("told field", text).keys() == told


def test_the_scope_has_the_fields_and_kinds_that_are_listed() -> None:
    rows = {code(row["scope field"]): row for row in table("scope field", CONTACTS)}

    assert [*rows] == [*ScopeDraft.__struct_fields__]
    assert codes(rows["kinds"]["meaning"]) == [*Kind]


ENDS: dict[str, Callable[[World], object]] = {
    "approve": lambda world: world.call(bob(), "respond", action="approve", handle=alice().agent.handle),
    "the other one asks too": lambda world: world.call(bob(), "add", handle=alice().agent.handle),
    "reject": lambda world: world.call(bob(), "respond", action="reject", handle=alice().agent.handle),
    "a block of the requester by the recipient": lambda world: world.call(bob(), "block", handle=alice().agent.handle),
    "cancel": lambda world: world.call(alice(), "respond", action="cancel", handle=bob().agent.handle),
    "a block of the recipient by the requester": lambda world: world.call(alice(), "block", handle=bob().agent.handle),
    "the clock": lambda world: world.advance(LIMITS.contact_request_ttl_s),
}


def test_the_states_of_a_request_follow_as_the_table_says() -> None:
    moves = {("–", "ask", "pending")}
    for name, end in ENDS.items():
        world = World(alice(), bob())
        asked = world.call(alice(), "add", handle=bob().agent.handle)
        end(world)
        moves.add(("pending", name, world.states["contact_request"][asked["id"]].status))
    listed = {(code(row["from"]) or "–", row["on"].strip("`"), code(row["to"])) for row in table("from", CONTACTS)}

    assert moves == listed
    assert {*codes(section("Join", AGENTS))} >= {"GET /api/v1/agent/contacts"}


def test_the_actions_of_an_answer_are_the_moves_that_are_listed() -> None:
    actions = {*get_args(contact_requests.Action)}

    assert actions <= {row["on"].strip("`") for row in table("from", CONTACTS)}
    assert {*get_args(msgspec.structs.fields(Respond)[0].type)} == actions


def test_what_the_clock_ends_without_a_topic_is_said() -> None:
    assert [*CLOCKS][:3] == ["contact_request_expires", "contact_expires", "block_expires"]
    for sentence in ("the contact ends then", "It may have an end", "the clock"):
        assert sentence in CONTACTS

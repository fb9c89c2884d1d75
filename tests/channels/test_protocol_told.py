"""PROTOCOL.md is true of what is told: whole stories are played, and every reply and broadcast is held against it.

What is told is compared with the tables by name and by type, both ways.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from channels import analytics, discovery, private
from channels.agents import AgentStatus
from channels.contacts import (
    NO_TIE,
    Party,
    Relation,
    Tie,
    exists_for,
    is_discoverable_by,
    is_present_to,
    needs_contact,
    relation,
)
from channels.discovery import Announce, Arrival, Found, Hit, UpdateMetadata
from channels.handlers import Empty, KnowTies, ShowPresence, Track
from channels.presence import Presence
from channels.routes import OURS
from channels.told import Audience
from tests.channels import played
from tests.channels.played import Played
from tests.channels.protocol_text import chapter, code, codes, section, table, tables
from tests.channels.roles import ALICE, BOB, as_told, broadcasts_of, context

DISCOVERY = chapter("`agents:discovery`")
NEGOTIATION = chapter("`negotiation:{session_id}`")
TASK = chapter("`task:{task_id}`")
PAYMENT = chapter("`payment:{channel_id}`")
MAILBOX = chapter("`messages:{agent_id}`")
CHAPTERS = {
    "agents": DISCOVERY,
    "negotiation": NEGOTIATION,
    "task": TASK,
    "payment": PAYMENT,
    "messages": MAILBOX,
}
SHARED_REPLIES = {
    "the session": (NEGOTIATION, "session field"),
    "the task": (TASK, "task field"),
    "the channel": (PAYMENT, "channel field"),
}
STATE_FIELDS = {"negotiation": "session field", "task": "task field", "payment": "channel field"}
TO = {Audience.ALL: "both", Audience.OTHER_AGENTS: "the other agent"}

CHECKS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in {int, float},
    "boolean": lambda value: type(value) is bool,
    "object": lambda value: type(value) is dict,
    "list of objects": lambda value: type(value) is list and all(type(item) is dict for item in value),
    "list of strings": lambda value: type(value) is list and all(type(item) is str for item in value),
    "any JSON": lambda value: True,
    "time": lambda value: type(value) is str and value.endswith("Z"),
    "digest": lambda value: type(value) is str and len(value) == 64,
    "signature": lambda value: type(value) is str and len(value) == 88,
    "public key": lambda value: type(value) is str and len(value) == 44,
    "id": lambda value: type(value) is str and len(value) == 36,
    "string": lambda value: type(value) is str,
}
"""What each type of the document means in JSON."""

Fields = dict[str, str]
"""Name → type; a question mark behind the name where it may be missing."""


@pytest.fixture(scope="module")
def story() -> Played:
    """Everything that can happen, once at least."""
    return played.story()


# Names and types.


def fields(heading: str, of: str) -> Fields:
    """A table of fields as names and types."""
    return {code(row[heading]): row["type"] for row in table(heading, of)}


def require_fits(value: dict[str, Any], expected: Fields, *, where: str) -> None:
    """An object has the fields of a table, no others, each of its type."""
    assert value.keys() - {"duplicate"} <= {name.rstrip("?") for name in expected}, where
    for name, type_ in expected.items():
        if name.endswith("?") and name.rstrip("?") not in value:
            continue
        word, null, _ = type_.partition(" or null")
        found = value[name.rstrip("?")]
        assert CHECKS[word](found) or (null and found is None), f"{where}: {name} is {found!r}, no {type_}"


def reply_fields(topic: str, event: str) -> Fields:
    """What a reply holds, by the event's section."""
    text = section("Join" if event == "phx_join" else f"`{event}`", CHAPTERS[topic])
    for name, (home, heading) in SHARED_REPLIES.items():
        if f"Reply: {name}." in text:
            return fields(heading, home)
    for other in ("input_stream", "input_complete"):
        if f"Reply: that of `{other}`." in text:
            return reply_fields(topic, other)
    headings = [h for h in ("reply field", *STATE_FIELDS.values()) if tables(h, text)]
    return fields(headings[0], text)


REPLIES = [
    pytest.param(module.TOPIC.partition(":")[0], event, id=f"{module.TOPIC} {event}")
    for module in OURS
    for event in ("phx_join", *module.HANDLERS)
]
PLAYED_APART = {
    ("agents", "create_private_channel"),
    *(("private", event) for event in ("phx_join", *private.HANDLERS)),
    *(("analytics", event) for event in ("phx_join", *analytics.HANDLERS)),
    *(("agents", event) for event in ("phx_join", "discover", "update_metadata", "announce")),
    *((topic, "phx_join") for topic in ("agent_contacts", "user_contacts", "agent_control", "agent_rooms")),
    *((topic, "phx_join") for topic in ("user_rooms", "chat_room", "room_participants")),
}
"""Discovery below; topics that are one agent's or user's own in test_protocol_contacts.py, rooms in
test_protocol_rooms.py, private channels in test_protocol_private.py, analytics in test_protocol_analytics.py."""


@pytest.mark.parametrize(("topic", "event"), [case for case in REPLIES if case.values not in PLAYED_APART])
def test_a_reply_is_what_its_section_says(story: Played, topic: str, event: str) -> None:
    replies = story.replies[topic, event]

    assert replies
    for reply in replies:
        require_fits(reply, reply_fields(topic, event), where=f"{topic} {event}")


def test_an_offer_of_a_session_is_what_its_table_says(story: Played) -> None:
    offers = [offer for reply in story.replies["negotiation", "offer"] for offer in reply["offers"]]

    for offer in offers:
        require_fits(offer, fields("offer field", NEGOTIATION), where="offers")


def test_a_stream_of_a_task_is_what_its_table_says(story: Played) -> None:
    for reply in story.replies["task", "phx_join"]:
        assert reply["streams"].keys() == {"input", "output"}
        for state in reply["streams"].values():
            require_fits(state, fields("stream field", TASK), where="streams")


@pytest.mark.parametrize("topic", ["negotiation", "task", "payment", "messages"])
def test_what_comes_in_is_what_the_table_lists(story: Played, topic: str) -> None:
    listed = {code(row["told"]): row for row in table("told", CHAPTERS[topic])}

    assert {event for told_topic, event in story.told if told_topic == topic} == listed.keys()


@pytest.mark.parametrize("topic", ["negotiation", "task", "payment", "messages"])
def test_what_comes_in_has_the_fields_and_the_receivers_of_its_row(story: Played, topic: str) -> None:
    text = CHAPTERS[topic]
    known = fields("told field", text)
    if topic in STATE_FIELDS:
        known = fields(STATE_FIELDS[topic], text) | known
    for row in table("told", text):
        event = code(row["told"])
        expected = {name: known[name] for name in codes(row["fields"])}
        for audience, payload in story.told[topic, event]:
            require_fits(payload, expected, where=event)
            assert row["to"] in {TO[audience], "the agent"}


def test_every_field_that_the_told_tables_explain_is_told() -> None:
    for text in (NEGOTIATION, TASK, PAYMENT, MAILBOX):
        told = {name for row in table("told", text) for name in codes(row["fields"])}

        assert fields("told field", text).keys() <= told


def test_the_task_that_is_told_at_the_end_is_whole(story: Played) -> None:
    for event in ("task_completed", "task_failed", "task_cancelled"):
        for _, payload in story.told["task", event]:
            require_fits(payload["task"], fields("task field", TASK), where=event)


def test_the_offers_in_negotiation_complete_have_no_time(story: Played) -> None:
    expected = {name: type_ for name, type_ in fields("offer field", NEGOTIATION).items() if name != "made_at"}
    for _, payload in story.told["negotiation", "negotiation_complete"]:
        for offer in payload["offers"]:
            require_fits(offer, expected, where="negotiation_complete")


def test_the_parts_of_a_channel_are_what_their_tables_say(story: Played) -> None:
    channels = [reply for (topic, _), replies in story.replies.items() if topic == "payment" for reply in replies]
    parts = {"pending_proposal": "proposal field", "last_transfer": "transfer field"}

    for name, heading in parts.items():
        shown = [channel[name] for channel in channels if channel[name] is not None]
        assert shown
        for part in shown:
            require_fits(part, fields(heading, PAYMENT), where=name)


@pytest.mark.parametrize("type_", ["negotiation", "task_handoff", "payment_channel"])
def test_a_stored_message_has_the_payload_of_its_type(story: Played, type_: str) -> None:
    letters = [payload for _, payload in story.told["messages", "new_message"] if payload["type"] == type_]

    assert letters
    for letter in letters:
        require_fits(letter["payload"], fields(f"{type_} field", MAILBOX), where=type_)
    assert {payload["type"] for _, payload in story.told["messages", "new_message"]} == {
        "negotiation", "task_handoff", "payment_channel"
    }  # fmt: skip


# Discovery, whose searches the server's database answers.


def test_a_join_of_discovery_tells_and_shows_what_its_tables_say() -> None:
    decision = discovery.join(Arrival(agent=ALICE.agent, ties={}), Empty(), context(ALICE))
    _, track = decision.presence
    assert isinstance(track, Track)
    shown = Presence().track(ALICE.id, "socket", track.meta, "ref").joins[ALICE.id]["metas"][0]

    require_fits(as_told(decision.reply), fields("reply field", section("Join", DISCOVERY)), where="join")
    require_fits(as_told(shown), fields("presence field", DISCOVERY), where="presence")


def test_who_is_not_active_is_shown_the_others_and_not_itself() -> None:
    agent = msgspec.structs.replace(ALICE.agent, status=AgentStatus.INACTIVE)
    decision = discovery.join(Arrival(agent=agent, ties={}), Empty(), context(ALICE))

    assert decision.presence == (KnowTies({}), ShowPresence())
    assert "one that is not active may\nlook, and is not shown" in section("Join", DISCOVERY)


@pytest.mark.parametrize("metadata", [{"a": 1}, {"status": "busy"}])
def test_metadata_is_answered_as_its_table_says(metadata: dict[str, Any]) -> None:
    decision = discovery.update_metadata(ALICE.agent, UpdateMetadata(metadata=metadata), context(ALICE))

    require_fits(as_told(decision.reply), reply_fields("agents", "update_metadata"), where="update_metadata")


def test_an_announcement_is_answered_and_told_as_its_tables_say() -> None:
    decision = discovery.announce(ALICE.agent, Announce(capabilities=("read",)), context(ALICE))
    (broadcast,) = broadcasts_of(decision)
    rows = {code(row["told"]): row for row in table("told", DISCOVERY)}

    require_fits(as_told(decision.reply), reply_fields("agents", "announce"), where="announce")
    assert rows.keys() == {"presence_state", "presence_diff", broadcast.event}
    assert {*as_told(broadcast.payload)} == {*codes(rows[broadcast.event]["fields"])}


@pytest.mark.parametrize("agent", [ALICE.agent, msgspec.structs.replace(BOB.agent, public_key=None, tasks_completed=2)])
def test_a_hit_is_what_its_table_says(agent: Any) -> None:
    found = Found(
        hits=(Hit(agent=agent, status="online", price=None, tie=NO_TIE),), next_cursor=None, viewer=ALICE.agent.party
    )
    reply = as_told(discovery.discover(found, discovery.Discover(), context(ALICE)).reply)

    require_fits(reply, reply_fields("agents", "discover"), where="discover")
    require_fits(reply["agents"][0], fields("hit field", DISCOVERY), where="hit")


def test_who_sees_whom_is_what_the_table_says() -> None:
    bob = Party(id="b", user_id="u", organisation_id="o", has_tags=True)
    stranger = Party(id="a", user_id="v")
    viewers = {
        "self": bob,
        "owner": Party(id="u", user_id="u"),
        "blocked": Party(id="a", user_id="u"),
        "sibling": Party(id="a", user_id="u"),
        "same_organisation": Party(id="a", user_id="v", owner_organisation_id="o"),
        "global": stranger,
        "contact": stranger,
        "stranger": stranger,
    }
    ties = {"blocked": Tie(is_blocked=True), "contact": Tie(is_contact=True)}
    rows = table("relation", chapter("Who sees whom"))

    assert [code(row["relation"]) for row in rows] == [kind.value for kind in Relation]
    for row in rows:
        name = code(row["relation"])
        subject = msgspec.structs.replace(bob, is_global=name == "global")
        viewer, tie = viewers[name], ties.get(name, NO_TIE)
        hidden = msgspec.structs.replace(subject, has_tags=False)
        finds = [is_discoverable_by(viewer, subject, tie), is_discoverable_by(viewer, hidden, tie)]
        assert relation(viewer, subject, tie).value == name
        assert (row["sees b's presence, and b among its peers"] == "yes") is is_present_to(viewer, subject, tie)
        assert ("contact_required" in row["may hire b"]) is needs_contact(viewer, subject, tie)
        assert ("not_found" in row["may hire b"]) is not exists_for(viewer, subject, tie)
        assert name == "self" or row["finds b in `discover` and the directory"] == {
            (True, True): "yes", (True, False): "if b is listed and has a tag", (False, False): "no"
        }[finds[0], finds[1]]  # fmt: skip

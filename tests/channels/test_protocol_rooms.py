"""PROTOCOL.md is true of chat rooms: a story is played, and all that everybody is told is held against its tables."""

from collections.abc import Callable
from typing import Any, get_args

import pytest

from channels.errors import Refusal
from channels.room_deliveries import ATTEMPTS_TOLD
from channels.room_messages import EventType
from channels.room_state import DeliveryStatus, Role
from channels.told import Broadcast
from tests.channels.protocol_text import chapter, code, codes, section, table
from tests.channels.roles import as_told
from tests.channels.room_play import ALICE, BOB, CAROL, JANE, JOHN, RoomPlay, furnished
from tests.channels.test_protocol_told import fields, require_fits

ROOMS = chapter("Chat rooms")
TOPICS = {
    "agent_rooms": chapter("`agent_rooms:{agent_id}`"),
    "user_rooms": chapter("`user_rooms:{user_id}`"),
    "chat_room": chapter("`chat_room:{room_id}`"),
    "room_participants": chapter("`room_participants:{room_id}`"),
}


@pytest.fixture(scope="module")
def story() -> RoomPlay:
    """Everything that can be told, once at least."""
    play = RoomPlay()
    room = play.make(ALICE, title="Plans", task_id="t")
    play.make(JOHN)
    for who in (BOB, JANE):
        play.befriend(ALICE, who)
        play.add(ALICE, room, who)
    message = play.send(ALICE, room, "Work!", BOB, JANE)["id"]
    play.mark(BOB, room, message, "processing")
    play.mark(BOB, room, message, "failed")
    play.remove(BOB, room, BOB)
    play.remove(JANE, room, JANE)
    play.add(ALICE, room, JOHN)
    play.delete(JOHN, room)
    return play


@pytest.mark.parametrize("name", TOPICS)
def test_what_comes_in_is_what_the_table_lists_with_its_fields(story: RoomPlay, name: str) -> None:
    rows = {code(row["told"]): row for row in table("told", TOPICS[name])}
    known = fields("told field", TOPICS[name])
    told = [one for one in story.told if isinstance(one, Broadcast) and one.topic.partition(":")[0] == name]

    assert {one.event for one in told} == rows.keys()
    for one in told:
        payload = as_told(one.payload)
        require_fits(payload, {field: known[field] for field in codes(rows[one.event]["fields"])}, where=one.event)
        missing = {field for field in codes(rows[one.event]["fields"]) if not field.endswith("?")} - payload.keys()
        assert not missing
    assert {field for row in rows.values() for field in codes(row["fields"])} == known.keys()


def test_texts_are_told_to_some_and_all_else_to_everybody_on_its_topic(story: RoomPlay) -> None:
    for one in story.told:
        if isinstance(one, Broadcast):
            assert (one.to is not None) is one.topic.startswith("chat_room:"), one.event
    assert [row["to"] for row in table("told", TOPICS["chat_room"])] == [
        "those whom it mentions", "the users among its sender and those whom it mentions"
    ]  # fmt: skip


def test_a_join_is_answered_with_nothing() -> None:
    play, room = furnished()

    assert play.join(ALICE, room) == {}
    for text in TOPICS.values():
        assert "The reply is empty" in section("Join", text)


def test_roles_may_what_their_table_says() -> None:
    rows = {code(row["role"]): row for row in table("role", ROOMS)}

    assert [*rows] == [role.value for role in Role]
    for own in Role:
        for given in Role:
            play, room = furnished()
            play.befriend(ALICE, BOB)
            play.add(ALICE, room, BOB, own)
            play.befriend(BOB, CAROL)
            assert _is_taken(play.add, BOB, room, CAROL, given) is (given.value in codes(rows[own]["gives the roles"]))
        for theirs in Role:
            play, room = furnished()
            for who, role in ((BOB, own), (CAROL, theirs)):
                play.befriend(ALICE, who)
                play.add(ALICE, room, who, role)
            assert _is_taken(play.remove, BOB, room, CAROL) is (f"{theirs.value}s" in rows[own]["removes"])


def test_a_delivery_goes_as_the_table_says() -> None:
    moves = {("–", "send", "delivered")}
    begun: dict[str, tuple[str, ...]] = {
        "delivered": (),
        "processing": ("processing",),
        "processed": ("processing", "processed"),
        "failed": ("processing", "failed"),
    }
    for status in DeliveryStatus:
        for how in ("processing", "processed", "failed"):
            play, room = furnished(BOB)
            message = play.send(ALICE, room, "Work!", BOB)["id"]
            for step in begun[status]:
                play.mark(BOB, room, message, step)
            before = play.deliveries[f"{message}:{BOB.id}"]
            assert before.status is status
            if _is_taken(play.mark, BOB, room, message, how):
                after = play.deliveries[f"{message}:{BOB.id}"]
                moves |= {(status.value, how, after.status.value)} if after != before else set()
    rows = table("from", ROOMS)

    assert moves == {(code(row["from"]) or "–", code(row["on"]), code(row["to"])) for row in rows}


def test_the_types_of_events_are_all_named() -> None:
    assert {*get_args(EventType)} <= {*codes(ROOMS)}


def test_what_a_text_says_of_its_readers_is_named() -> None:
    play, room = furnished(BOB, JANE)
    message = play.send(JANE, room, "Work!", BOB)["id"]
    play.mark(BOB, room, message, "processing")
    metadata: dict[str, Any] = play.events(f"chat_room:{room}")[-1][1]["metadata"]

    named = {*codes(ROOMS)}
    assert metadata.keys() <= named
    assert metadata["mentions"][0].keys() <= named
    assert metadata["delivery_status"][BOB.id].keys() <= named


def test_so_many_attempts_are_told_as_it_says() -> None:
    assert f"The first {ATTEMPTS_TOLD} attempts" in ROOMS
    assert f"in its first {ATTEMPTS_TOLD} attempts" in TOPICS["chat_room"]


def _is_taken(act: Callable[..., object], *args: Any) -> bool:
    try:
        act(*args)
    except Refusal:
        return False
    return True

"""Chat rooms: who makes, renames and deletes them, who is told, and who joins their topics."""

from collections.abc import Callable
from typing import Any

import pytest

from channels import agent_rooms, chat_room, room_participants, user_rooms
from channels.handlers import Access
from channels.room_state import Role, RoomStatus
from channels.told import Ended
from tests.channels.roles import market_with
from tests.channels.room_play import (
    ALICE,
    BOB,
    CARL,
    CAROL,
    JANE,
    JOHN,
    MALLORY,
    RoomPlay,
    furnished,
    refusing,
)

ALICES, BOBS, CAROLS = (who.agent.handle for who in (ALICE, BOB, CAROL))


class TestMaking:
    def test_who_makes_a_room_owns_it_and_is_told(self) -> None:
        play = RoomPlay()

        room = play.make(ALICE, title="  Plans  ", task_id="t-1")

        assert play.roles(room) == {ALICES: Role.OWNER}
        shown = {"id": room, "title": "Plans", "task_id": "t-1"}
        times = {"inserted_at": "2026-03-01T12:00:00Z", "updated_at": "2026-03-01T12:00:00Z"}
        assert play.events(f"agent_rooms:{ALICE.id}") == [("room_added", shown | times)]
        assert len(play.told) == 1

    def test_a_user_is_told_on_its_own_topic(self) -> None:
        play = RoomPlay()

        room = play.make(JOHN)

        assert [event for event, _ in play.events(f"user_rooms:{JOHN.user_id}")] == ["room_added"]
        assert play.rooms[room].participants[0].type == "User"

    @pytest.mark.parametrize(
        "title", [None, "", "   ", "\n", "\u200b", "\u200b \u2060", "\ufeff", "\u3164", "\u2800 \uffa0", "\u115f\u1160"]
    )
    def test_a_title_in_which_there_is_nothing_to_see_is_none(self, title: str | None) -> None:
        play = RoomPlay()

        assert play.rooms[play.make(ALICE, title=title)].title is None

    @pytest.mark.parametrize("task_id", [None, "", "  \n"])
    def test_a_blank_task_is_none(self, task_id: str | None) -> None:
        play = RoomPlay()

        assert play.rooms[play.make(ALICE, task_id=task_id)].task_id is None

    def test_a_title_has_120_characters_at_most(self) -> None:
        play = RoomPlay()

        assert play.rooms[play.make(ALICE, title="ä" * 120 + "\n")].title == "ä" * 120
        with refusing(play, "invalid", "invalid_payload", field="chat.title"):
            play.make(ALICE, title="ä" * 121)

    @pytest.mark.parametrize("character", "\n\r\0\t\x1b\x85\u2028\u2029\u061c\u200e\u200f\u202a\u202e\u2066\u2069")
    def test_a_title_has_one_line_and_no_control_characters(self, character: str) -> None:
        play = RoomPlay()

        with refusing(play, "invalid", "invalid_payload", field="chat.title"):
            play.make(ALICE, title=f"a{character}b")

    def test_a_house_makes_so_many_and_no_more(self) -> None:
        play = RoomPlay(market_with(rooms_made_max=2))
        first = play.make(ALICE)
        play.make(JOHN)

        for who in (ALICE, JOHN):
            with refusing(play, "conflict", "room_limit", max=2):
                play.make(who)
        assert play.make(BOB)
        play.delete(JOHN, first)
        assert play.make(ALICE)

    def test_the_id_of_a_task_is_bounded(self) -> None:
        play = RoomPlay()

        with refusing(play, "invalid", "invalid_payload", field="chat.task_id"):
            play.make(ALICE, task_id="t" * 129)

    def test_an_agent_that_is_not_active_makes_none(self) -> None:
        play = RoomPlay()
        play.change(ALICE, is_active=False)

        with refusing(play, "conflict", "agent_unavailable", agent_id=ALICE.id):
            play.make(ALICE)


class TestRenaming:
    def test_an_owner_gives_another_title(self) -> None:
        play, room = furnished(BOB)
        play.advance(1)

        shown = play.rename(ALICE, room, " New ")

        assert (shown["title"], shown["updated_at"]) == ("New", "2026-03-01T12:00:01Z")
        assert play.rooms[room].title == "New"
        assert play.told == []

    def test_the_same_title_again_changes_nothing(self) -> None:
        play, room = furnished()
        play.rename(ALICE, room, "New")
        before = play.rooms[room]
        play.advance(1)

        assert play.rename(ALICE, room, "New ")["updated_at"] == "2026-03-01T12:00:00Z"
        assert play.rooms[room] is before

    @pytest.mark.parametrize("role", ["member", "admin"])
    def test_nobody_else_does(self, role: str) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.add(ALICE, room, BOB, role)

        with refusing(play, "forbidden", "forbidden_role", role="owner"):
            play.rename(BOB, room, "Mine")

    @pytest.mark.parametrize("who", [MALLORY, JOHN])
    def test_for_outsiders_there_is_no_room(self, who: Any) -> None:
        play, room = furnished()

        with refusing(play, "not_found", "not_found"):
            play.rename(who, room, "Mine")
        with refusing(play, "not_found", "not_found"):
            play.rename(who, "nothing", "Mine")

    @pytest.mark.parametrize("title", ["", " ", "\u200b", "a\nb", "x" * 121])
    def test_the_new_title_has_something_to_see(self, title: str) -> None:
        play, room = furnished()

        with refusing(play, "invalid", "invalid_payload", field="chat.title"):
            play.rename(ALICE, room, title)


class TestDeleting:
    def test_the_user_of_an_owner_deletes_and_everybody_is_told(self) -> None:
        play, room = furnished(BOB, JANE)

        assert play.delete(JOHN, room)["id"] == room

        assert play.topics() == [
            f"room_participants:{room} room_deleted",
            f"agent_rooms:{ALICE.id} room_removed",
            f"agent_rooms:{BOB.id} room_removed",
            f"user_rooms:{JANE.user_id} room_removed",
            *(f"{topic}:{room} ended" for _ in range(3) for topic in ("chat_room", "room_participants")),
        ]
        assert play.events(f"room_participants:{room}") == [("room_deleted", {"id": room})]
        ends = {(one.entity_id, one.is_silent) for one in play.told if isinstance(one, Ended)}
        assert ends == {(ALICE.id, True), (BOB.id, True), (JANE.user_id, False)}
        assert play.rooms[room].status is RoomStatus.DELETED

    def test_an_owner_who_is_a_user_deletes(self) -> None:
        play, room = furnished(owner=JOHN)

        play.delete(JOHN, room)

        assert play.rooms[room].status is RoomStatus.DELETED

    def test_afterwards_it_is_as_if_it_had_never_been(self) -> None:
        play, room = furnished(BOB)
        sent = play.send(ALICE, room, "Hi", BOB)["id"]
        play.delete(JOHN, room)

        acts: tuple[Callable[[], object], ...] = (
            lambda: play.rename(ALICE, room, "x"),
            lambda: play.delete(JOHN, room),
            lambda: play.add(ALICE, room, CAROL),
            lambda: play.remove(ALICE, room, BOB),
            lambda: play.send(ALICE, room, "Hi", BOB),
            lambda: play.note(ALICE, room, "Hm"),
            lambda: play.mark(BOB, room, sent, "processing"),
        )
        for act in acts:
            with refusing(play, "not_found", "not_found"):
                act()
        with refusing(play, "forbidden", "unauthorized"):
            play.join(ALICE, room)

    def test_a_user_whose_agent_is_no_owner_may_not(self) -> None:
        play, room = furnished(BOB)

        with refusing(play, "forbidden", "forbidden_role", role="owner"):
            play.delete(JANE, room)

    def test_for_a_user_outside_there_is_no_room(self) -> None:
        play, room = furnished(BOB)

        with refusing(play, "not_found", "not_found"):
            play.delete(CARL, room)
        with refusing(play, "not_found", "not_found"):
            play.delete(CARL, "nothing")


class TestTopics:
    @pytest.mark.parametrize("module", [chat_room, room_participants])
    def test_participants_join_and_are_told_nothing_by_it(self, module: Any) -> None:
        play, room = furnished(BOB, JANE)
        module.ACCESS(BOB.identity, room)

        assert (module.JOIN.scope, module.JOIN.loads, module.JOIN.access) == ("rooms", "room", Access.WRITE)
        assert module.JOIN.decide is chat_room.join_room
        for who in (ALICE, BOB, JANE):
            assert play.join(who, room) == {}

    def test_nobody_else_joins_not_even_the_user_of_a_participant(self) -> None:
        play, room = furnished(BOB)

        for who in (MALLORY, JANE, JOHN):
            with refusing(play, "forbidden", "unauthorized"):
                play.join(who, room)
        with refusing(play, "forbidden", "unauthorized"):
            play.join(ALICE, "nothing")

    def test_nothing_is_sent_to_any_of_them(self) -> None:
        for module in (chat_room, room_participants, agent_rooms, user_rooms):
            assert module.HANDLERS == {}

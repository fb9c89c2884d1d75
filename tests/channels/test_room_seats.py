"""Whom one adds to a chat room and removes from it, who goes without being asked, and who is told."""

from typing import Any

import msgspec
import pytest

from channels.contacts import Kind, Scope, Tie
from channels.room_rules import require_readable
from channels.room_state import Role, RoomStatus
from channels.told import Ended
from tests.channels.roles import market_with
from tests.channels.room_play import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    MALLORY,
    RoomPlay,
    furnished,
    identity,
    refusing,
)

ALICES, BOBS, CAROLS = (who.agent.handle for who in (ALICE, BOB, CAROL))


class TestAdding:
    def test_a_contact_becomes_a_member_and_both_sides_are_told(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.advance(1)

        added = play.add(ALICE, room, BOB)

        told = {"id": BOB.id, "type": "Agent", "role": "member", "name": "bob", "handle": BOBS}
        assert added == told | {"status": "active"}
        assert play.topics() == [f"agent_rooms:{BOB.id} room_added", f"room_participants:{room} participant_added"]
        assert play.events(f"room_participants:{room}")[0][1] == told | {
            "is_external": True, "description": "What bob does."
        }  # fmt: skip
        assert play.events(f"agent_rooms:{BOB.id}")[0][1]["updated_at"] == "2026-03-01T12:00:01Z"

    def test_of_a_user_no_description_is_told(self) -> None:
        play, room = furnished()

        play.add(ALICE, room, JOHN)

        ((_, told),) = play.events(f"room_participants:{room}")
        assert (told["is_external"], told["type"], "description" in told) == (False, "User", False)
        assert [event for event, _ in play.events(f"user_rooms:{JOHN.user_id}")] == ["room_added"]

    @pytest.mark.parametrize(
        ("own", "given", "is_let"),
        [
            ("owner", "owner", True),
            ("owner", "admin", True),
            ("owner", "member", True),
            ("admin", "owner", False),
            ("admin", "admin", True),
            ("admin", "member", True),
            ("member", "owner", False),
            ("member", "admin", False),
            ("member", "member", True),
        ],
    )
    def test_nobody_gives_a_role_above_its_own_and_members_none(self, own: str, given: str, *, is_let: bool) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.add(ALICE, room, BOB, own)
        play.befriend(BOB, CAROL)

        if is_let:
            play.add(BOB, room, CAROL, given)
            assert play.roles(room)[CAROLS] == given
        else:
            with refusing(play, "forbidden", "forbidden_role", role=own):
                play.add(BOB, room, CAROL, given)

    def test_an_admin_does_not_promote_itself_by_adding_itself_again(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.add(ALICE, room, BOB, "admin")

        with refusing(play, "forbidden", "forbidden_role"):
            play.add(BOB, room, BOB, "owner")
        with refusing(play, "conflict", "already_participant"):
            play.add(BOB, room, BOB, "admin")

    def test_who_is_in_is_not_added_again(self) -> None:
        play, room = furnished(BOB)

        with refusing(play, "conflict", "already_participant"):
            play.add(ALICE, room, BOB, "admin")
        assert play.roles(room)[BOBS] is Role.MEMBER

    def test_an_outsider_adds_nobody_and_not_itself(self) -> None:
        play, room = furnished(BOB)
        play.befriend(MALLORY, CAROL)

        for whom in (CAROL, MALLORY, BOB):
            with refusing(play, "not_found", "not_found"):
                play.add(MALLORY, room, whom)

    def test_nobody_adds_who_is_not_there(self) -> None:
        play, room = furnished()

        with refusing(play, "not_found", "not_found"):
            play.add(ALICE, room, "nobody")

    def test_a_stranger_is_not_added(self) -> None:
        play, room = furnished()

        for whom in (BOB, JANE):
            with refusing(play, "forbidden", "contact_required"):
                play.add(ALICE, room, whom)

    def test_the_contact_of_another_participant_does_not_help(self) -> None:
        play, room = furnished(BOB)
        play.befriend(BOB, CAROL)

        with refusing(play, "forbidden", "contact_required"):
            play.add(ALICE, room, CAROL)
        assert play.add(BOB, room, CAROL)["role"] == "member"

    def test_a_user_adds_its_agents_and_they_their_owner(self) -> None:
        play, room = furnished(owner=JOHN)

        play.add(JOHN, room, ALICE)

        assert play.roles(room)[ALICES] is Role.MEMBER

    def test_everybody_adds_an_agent_for_all(self) -> None:
        play, room = furnished()
        party = msgspec.structs.replace(BOB.agent.party, is_global=True)
        play.change(BOB, party=party)

        assert play.add(ALICE, room, BOB)["id"] == BOB.id

    def test_a_contact_that_is_not_for_rooms_does_not_help(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB, scope=Scope(kinds=(Kind.TASK,)))

        with refusing(play, "forbidden", "contact_scope_exceeded", kinds=(Kind.TASK,)):
            play.add(ALICE, room, BOB)

    def test_a_contact_for_rooms_does_however_many_sessions_are_open(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB, scope=Scope(kinds=(Kind.ROOM,), max_open=1))

        assert play.add(ALICE, room, BOB)["id"] == BOB.id

    def test_who_has_blocked_one_is_not_found(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB, is_blocked=True)

        with refusing(play, "not_found", "not_found"):
            play.add(ALICE, room, BOB)

    def test_one_does_not_add_whom_one_has_blocked(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB, has_blocked=True)

        with refusing(play, "conflict", "blocked_by_you", id=BOB.id):
            play.add(ALICE, room, BOB)

    def test_drafts_and_banned_agents_of_strangers_are_not_there(self) -> None:
        play, room = furnished()
        play.hidden.add(BOB.id)

        with refusing(play, "not_found", "not_found"):
            play.add(ALICE, room, BOB)

    def test_those_that_one_knows_are_not_active(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.hidden.add(BOB.id)
        play.change(BOB, is_active=False)

        with refusing(play, "conflict", "agent_unavailable", agent_id=BOB.id):
            play.add(ALICE, room, BOB)

    def test_who_is_not_active_adds_nobody(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.change(ALICE, is_active=False)

        with refusing(play, "conflict", "agent_unavailable", agent_id=ALICE.id):
            play.add(ALICE, room, BOB)

    def test_a_room_is_full_once(self) -> None:
        play, room = furnished(BOB, market=market_with(room_participants_max=2))
        play.befriend(ALICE, CAROL)

        with refusing(play, "conflict", "room_full", max=2):
            play.add(ALICE, room, CAROL)
        play.remove(ALICE, room, BOB)
        assert play.add(ALICE, room, CAROL)["id"] == CAROL.id

    def test_nobody_is_put_into_more_rooms_of_another_house_than_so_many(self) -> None:
        play = RoomPlay(market_with(rooms_shared_max=2))
        play.befriend(ALICE, BOB)
        play.befriend(JOHN, BOB)
        play.befriend(CAROL, BOB)
        rooms = [play.make(who) for who in (ALICE, JOHN, ALICE)]
        play.add(ALICE, rooms[0], BOB)
        play.add(JOHN, rooms[1], BOB)

        with refusing(play, "conflict", "room_limit", max=2):
            play.add(ALICE, rooms[2], BOB)
        assert play.add(ALICE, rooms[2], JOHN)
        assert play.add(CAROL, play.make(CAROL), BOB)
        play.remove(BOB, rooms[0], BOB)
        assert play.add(ALICE, rooms[2], BOB)

    def test_in_rooms_of_its_own_house_one_is_as_often_as_one_likes(self) -> None:
        play = RoomPlay(market_with(rooms_shared_max=1))

        for room in [play.make(ALICE) for _ in range(3)]:
            assert play.add(ALICE, room, JOHN)

    def test_whose_room_it_is_does_not_change_with_its_owners(self) -> None:
        play = RoomPlay(market_with(rooms_shared_max=1))
        play.befriend(ALICE, BOB)
        play.befriend(BOB, CAROL)
        rooms = [play.make(ALICE) for _ in range(2)]
        for room in rooms:
            play.add(ALICE, room, JOHN, "owner")
        play.add(ALICE, rooms[0], BOB, "owner")
        play.add(BOB, rooms[0], CAROL)

        with refusing(play, "conflict", "room_limit", max=1):
            play.add(ALICE, rooms[1], BOB)


class TestRemoving:
    def test_who_is_removed_is_told_and_its_topics_end(self) -> None:
        play, room = furnished(BOB)
        play.advance(1)

        gone = play.remove(ALICE, room, BOB)

        assert gone == {
            "id": BOB.id, "type": "Agent", "role": "member", "status": "active", "name": "bob", "handle": BOBS
        }  # fmt: skip
        assert play.topics() == [
            f"room_participants:{room} participant_removed",
            f"agent_rooms:{BOB.id} room_removed",
            f"chat_room:{room} ended",
            f"room_participants:{room} ended",
        ]
        assert play.events(f"room_participants:{room}")[0][1] == {
            "id": BOB.id, "type": "Agent", "name": "bob", "handle": BOBS
        }  # fmt: skip
        assert play.events(f"agent_rooms:{BOB.id}")[0][1]["updated_at"] == "2026-03-01T12:00:01Z"
        assert {(one.entity_id, one.is_silent) for one in play.told if isinstance(one, Ended)} == {(BOB.id, True)}
        assert play.roles(room) == {ALICES: Role.OWNER}

    def test_a_person_is_told_that_its_topics_end_and_an_agent_leaves_them_itself(self) -> None:
        play, room = furnished(BOB, JANE)

        play.remove(JANE, room, JANE)

        assert {(one.entity_id, one.is_silent) for one in play.told if isinstance(one, Ended)} == {
            (JANE.user_id, False)
        }

    @pytest.mark.parametrize("who", [BOB, JANE])
    def test_everybody_leaves_as_it_likes(self, who: Any) -> None:
        play, room = furnished(BOB, JANE)

        play.remove(who, room, who)

        assert play.rooms[room].participant(identity(who).id) is None

    def test_the_only_owner_stays(self) -> None:
        play, room = furnished(BOB)

        with refusing(play, "forbidden", "cannot_remove_sole_owner"):
            play.remove(ALICE, room, ALICE)

    def test_one_of_two_owners_leaves(self) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.add(ALICE, room, BOB, "owner")

        play.remove(ALICE, room, ALICE)

        assert play.roles(room) == {BOBS: Role.OWNER}
        with refusing(play, "forbidden", "cannot_remove_sole_owner"):
            play.remove(BOB, room, BOB)

    @pytest.mark.parametrize("role", ["admin", "owner"])
    def test_nobody_removes_an_owner(self, role: str) -> None:
        play, room = furnished()
        play.befriend(ALICE, BOB)
        play.add(ALICE, room, BOB, role)

        with refusing(play, "forbidden", "cannot_remove_owner"):
            play.remove(BOB, room, ALICE)

    def test_a_member_removes_nobody_else(self) -> None:
        play, room = furnished(BOB, CAROL)

        for whom in (CAROL, ALICE):
            with refusing(play, "forbidden", "forbidden_role", role="member"):
                play.remove(BOB, room, whom)

    def test_admins_remove_each_other(self) -> None:
        play, room = furnished()
        for who in (BOB, CAROL):
            play.befriend(ALICE, who)
            play.add(ALICE, room, who, "admin")

        play.remove(BOB, room, CAROL)

        assert CAROLS not in play.roles(room)

    def test_an_agent_removes_no_person(self) -> None:
        play, room = furnished(JANE)

        with refusing(play, "forbidden", "cannot_remove_user"):
            play.remove(ALICE, room, JANE)

    def test_a_person_does(self) -> None:
        play, room = furnished(JANE, BOB, owner=JOHN)

        play.remove(JOHN, room, JANE)
        play.remove(JOHN, room, BOB)

        assert len(play.rooms[room].participants) == 1

    def test_who_is_not_in_is_not_found(self) -> None:
        play, room = furnished(BOB)

        for whom in (CAROL, "nobody"):
            with refusing(play, "not_found", "not_found"):
                play.remove(ALICE, room, whom)

    def test_an_outsider_finds_no_room(self) -> None:
        play, room = furnished(BOB)

        for whom in (BOB, MALLORY):
            with refusing(play, "not_found", "not_found"):
                play.remove(MALLORY, room, whom)

    def test_of_one_that_has_been_deleted_the_handle_is_left(self) -> None:
        play, room = furnished(BOB)
        del play.entities[BOB.id]

        assert play.remove(ALICE, room, BOB)["name"] == BOBS
        assert play.events(f"room_participants:{room}")[0][1]["name"] == BOBS

    def test_who_was_removed_may_come_again(self) -> None:
        play, room = furnished(BOB)
        play.remove(ALICE, room, BOB)

        play.add(ALICE, room, BOB)

        assert play.roles(room) == {ALICES: Role.OWNER, BOBS: Role.MEMBER}

    def test_the_end_of_a_contact_and_a_block_remove_nobody_but_stop_being_added(self) -> None:
        play, room = furnished(BOB)
        play.ties = {(ALICE.id, BOB.id): Tie(is_blocked=True), (BOB.id, ALICE.id): Tie(has_blocked=True)}

        play.send(ALICE, room, "Still here?", BOB)
        play.send(BOB, room, "Yes.", ALICE)
        play.remove(BOB, room, BOB)

        with refusing(play, "not_found", "not_found"):
            play.add(ALICE, room, BOB)


class TestEnding:
    """Agents that are deleted, or banned."""

    def test_the_others_are_told_and_its_topics_end(self) -> None:
        play, room = furnished(BOB, CAROL)

        play.end(BOB)

        assert play.roles(room) == {ALICES: Role.OWNER, CAROLS: Role.MEMBER}
        gone = {"id": BOB.id, "type": "Agent", "name": BOB.agent.name, "handle": BOBS}
        assert play.events(f"room_participants:{room}") == [("participant_removed", gone)]
        assert [event for event, _ in play.events(f"agent_rooms:{BOB.id}")] == ["room_removed"]
        assert [one for one in play.told if isinstance(one, Ended)] == [
            Ended(f"{topic}:{room}", BOB.id, is_silent=True) for topic in ("chat_room", "room_participants")
        ]

    def test_its_user_reads_the_room_no_more(self) -> None:
        play, room = furnished(BOB)
        play.end(BOB)

        with refusing(play, "not_found", "not_found"):
            require_readable(play.rooms[room], JANE)

    @pytest.mark.parametrize(("carols", "heir"), [("member", BOBS), ("admin", CAROLS), ("owner", CAROLS)])
    def test_after_the_last_owner_the_longest_standing_of_the_highest_role_owns_the_room(
        self, carols: str, heir: str
    ) -> None:
        play, room = furnished(BOB)
        play.befriend(ALICE, CAROL)
        play.add(ALICE, room, CAROL, carols)
        play.add(ALICE, room, JOHN, carols)

        play.end(ALICE)

        owners = [handle for handle, role in play.roles(room).items() if role is Role.OWNER]
        assert owners == ([CAROLS, "john"] if carols == "owner" else [heir])
        assert ALICES not in play.roles(room)

    def test_a_room_without_anybody_is_deleted(self) -> None:
        play, room = furnished()

        play.end(ALICE)

        assert play.rooms[room].status is RoomStatus.DELETED
        assert play.events(f"room_participants:{room}") == [("room_deleted", {"id": room})]

    def test_a_room_of_others_stays_as_it_is(self) -> None:
        play, room = furnished(BOB)
        before = play.everything()

        play.end(MALLORY)

        assert play.everything() == before
        assert play.roles(room) == {ALICES: Role.OWNER, BOBS: Role.MEMBER}

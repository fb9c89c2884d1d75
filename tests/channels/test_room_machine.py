"""One room, whatever is done in it in any order: a simple model says who is in it, and who has to do what.

What may be done is worked out here a second time, from roles and contacts alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels.errors import Refusal
from channels.room_state import RoomStatus
from channels.told import Broadcast, Ended
from tests.channels.room_play import ALICE, BOB, CARL, CAROL, JANE, JOHN, MALLORY, RoomPlay, identity

EVERYBODY = (ALICE, BOB, CAROL, MALLORY, JOHN, JANE, CARL)
PICKED = st.sampled_from(EVERYBODY)
ROLES = st.sampled_from(["owner", "admin", "member", None])
MARKS = st.sampled_from(["processing", "processing", "processed", "failed"])
RANK = {"member": 0, "admin": 1, "owner": 2}


def is_agent(who: Any) -> bool:
    return who in (ALICE, BOB, CAROL, MALLORY)


def id_of(who: Any) -> str:
    return identity(who).id


class InARoom(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.play = RoomPlay()
        self.room = self.play.make(ALICE)
        self.roles: dict[str, str] = {ALICE.id: "owner"}
        self.friends: set[frozenset[str]] = set()
        self.standing: dict[tuple[str, str], tuple[str, int]] = {}
        """(message, reader) → status and number of the attempt."""
        self.told: dict[str, list[str]] = {id_of(who): [] for who in EVERYBODY}
        """Texts that each is to be told of."""
        self.is_deleted = False
        self.play.told.clear()

    # What anybody may try.

    @rule(who=PICKED, whom=PICKED)
    def become_contacts(self, who: Any, whom: Any) -> None:
        if who is not whom:
            self.play.befriend(who, whom)
            self.play.befriend(whom, who)
            self.friends.add(frozenset((id_of(who), id_of(whom))))

    @rule(who=PICKED, whom=PICKED)
    def part(self, who: Any, whom: Any) -> None:
        """The end of a contact removes nobody."""
        self.play.ties.pop((id_of(who), id_of(whom)), None)
        self.play.ties.pop((id_of(whom), id_of(who)), None)
        self.friends.discard(frozenset((id_of(who), id_of(whom))))

    @rule(who=PICKED, whom=PICKED, role=ROLES)
    def adds(self, who: Any, whom: Any, role: str | None) -> None:
        own, new = self.roles.get(id_of(who)), role or "member"
        may_give = own is not None and (new == "member" or (own != "member" and RANK[new] <= RANK[own]))
        may_reach = self._is_one_house(who, whom) or frozenset((id_of(who), id_of(whom))) in self.friends
        is_let = may_give and may_reach and id_of(whom) not in self.roles and not self.is_deleted
        assert self._try(lambda: self.play.add(who, self.room, whom, role)) is is_let
        if is_let:
            self.roles[id_of(whom)] = new

    @rule(who=PICKED, whom=PICKED)
    def removes(self, who: Any, whom: Any) -> None:
        own, other = self.roles.get(id_of(who)), self.roles.get(id_of(whom))
        if own is None or other is None or self.is_deleted:
            is_let = False
        elif who is whom:
            is_let = own != "owner" or [*self.roles.values()].count("owner") > 1
        else:
            is_let = own != "member" and other != "owner" and not (is_agent(who) and not is_agent(whom))
        assert self._try(lambda: self.play.remove(who, self.room, whom)) is is_let
        if is_let:
            del self.roles[id_of(whom)]

    @rule(who=PICKED, title=st.text(alphabet="ab \u200b\n", max_size=3))
    def renames(self, who: Any, title: str) -> None:
        is_title = bool({*title} & {"a", "b"}) and "\n" not in title.strip()
        is_let = self.roles.get(id_of(who)) == "owner" and is_title and not self.is_deleted
        assert self._try(lambda: self.play.rename(who, self.room, title)) is is_let

    @rule(who=PICKED, whom=st.lists(PICKED, max_size=3), content=st.sampled_from(["Hi", "@jane/bob @[[x]]", "\u200b"]))
    def sends(self, who: Any, whom: list[Any], content: str) -> None:
        ids = [id_of(one) for one in whom]
        is_let = (
            id_of(who) in self.roles
            and bool(ids)
            and len({*ids}) == len(ids)
            and {*ids} <= self.roles.keys() - {id_of(who)}
            and content != "\u200b"
            and not self.is_deleted
        )
        assert self._try(lambda: self.play.send(who, self.room, content, *whom)) is is_let
        if is_let:
            message = [*self.play.messages][-1]
            for id_ in ids:
                self.standing[message, id_] = ("delivered", 0)
                self.told[id_].append(message)

    @rule(who=PICKED)
    def notes(self, who: Any) -> None:
        is_let = id_of(who) in self.roles and not self.is_deleted
        assert self._try(lambda: self.play.note(who, self.room, "Hm")) is is_let

    @precondition(lambda self: self.play.messages)
    @rule(who=PICKED, number=st.integers(0, 99), how=MARKS)
    def marks(self, who: Any, number: int, how: str) -> None:
        message = [*self.play.messages][-1 - number % min(5, len(self.play.messages))]
        status, attempt = self.standing.get((message, id_of(who)), ("", 0))
        is_let = bool(status) and id_of(who) in self.roles and not self.is_deleted
        is_let = is_let and (how == "processing" or status == "processing")
        assert self._try(lambda: self.play.mark(who, self.room, message, how)) is is_let
        if is_let:
            begins = how == "processing" and status != "processing"
            self.standing[message, id_of(who)] = (how, attempt + begins)

    @rule(who=PICKED, is_sure=st.sampled_from([False, False, False, True]))
    def deletes(self, who: Any, *, is_sure: bool) -> None:
        owners = {self._user_of(one) for one in EVERYBODY if self.roles.get(id_of(one)) == "owner"}
        is_let = self._user_of(who) in owners and not self.is_deleted
        if is_let and not is_sure:
            return
        assert self._try(lambda: self.play.delete(who, self.room)) is is_let
        self.is_deleted |= is_let

    @rule(who=PICKED, is_sure=st.sampled_from([False, False, True]))
    def ends(self, who: Any, *, is_sure: bool) -> None:
        """An agent is deleted; it may be made again by the same name, so to say, and be added."""
        if not is_sure or not is_agent(who) or id_of(who) not in self.roles or self.is_deleted:
            return
        self.play.end(who)
        if len(self.roles) == 1:
            self.is_deleted = True
            return
        del self.roles[id_of(who)]
        if "owner" not in self.roles.values():
            role = "admin" if "admin" in self.roles.values() else "member"
            self.roles[next(id_ for id_, own in self.roles.items() if own == role)] = "owner"

    # What is always so.

    @invariant()
    def the_room_is_as_the_model_says(self) -> None:
        room = self.play.rooms[self.room]
        assert {one.id: one.role.value for one in room.participants} == self.roles
        assert "owner" in self.roles.values()
        assert (room.status is RoomStatus.DELETED) is self.is_deleted

    @invariant()
    def every_delivery_is_as_the_model_says(self) -> None:
        found = {
            (one.message_id, one.recipient_id): (one.status.value, one.attempt_number)
            for one in self.play.deliveries.values()
        }
        assert found == self.standing
        for one in self.play.deliveries.values():
            assert one.attempt_number == (one.attempts[-1].number if one.attempts else 0)

    @invariant()
    def everybody_is_told_of_what_mentions_it_and_nobody_else(self) -> None:
        created = [one for one in self.play.told if isinstance(one, Broadcast) and one.event == "message_created"]
        for id_, messages in self.told.items():
            assert [one.payload.id for one in created if one.to is not None and id_ in one.to] == messages
        assert all(one.to and one.payload.sender_id not in one.to for one in created)

    @invariant()
    def who_may_join_is_who_takes_part(self) -> None:
        for who in EVERYBODY:
            is_let = self._try(partial(self.play.join, who, self.room))
            assert is_let is (id_of(who) in self.roles and not self.is_deleted)

    @invariant()
    def whoever_comes_and_goes_is_told_of_it(self) -> None:
        ends = [one.entity_id for one in self.play.told if isinstance(one, Ended)]
        for who in EVERYBODY:
            kind = "agent" if is_agent(who) else "user"
            events = [event for event, _ in self.play.events(f"{kind}_rooms:{id_of(who)}")]
            was_first = who is ALICE
            assert events == (["room_removed", "room_added"] if was_first else ["room_added", "room_removed"]) * (
                len(events) // 2
            ) + (["room_removed" if was_first else "room_added"] if len(events) % 2 else [])
            assert ends.count(id_of(who)) == 2 * events.count("room_removed")

    # How it is done.

    def _try(self, act: Callable[[], object]) -> bool:
        """Whether something was taken; a refusal has changed nothing."""
        before = self.play.everything()
        try:
            act()
        except Refusal:
            assert self.play.everything() == before
            return False
        return True

    def _user_of(self, who: Any) -> str:
        return identity(who).user_id

    def _is_one_house(self, who: Any, whom: Any) -> bool:
        return self._user_of(who) == self._user_of(whom)


TestInARoom = InARoom.TestCase
TestInARoom.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

"""Sessions: joins, rejoins, leaves and stale frames, as Phoenix's server does it."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels.session import Answer, Ignored, Join, Joined, Leave, Push, Session
from channels.wire import Vsn, decode_frame

topics = st.sampled_from(["a:1", "a:2", "a:3"])
join_refs = st.sampled_from(["1", "2", None])


def frame(join_ref: Any, ref: Any, topic: str, event: str, payload: Any | None = None) -> Any:
    return decode_frame(Vsn.V2, json.dumps([join_ref, ref, topic, event, payload or {}]))


def told(answer: object) -> Any:
    assert isinstance(answer, Answer)
    return json.loads(answer.text)


@pytest.fixture
def session() -> Session:
    return Session(Vsn.V2, topics_max=3, room_topics_max=2)


def joined(session: Session, topic: str = "room:1", join_ref: Any = "1") -> Joined:
    join = session.receive(frame(join_ref, join_ref, topic, "phx_join"))
    assert isinstance(join, Join)
    return session.admit(join)


def test_a_heartbeat_is_answered_with_a_null_join_ref(session: Session) -> None:
    answer = told(session.receive(frame("9", "5", "phoenix", "heartbeat", {"any": 1})))

    assert answer == [None, "5", "phoenix", "phx_reply", {"status": "ok", "response": {}}]


@pytest.mark.parametrize("event", ["phx_join", "phx_leave", "other"])
def test_the_topic_phoenix_has_no_other_event(session: Session, event: str) -> None:
    answer = told(session.receive(frame(None, "5", "phoenix", event)))

    assert answer == [None, "5", "phoenix", "phx_reply", {"status": "error", "response": {"reason": "unmatched topic"}}]


def test_a_push_to_a_topic_that_is_not_joined_is_unmatched(session: Session) -> None:
    answer = told(session.receive(frame("1", "2", "room:1", "echo")))

    assert answer[0] is None
    assert answer[4] == {"status": "error", "response": {"reason": "unmatched topic"}}


def test_leaving_a_topic_that_is_not_joined_is_ok(session: Session) -> None:
    answer = told(session.receive(frame("1", "2", "room:1", "phx_leave")))

    assert answer == [None, "2", "room:1", "phx_reply", {"status": "ok", "response": {}}]


def test_a_joined_topic_takes_pushes_of_its_join_and_of_none(session: Session) -> None:
    mine = joined(session)

    for join_ref in ("1", None):
        push = session.receive(frame(join_ref, "2", "room:1", "echo", {"a": 1}))
        assert isinstance(push, Push)
        assert (push.joined, push.event, push.ref, push.join_ref) == (mine, "echo", "2", join_ref)
        assert not push.binary


def test_a_join_without_a_join_ref_takes_only_frames_without_one(session: Session) -> None:
    mine = joined(session, join_ref=None)

    assert mine.join_ref is None
    assert isinstance(session.receive(frame("1", "2", "room:1", "echo")), Ignored)
    assert isinstance(session.receive(frame(None, "2", "room:1", "echo")), Push)


def test_a_binary_push_is_of_the_join_that_it_names_and_an_empty_join_ref_is_stale(session: Session) -> None:
    joined(session)
    sent = [b"\x00\x01\x01\x06\x04" + b"12room:1echo\xff", b"\x00\x00\x01\x06\x04" + b"2room:1echo\xff"]

    push, stale = (session.receive(decode_frame(Vsn.V2, message)) for message in sent)

    assert isinstance(push, Push)
    assert (push.binary, push.payload) == (True, b"\xff")
    assert isinstance(stale, Ignored)


def test_a_v1_client_needs_no_join_ref() -> None:
    session = Session(Vsn.V1, topics_max=3, room_topics_max=2)
    joining, leaving, beating, stale = (
        decode_frame(Vsn.V1, json.dumps({"topic": topic, "event": event, "payload": {}, "ref": "1", **more}))
        for topic, event, more in [
            ("room:1", "phx_join", {}),
            ("room:1", "phx_leave", {}),
            ("phoenix", "heartbeat", {}),
            ("room:1", "phx_leave", {"join_ref": "0"}),
        ]
    )

    join = session.receive(joining)
    assert isinstance(join, Join)
    assert session.admit(join).join_ref is None
    assert isinstance(session.receive(stale), Ignored)
    assert isinstance(session.receive(leaving), Leave)
    answer = {"topic": "phoenix", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": "1"}
    assert told(session.receive(beating)) == answer


def test_a_heartbeat_may_come_as_bytes_and_is_answered_as_text(session: Session) -> None:
    answer = told(session.receive(decode_frame(Vsn.V2, b"\x00\x00\x01\x07\x095phoenixheartbeat\xff")))

    assert answer == [None, "5", "phoenix", "phx_reply", {"status": "ok", "response": {}}]


@pytest.mark.parametrize("join_ref", ["0", 1, ""])
@pytest.mark.parametrize("event", ["echo", "phx_leave"])
def test_a_stale_frame_is_dropped(session: Session, join_ref: Any, event: str) -> None:
    joined(session)

    assert isinstance(session.receive(frame(join_ref, "2", "room:1", event)), Ignored)
    assert "room:1" in session.joined


def test_a_topic_that_was_left_is_left(session: Session) -> None:
    mine = joined(session)

    leave = session.receive(frame("1", "2", "room:1", "phx_leave"))

    assert isinstance(leave, Leave)
    assert leave.joined is mine
    assert not session.joined


def test_joining_again_ends_the_first_join_also_when_the_new_one_is_refused(session: Session) -> None:
    first = joined(session)

    again = session.receive(frame("5", "5", "room:1", "phx_join"))

    assert isinstance(again, Join)
    assert again.replaced is first
    session.refuse(again)
    assert not session.joined
    assert not session.close(first)


def test_too_many_topics_are_refused_and_a_rejoin_is_not(session: Session) -> None:
    for number in range(3):
        joined(session, f"room:{number}", str(number))

    refused = told(session.receive(frame("7", "7", "room:9", "phx_join")))
    assert refused[4] == {"status": "error", "response": {"reason": "too many channels joined"}}
    assert isinstance(session.receive(frame("8", "8", "room:1", "phx_join")), Join)


def test_a_join_that_is_being_decided_counts_until_it_is_refused(session: Session) -> None:
    deciding = [session.receive(frame(str(n), str(n), f"room:{n}", "phx_join")) for n in range(3)]
    assert isinstance(session.receive(frame("7", "7", "room:9", "phx_join")), Answer)

    assert isinstance(deciding[0], Join)
    session.refuse(deciding[0])
    assert isinstance(session.receive(frame("7", "7", "room:9", "phx_join")), Join)


def test_the_server_ends_a_topic_once(session: Session) -> None:
    mine = joined(session)

    assert session.close(mine)
    assert not session.close(mine)


class Scrambled(RuleBasedStateMachine):
    """Any frames in any order, joins decided late: the session agrees with the simplest model of what is joined."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(Vsn.V2, topics_max=2, room_topics_max=2)
        self.model: dict[str, Joined] = {}
        self.gone: list[Joined] = []
        self.deciding: dict[str, Join] = {}

    @rule(topic=topics, join_ref=join_refs)
    def join(self, topic: str, join_ref: str | None) -> None:
        if topic in self.deciding:
            return  # The hub keeps the frames of such a topic back.
        replaced = self.model.pop(topic, None)

        action = self.session.receive(frame(join_ref, "r", topic, "phx_join"))

        if replaced is None and len(self.model) + len(self.deciding) >= 2:
            reply = {"status": "error", "response": {"reason": "too many channels joined"}}
            assert told(action) == [join_ref, "r", topic, "phx_reply", reply]
            return
        assert isinstance(action, Join)
        assert (action.topic, action.join_ref, action.ref) == (topic, join_ref, "r")
        assert action.replaced is replaced
        self.gone += [replaced] if replaced is not None else []
        self.deciding[topic] = action

    @precondition(lambda self: self.deciding)
    @rule(is_admitted=st.booleans(), choice=st.randoms(use_true_random=False))
    def decide(self, choice: Random, *, is_admitted: bool) -> None:
        topic = choice.choice(sorted(self.deciding))
        join = self.deciding.pop(topic)
        if is_admitted:
            self.model[topic] = self.session.admit(join)
            assert (self.model[topic].topic, self.model[topic].join_ref) == (topic, join.join_ref)
        else:
            self.session.refuse(join)

    @rule(topic=topics, join_ref=join_refs, event=st.sampled_from(["phx_leave", "say"]))
    def send(self, topic: str, join_ref: str | None, event: str) -> None:
        if topic in self.deciding:
            return
        current = self.model.get(topic)
        action = self.session.receive(frame(join_ref, "r", topic, event))
        if current is None:
            status = "ok" if event == "phx_leave" else "error"
            assert told(action)[4]["status"] == status
        elif join_ref not in {None, current.join_ref}:
            assert isinstance(action, Ignored)
        elif event == "phx_leave":
            assert isinstance(action, Leave)
            assert action.joined is self.model.pop(topic)
            self.gone.append(current)
        else:
            assert isinstance(action, Push)
            assert action.joined is current

    @rule()
    def beat(self) -> None:
        assert told(self.session.receive(frame(None, "b", "phoenix", "heartbeat")))[1] == "b"

    @rule(topic=topics)
    def close(self, topic: str) -> None:
        current = self.model.pop(topic, None)
        if current is not None:
            assert self.session.close(current)
            self.gone.append(current)

    @rule()
    def what_is_gone_is_not_closed_again(self) -> None:
        assert not any(self.session.close(joined) for joined in self.gone)

    @invariant()
    def the_joined_topics_are_those_of_the_model(self) -> None:
        assert self.session.joined == self.model


TestScrambled = Scrambled.TestCase


def test_topics_of_rooms_count_apart_from_the_others() -> None:
    session = Session(Vsn.V2, topics_max=1, room_topics_max=2)
    names = ["task:1", "chat_room:1", "room_participants:1", "chat_room:2", "task:2"]

    actions = [session.receive(frame(name, name, name, "phx_join")) for name in names]

    assert [isinstance(action, Join) for action in actions] == [True, True, True, False, False]


def test_a_topic_that_was_left_refused_or_closed_has_its_place_again() -> None:
    session = Session(Vsn.V2, topics_max=1, room_topics_max=1)

    def join() -> Join:
        action = session.receive(frame("1", "1", "chat_room:1", "phx_join"))
        assert isinstance(action, Join)
        return action

    session.refuse(join())
    session.admit(join())
    session.receive(frame("1", "2", "chat_room:1", "phx_leave"))
    assert session.close(session.admit(join()))
    again = join()
    session.admit(again)
    assert session.admit(join()).topic == "chat_room:1"  # A rejoin takes the place that it has.

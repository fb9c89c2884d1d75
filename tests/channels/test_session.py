"""Sessions: joins, rejoins, leaves and stale frames, as Phoenix's server does it."""

import json
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channels.session import Answer, Ignored, Join, Joined, Leave, Push, Session
from channels.wire import Vsn, decode_frame


def frame(join_ref: Any, ref: Any, topic: str, event: str, payload: Any | None = None) -> Any:
    return decode_frame(Vsn.V2, json.dumps([join_ref, ref, topic, event, payload or {}]))


def told(answer: object) -> Any:
    assert isinstance(answer, Answer)
    return json.loads(answer.text)


@pytest.fixture
def session() -> Session:
    return Session(Vsn.V2, topics_max=3)


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
    assert told(session.receive(frame("1", "2", "room:1", "phx_leave")))[4] == {"status": "ok", "response": {}}


def test_a_joined_topic_takes_pushes_of_its_join_and_of_none(session: Session) -> None:
    mine = joined(session)

    for join_ref in ("1", None):
        push = session.receive(frame(join_ref, "2", "room:1", "echo", {"a": 1}))
        assert isinstance(push, Push)
        assert (push.joined, push.event, push.ref) == (mine, "echo", "2")


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
    """Any frames in any order: the session agrees with the simplest model of what is joined."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(Vsn.V2, topics_max=2)
        self.model: dict[str, Any] = {}

    @rule(
        topic=st.sampled_from(["a:1", "a:2", "a:3"]),
        event=st.sampled_from(["phx_join", "phx_leave", "say"]),
        join_ref=st.sampled_from(["1", "2", None]),
        is_admitted=st.booleans(),
    )
    def send(self, topic: str, event: str, join_ref: str | None, is_admitted: bool) -> None:  # noqa: FBT001 - drawn
        action = self.session.receive(frame(join_ref, "r", topic, event))
        is_current = topic in self.model and join_ref in {None, self.model[topic]}
        if event == "phx_join":
            has_room = topic in self.model or len(self.model) < 2
            assert isinstance(action, Join) == has_room
            if isinstance(action, Join):
                assert (action.replaced is not None) == (topic in self.model)
                self.model.pop(topic, None)
                if is_admitted:
                    self.session.admit(action)
                    self.model[topic] = join_ref
                else:
                    self.session.refuse(action)
        elif topic not in self.model:
            assert isinstance(action, Answer)
        elif not is_current:
            assert isinstance(action, Ignored)
        elif event == "phx_leave":
            assert isinstance(action, Leave)
            del self.model[topic]
        else:
            assert isinstance(action, Push)

    @invariant()
    def the_joined_topics_are_those_of_the_model(self) -> None:
        assert {topic: one.join_ref for topic, one in self.session.joined.items()} == self.model


TestScrambled = Scrambled.TestCase

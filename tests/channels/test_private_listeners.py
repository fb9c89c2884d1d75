"""Who listens in a private channel, and who is told what of it, in which order."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from channels.private_listeners import LISTENERS_MAX, Instance, ListenerKind, Listeners, Notice, Notices
from tests.channels.roles import refused

CHANNEL = "private:1"
A = Instance(agent_id="alice", instance_id="a")
B = Instance(agent_id="bob", instance_id="b")
C = Instance(agent_id="carol", instance_id="c")
KINDS: tuple[ListenerKind | None, ...] = (None, "addContextListener", "unsubscribe", "disconnect")
ADDED = "privateChannelOnAddContextListenerEvent"
UNSUBSCRIBED = "privateChannelOnUnsubscribeEvent"
DISCONNECTED = "privateChannelOnDisconnectEvent"


@pytest.fixture
def listeners() -> Listeners:
    """Alice, Bob and Carol sit there and listen to nothing."""
    channel = Listeners(CHANNEL)
    for one in (A, B, C):
        channel.sit(one)
    return channel


def added(to: Instance, context_type: str | None) -> Notice:
    return Notice(to=to, event=ADDED, payload={"privateChannelId": CHANNEL, "contextType": context_type})


def unsubscribed(to: Instance, context_type: str | None) -> Notice:
    return Notice(to=to, event=UNSUBSCRIBED, payload={"privateChannelId": CHANNEL, "contextType": context_type})


def disconnected(to: Instance) -> Notice:
    return Notice(to=to, event=DISCONNECTED, payload={"privateChannelId": CHANNEL})


def told(to: Instance, context: dict[str, Any]) -> Notice:
    origin = {"appId": "alice/bot", "instanceId": "a"}
    return Notice(
        to=to, event="broadcastEvent", payload={"channelId": CHANNEL, "context": context, "originatingApp": origin}
    )


def listen(listeners: Listeners, who: Instance, context_type: str | None = None, *, listener_id: str = "1") -> Notices:
    return listeners.add_context_listener(who, listener_id=listener_id, context_type=context_type)


def watch(listeners: Listeners, who: Instance, kind: ListenerKind | None = None, *, listener_id: str = "9") -> Notices:
    return listeners.add_event_listener(who, listener_id=listener_id, kind=kind)


class TestSitting:
    def test_is_remembered_once_and_in_order(self, listeners: Listeners) -> None:
        listen(listeners, A)
        listeners.sit(A)

        assert (listeners.instances, len(listeners)) == ((A, B, C), 3)
        assert A in listeners
        assert Instance(agent_id="alice", instance_id="b") not in listeners
        watch(listeners, B)
        assert listeners.left(A) == (unsubscribed(B, None), disconnected(B))

    @pytest.mark.parametrize("act", [listen, watch])
    def test_is_needed_to_listen(self, act: Callable[[Listeners, Instance], Any]) -> None:
        assert refused(act, Listeners(CHANNEL), A).reason == "AccessDenied"


class TestContextListeners:
    @pytest.mark.parametrize("context_type", [None, "fdc3.instrument"])
    def test_are_told_to_the_others_that_watch(self, listeners: Listeners, context_type: str | None) -> None:
        for who in (A, B):
            watch(listeners, who)

        assert listen(listeners, A, context_type) == (added(B, context_type),)
        assert listeners.remove_context_listener(A, listener_id="1") == (unsubscribed(B, context_type),)

    def test_of_a_type_get_that_type_and_those_of_all_get_all(self, listeners: Listeners) -> None:
        listen(listeners, B, "x")
        listen(listeners, C, None)

        for type_, receivers in (("x", (B, C)), ("y", (C,)), ("X", (C,))):
            context = {"type": type_, "more": [1]}
            assert listeners.context_told(A, context, app_id="alice/bot") == tuple(
                told(to, context) for to in receivers
            )

    def test_of_one_instance_get_a_context_once(self, listeners: Listeners) -> None:
        for number, context_type in enumerate(("x", None, "x")):
            listen(listeners, B, context_type, listener_id=str(number))

        assert listeners.context_told(A, {"type": "x"}, app_id="alice/bot") == (told(B, {"type": "x"}),)

    def test_get_nothing_of_their_own(self, listeners: Listeners) -> None:
        listen(listeners, A)

        assert listeners.context_told(A, {"type": "x"}, app_id="alice/bot") == ()

    def test_of_the_same_agents_other_instance_get_it(self, listeners: Listeners) -> None:
        other = Instance(agent_id="alice", instance_id="b")
        listeners.sit(other)
        listen(listeners, other)

        assert listeners.context_told(A, {"type": "x"}, app_id="alice/bot") == (told(other, {"type": "x"}),)

    def test_that_were_removed_get_nothing(self, listeners: Listeners) -> None:
        listen(listeners, B, "x", listener_id="1")
        listen(listeners, B, "x", listener_id="2")
        listeners.remove_context_listener(B, listener_id="1")
        assert len(listeners.context_told(A, {"type": "x"}, app_id="alice/bot")) == 1

        listeners.remove_context_listener(B, listener_id="2")

        assert listeners.context_told(A, {"type": "x"}, app_id="alice/bot") == ()

    def test_are_never_told_what_was_told_before(self, listeners: Listeners) -> None:
        listeners.context_told(A, {"type": "x"}, app_id="alice/bot")

        assert listen(listeners, B) == ()


class TestEventListeners:
    @pytest.mark.parametrize(
        ("kind", "hears"),
        [
            (None, (ADDED, UNSUBSCRIBED, DISCONNECTED)),
            ("addContextListener", (ADDED, UNSUBSCRIBED, DISCONNECTED)),
            ("unsubscribe", (UNSUBSCRIBED,)),
            ("disconnect", (DISCONNECTED,)),
        ],
    )
    def test_hear_what_their_kind_is_for(
        self, listeners: Listeners, kind: ListenerKind | None, hears: tuple[str, ...]
    ) -> None:
        watch(listeners, B, kind)

        notices = (
            *listen(listeners, A, "x"),
            *listeners.remove_context_listener(A, listener_id="1"),
            *listeners.left(A),
        )

        assert tuple(one.event for one in notices) == hears
        assert {one.to for one in notices} == {B}

    def test_of_one_instance_hear_an_event_once(self, listeners: Listeners) -> None:
        for number, kind in enumerate(KINDS):
            watch(listeners, B, kind, listener_id=f"watch {number}")

        assert listen(listeners, A) == (added(B, None),)
        assert listeners.left(A) == (unsubscribed(B, None), disconnected(B))

    def test_that_were_removed_hear_nothing(self, listeners: Listeners) -> None:
        watch(listeners, B)
        listeners.remove_event_listener(B, listener_id="9")

        assert listen(listeners, A) == ()

    @pytest.mark.parametrize("kind", [None, "addContextListener"])
    def test_are_told_once_of_the_context_listeners_that_others_had_before(
        self, listeners: Listeners, kind: ListenerKind | None
    ) -> None:
        """FDC3: "including those that occurred before this handler was registered"."""
        listen(listeners, A, "x", listener_id="1")
        listen(listeners, A, None, listener_id="2")
        listen(listeners, B, "mine")
        listen(listeners, C, "gone")
        listeners.remove_context_listener(C, listener_id="1")

        assert watch(listeners, B, kind) == (added(B, "x"), added(B, None))
        assert watch(listeners, B, None, listener_id="10") == ()
        assert watch(listeners, B, "addContextListener", listener_id="11") == ()

    @pytest.mark.parametrize("kind", ["unsubscribe", "disconnect"])
    def test_for_something_else_are_not_told_of_those(self, listeners: Listeners, kind: ListenerKind) -> None:
        listen(listeners, A)

        assert watch(listeners, B, kind) == ()
        assert watch(listeners, B, None, listener_id="10") == (added(B, None),)


class TestRemoving:
    @pytest.mark.parametrize("act", [Listeners.remove_context_listener, Listeners.remove_event_listener])
    def test_what_is_not_ones_own_is_refused_and_changes_nothing(
        self, listeners: Listeners, act: Callable[..., Any]
    ) -> None:
        listen(listeners, A, listener_id="context")
        watch(listeners, A, listener_id="event")
        wrong = "event" if act is Listeners.remove_context_listener else "context"
        right = "context" if wrong == "event" else "event"

        for who, listener_id in ((B, right), (A, wrong), (A, "none"), (Instance(agent_id="m", instance_id="m"), right)):
            assert refused(act, listeners, who, listener_id=listener_id).reason == "AccessDenied"
        act(listeners, A, listener_id=right)
        assert refused(act, listeners, A, listener_id=right).reason == "AccessDenied"

    def test_makes_room_where_an_instance_has_as_many_as_it_may(self, listeners: Listeners) -> None:
        for number in range(LISTENERS_MAX - 1):
            listen(listeners, A, listener_id=str(number))
        watch(listeners, A, listener_id="last")

        assert refused(listen, listeners, A, listener_id="more").reason == "AccessDenied"
        assert refused(watch, listeners, A, listener_id="more").reason == "AccessDenied"
        listen(listeners, B)
        listeners.remove_event_listener(A, listener_id="last")
        listen(listeners, A, listener_id="more")


class TestJoiningOverPhoenix:
    def test_is_a_listener_of_all_types_and_of_all_events(self, listeners: Listeners) -> None:
        watch(listeners, B)

        assert listeners.join(A, listens=True) == (added(B, None),)
        assert listen(listeners, B, "x", listener_id="7") == (added(A, "x"),)
        assert listeners.context_told(B, {"type": "y"}, app_id="bob/bot")[0].to == A
        assert listeners.left(B) == (unsubscribed(A, "x"), disconnected(A))
        assert listeners.left(A) == ()

    def test_without_listening_takes_events_alone(self, listeners: Listeners) -> None:
        watch(listeners, B)

        assert listeners.join(A, listens=False) == ()
        assert listeners.context_told(B, {"type": "y"}, app_id="bob/bot") == ()
        assert listen(listeners, B) == (added(A, None),)

    def test_again_is_nothing_new(self, listeners: Listeners) -> None:
        watch(listeners, B)
        listen(listeners, C)
        assert listeners.join(A, listens=True) == (added(B, None), added(A, None))

        assert listeners.join(A, listens=True) == ()
        assert listeners.left(A) == (unsubscribed(B, None), disconnected(B))

    def test_again_without_listening_ends_it(self, listeners: Listeners) -> None:
        watch(listeners, B)
        listeners.join(A, listens=True)

        assert listeners.join(A, listens=False) == (unsubscribed(B, None),)
        assert listeners.context_told(B, {"type": "x"}, app_id="bob/bot") == ()
        assert listeners.join(A, listens=False) == ()

    def test_of_who_did_not_sit_there_yet_makes_it_sit(self) -> None:
        listeners = Listeners(CHANNEL)

        assert listeners.join(A, listens=True) == ()
        assert A in listeners


class TestLeaving:
    def test_is_told_as_each_open_listener_and_then_once_as_the_end(self, listeners: Listeners) -> None:
        watch(listeners, B)
        watch(listeners, C, "disconnect")
        watch(listeners, A)
        for number, context_type in enumerate(("x", None, "y", "x")):
            listen(listeners, A, context_type, listener_id=str(number))
        listeners.remove_context_listener(A, listener_id="2")

        assert listeners.left(A) == (
            unsubscribed(B, "x"),
            unsubscribed(B, None),
            unsubscribed(B, "x"),
            disconnected(B),
            disconnected(C),
        )
        assert A not in listeners

    def test_of_who_does_not_sit_there_is_nothing(self, listeners: Listeners) -> None:
        watch(listeners, B)
        listeners.left(A)

        assert listeners.left(A) == ()

    def test_ends_what_it_listened_to(self, listeners: Listeners) -> None:
        watch(listeners, A)
        listen(listeners, A)
        listeners.left(A)
        listeners.sit(A)

        assert listeners.context_told(B, {"type": "x"}, app_id="bob/bot") == ()
        assert listen(listeners, B) == ()


class TestTheEnd:
    def test_is_told_to_everybody_once_after_the_listeners_of_the_others(self, listeners: Listeners) -> None:
        for who in (A, B):
            watch(listeners, who)
        listen(listeners, A, "x")
        listen(listeners, C, None)

        notices = listeners.closed()

        assert [one for one in notices if one.to == A] == [unsubscribed(A, None), disconnected(A)]
        assert [one for one in notices if one.to == B] == [unsubscribed(B, "x"), unsubscribed(B, None), disconnected(B)]
        assert [one for one in notices if one.to == C] == []
        assert len(listeners) == 0
        assert listeners.closed() == ()

    def test_is_told_to_who_sits_there_alone(self) -> None:
        listeners = Listeners(CHANNEL)
        listeners.join(A, listens=True)

        assert listeners.closed() == (disconnected(A),)


class ListenersMachine(RuleBasedStateMachine):
    """Any order of everything, against what each instance should have heard by a plain model."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners = Listeners(CHANNEL)
        self.contexts: dict[Instance, list[tuple[str, str | None]]] = {}
        self.events: dict[Instance, list[tuple[str, ListenerKind | None]]] = {}
        self.number = 0

    who = st.sampled_from((A, B, C))
    types = st.sampled_from((None, "x", "y"))

    def hears(self, who: Instance, kind: ListenerKind) -> bool:
        return any(own in {None, "addContextListener", kind} for _, own in self.events[who])

    def others(self, who: Instance) -> list[Instance]:
        return [one for one in self.contexts if one != who]

    @rule(who=who)
    def sit(self, who: Instance) -> None:
        self.listeners.sit(who)
        self.contexts.setdefault(who, [])
        self.events.setdefault(who, [])

    @precondition(lambda self: self.contexts)
    @rule(who=who, context_type=types)
    def listen(self, who: Instance, context_type: str | None) -> None:
        if who in self.contexts:
            self.number += 1
            notices = listen(self.listeners, who, context_type, listener_id=str(self.number))
            self.contexts[who].append((str(self.number), context_type))
            told_to = [one for one in self.others(who) if self.hears(one, "addContextListener")]
            assert notices == tuple(added(one, context_type) for one in told_to)

    @rule(who=who, kind=st.sampled_from(KINDS))
    def watch(self, who: Instance, kind: ListenerKind | None) -> None:
        if who in self.contexts:
            self.number += 1
            was_told = any(own in {None, "addContextListener"} for _, own in self.events[who])
            is_told = kind in {None, "addContextListener"} and not was_told
            notices = watch(self.listeners, who, kind, listener_id=str(self.number))
            self.events[who].append((str(self.number), kind))
            before = [type_ for one in self.others(who) for _, type_ in self.contexts[one]]
            assert notices == (tuple(added(who, type_) for type_ in before) if is_told else ())

    @rule(who=who, place=st.integers(0, 3))
    def remove(self, who: Instance, place: int) -> None:
        own = self.contexts.get(who, [])
        if place < len(own):
            listener_id, context_type = own.pop(place)
            notices = self.listeners.remove_context_listener(who, listener_id=listener_id)
            told_to = [one for one in self.others(who) if self.hears(one, "unsubscribe")]
            assert notices == tuple(unsubscribed(one, context_type) for one in told_to)

    @rule(who=who)
    def leave(self, who: Instance) -> None:
        open_types = [type_ for _, type_ in self.contexts.pop(who, [])] if who in self.contexts else None
        notices = self.listeners.left(who)
        self.events.pop(who, None)
        if open_types is None:
            assert notices == ()
            return
        for one in self.contexts:
            expected = [unsubscribed(one, type_) for type_ in open_types if self.hears(one, "unsubscribe")]
            expected += [disconnected(one)] if self.hears(one, "disconnect") else []
            assert [notice for notice in notices if notice.to == one] == expected
        assert {notice.to for notice in notices} <= self.contexts.keys()

    @rule(who=who, type_=st.sampled_from(("x", "y", "z")))
    def tell(self, who: Instance, type_: str) -> None:
        notices = self.listeners.context_told(who, {"type": type_}, app_id="app")
        takers = [one for one in self.others(who) if any(own in {None, type_} for _, own in self.contexts[one])]
        assert [notice.to for notice in notices] == takers

    @invariant()
    def the_same_sit_there(self) -> None:
        assert set(self.listeners.instances) == set(self.contexts)


ListenersMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestListenersMachine = ListenersMachine.TestCase

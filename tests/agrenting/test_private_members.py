"""Who sits in a private channel: sockets that come and go, the grace in between, and what the others are told.

Alice, Bob and Carol sit there, over Phoenix or over FDC3. The time is ours; what is durable the stage says.
"""

import asyncio
from typing import Final

import pytest

from agrenting.connection import Connection
from agrenting.db.private import StoredSeat
from channels.errors import NotFound
from channels.private_ends import Gone
from channels.private_listeners import Instance
from tests.agrenting.members_stage import CHANNEL, Fdc3, Phoenix, Stage, guest, owner

GRACE: Final = 5.0
CONTEXT: Final = {"type": "fdc3.quote", "price": 1}
ADDED, UNSUBSCRIBED, DISCONNECTED = "AddContextListener", "Unsubscribe", "Disconnect"


@pytest.fixture
async def stage() -> Stage:
    return Stage()


@pytest.fixture
def alice(stage: Stage) -> Phoenix:
    """The owner, over Phoenix."""
    return owner(stage)


@pytest.fixture
def bob(stage: Stage, alice: Phoenix) -> Fdc3:
    """A member, over FDC3, who comes second, and watches and listens."""
    return guest(stage, alice)


# Both transports.


def test_a_context_of_either_transport_reaches_the_other(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    stage.tell(alice, CONTEXT)
    app = {"appId": "alice/bot", "instanceId": "a-1"}
    assert bob.told == [("broadcastEvent", {"channelId": CHANNEL, "context": CONTEXT, "originatingApp": app})]
    assert alice.told == []
    bob.forget()
    stage.tell(bob, CONTEXT)
    app = {"appId": "bob/bot", "instanceId": "b-1"}
    assert alice.told == [("broadcastEvent", {"channelId": CHANNEL, "context": CONTEXT, "originatingApp": app})]
    assert bob.told == []


def test_who_does_not_listen_gets_events_but_no_contexts(stage: Stage, bob: Fdc3) -> None:
    carol = Phoenix(stage, "carol", "c-1").join(listens=False)
    assert bob.names == []
    carol.forget()
    stage.tell(bob, CONTEXT)
    bob.listen("fdc3.other")
    assert carol.told == [
        ("privateChannelOnAddContextListenerEvent", {"privateChannelId": CHANNEL, "contextType": "fdc3.other"})
    ]


def test_a_joiner_is_told_of_the_listeners_that_were_there(stage: Stage, bob: Fdc3) -> None:
    bob.listen("fdc3.quote")
    carol = Phoenix(stage, "carol", "c-1").join()
    types = [payload["contextType"] for _name, payload in carol.told]
    assert carol.names == [ADDED, ADDED, ADDED]
    assert types == [None, None, "fdc3.quote"], "of Alice's join, and Bob's two"
    assert bob.names == [ADDED]


def test_events_of_another_channel_are_not_told_here(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    other = Phoenix(stage, "carol", "c-1").join(channel="private:2")
    stage.tell(alice, CONTEXT)
    assert other.told == []
    stage.private.tell("private:3", ())
    stage.publish()
    assert bob.names == ["broadcast"]


# Presence.


def test_presence_shows_both_transports_to_who_joins_over_phoenix(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    carol = Phoenix(stage, "carol", "c-1").join()
    everybody = [("a-1", "owner"), ("b-1", "member"), ("c-1", "member")]
    assert carol.presences == [
        ("state", {"all": everybody}),
        ("diff", {"joins": [("c-1", "member")], "leaves": []}),
    ]
    assert alice.presences == [("diff", {"joins": [("c-1", "member")], "leaves": []})]
    bob.lose()
    assert carol.presences[2:] == [("diff", {"joins": [], "leaves": [("b-1", "member")]})]


def test_who_comes_to_a_topic_that_nobody_listened_to_sees_who_sits_there(stage: Stage) -> None:
    Fdc3(stage, "bob", "b-1").join(role="owner")
    gone = Fdc3(stage, "dora", "d-1").join()
    gone.lose()
    carol = Phoenix(stage, "carol", "c-1").join()
    assert carol.presences[0] == ("state", {"all": [("b-1", "owner"), ("c-1", "member")]})


def test_two_sockets_of_one_instance_are_one_presence(stage: Stage, alice: Phoenix) -> None:
    first = Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    second = Phoenix(stage, "bob", "b-1").join()
    assert second.presences == [("state", {"all": [("a-1", "owner"), ("b-1", "member")]})]
    first.lose()
    assert alice.presences == []
    second.lose()
    assert alice.presences == [("diff", {"joins": [], "leaves": [("b-1", "member")]})]


# The grace.


def test_who_is_back_within_the_grace_has_never_been_away(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    bob.lose()
    stage.wait(GRACE - 0.1)
    back = Phoenix(stage, "bob", "b-1").join(listens=False)
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == []
    assert stage.private.sits(back.connection, CHANNEL)
    stage.tell(alice, CONTEXT)
    assert back.names == [], "it listens no more over Phoenix, and over FDC3 it has no socket"


def test_who_is_not_back_is_given_up_and_the_others_are_told_in_order(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    bob.listen("fdc3.quote")
    alice.forget()
    bob.lose()
    stage.wait(GRACE - 0.1)
    assert stage.given_up() == []
    stage.wait(0.1)
    assert stage.given_up() == [(CHANNEL, Gone(agent_id="bob", instance_id="b-1"))]
    assert alice.told == [], "nothing is said before it is durable"
    stage.settle()
    assert alice.names == [UNSUBSCRIBED, UNSUBSCRIBED, DISCONNECTED]
    assert [payload.get("contextType", "-") for _name, payload in alice.told] == [None, "fdc3.quote", "-"]
    stage.wait(GRACE)
    assert stage.given_up() == [], "once is enough"


def test_a_lost_socket_of_two_changes_nothing(stage: Stage, alice: Phoenix) -> None:
    first, second = Phoenix(stage, "bob", "b-1").join(), Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    first.lose()
    stage.wait(GRACE)
    assert stage.given_up() == []
    second.lose()
    stage.wait(GRACE)
    stage.settle()
    assert alice.names == [UNSUBSCRIBED, DISCONNECTED]


def test_what_is_told_meanwhile_is_not_kept_for_who_is_away(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    bob.lose()
    stage.tell(alice, CONTEXT)
    back = Fdc3(stage, "bob", "b-1")
    assert back.told == []
    stage.tell(alice, CONTEXT)
    assert back.names == ["broadcast"], "its listener is still there, and it sits where its instance sits"


def test_leaving_waits_for_nobody(stage: Stage, alice: Phoenix) -> None:
    bob = Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    bob.leave()
    stage.wait(GRACE)
    assert stage.given_up() == [(CHANNEL, Gone(agent_id="bob", instance_id="b-1"))], "once, however long that takes"
    stage.settle()
    assert alice.names == [UNSUBSCRIBED, DISCONNECTED]
    assert [name for name, _ in bob.all_told()[-2:]] == ["phx_reply", "phx_close"]
    stage.wait(GRACE)
    assert stage.given_up() == []


def test_leaving_while_another_socket_of_the_instance_joins_waits_for_that(
    stage: Stage, alice: Phoenix, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Phoenix(stage, "bob", "b-1").join(), Phoenix(stage, "bob", "b-1")
    alice.forget()
    joining = {CHANNEL}
    monkeypatch.setattr(Connection, "is_joining", lambda _self, topic: topic in joining)
    first.leave()
    assert stage.given_up() == []
    joining.clear()
    second.join()
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == []
    joining.add(CHANNEL)
    second.leave()
    joining.clear()
    stage.wait(0.5)
    assert [who.instance_id for _channel, who in stage.given_up()] == ["b-1"], "the other join came to nothing"


def test_leaving_on_one_of_two_sockets_is_not_leaving(stage: Stage, alice: Phoenix) -> None:
    first = Phoenix(stage, "bob", "b-1").join()
    Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    first.leave()
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == []


def test_a_rejoin_on_the_same_socket_is_neither_leaving_nor_a_loss(stage: Stage, alice: Phoenix) -> None:
    bob = Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    bob.join()
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == []
    assert len(stage.private.channels[CHANNEL].seats[Instance(agent_id="bob", instance_id="b-1")].subscriptions) == 1


def test_a_rejoin_that_is_refused_ends_with_the_grace(stage: Stage, alice: Phoenix) -> None:
    bob = Phoenix(stage, "bob", "b-1").join()
    subscription = bob.subscription
    assert bob.connection.session.close(subscription.joined)
    stage.hub.unsubscribe(subscription)
    stage.hub.unsubscribe(subscription)
    assert subscription.feed is not None
    subscription.feed.ended(is_leaving=False)
    stage.wait(GRACE)
    assert [who.instance_id for _channel, who in stage.given_up()] == ["b-1"]


def test_who_is_joining_again_is_waited_for(stage: Stage, alice: Phoenix, monkeypatch: pytest.MonkeyPatch) -> None:
    """A join that was submitted in time may be decided too late by the clock, and is in time."""
    bob = Phoenix(stage, "bob", "b-1").join()
    bob.lose()
    Phoenix(stage, "bob", "b-1")
    joining = {CHANNEL}
    monkeypatch.setattr(Connection, "is_joining", lambda _self, topic: topic in joining)
    stage.wait(GRACE)
    assert stage.given_up() == []
    joining.clear()
    stage.wait(GRACE)
    assert [who.instance_id for _channel, who in stage.given_up()] == ["b-1"]


def test_what_could_not_be_stored_is_tried_again(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    bob.lose()
    stage.wait(GRACE)
    stage.fail()
    assert alice.names == []
    stage.wait(GRACE)
    stage.settle()
    assert alice.names == [UNSUBSCRIBED, DISCONNECTED]


def test_who_is_back_when_its_giving_up_could_not_be_stored_stays(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    bob.lose()
    stage.wait(GRACE)
    Fdc3(stage, "bob", "b-1")
    stage.fail()
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == []


def test_who_is_no_member_any_more_is_forgotten_all_the_same(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    bob.lose()
    stage.wait(GRACE)
    ((_command, settled),) = stage.engine.submitted
    settled(None, NotFound("NoChannelFound", "There is none."))
    assert alice.names == [UNSUBSCRIBED, DISCONNECTED]
    stage.engine.submitted.clear()
    stage.wait(GRACE)
    assert stage.given_up() == []


def test_who_came_back_while_it_was_given_up_stays_as_decided(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    """It came to the writer first: it is out, and is told so."""
    bob.lose()
    stage.wait(GRACE)
    back = Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    stage.settle()
    assert back.all_told()[-1][0] == "phx_close"
    assert alice.names == [UNSUBSCRIBED, UNSUBSCRIBED, DISCONNECTED]
    assert not stage.private.sits(back.connection, CHANNEL)


async def test_the_timer_looks_by_itself(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    quick = Stage(private_grace_s=0.01)
    carol = Phoenix(quick, "carol", "c-1").join()
    carol.lose()
    quick.now += 1.0
    async with asyncio.timeout(30):
        await quick.engine.came.wait()
    assert quick.given_up()[0][0] == CHANNEL


def test_a_server_that_stops_announces_nobody_as_gone(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    stage.hub.is_draining = True
    bob.lose()
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.told == []
    assert alice.presences == []


def test_a_server_that_stops_while_somebody_is_awaited_gives_up_nobody(stage: Stage, bob: Fdc3) -> None:
    bob.lose()
    stage.hub.is_draining = True
    stage.wait(GRACE)
    assert stage.given_up() == []


# One instance on both transports.


@pytest.fixture
def both(stage: Stage, alice: Phoenix) -> tuple[Phoenix, Fdc3]:
    """Bob's one program has a socket of either kind."""
    fdc3 = Fdc3(stage, "bob", "b-1").join()
    phoenix = Phoenix(stage, "bob", "b-1").join()
    for one in (alice, phoenix, fdc3):
        one.forget()
    return phoenix, fdc3


def test_what_stands_in_a_join_ends_when_its_topic_is_left(
    stage: Stage, alice: Phoenix, both: tuple[Phoenix, Fdc3]
) -> None:
    phoenix, fdc3 = both
    phoenix.leave()
    assert alice.names == [UNSUBSCRIBED]
    stage.tell(alice, CONTEXT)
    Fdc3(stage, "carol", "c-1").join().listen()
    assert fdc3.told == []
    assert stage.given_up() == []
    fdc3.lose()
    stage.wait(GRACE)
    stage.settle()
    assert alice.names == [UNSUBSCRIBED, ADDED, DISCONNECTED]


def test_what_stands_in_a_join_ends_after_the_grace_when_its_socket_is_lost(
    stage: Stage, alice: Phoenix, both: tuple[Phoenix, Fdc3]
) -> None:
    phoenix, fdc3 = both
    phoenix.lose()
    stage.wait(GRACE - 0.1)
    back = Phoenix(stage, "bob", "b-1").join()
    stage.wait(GRACE)
    assert alice.names == [], "it came back in time"
    back.lose()
    stage.wait(GRACE)
    assert alice.names == [UNSUBSCRIBED]
    stage.tell(alice, CONTEXT)
    assert fdc3.told == []


def test_who_comes_back_over_the_other_transport_alone_does_not_listen_by_its_join(
    stage: Stage, alice: Phoenix, both: tuple[Phoenix, Fdc3]
) -> None:
    phoenix, fdc3 = both
    phoenix.lose()
    fdc3.lose()
    back = Fdc3(stage, "bob", "b-1")
    assert alice.names == []
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == [UNSUBSCRIBED]
    stage.tell(alice, CONTEXT)
    assert back.told == []


def test_who_goes_over_phoenix_and_comes_back_over_fdc3_does_not_listen_by_its_join(
    stage: Stage, alice: Phoenix
) -> None:
    bob = Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    bob.lose()
    back = Fdc3(stage, "bob", "b-1")
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names == [UNSUBSCRIBED]
    stage.tell(alice, CONTEXT)
    assert back.told == []


def test_who_is_away_altogether_keeps_what_stands_in_its_join_until_it_is_given_up(
    stage: Stage, alice: Phoenix, both: tuple[Phoenix, Fdc3]
) -> None:
    phoenix, fdc3 = both
    phoenix.lose()
    stage.wait(1.0)
    fdc3.lose()
    stage.wait(GRACE - 1.0)
    assert alice.names == []
    stage.wait(1.0)
    stage.settle()
    assert alice.names == [UNSUBSCRIBED, DISCONNECTED]


def test_a_listening_join_of_two_ends_the_listening(stage: Stage, alice: Phoenix) -> None:
    silent = Phoenix(stage, "bob", "b-1").join(listens=False)
    listening = Phoenix(stage, "bob", "b-1").join()
    alice.forget()
    listening.lose()
    stage.wait(GRACE)
    assert alice.names == [UNSUBSCRIBED]
    Fdc3(stage, "carol", "c-1").join().listen()
    assert silent.names[-1] == ADDED, "it is told every event all the same"


# After a start.


def test_after_a_start_every_stored_member_is_awaited(stage: Stage) -> None:
    stage.private.begin(
        StoredSeat(channel_id=CHANNEL, owner_agent_id="alice", agent_id=agent_id, instance_id=instance_id)
        for agent_id, instance_id in (("alice", "a-1"), ("bob", "b-1"), ("bob", "b-2"))
    )
    alice = Phoenix(stage, "alice", "a-1").join(role="owner")
    back = Fdc3(stage, "bob", "b-2")
    assert stage.private.sits(back.connection, CHANNEL), "a socket of FDC3 sits wherever its instance sits"
    stage.wait(59.9)
    assert stage.given_up() == []
    stage.wait(0.1)
    assert stage.given_up() == [(CHANNEL, Gone(agent_id="bob", instance_id="b-1"))]
    stage.settle()
    assert alice.names == [DISCONNECTED], "its listeners were lost with the server that stopped"

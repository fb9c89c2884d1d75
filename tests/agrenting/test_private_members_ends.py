"""Who is removed from a private channel, whose it is, and who guesses; listeners, and the instances they belong to.

Alice, Bob and Carol sit there, over Phoenix or over FDC3; Mallory would like to.
"""

import json
from typing import Any, Final

import pytest

from agrenting.connection import Connection
from agrenting.db.commit import StorageUnavailable
from agrenting.rates import Buckets
from channels.errors import Forbidden, RateLimited
from channels.handlers import FollowChannel
from channels.identity import Identity
from channels.private_listeners import Instance
from channels.told import MemberLeft
from channels.wire import Vsn
from tests.agrenting.api.market import FakeSocket
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


# Removed, and closed.


def test_who_is_removed_is_told_so_and_the_others_that_it_left(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    carol = Phoenix(stage, "carol", "c-1").join()
    other = Phoenix(stage, "carol", "c-2").join()
    for one in (alice, bob, carol, other):
        one.forget()
    stage.kick(carol)
    stage.kick(carol)
    assert carol.all_told() == [("phx_close", {})]
    assert CHANNEL not in carol.connection.session.joined
    assert alice.names == bob.names == other.names == [UNSUBSCRIBED, DISCONNECTED]
    assert alice.presences == [("diff", {"joins": [], "leaves": [("c-1", "member")]})]
    carol.lose()
    stage.wait(GRACE)
    assert stage.given_up() == []


def test_who_leaves_by_an_event_gets_its_reply_first_and_nothing_of_its_own_leaving(
    stage: Stage, alice: Phoenix
) -> None:
    bob = Phoenix(stage, "bob", "b-1").join()
    slot = bob.subscription.take_slot()
    subscription = bob.subscription
    bob.forget()
    stage.kick(bob)
    assert bob.all_told() == []
    subscription.fill(slot, lambda: bob.connection.send('["1","2","private:1","phx_reply",{}]'))
    assert [name for name, _ in bob.all_told()] == ["phx_reply", "phx_close"]


def test_who_is_removed_while_it_is_awaited_is_awaited_no_more(stage: Stage, alice: Phoenix) -> None:
    bob, both = Phoenix(stage, "bob", "b-1").join(), Fdc3(stage, "carol", "c-1").join()
    lost = Phoenix(stage, "carol", "c-1").join()
    bob.lose()
    lost.lose()
    stage.kick(bob)
    stage.kick(both)
    stage.wait(GRACE)
    assert stage.given_up() == []
    assert alice.names.count(DISCONNECTED) == 2


def test_a_removed_member_hears_and_listens_no_more(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    id_ = bob.listen("fdc3.quote")
    stage.kick(bob)
    bob.forget()
    stage.tell(alice, CONTEXT)
    assert bob.told == []
    assert not stage.private.sits(bob.connection, CHANNEL)
    assert stage.private.channel_of(bob.connection, id_) is None


def test_a_closed_channel_says_so_to_everybody_and_is_forgotten(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    stage.close()
    assert alice.names == [UNSUBSCRIBED, DISCONNECTED]
    assert bob.names == [UNSUBSCRIBED, DISCONNECTED]
    assert not stage.private.sits(alice.connection, CHANNEL)
    stage.close()
    alice.lose()
    bob.lose()
    stage.wait(GRACE)
    assert stage.given_up() == []


def test_nothing_is_kept_of_who_is_gone(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    stage.close()
    for one in (alice, bob):
        one.lose()
        one.connection.closed()
        stage.private.gone(one.connection)
    stage.wait(GRACE)
    assert stage.private.channels == {}
    assert stage.private.programs.known == {}


# Listeners.


def test_listeners_end_one_by_one(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    heard, seen = bob.listen("fdc3.quote"), bob.watch("disconnect")
    alice.forget()
    stage.private.tell(CHANNEL, stage.private.unlisten(bob.connection, CHANNEL, heard))
    assert alice.told == [
        ("privateChannelOnUnsubscribeEvent", {"privateChannelId": CHANNEL, "contextType": "fdc3.quote"})
    ]
    stage.private.unwatch(bob.connection, CHANNEL, seen)
    for id_ in (heard, seen):
        assert stage.private.channel_of(bob.connection, id_) is None
    with pytest.raises(Forbidden):
        stage.private.unlisten(bob.connection, CHANNEL, heard)


def test_a_listener_stays_with_its_instance_over_a_lost_socket(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    id_ = bob.listen("fdc3.quote")
    bob.lose()
    back = Fdc3(stage, "bob", "b-1")
    assert stage.private.channel_of(back.connection, id_) == CHANNEL


# Joins that came to nothing.


def test_a_join_that_was_decided_for_a_socket_that_is_gone_is_waited_for_and_given_up(
    stage: Stage, alice: Phoenix
) -> None:
    bob = Phoenix(stage, "bob", "b-1")
    bob.lose()
    stage.hub.join_came_to_nothing(CHANNEL, bob.connection, None)
    stage.wait(GRACE)
    assert stage.given_up() == []
    follow = FollowChannel(CHANNEL, "member", listens=True)
    stage.private.missed(bob.connection, follow)
    stage.wait(GRACE)
    assert [who.instance_id for _channel, who in stage.given_up()] == ["b-1"]


def test_a_join_that_one_of_two_sockets_missed_is_no_loss(stage: Stage, alice: Phoenix) -> None:
    Phoenix(stage, "bob", "b-1").join()
    late = Phoenix(stage, "bob", "b-1")
    stage.private.missed(late.connection, FollowChannel(CHANNEL, "member", listens=True))
    stage.wait(GRACE)
    assert stage.given_up() == []


# Instances.


def test_who_first_had_an_instance_id_holds_it_as_long_as_it_is_known(stage: Stage, bob: Fdc3) -> None:
    mallory = Fdc3(stage, "mallory", "b-1")
    assert not stage.private.sits(mallory.connection, CHANNEL), "two agents with one instance id are two instances"
    assert stage.private.holder_of("b-1") == "bob"
    assert stage.private.holder_of("b-2") is None
    bob.lose()
    stage.wait(GRACE - 0.1)
    assert stage.private.holder_of("b-1") == "bob", "it is waited for"
    stage.wait(0.1)
    stage.settle()
    assert stage.private.holder_of("b-1") == "mallory"
    mallory.lose()
    assert stage.private.holder_of("b-1") is None


def test_who_never_sat_anywhere_is_forgotten_at_once(stage: Stage) -> None:
    sockets: list[Phoenix | Fdc3] = [
        Phoenix(stage, "bob", "b-1"),
        Phoenix(stage, "bob", "b-1"),
        Fdc3(stage, "bob", "b-2"),
    ]
    assert len(stage.private.programs.known) == 2
    for one in sockets:
        one.lose()
    assert stage.private.programs.known == {}


def test_who_knows_its_secret_is_waited_for_though_it_sits_nowhere(stage: Stage) -> None:
    bob = Fdc3(stage, "bob", "b-1")
    secret = stage.private.uuid_of(bob.connection)
    bob.lose()
    stage.wait(GRACE - 0.1)
    back = Fdc3(stage, "bob", "b-9")
    assert stage.private.attach(back.connection, instance_id="b-1", instance_uuid=secret)
    back.lose()
    stage.wait(GRACE)
    assert stage.private.programs.known == {}


def test_users_have_no_instances(stage: Stage) -> None:
    protocol: Any = FakeSocket()
    jane = Connection(
        stage.hub, protocol, Identity(kind="user", user_id="jane", handle="jane", key_id=""), Vsn.V2, "j-1"
    )
    stage.hub.add(jane)
    assert stage.private.programs.known == {}
    assert not stage.private.sits(jane, CHANNEL)
    jane.closed()


def test_a_secret_takes_an_instance_up_again(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    secret = stage.private.uuid_of(bob.connection)
    bob.lose()
    back = Fdc3(stage, "bob", "b-9")
    assert stage.private.attach(back.connection, instance_id="b-1", instance_uuid=secret)
    assert back.instance_id == "b-1"
    assert Instance(agent_id="bob", instance_id="b-9") not in stage.private.programs.known, "nobody has known of it"
    assert stage.private.attach(back.connection, instance_id="b-1", instance_uuid=secret), "once more is nothing"
    stage.wait(GRACE)
    assert stage.given_up() == []
    stage.tell(alice, CONTEXT)
    assert back.names == ["broadcast"]


@pytest.mark.parametrize("secret", ["", "wrong", "\udcff", "ä"])
def test_a_wrong_secret_takes_nothing(stage: Stage, bob: Fdc3, secret: str) -> None:
    other = Fdc3(stage, "bob", "b-9")
    assert not stage.private.attach(other.connection, instance_id="b-1", instance_uuid=secret)
    assert other.instance_id == "b-9"


def test_the_secret_of_another_agent_takes_nothing(stage: Stage, bob: Fdc3) -> None:
    secret = stage.private.uuid_of(bob.connection)
    mallory = Fdc3(stage, "mallory", "m-1")
    assert not stage.private.attach(mallory.connection, instance_id="b-1", instance_uuid=secret)
    assert not stage.private.sits(mallory.connection, CHANNEL)


def test_in_how_many_channels_an_instance_sits(stage: Stage, bob: Fdc3) -> None:
    bob.join(channel="private:2")
    assert stage.private.seats_count(bob.connection) == 2
    bob.lose()
    stage.wait(GRACE)
    stage.settle()
    assert stage.private.seats_count(bob.connection) == 0


# Guessing.


@pytest.fixture
async def strict() -> Stage:
    return Stage(private_failures_burst=3.0, private_failures_per_s=0.1)


def test_who_guesses_is_refused_before_its_token_is_looked_at(strict: Stage) -> None:
    mallory, carol = Phoenix(strict, "mallory", "m-1").connection, Phoenix(strict, "carol", "c-1").connection
    for _ in range(3):
        strict.private.guesses.require_may_try(mallory, CHANNEL)
        strict.private.guesses.note_refused(mallory, CHANNEL, Forbidden("AccessDenied", "No."))
    strict.private.guesses.note_refused(mallory, CHANNEL, Forbidden("AccessDenied", "It was under way."))
    with pytest.raises(RateLimited):
        strict.private.guesses.require_may_try(mallory, CHANNEL)
    for socket, topic in ((mallory, "private:2"), (mallory, "task:1"), (carol, CHANNEL)):
        strict.private.guesses.require_may_try(socket, topic)
    strict.now += 10.0
    strict.private.guesses.require_may_try(mallory, CHANNEL)


@pytest.mark.parametrize(
    ("topic", "error"),
    [
        ("task:1", Forbidden("AccessDenied", "No.")),
        (CHANNEL, Forbidden("agent_required", "No.")),
        (CHANNEL, StorageUnavailable("full")),
    ],
)
def test_other_refusals_do_not_count(strict: Stage, topic: str, error: Exception) -> None:
    mallory = Phoenix(strict, "mallory", "m-1").connection
    for _ in range(5):
        strict.private.guesses.note_refused(mallory, topic, error)
    strict.private.guesses.require_may_try(mallory, CHANNEL)


def test_who_sits_there_already_is_not_guessing(strict: Stage) -> None:
    bob = Phoenix(strict, "bob", "b-1").join()
    for _ in range(5):
        strict.private.guesses.note_refused(bob.connection, CHANNEL, Forbidden("AccessDenied", "No."))
    strict.private.guesses.require_may_try(bob.connection, CHANNEL)


# Events while a request is being decided.


def ask(member: Fdc3, type_: str, **payload: Any) -> None:
    """Send a request."""
    member.connection.receive(json.dumps({"type": type_, "payload": payload, "meta": {"requestUuid": "1"}}))


def test_events_wait_for_the_response_of_what_is_being_decided(stage: Stage, alice: Phoenix, bob: Fdc3) -> None:
    ask(bob, "leavePrivateChannel", channelId=CHANNEL)
    stage.tell(alice, CONTEXT)
    stage.tell(alice, {"type": "fdc3.other"})
    assert bob.all_told() == []
    ((_command, settled),) = stage.engine.submitted
    settled(None, StorageUnavailable("full"))
    assert [name for name, _ in bob.all_told()] == ["leavePrivateChannelResponse", "broadcastEvent", "broadcastEvent"]
    assert bob.told[1][1]["context"] == CONTEXT, "in their order"
    stage.tell(alice, CONTEXT)
    assert len(bob.told) == 4


async def test_no_more_than_an_outbox_waits_for_a_response() -> None:
    small = Stage(outbox_bytes_max=1_000)
    alice = owner(small)
    bob = guest(small, alice)
    ask(bob, "leavePrivateChannel", channelId=CHANNEL)
    for _ in range(3):
        small.tell(alice, CONTEXT)
    assert bob.transport.closed_with is None
    small.tell(alice, CONTEXT)
    assert bob.transport.closed_with == 1013


# What it costs.


async def test_a_sign_of_life_costs_something_too() -> None:
    poor = Stage(control_burst=2.0, control_per_s=0.001)
    bob = Fdc3(poor, "bob", "b-1")
    for _ in range(3):
        ask(bob, "heartbeatAcknowledgementRequest")
    assert bob.all_told() == [], "and is not answered"
    ask(bob, "getInfoRequest")
    assert bob.all_told() == [("getInfoResponse", {"error": "ApiTimeout"})]


@pytest.fixture
def paid(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """What was charged to whom."""
    charged: list[tuple[str, float]] = []
    monkeypatch.setattr(Buckets, "charge", lambda _self, key, cost: charged.append((key, cost)))
    return charged


def test_what_others_are_told_because_of_one_is_paid_for_by_it(stage: Stage, paid: list[tuple[str, float]]) -> None:
    members = [Phoenix(stage, f"m{n}", f"m-{n}").join(listens=False) for n in range(32)]
    bob = Fdc3(stage, "bob", "b-1").join()
    paid.clear()
    id_ = bob.listen()
    bob.listen("fdc3.quote")
    assert paid == [("bob", 2.0)] * 2, "32 frames each"
    stage.private.unlisten(bob.connection, CHANNEL, id_)
    carol = Fdc3(stage, "carol", "c-1").join()
    carol.watch()
    assert paid[2:] == [("bob", 2.0), ("carol", 1 / 16)], "it is told of the one listener itself"
    paid.clear()
    back = Phoenix(stage, "bob", "b-2").join()
    assert paid == [("bob", (33 + 1) / 16)], "32 and Carol are told of it, and it of what was there"
    paid.clear()
    stage.hub.publish((MemberLeft(CHANNEL, "bob", "b-2"),), "bob", back.connection)
    assert paid == [("bob", 2 * 33 / 16)]
    paid.clear()
    stage.hub.publish((MemberLeft(CHANNEL, "bob", "b-1"),), "m0", members[0].connection)
    assert paid == [("m0", 2 * 33 / 16)], "who removes it pays"
    paid.clear()
    carol.lose()
    stage.wait(GRACE)
    stage.settle()
    assert paid == [("carol", 2.0)], "who is lost pays, too"


async def test_who_has_spent_more_than_it_had_is_refused_until_that_is_paid() -> None:
    poor = Stage(control_burst=1.0, control_per_s=1.0)
    bob = Phoenix(poor, "bob", "b-1")
    bob.connection.charge("control", 11.0)
    for act in (
        lambda: poor.private.guesses.require_may_try(bob.connection, CHANNEL),
        lambda: bob.connection.limit("control", 1.0),
    ):
        with pytest.raises(RateLimited) as refused:
            act()
        assert refused.value.context["retry_after"] >= 10
    poor.private.guesses.require_may_try(bob.connection, "task:1")
    poor.now += 11.0
    bob.connection.heard()
    poor.private.guesses.require_may_try(bob.connection, CHANNEL)
    bob.connection.limit("control", 1.0)

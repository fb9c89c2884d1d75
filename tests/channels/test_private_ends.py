"""How one leaves a private channel, and how the channel itself ends."""

from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from channels.changes import Timer
from channels.private_ends import ended, without_agent
from channels.private_state import DEAL_LAPSES, PRIVATE_IDLE, Phase
from channels.told import ChannelClosed, Ended, MemberLeft
from tests.channels.private_play import PrivatePlay, user_of
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, refused

LEAVES = ["leavePrivateChannel", "privateChannelDisconnectRequest"]
KICK = "removePrivateChannelMember"
DAY_S = 86_400


@pytest.fixture
def play() -> PrivatePlay:
    return PrivatePlay()


@pytest.fixture
def channel_id(play: PrivatePlay) -> str:
    """Alice sits there, Bob with two instances, and Carol."""
    channel_id = play.create()
    for who, at in ((ALICE, "one"), (BOB, "one"), (BOB, "two"), (CAROL, "three")):
        play.seat(channel_id, who, at=at)
    return channel_id


def left(channel_id: str, who: Any, at: str) -> MemberLeft:
    return MemberLeft(channel_id, who.id, at)


class TestLeaving:
    @pytest.mark.parametrize("event", LEAVES)
    def test_takes_the_sending_instance_out_and_ends_its_topic(
        self, play: PrivatePlay, channel_id: str, event: str
    ) -> None:
        assert play.do(BOB, event, topic=channel_id, at="two") == {}

        assert play.seats(channel_id) == [(ALICE.id, "one"), (BOB.id, "one"), (CAROL.id, "three")]
        assert play.told == [left(channel_id, BOB, "two")]
        assert play.last.stop
        assert play.timers == {}

    @pytest.mark.parametrize("event", LEAVES)
    def test_twice_is_refused(self, play: PrivatePlay, channel_id: str, event: str) -> None:
        play.do(BOB, event, topic=channel_id)
        before = play.everything()

        payload = {"context": {"type": "x"}}
        for act in (event, "broadcastRequest", "getCurrentContextRequest"):
            assert refused(partial(play.do, BOB, act, payload, topic=channel_id)).reason == "AccessDenied"
        assert play.everything() == before

    @pytest.mark.parametrize("event", LEAVES)
    def test_what_is_not_there_is_not_found(self, play: PrivatePlay, event: str) -> None:
        assert refused(lambda: play.do(BOB, event, topic="private:none")).reason == "NoChannelFound"

    def test_leaves_the_owner_its_channel(self, play: PrivatePlay, channel_id: str) -> None:
        pending = play.invite(channel_id)
        play.do(ALICE, LEAVES[0], topic=channel_id)

        say = {"context": {"type": "x"}}
        assert refused(lambda: play.do(ALICE, "broadcastRequest", say, topic=channel_id)).reason == "AccessDenied"
        play.do(BOB, "broadcastRequest", say, topic=channel_id)
        assert play.invite(channel_id)
        assert play.tokens(channel_id)[0] == pending
        play.do(ALICE, "join", topic=channel_id)
        play.do(ALICE, "broadcastRequest", say, topic=channel_id)
        assert play.channels[channel_id].owner_agent_id == ALICE.id


class TestBeingGone:
    def test_is_leaving_without_a_word(self, play: PrivatePlay, channel_id: str) -> None:
        play.gone(channel_id, BOB)

        assert (BOB.id, "one") not in play.seats(channel_id)
        assert (BOB.id, "two") in play.seats(channel_id)
        assert play.told == [left(channel_id, BOB, "one")]

    def test_is_no_matter_for_who_does_not_sit_there(self, play: PrivatePlay, channel_id: str) -> None:
        before = play.everything()

        play.gone(channel_id, BOB, at="nowhere")
        play.gone(channel_id, MALLORY)
        play.gone("private:none", BOB)
        assert play.everything() == before
        play.do(ALICE, "close", topic=channel_id)
        after = play.everything()
        play.gone(channel_id, BOB)
        assert play.everything() == after


class TestRemoving:
    def test_takes_out_the_instances_of_that_name(self, play: PrivatePlay, channel_id: str) -> None:
        assert play.do(ALICE, KICK, {"instanceId": "one"}, topic=channel_id) == {}

        assert play.seats(channel_id) == [(BOB.id, "two"), (CAROL.id, "three")]
        assert play.told == [left(channel_id, ALICE, "one"), left(channel_id, BOB, "one")]
        assert not play.last.stop

    def test_takes_out_one_agents_alone_if_it_is_named(self, play: PrivatePlay, channel_id: str) -> None:
        play.do(ALICE, KICK, {"instanceId": "one", "agentId": BOB.id}, topic=channel_id)

        assert play.seats(channel_id) == [(ALICE.id, "one"), (BOB.id, "two"), (CAROL.id, "three")]

    def test_of_who_does_not_sit_there_is_no_matter(self, play: PrivatePlay, channel_id: str) -> None:
        before = play.everything()

        for payload in ({"instanceId": "nobody"}, {"instanceId": "one", "agentId": CAROL.id}):
            assert play.do(ALICE, KICK, payload, topic=channel_id) == {}
        assert play.everything() == before

    @pytest.mark.parametrize("who", [BOB, MALLORY, user_of(BOB, is_operator=True)])
    def test_is_the_owners_alone(self, play: PrivatePlay, channel_id: str, who: Any) -> None:
        assert refused(lambda: play.do(who, KICK, {"instanceId": "one"}, topic=channel_id)).reason == "AccessDenied"

    def test_in_what_is_not_there_is_not_found(self, play: PrivatePlay) -> None:
        act = lambda: play.do(ALICE, KICK, {"instanceId": "x"}, topic="private:none")  # noqa: E731 - one act
        assert refused(act).reason == "NoChannelFound"


class TestClosing:
    @pytest.mark.parametrize("who", [ALICE, user_of(ALICE), user_of(BOB, is_operator=True)])
    def test_ends_everything_there_and_then_the_topic(self, play: PrivatePlay, channel_id: str, who: Any) -> None:
        play.invite(channel_id)
        play.do(BOB, "broadcastRequest", {"context": {"type": "x"}}, topic=channel_id)
        play.told.clear()

        play.do(who, "close", topic=channel_id)

        closed = play.channels[channel_id]
        assert (closed.status, closed.closed_at) == (Phase.CLOSED, play.now)
        assert (closed.members, closed.invitations, play.contexts, play.timers) == ((), (), {}, {})
        assert play.told == [ChannelClosed(channel_id), Ended(channel_id)]

    def test_twice_finds_no_channel(self, play: PrivatePlay, channel_id: str) -> None:
        play.do(ALICE, "close", topic=channel_id)

        assert refused(lambda: play.do(ALICE, "close", topic=channel_id)).reason == "NoChannelFound"

    @pytest.mark.parametrize("who", [BOB, MALLORY, user_of(BOB)])
    def test_is_for_the_owner_and_operators(self, play: PrivatePlay, channel_id: str, who: Any) -> None:
        assert refused(lambda: play.do(who, "close", topic=channel_id)).reason == "AccessDenied"

    def test_by_the_end_of_its_deal_happens_once(self, play: PrivatePlay, channel_id: str) -> None:
        context = play.context(ALICE, topic="task:1")

        decision = ended(play.channels[channel_id], context)
        play.carry_out(decision, channel_id)

        assert decision.broadcasts == (ChannelClosed(channel_id), Ended(channel_id))
        again = ended(play.channels[channel_id], context)
        assert (again.state, again.changes, again.broadcasts) == (None, (), ())

    def test_by_the_clock_of_an_agreement_that_nobody_has_used_happens_once(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        for _ in range(2):
            play.timers[channel_id] = Timer(DEAL_LAPSES, channel_id, play.now)
            play.advance(0)

        assert play.channels[channel_id].status is Phase.CLOSED
        assert play.told == [ChannelClosed(channel_id), Ended(channel_id)]
        play.timers["private:none"] = Timer(DEAL_LAPSES, "private:none", play.now)
        play.advance(0)
        assert (play.last.state, play.last.changes) == (None, ())

    def test_by_the_end_of_its_owner_is_the_same(self, play: PrivatePlay, channel_id: str) -> None:
        decision = without_agent(play.channels[channel_id], agent_id=ALICE.id, context=play.context(ALICE, topic=""))

        assert decision.broadcasts == (ChannelClosed(channel_id), Ended(channel_id))


class TestTheEndOfAnAgent:
    def test_takes_all_its_instances_out_of_others_channels(self, play: PrivatePlay, channel_id: str) -> None:
        decision = without_agent(play.channels[channel_id], agent_id=BOB.id, context=play.context(ALICE, topic=""))

        assert [one.agent_id for one in decision.state.members] == [ALICE.id, CAROL.id]
        assert decision.broadcasts == (left(channel_id, BOB, "one"), left(channel_id, BOB, "two"))

    def test_is_no_matter_where_it_did_not_sit(self, play: PrivatePlay, channel_id: str) -> None:
        context = play.context(ALICE, topic="")

        assert without_agent(play.channels[channel_id], agent_id=MALLORY.id, context=context).state is None


class TestTheClock:
    def test_runs_from_when_the_last_one_leaves(self, play: PrivatePlay, channel_id: str) -> None:
        for who, at in ((ALICE, "one"), (BOB, "one"), (BOB, "two")):
            play.gone(channel_id, who, at=at)
        assert play.timers == {}
        play.advance(3 * DAY_S)

        play.gone(channel_id, CAROL, at="three")

        timer = play.timers[channel_id]
        assert (timer.kind, timer.due_at) == (PRIVATE_IDLE, play.now + timedelta(seconds=DAY_S))

    def test_closes_a_channel_in_which_nobody_has_sat_for_so_long(self, play: PrivatePlay) -> None:
        channel_id = play.create()
        play.invite(channel_id)
        play.advance(DAY_S - 1)
        assert play.channels[channel_id].is_open

        play.advance(1)

        assert not play.channels[channel_id].is_open
        assert play.told == [ChannelClosed(channel_id), Ended(channel_id)]
        assert refused(lambda: play.do(ALICE, "join", topic=channel_id)).reason == "NoChannelFound"

    def test_stops_when_somebody_comes(self, play: PrivatePlay) -> None:
        channel_id = play.create()
        play.advance(DAY_S - 1)
        play.seat(channel_id, ALICE)
        play.advance(10 * DAY_S)

        assert play.channels[channel_id].is_open

    def test_that_comes_too_late_leaves_a_channel_that_is_in_use_or_closed_or_gone(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        idle = play.create()
        armed = play.timers.pop(idle)
        play.do(ALICE, "close", topic=idle)
        before = play.everything()

        for topic in (channel_id, idle, "private:none"):
            play.timers[topic] = type(armed)(PRIVATE_IDLE, topic, play.now)
        play.advance(0)

        assert play.everything() == before

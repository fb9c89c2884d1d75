"""Who is let into a private channel, in which order the checks win, and what a join answers."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import msgspec
import pytest

from channels import private
from channels.contacts import Tie
from channels.handlers import FollowChannel
from channels.private_state import PRIVATE_IDLE, PrivateChannel
from tests.channels.private_play import PrivatePlay, user_of
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, NOW, Player, market_with, refused

DAY_S = 86_400
BLOCKS = [pytest.param(Tie(is_blocked=True), id="by the owner"), pytest.param(Tie(has_blocked=True), id="of the owner")]


@pytest.fixture
def play() -> PrivatePlay:
    return PrivatePlay()


@pytest.fixture
def channel_id(play: PrivatePlay) -> str:
    return play.create()


def refusal_of(play: PrivatePlay, act: Callable[[], Any]) -> str:
    """The reason of a refusal, which changes nothing."""
    before = play.everything()
    reason = refused(act).reason
    assert play.everything() == before
    return reason


class TestCreating:
    def test_makes_a_channel_whose_id_is_its_topic(self, play: PrivatePlay) -> None:
        reply = play.do(ALICE, "create")

        channel_id = reply["channel"]["id"]
        assert reply == {"channel": {"id": channel_id, "type": "private"}, "owner": ALICE.id, "members": []}
        assert channel_id.startswith("private:id-")
        assert play.channels[channel_id].created_at == NOW

    def test_arms_the_clock_of_one_in_which_nobody_sits(self, play: PrivatePlay, channel_id: str) -> None:
        timer = play.timers[channel_id]

        assert (timer.kind, timer.topic, timer.due_at) == (PRIVATE_IDLE, channel_id, NOW + timedelta(seconds=DAY_S))

    def test_seated_makes_the_creating_instance_a_member_at_once(self, play: PrivatePlay) -> None:
        reply = play.do(ALICE, "create_seated", at="desk")

        assert reply["members"] == [{"agentId": ALICE.id, "instanceId": "desk", "role": "owner"}]
        assert play.timers == {}
        assert play.last.follow == FollowChannel(reply["channel"]["id"], "owner", listens=False)

    @pytest.mark.parametrize("door", ["create", "create_seated"])
    def test_beyond_the_owners_share_is_refused(self, door: str) -> None:
        play = PrivatePlay(market_with(private_channels_max=2))
        first = play.create()
        play.create()

        refusal = refused(lambda: play.do(ALICE, door))
        assert (refusal.reason, refusal.context) == ("CreationFailed", {"max": 2})
        play.do(ALICE, "close", topic=first)
        play.create()

    def test_counts_each_owners_own(self) -> None:
        play = PrivatePlay(market_with(private_channels_max=1))
        play.create()

        assert play.do(BOB, "create")["owner"] == BOB.id

    @pytest.mark.parametrize("door", ["create", "create_seated"])
    def test_is_refused_for_an_agent_that_is_not_active(self, play: PrivatePlay, door: str) -> None:
        play.inactive.add(ALICE.id)

        assert refusal_of(play, lambda: play.do(ALICE, door)) == "CreationFailed"


class TestJoining:
    def test_with_an_invitation_answers_the_channel_as_it_now_is(self, play: PrivatePlay, channel_id: str) -> None:
        play.seat(channel_id, ALICE, at="desk")
        token = play.invite(channel_id)

        reply = play.do(BOB, "join", {"invitation_token": token}, topic=channel_id, at="phone")

        assert reply == {
            "channel": {"id": channel_id, "type": "private"},
            "owner": ALICE.id,
            "members": [
                {"agentId": ALICE.id, "instanceId": "desk", "role": "owner"},
                {"agentId": BOB.id, "instanceId": "phone", "role": "member"},
            ],
        }
        assert play.tokens(channel_id) == []

    @pytest.mark.parametrize("name", ["invitation_token", "invitationToken"])
    @pytest.mark.parametrize("listen", [True, False])
    def test_over_phoenix_takes_either_name_and_listens_unless_it_says_otherwise(
        self, play: PrivatePlay, channel_id: str, name: str, *, listen: bool
    ) -> None:
        payload = {name: play.invite(channel_id), **({} if listen else {"listen": False})}

        play.do(BOB, "join", payload, topic=channel_id)

        assert play.last.follow == FollowChannel(channel_id, "member", listen)

    def test_over_dacp_listens_to_nothing_yet(self, play: PrivatePlay, channel_id: str) -> None:
        play.do(BOB, "enter", {"token": play.invite(channel_id)}, topic=channel_id)

        assert play.last.follow == FollowChannel(channel_id, "member", listens=False)

    def test_ends_the_clock_of_a_channel_that_nobody_sat_in(self, play: PrivatePlay, channel_id: str) -> None:
        play.seat(channel_id, BOB)

        assert play.timers == {}

    @pytest.mark.parametrize("door", ["join", "enter"])
    def test_the_owner_needs_no_invitation_and_uses_up_none(
        self, play: PrivatePlay, channel_id: str, door: str
    ) -> None:
        token = play.invite(channel_id)
        payload = {"token": token, "invitation_token": token}

        reply = play.do(ALICE, door, payload, topic=channel_id)

        assert reply["members"] == [{"agentId": ALICE.id, "instanceId": "one", "role": "owner"}]
        assert play.tokens(channel_id) == [token]
        assert play.last.follow == FollowChannel(channel_id, "owner", door == "join")

    def test_a_member_that_joins_again_uses_up_nothing_and_changes_nothing(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        play.seat(channel_id, BOB)
        token = play.invite(channel_id)
        before = play.everything()

        for payload in ({}, {"token": "nonsense"}, {"token": token}):
            assert play.do(BOB, "enter", payload, topic=channel_id)["members"][0]["agentId"] == BOB.id

        assert play.everything() == before

    def test_another_instance_of_a_member_needs_an_invitation_of_its_own(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        play.seat(channel_id, BOB, at="one")

        assert refusal_of(play, lambda: play.do(BOB, "enter", topic=channel_id, at="two")) == "AccessDenied"
        play.seat(channel_id, BOB, at="two")
        assert play.seats(channel_id) == [(BOB.id, "one"), (BOB.id, "two")]

    def test_the_same_instance_id_of_another_agent_is_another_instance(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        play.seat(channel_id, BOB, at="one")

        assert refusal_of(play, lambda: play.do(CAROL, "enter", topic=channel_id, at="one")) == "AccessDenied"

    @pytest.mark.parametrize("door", ["join", "enter"])
    @pytest.mark.parametrize("who", [BOB, ALICE], ids=["guest", "owner"])
    def test_what_is_not_there_is_not_found(self, play: PrivatePlay, door: str, who: Player) -> None:
        assert refusal_of(play, lambda: play.do(who, door, topic="private:none")) == "NoChannelFound"

    @pytest.mark.parametrize("who", [BOB, ALICE], ids=["guest", "owner"])
    def test_what_is_closed_is_not_found_also_with_an_invitation(
        self, play: PrivatePlay, channel_id: str, who: Player
    ) -> None:
        token = play.invite(channel_id)
        play.do(ALICE, "close", topic=channel_id)

        assert refusal_of(play, lambda: play.do(who, "enter", {"token": token}, topic=channel_id)) == "NoChannelFound"

    @pytest.mark.parametrize("tie", BLOCKS)
    def test_over_a_block_is_refused_with_an_invitation_and_does_not_use_it_up(
        self, play: PrivatePlay, channel_id: str, tie: Tie
    ) -> None:
        token = play.invite(channel_id)
        play.ties[BOB.id] = tie

        assert refusal_of(play, lambda: play.do(BOB, "enter", {"token": token}, topic=channel_id)) == "AccessDenied"
        assert play.tokens(channel_id) == [token]

    @pytest.mark.parametrize("tie", BLOCKS)
    def test_over_a_block_is_refused_to_a_member_too(self, play: PrivatePlay, channel_id: str, tie: Tie) -> None:
        play.seat(channel_id, BOB)
        play.ties[BOB.id] = tie

        assert refusal_of(play, lambda: play.do(BOB, "join", topic=channel_id)) == "AccessDenied"

    def test_of_a_full_channel_is_refused_and_does_not_use_up_the_invitation(self) -> None:
        play = PrivatePlay(market_with(private_members_max=1))
        channel_id = play.create()
        play.seat(channel_id, BOB)
        token = play.invite(channel_id)

        for who, payload in ((CAROL, {"token": token}), (ALICE, {})):
            reason = refusal_of(play, partial(play.do, who, "enter", payload, topic=channel_id))
            assert reason == "AccessDenied"
        play.gone(channel_id, BOB)
        play.do(CAROL, "enter", {"token": token}, topic=channel_id)
        assert play.seats(channel_id) == [(CAROL.id, "one")]

    def test_of_a_full_channel_works_for_who_sits_there(self) -> None:
        play = PrivatePlay(market_with(private_members_max=1))
        channel_id = play.create()
        play.seat(channel_id, BOB)

        assert play.do(BOB, "join", topic=channel_id)["members"][0]["agentId"] == BOB.id

    def test_is_refused_for_an_agent_that_is_not_active_and_does_not_use_up_the_invitation(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        token = play.invite(channel_id)
        play.inactive.add(BOB.id)

        assert refusal_of(play, lambda: play.do(BOB, "enter", {"token": token}, topic=channel_id)) == "AccessDenied"
        play.inactive.clear()
        play.do(BOB, "enter", {"token": token}, topic=channel_id)

    def test_again_works_for_a_member_that_has_been_suspended(self, play: PrivatePlay, channel_id: str) -> None:
        play.seat(channel_id, BOB)
        play.inactive.add(BOB.id)

        assert play.do(BOB, "join", topic=channel_id)["members"][0]["agentId"] == BOB.id

    def test_is_for_agents_alone(self) -> None:
        private.ACCESS(ALICE.identity, "any")

        assert refused(private.ACCESS, user_of(ALICE), "any").reason == "agent_required"


class TestADealsChannel:
    @pytest.fixture
    def deal_id(self, play: PrivatePlay) -> str:
        channel = PrivateChannel(
            id="private:deal", owner_agent_id=ALICE.id, parties=(BOB.id,), deal="task:1", created_at=NOW
        )
        play.channels[channel.id] = channel
        return channel.id

    def test_lets_its_other_party_in_without_an_invitation_as_often_as_it_comes(
        self, play: PrivatePlay, deal_id: str
    ) -> None:
        for _ in range(2):
            play.do(BOB, "enter", topic=deal_id)
            assert play.last.follow == FollowChannel(deal_id, "member", listens=False)
            play.do(BOB, "leavePrivateChannel", topic=deal_id)

    def test_lets_in_nobody_else_without_one(self, play: PrivatePlay, deal_id: str) -> None:
        assert refusal_of(play, lambda: play.do(MALLORY, "enter", topic=deal_id)) == "AccessDenied"
        play.do(MALLORY, "enter", {"token": play.invite(deal_id)}, topic=deal_id)

    def test_lets_in_no_party_that_is_blocked(self, play: PrivatePlay, deal_id: str) -> None:
        play.ties[BOB.id] = Tie(is_blocked=True)

        assert refusal_of(play, lambda: play.do(BOB, "enter", topic=deal_id)) == "AccessDenied"

    def test_has_one_other_party(self, play: PrivatePlay, deal_id: str) -> None:
        assert play.channels[deal_id].party_agent_id == BOB.id
        assert play.channels[play.create()].party_agent_id is None

    def test_has_no_clock_whoever_comes_and_goes(self, play: PrivatePlay, deal_id: str) -> None:
        play.do(BOB, "enter", topic=deal_id)
        play.do(BOB, "leavePrivateChannel", topic=deal_id)

        assert play.timers == {}

    def test_is_left_by_a_clock_that_was_armed_all_the_same(self, play: PrivatePlay, deal_id: str) -> None:
        other = play.create()
        play.timers[deal_id] = msgspec.structs.replace(play.timers[other], topic=deal_id)

        play.advance(DAY_S)

        assert (play.channels[deal_id].is_open, play.channels[other].is_open) == (True, False)

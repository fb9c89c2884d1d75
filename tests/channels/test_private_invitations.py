"""Invitations to a private channel: who makes them, for whom, how long they hold, and that each is used once."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from channels import private
from channels import private_invitations as rules
from channels.private_invitations import Invite, Revoke
from channels.private_rules import PrivateEntry
from tests.channels.private_play import PrivatePlay, user_of
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, Player, market_with, refused
from tests.channels.world import THE_HOUSE

INVITE = "createPrivateChannelInvitation"
REVOKE = "revokePrivateChannelInvitation"
DAY_S, MONTH_S = 86_400, 2_592_000


@pytest.fixture
def play() -> PrivatePlay:
    return PrivatePlay()


@pytest.fixture
def channel_id(play: PrivatePlay) -> str:
    return play.create()


def refusal_of(play: PrivatePlay, act: Callable[[], Any]) -> str:
    before = play.everything()
    reason = refused(act).reason
    assert play.everything() == before
    return reason


def entered(play: PrivatePlay, channel_id: str, who: Player, token: str | None, *, at: str = "one") -> str:
    """`joined`, or why not."""
    before = play.everything()
    try:
        play.do(who, "enter", {"token": token}, topic=channel_id, at=at)
    except Exception as refusal:  # noqa: BLE001 - looked at by its reason alone
        assert play.everything() == before
        return getattr(refusal, "reason", repr(refusal))
    return "joined"


class TestInviting:
    def test_answers_the_token_and_until_when_it_holds(self, play: PrivatePlay, channel_id: str) -> None:
        reply = play.do(ALICE, INVITE, topic=channel_id)

        (made,) = play.channels[channel_id].invitations
        assert reply == {"invitationToken": made.token, "invitationId": made.id, "expiresAt": "2026-03-02T12:00:00Z"}
        assert made.instance_id is None

    def test_works_for_an_owner_that_does_not_sit_there_and_for_its_user(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        play.do(ALICE, INVITE, topic=channel_id)
        play.do(user_of(ALICE), INVITE, topic=channel_id)

        assert len(play.tokens(channel_id)) == 2

    @pytest.mark.parametrize(
        "who",
        [BOB, MALLORY, user_of(BOB), user_of(BOB, is_operator=True), THE_HOUSE],
        ids=lambda who: who.__class__.__name__,
    )
    def test_is_the_owners_alone(self, play: PrivatePlay, channel_id: str, who: Any) -> None:
        play.seat(channel_id, BOB)

        assert refusal_of(play, lambda: play.do(who, INVITE, topic=channel_id)) == "AccessDenied"

    def test_to_what_is_not_there_or_closed_is_not_found(self, play: PrivatePlay, channel_id: str) -> None:
        play.do(ALICE, "close", topic=channel_id)

        for topic in (channel_id, "private:none"):
            assert refusal_of(play, partial(play.do, ALICE, INVITE, topic=topic)) == "NoChannelFound"

    def test_is_refused_for_an_owner_that_is_not_active(self, play: PrivatePlay, channel_id: str) -> None:
        play.inactive.add(ALICE.id)

        assert refusal_of(play, lambda: play.do(ALICE, INVITE, topic=channel_id)) == "AccessDenied"

    def test_beyond_the_channels_share_is_refused_until_one_is_used_or_over(self) -> None:
        play = PrivatePlay(market_with(private_invitations_max=2))
        channel_id = play.create()
        first = play.invite(channel_id)
        play.invite(channel_id, expiresIn=10)

        assert refusal_of(play, lambda: play.invite(channel_id)) == "AccessDenied"
        assert entered(play, channel_id, BOB, first) == "joined"
        play.invite(channel_id)
        assert refusal_of(play, lambda: play.invite(channel_id)) == "AccessDenied"
        play.advance(10)
        play.invite(channel_id)

    @pytest.mark.parametrize("seconds", [0, -1, MONTH_S + 1])
    def test_for_too_short_or_too_long_is_refused(self, play: PrivatePlay, channel_id: str, seconds: int) -> None:
        assert refusal_of(play, lambda: play.invite(channel_id, expiresIn=seconds)) == "invalid_payload"

    @pytest.mark.parametrize("instance_id", ["", "a b", "é", "x" * 129, "a/b", "a\n"])
    def test_for_what_is_no_instance_is_refused(self, play: PrivatePlay, channel_id: str, instance_id: str) -> None:
        assert refusal_of(play, lambda: play.invite(channel_id, instanceId=instance_id)) == "invalid_payload"

    @pytest.mark.parametrize(
        ("scope", "agent_id", "instance_id"),
        [
            (None, None, None),
            ("x", None, "x"),
            ("x" * 128, None, "x" * 128),
            ("A-z_0.9:b", None, "A-z_0.9:b"),
            ("phone", BOB.id, "phone"),
            (BOB.id, BOB.id, None),
            (ALICE.id, ALICE.id, None),
            (BOB.id.upper(), None, BOB.id.upper()),
        ],
    )
    def test_is_kept_with_the_agent_and_the_program_that_it_is_for(
        self, play: PrivatePlay, channel_id: str, scope: str | None, agent_id: str | None, instance_id: str | None
    ) -> None:
        play.holders |= {"phone": BOB.id, BOB.id: MALLORY.id}

        play.invite(channel_id, instanceId=scope)

        (made,) = play.channels[channel_id].invitations
        assert (made.agent_id, made.instance_id, made.scope) == (agent_id, instance_id, scope)


class TestAToken:
    def test_lets_one_instance_in_once(self, play: PrivatePlay, channel_id: str) -> None:
        token = play.invite(channel_id)

        assert entered(play, channel_id, BOB, token) == "joined"
        assert entered(play, channel_id, CAROL, token) == "AccessDenied"
        assert entered(play, channel_id, BOB, token, at="two") == "AccessDenied"

    @pytest.mark.parametrize("token", [None, "", "nonsense", "é", "token-"])
    def test_that_is_none_lets_nobody_in(self, play: PrivatePlay, channel_id: str, token: str | None) -> None:
        play.invite(channel_id)

        assert entered(play, channel_id, BOB, token) == "AccessDenied"

    def test_of_half_a_character_is_just_another_wrong_one(self, play: PrivatePlay, channel_id: str) -> None:
        play.invite(channel_id)

        request = private.Enter(token="\ud800")
        assert refused(lambda: play.decide(BOB, private.ENTER, request, topic=channel_id)).reason == "AccessDenied"

    def test_of_another_channel_lets_nobody_in_and_is_not_used_up(self, play: PrivatePlay, channel_id: str) -> None:
        other_id = play.create()
        token = play.invite(other_id)

        assert entered(play, channel_id, BOB, token) == "AccessDenied"
        assert entered(play, other_id, BOB, token) == "joined"

    def test_that_is_an_invitations_id_lets_nobody_in(self, play: PrivatePlay, channel_id: str) -> None:
        play.invite(channel_id)

        assert entered(play, channel_id, BOB, play.channels[channel_id].invitations[0].id) == "AccessDenied"

    def test_after_leaving_is_no_way_back(self, play: PrivatePlay, channel_id: str) -> None:
        token = play.invite(channel_id)
        play.do(BOB, "enter", {"token": token}, topic=channel_id)
        play.do(BOB, "leavePrivateChannel", topic=channel_id)

        assert entered(play, channel_id, BOB, token) == "AccessDenied"

    @pytest.mark.parametrize(
        ("fields", "seconds"),
        [({}, DAY_S), ({"expiresIn": 1}, 1), ({"expiresIn": 5}, 5), ({"expiresIn": MONTH_S}, MONTH_S)],
    )
    def test_holds_until_its_time_and_not_at_it(
        self, play: PrivatePlay, channel_id: str, fields: dict[str, Any], seconds: int
    ) -> None:
        play.seat(channel_id, ALICE)  # So that no clock closes the channel meanwhile.
        early, late = play.invite(channel_id, **fields), play.invite(channel_id, **fields)
        play.advance(seconds - 1)

        assert entered(play, channel_id, BOB, early) == "joined"
        play.advance(1)
        assert entered(play, channel_id, CAROL, late) == "AccessDenied"

    def test_that_is_over_is_forgotten_at_the_next_change(self, play: PrivatePlay, channel_id: str) -> None:
        play.seat(channel_id, ALICE)
        play.invite(channel_id, expiresIn=5)
        held = play.invite(channel_id, expiresIn=50)
        play.advance(5)
        assert len(play.tokens(channel_id)) == 2

        play.do(ALICE, "enter", topic=channel_id, at="two")

        assert play.tokens(channel_id) == [held]


class TestABoundToken:
    def test_lets_in_its_instance_alone_and_is_not_used_up_by_another(self, play: PrivatePlay, channel_id: str) -> None:
        token = play.invite(channel_id, instanceId="phone")

        for who, at in ((BOB, "desk"), (MALLORY, "one")):
            assert entered(play, channel_id, who, token, at=at) == "AccessDenied"
        assert play.tokens(channel_id) == [token]
        assert entered(play, channel_id, BOB, token, at="phone") == "joined"
        assert entered(play, channel_id, CAROL, token, at="phone") == "AccessDenied"

    def test_for_an_agent_lets_in_any_instance_of_it_once(self, play: PrivatePlay, channel_id: str) -> None:
        token = play.invite(channel_id, instanceId=BOB.id)

        assert entered(play, channel_id, MALLORY, token) == "AccessDenied"
        assert entered(play, channel_id, BOB, token, at="desk") == "joined"
        assert entered(play, channel_id, BOB, token, at="phone") == "AccessDenied"

    def test_for_an_agent_is_not_for_another_whose_program_has_that_name(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        play.holders[BOB.id] = MALLORY.id
        token = play.invite(channel_id, instanceId=BOB.id)

        assert entered(play, channel_id, MALLORY, token, at=BOB.id) == "AccessDenied"
        assert play.tokens(channel_id) == [token]
        assert entered(play, channel_id, BOB, token) == "joined"

    def test_for_a_program_is_not_for_another_agents_of_that_name(self, play: PrivatePlay, channel_id: str) -> None:
        play.holders["phone"] = BOB.id
        token = play.invite(channel_id, instanceId="phone")
        play.holders["phone"] = MALLORY.id

        assert entered(play, channel_id, MALLORY, token, at="phone") == "AccessDenied"
        assert entered(play, channel_id, BOB, token, at="desk") == "AccessDenied"
        assert play.tokens(channel_id) == [token]
        assert entered(play, channel_id, BOB, token, at="phone") == "joined"

    def test_for_a_program_that_nobody_has_is_for_the_first_agent_that_calls_one_so(
        self, play: PrivatePlay, channel_id: str
    ) -> None:
        token = play.invite(channel_id, instanceId="phone")
        play.holders["phone"] = MALLORY.id

        assert entered(play, channel_id, BOB, token, at="phone") == "joined"
        assert entered(play, channel_id, MALLORY, token, at="phone") == "AccessDenied"


class TestRevoking:
    def test_ends_an_invitation_by_its_token_or_by_its_id(self, play: PrivatePlay, channel_id: str) -> None:
        for name in ("token", "id"):
            token = play.invite(channel_id)
            kept = play.invite(channel_id)
            named = getattr(play.channels[channel_id].invitations[0], name)

            assert play.do(ALICE, REVOKE, {"invitationToken": named}, topic=channel_id) == {}
            assert entered(play, channel_id, BOB, token) == "AccessDenied"
            assert play.tokens(channel_id) == [kept]
            play.do(ALICE, REVOKE, {"invitationToken": kept}, topic=channel_id)

    def test_of_what_is_out_no_more_is_no_matter(self, play: PrivatePlay, channel_id: str) -> None:
        token = play.invite(channel_id)
        play.do(BOB, "enter", {"token": token}, topic=channel_id)
        before = play.everything()

        for named in (token, token, "nonsense"):
            assert play.do(ALICE, REVOKE, {"invitationToken": named}, topic=channel_id) == {}
            assert play.last.state is None
        assert play.everything() == before

    @pytest.mark.parametrize("who", [ALICE, user_of(ALICE), user_of(BOB, is_operator=True)])
    def test_is_for_the_owner_its_user_and_an_operator(self, play: PrivatePlay, channel_id: str, who: Any) -> None:
        token = play.invite(channel_id)

        play.do(who, REVOKE, {"invitationToken": token}, topic=channel_id)

        assert play.tokens(channel_id) == []

    @pytest.mark.parametrize("who", [BOB, MALLORY, user_of(BOB)])
    def test_is_for_nobody_else(self, play: PrivatePlay, channel_id: str, who: Any) -> None:
        play.seat(channel_id, BOB)
        token = play.invite(channel_id)

        act = lambda: play.do(who, REVOKE, {"invitationToken": token}, topic=channel_id)  # noqa: E731 - one act
        assert refusal_of(play, act) == "AccessDenied"

    def test_in_what_is_not_there_is_not_found(self, play: PrivatePlay) -> None:
        request = Revoke(invitation_token="x")

        reason = refusal_of(play, lambda: play.decide(ALICE, rules.REVOKE, request, topic="private:none"))
        assert reason == "NoChannelFound"

    def test_an_owner_whose_agent_is_gone_has_no_user(self, play: PrivatePlay, channel_id: str) -> None:
        context = play.context(user_of(ALICE), topic=channel_id)
        entry = PrivateEntry(channel=play.channels[channel_id], owner=None)

        assert refused(rules.INVITE.decide, entry, Invite(), context).reason == "AccessDenied"

"""Tokens in any order, against a simple model: each lets one in, once; and a refusal changes nothing."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from channels.errors import Refusal
from tests.channels.private_play import PrivatePlay
from tests.channels.roles import ALICE, BOB, CAROL, MALLORY, Player, market_with

INSTANCES = ("one", "two", BOB.id)
PLAYERS = (ALICE, BOB, CAROL, MALLORY)
MEMBERS_MAX, OUT_MAX = 4, 5

Seat = tuple[str, str]


class TokensMachine(RuleBasedStateMachine):
    """Alice's channel, three others, two programs each; tokens that anybody may try at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.play = PrivatePlay(
            market_with(private_members_max=MEMBERS_MAX, private_invitations_max=OUT_MAX, private_idle_s=100_000_000)
        )
        self.channel_id = self.play.create()
        self.seated: set[Seat] = set()
        self.bound_to: dict[str, tuple[str | None, str | None]] = {}
        self.over_at: dict[str, datetime] = {}
        self.out: set[str] = set()
        self.ever: list[str] = ["never a token"]
        self.came_by_token = 0
        self.made = 0

    who = st.sampled_from(PLAYERS)
    at = st.sampled_from(INSTANCES)

    def holds(self, token: str) -> bool:
        return token in self.out and self.play.now < self.over_at[token]

    def attempt(self, who: Player, what: str, payload: Mapping[str, object], *, at: str = "one") -> str:
        """`ok`, or the reason; a refusal leaves everything as it was."""
        before = self.play.everything()
        try:
            self.play.do(who, what, payload, topic=self.channel_id, at=at)
        except Refusal as refusal:
            assert self.play.everything() == before
            return refusal.reason
        return "ok"

    @rule(
        who=who,
        bound=st.sampled_from((None, "one", "two", "three", BOB.id, MALLORY.id)),
        ttl_s=st.integers(1, 100),
    )
    def invite(self, who: Player, bound: str | None, ttl_s: int) -> None:
        fields = {"instanceId": bound, "expiresIn": ttl_s}
        outcome = self.attempt(who, "createPrivateChannelInvitation", fields)
        is_room = sum(map(self.holds, self.out)) < OUT_MAX

        assert outcome == ("ok" if who is ALICE and is_room else "AccessDenied")
        if outcome == "ok":
            token = self.play.last.reply["invitationToken"]
            assert token not in self.ever
            self.ever.append(token)
            self.out.add(token)
            is_agent = bound in {one.id for one in PLAYERS}
            holder = None if bound is None else self.play.holders.get(bound)
            self.bound_to[token] = (bound, None) if is_agent else (holder, bound)
            self.over_at[token] = self.play.now + timedelta(seconds=ttl_s)
            self.made += 1

    @rule(who=who, at=at, place=st.integers(0, 40), is_phoenix=st.booleans())
    def enter(self, who: Player, at: str, place: int, *, is_phoenix: bool) -> None:
        token = self.ever[place % len(self.ever)]
        seat = (who.id, at)
        field = "invitation_token" if is_phoenix else "token"
        outcome = self.attempt(who, "join" if is_phoenix else "enter", {field: token}, at=at)

        agent_id, name = self.bound_to.get(token, (None, None))
        is_good = self.holds(token) and agent_id in {None, who.id} and name in {None, at}
        if seat in self.seated:
            assert outcome == "ok"
        elif len(self.seated) >= MEMBERS_MAX or not (who is ALICE or is_good):
            assert outcome == "AccessDenied"
        else:
            assert outcome == "ok"
            self.seated.add(seat)
            if who is not ALICE:
                self.out.discard(token)
                self.came_by_token += 1

    @rule(who=who, at=at)
    def take_a_name(self, who: Player, at: str) -> None:
        """A program is called like that from now on; who had the name has lost it."""
        self.play.holders[at] = who.id

    @rule(who=who, at=at)
    def leave(self, who: Player, at: str) -> None:
        outcome = self.attempt(who, "leavePrivateChannel", {}, at=at)

        assert outcome == ("ok" if (who.id, at) in self.seated else "AccessDenied")
        self.seated.discard((who.id, at))

    @rule(who=who, at=at)
    def vanish(self, who: Player, at: str) -> None:
        self.play.gone(self.channel_id, who, at=at)
        self.seated.discard((who.id, at))

    @rule(who=who, at=at, whose=st.sampled_from((None, *(one.id for one in PLAYERS))))
    def remove(self, who: Player, at: str, whose: str | None) -> None:
        fields = {"instanceId": at, "agentId": whose}
        outcome = self.attempt(who, "removePrivateChannelMember", fields)

        assert outcome == ("ok" if who is ALICE else "AccessDenied")
        if who is ALICE:
            self.seated -= {seat for seat in self.seated if seat[1] == at and whose in {None, seat[0]}}

    @rule(who=who, place=st.integers(0, 40))
    def revoke(self, who: Player, place: int) -> None:
        token = self.ever[place % len(self.ever)]
        outcome = self.attempt(who, "revokePrivateChannelInvitation", {"invitationToken": token})

        assert outcome == ("ok" if who is ALICE else "AccessDenied")
        if who is ALICE:
            self.out.discard(token)

    @rule(who=who, at=at)
    def say(self, who: Player, at: str) -> None:
        outcome = self.attempt(who, "broadcastRequest", {"context": {"type": "x"}}, at=at)

        assert outcome == ("ok" if (who.id, at) in self.seated else "AccessDenied")

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: int) -> None:
        self.play.advance(seconds)

    @invariant()
    def exactly_those_sit_there(self) -> None:
        assert set(self.play.seats(self.channel_id)) == self.seated
        assert len(self.play.seats(self.channel_id)) == len(self.seated) <= MEMBERS_MAX

    @invariant()
    def exactly_those_tokens_hold(self) -> None:
        kept = self.play.channels[self.channel_id].invitations
        holding = {one.token for one in kept if one.holds_at(self.play.now)}

        assert holding == {token for token in self.out if self.holds(token)}

    @invariant()
    def nobody_came_without_a_token_of_its_own(self) -> None:
        assert self.came_by_token <= self.made

    @invariant()
    def its_clock_runs_while_nobody_sits_there(self) -> None:
        assert (self.channel_id in self.play.timers) == (not self.seated)


TokensMachine.TestCase.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)
TestTokensMachine = TokensMachine.TestCase

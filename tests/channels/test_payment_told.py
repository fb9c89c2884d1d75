"""Who joins a payment channel once and listens knows all of it: its join and what is told since equal a new join."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.errors import Refusal
from channels.handlers import Decision
from channels.payment_state import Cause, Mode
from channels.told import Audience, Broadcast
from tests.channels.channel_play import OFFLINE, ONLINE, Play, payload_of
from tests.channels.payment_stage import DAY_S, Json
from tests.channels.roles import ALICE, BOB, Player, as_told

REPLY_ONLY = {"missing_transfers", "missing_after", "outcome", "applied", "duplicates", "duplicate"}


class Client:
    """A client of one agent that joined once and since then knows only what it was told, as PROTOCOL.md says it.

    Args:
        who: The agent that it is of.
        joined: The reply to its join.
    """

    def __init__(self, who: Player, joined: Json) -> None:
        self.who = who
        self.known: Json = {}
        self._learn(joined)

    def hear(self, decision: Decision, *, sender: Player | None) -> list[str]:
        """Take the reply, if it was this client that asked, then every broadcast that reaches it; their names."""
        is_own = sender is not None and sender.id == self.who.id
        if is_own:
            self._learn(as_told(decision.reply))
        heard = [one for one in decision.broadcasts if isinstance(one, Broadcast)]
        reached = [one for one in heard if one.audience is Audience.ALL or not is_own]
        for one in reached:
            told = payload_of(one)
            if "channel" in told:
                self._learn(told["channel"])
            else:
                getattr(self, f"_on_{one.event}")(told)
        return [one.event for one in reached]

    def _learn(self, channel: Json) -> None:
        self.known = {name: value for name, value in channel.items() if name not in REPLY_ONLY}

    def _on_propose_transfer(self, told: Json) -> None:
        self.known["pending_proposal"] = {name: value for name, value in told.items() if name != "channel_id"}

    def _on_transfer_complete(self, told: Json) -> None:
        transfer = {name: value for name, value in told.items() if name != "channel_id"}
        self.known |= {"last_transfer": transfer, "balance_a": told["balance_a"], "balance_b": told["balance_b"]}
        self.known |= {"deposited_since_a": 0, "deposited_since_b": 0}
        self._move_on(told["nonce"])

    def _on_transfer_voided(self, told: Json) -> None:
        self._move_on(told["nonce"])

    def _on_reject_transfer(self, told: Json) -> None:
        self._move_on(told["nonce"])

    def _on_close_request(self, told: Json) -> None:
        request = {name: value for name, value in told.items() if name != "channel_id"}
        others = [one for one in self.known["close_requests"] if one["agent_id"] != told["agent_id"]]
        self.known["close_requests"] = [*others, request]

    def _move_on(self, nonce: int) -> None:
        """A nonce was used up; it may be told to who has gone on already."""
        pending = self.known["pending_proposal"]
        if pending is not None and pending["nonce"] <= nonce:
            self.known["pending_proposal"] = None
        last_nonce = max(nonce, self.known["last_nonce"])
        requests = [one for one in self.known["close_requests"] if one["nonce"] == last_nonce]
        self.known |= {"last_nonce": last_nonce, "next_nonce": last_nonce + 1, "close_requests": requests}


class Told(Play):
    """A channel that both listen to from its opening on."""

    def __init__(self, **fields: Any) -> None:
        self.clients: list[Client] = []
        self.heard: set[str] = set()
        self._sender: Player | None = None
        super().__init__(counter_deposit=None, **fields)
        self.clients = [Client(who, self.snapshot) for who in (ALICE, BOB)]

    def send(self, who: Player, event: str, /, **payload: Any) -> Json:
        self._sender = who
        try:
            return super().send(who, event, **payload)
        finally:
            self._sender = None

    def _carry_out(self, decision: Decision) -> None:
        super()._carry_out(decision)
        for client in self.clients:
            self.heard |= {*client.hear(decision, sender=self._sender)}
            assert client.known == self.snapshot, f"{client.who.agent.name} has heard {sorted(self.heard)}"


def accepted(mode: Mode = ONLINE, **fields: Any) -> Told:
    play = Told(mode=mode, **fields)
    play.send(BOB, "accept", deposit=1_000)
    return play


def test_of_everything_that_happens_in_an_online_channel() -> None:
    play = accepted()
    play.pay(ALICE, 10)
    play.send(BOB, "deposit", amount=5)
    play.pay(BOB, 20)
    for who in (ALICE, BOB):
        play.send(who, "close_request", **play.close_request(who, (1_000, 1_005)))
    play.propose(ALICE)
    play.send(BOB, "reject_transfer", reason="no")
    play.propose(ALICE)
    play.send(ALICE, "reject_transfer")
    play.propose(BOB)
    play.wait(300)
    play.propose(ALICE)
    play.dispute(BOB, evidence={"at": 1})
    play.send(BOB, "withdraw_dispute")
    play.propose(ALICE)
    play.revoke(Cause.CONTACT_REVOKED)
    play.send(ALICE, "force_close")
    play.dispute(ALICE)
    play.close((5, 2_000))

    assert play.heard == {
        "channel_updated",
        "propose_transfer",
        "transfer_complete",
        "reject_transfer",
        "transfer_voided",
        "close_request",
        "dispute",
        "withdraw_dispute",
        "channel_closed",
    }


def test_of_everything_that_happens_in_an_offline_channel() -> None:
    play = accepted(OFFLINE)
    play.hand_in(10, -5)
    chain = play.chain(7)
    play.send(ALICE, "dispute", reason="see there", evidence={"transfers": chain})
    play.send(BOB, "submit_transfers", transfers=chain)
    play.send(ALICE, "close_request", **play.close_request())
    play.hand_in(1)
    play.dispute(BOB)
    play.hand_in(1)
    play.wait(DAY_S)

    assert play.heard == {"channel_updated", "transfers_submitted", "dispute", "close_request", "channel_closed"}
    assert play.snapshot["status"] == "closed"


Move = Callable[[Told], object]
ENDS: dict[str, Move] = {
    "decline": lambda play: play.send(BOB, "decline", reason="no"),
    "cancel": lambda play: play.send(ALICE, "cancel"),
    "the clock": lambda play: play.wait(DAY_S),
    "a revocation": lambda play: play.revoke(),
    "a ban": lambda play: play.revoke(Cause.BANNED),
    "a lost state": lambda play: play.freeze(),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_of_what_nobody_has_accepted(end: Move) -> None:
    play = Told()

    end(play)

    assert len(play.heard) == 1


def test_of_a_lost_state_and_the_operators_decision() -> None:
    play = accepted()
    play.send(ALICE, "close_request", **play.close_request())
    play.propose(ALICE)
    play.send(BOB, "join", known=play.lost_state(11))
    play.send(ALICE, "join", known=play.lost_state(5, nonce=3))
    play.decide(1, 1_999)

    assert play.heard >= {"transfer_voided", "state_lost", "channel_closed"}


def test_of_a_ban_with_a_proposal_under_way() -> None:
    play = accepted()
    play.propose(ALICE)

    play.revoke(Cause.BANNED)
    play.wait(DAY_S)

    assert play.snapshot["cause"] == "force_close"


@pytest.mark.parametrize(
    "then",
    [
        lambda play: play.send(ALICE, "join"),
        lambda play: play.send(ALICE, "deposit", amount=1),
        lambda play: play.send(ALICE, "force_close"),
        lambda play: play.dispute(ALICE),
        lambda play: play.revoke(),
        lambda play: play.run_timer(),
    ],
    ids=["join", "deposit", "force-close", "dispute", "revocation", "timer"],
)
def test_of_what_the_clock_does_in_the_same_moment(then: Move) -> None:
    play = accepted()
    play.propose(BOB)
    play.wait(300, is_timer_late=True)

    then(play)

    assert "transfer_voided" in play.heard


def test_of_a_withdrawal_that_pays_at_once() -> None:
    play = accepted()
    play.send(ALICE, "force_close")
    play.wait(3_600)
    play.dispute(BOB)
    play.wait(DAY_S - 1)

    play.send(BOB, "withdraw_dispute")

    assert play.snapshot["cause"] == "force_close"


def test_of_what_is_proposed_and_requested_right_after_the_clock_has_voided_another() -> None:
    for event, who in (("propose_transfer", ALICE), ("propose_transfer", BOB), ("close_request", ALICE)):
        play = accepted()
        play.propose(ALICE)
        play.wait(300, is_timer_late=True)
        ahead = Play(counter_deposit=1_000)
        ahead.propose(ALICE)
        ahead.wait(300)
        sent = ahead.proposal(who) if event == "propose_transfer" else ahead.close_request(who)

        play.send(who, event, **sent)

        assert play.snapshot["last_nonce"] == 1
        assert play.heard == {"channel_updated", "propose_transfer", "transfer_voided", event}


SIDES = st.sampled_from([ALICE, BOB])
SIGNED_BY_WHO = {"propose", "pay"}
SIGNED_BY_ALICE = {"hand in", "settle", "freeze"}
LEAST = 30
"""What has at most been signed away at once: of less than nothing no balances can be signed."""


def _can_sign(play: Told, name: str, who: Player) -> bool:
    if name in SIGNED_BY_WHO:
        return play.channel.balance(who.id) >= LEAST
    return name not in SIGNED_BY_ALICE or play.channel.balance_a >= LEAST


MOVES: dict[str, Callable[[Told, Player, int], object]] = {
    "accept": lambda play, who, n: play.send(BOB, "accept", deposit=n),
    "decline": lambda play, who, n: play.send(BOB, "decline"),
    "propose": lambda play, who, n: play.propose(who, n),
    "acknowledge": lambda play, who, n: play.acknowledge() if play.channel.pending_proposal else None,
    "pay": lambda play, who, n: play.pay(who, n),
    "reject": lambda play, who, n: play.send(who, "reject_transfer"),
    "hand in": lambda play, who, n: play.hand_in(n, -1, who=who),
    "deposit": lambda play, who, n: play.send(who, "deposit", amount=n),
    "request": lambda play, who, n: play.send(
        who, "close_request", **play.close_request(who, (n, play.channel.total - n))
    ),
    "close": lambda play, who, n: play.close((n, play.channel.total - n)),
    "force-close": lambda play, who, n: play.send(who, "force_close"),
    "dispute": lambda play, who, n: play.dispute(who),
    "settle": lambda play, who, n: play.dispute(who, evidence={"transfers": play.chain(n)}),
    "withdraw": lambda play, who, n: play.send(who, "withdraw_dispute"),
    "decide": lambda play, who, n: play.decide(n, play.channel.total - n),
    "join": lambda play, who, n: play.send(who, "join", known={"nonce": 0}),
    "freeze": lambda play, who, n: play.freeze(who),
    "revoke": lambda play, who, n: play.revoke(),
    "ban": lambda play, who, n: play.revoke(Cause.BANNED),
    "wait": lambda play, who, n: play.wait(n * 100),
    "wait on": lambda play, who, n: play.wait(n * 100, is_timer_late=True),
    "a day": lambda play, who, n: play.wait(DAY_S),
}
COMMON = ["pay", "propose", "acknowledge", "deposit", "request", "wait on", "hand in"]


@given(
    mode=st.sampled_from(Mode),
    is_accepted=st.sampled_from([True, True, True, False]),
    moves=st.lists(
        st.tuples(st.sampled_from([*MOVES, *COMMON]), SIDES, st.integers(1, 20)),
        max_size=25,
    ),
)
def test_of_any_moves_in_any_order(mode: Mode, moves: list[tuple[str, Player, int]], *, is_accepted: bool) -> None:
    play = accepted(mode) if is_accepted else Told(mode=mode)

    for name, who, number in moves:
        if not _can_sign(play, name, who):
            continue
        try:
            MOVES[name](play, who, number)
        except Refusal:
            continue

    assert {client.who.id for client in play.clients if client.known == play.snapshot} == {ALICE.id, BOB.id}
    assert play.verify().checks

"""Silence: whoever asks for its money has it within three windows, whatever the other party does or leaves undone.

The honest party asks once: it closes by force as soon as that is allowed, hands in its chain in offline mode, and acts
only by what it is told. Mallory does anything at any time. What the honest one is owed follows from what it has signed
itself: its own part of the last state that both have signed.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from channels.errors import Refusal
from channels.payment_state import Cause, Mode
from tests.channels.payment_honest import Honest
from tests.channels.payment_stage import DAY_S, HOUR_S, WEEK_S, Json, Stage
from tests.channels.payment_witness import Deed, Notary, doubly_signed, known
from tests.channels.roles import ALICE, BOB, Player

AMOUNTS = st.sampled_from([1, 10, 200])
PICKS = st.integers(0, 100)


# ------------------------------------------------------------------------------------------------ anything at any time


class Silence(RuleBasedStateMachine):
    """One of the two is honest; the other does whatever it likes, with all that it was ever shown."""

    def __init__(self) -> None:
        super().__init__()
        self.begin(Mode.ONLINE, DAY_S, ALICE, 1_000)

    @initialize(
        mode=st.sampled_from(Mode),
        window_s=st.sampled_from([DAY_S, 2 * DAY_S, WEEK_S]),
        honest=st.sampled_from([ALICE, BOB]),
        counter=st.sampled_from([1_000, 1_000, 1_000, 0, None]),
    )
    def begin(self, mode: Mode, window_s: int, honest: Player, counter: int | None) -> None:
        self.stage = Stage(mode=mode, window_s=window_s, counter_deposit=counter)
        self.notary = Notary()
        self.honest = Honest(self.stage, honest, self.notary)
        self.mallory = self.honest.mallory

    # The honest one, until it asks

    @precondition(lambda self: self.honest.asked_at is None)
    @rule(amount=AMOUNTS, is_countersigned=st.booleans())
    def honest_pays(self, amount: int, *, is_countersigned: bool) -> None:
        self.honest.pay(amount)
        if is_countersigned and self.honest.is_online:
            self._acknowledge(self.honest.shown[-1:])
        elif is_countersigned:
            self.honest.is_countersigned()
        self.honest.acts()

    @precondition(lambda self: self.honest.asked_at is None)
    @rule(amounts=st.lists(AMOUNTS, min_size=1, max_size=3))
    def honest_is_paid(self, amounts: list[int]) -> None:
        for amount in amounts:
            if self.honest.is_online:
                self.propose(amount)
                self.honest.answers()
                self.honest.hears()
            else:
                self.honest.is_paid_outside(amount)
        self.honest.acts()

    @precondition(lambda self: self.honest.asked_at is None)
    @rule(what=st.sampled_from(["deposit", "dispute", "withdraw_dispute", "close", "accept", "part"]))
    def honest_acts(self, what: str) -> None:
        if what == "close":
            self.honest.offers_a_close()
        elif what == "part":
            deeds = self.honest.chain[: len(self.honest.chain) // 2]
            self.honest.tries("submit_transfers", transfers=[doubly_signed(self.notary, deed) for deed in deeds])
        else:
            payload: dict[str, Json] = {"deposit": {"amount": 50}, "dispute": {"reason": ""}, "accept": {"deposit": 50}}
            self.honest.tries(what, **payload.get(what, {}))

    @rule()
    def honest_joins(self) -> None:
        """With the newest state that it has: it never stops its own channel."""
        if self.honest.chain:
            self.honest.tries("join", known=known(self.notary, self.honest.chain[-1]))

    @rule()
    def honest_asks(self) -> None:
        self.honest.asks()

    # Mallory, at any time

    def _move(self, event: str, /, **payload: Any) -> None:
        with suppress(Refusal):
            self.stage.send(self.mallory, event, **payload)
        self.honest.acts()

    @rule(amount=AMOUNTS)
    def propose(self, amount: int) -> None:
        deed = self.honest.next_transfer(self.mallory, amount)
        if min(deed.balances) >= 0:
            signature = self.notary.sign(self.mallory, deed)
            self._move("propose_transfer", amount=amount, nonce=deed.nonce, signature=signature)

    @rule(event=st.sampled_from(["reject_transfer", "force_close", "withdraw_dispute", "cancel"]))
    def move(self, event: str) -> None:
        self._move(event)

    @rule(what=st.sampled_from(["accept", "deposit"]))
    def put_money_in(self, what: str) -> None:
        self._move(what, **({"deposit": 20} if what == "accept" else {"amount": 20}))

    @rule(count=st.sampled_from([None, None, 0, 1, 2]))
    def dispute(self, count: int | None) -> None:
        evidence = None if count is None else {"transfers": self._chain(count)}
        self._move("dispute", reason="", evidence=evidence)

    @rule(count=st.integers(1, 3), is_newest=st.booleans())
    def submit(self, count: int, *, is_newest: bool) -> None:
        """The first transfers of the chain; or also the one that the honest party has signed and Mallory not yet."""
        chain = self._chain(len(self.honest.chain) if is_newest else count)
        if is_newest and self.honest.half is not None:
            chain.append(doubly_signed(self.notary, self.honest.half))
        self._move("submit_transfers", transfers=chain)

    @precondition(lambda self: self.honest.shown)
    @rule(pick=PICKS, how=st.sampled_from(["join", "acknowledge", "submit", "evidence", "close", "other terms"]))
    def use_what_was_shown(self, pick: int, how: str) -> None:
        """Any signature of the honest party that Mallory was ever shown, countersigned, brought in any way."""
        deed = self.honest.shown[pick % len(self.honest.shown)]
        if deed.payer is None:
            self._close(deed)
        elif how == "join":
            self._move("join", known=known(self.notary, deed))
        elif how == "other terms":
            told = known(self.notary, deed)
            own = "signature_a" if self.mallory is ALICE else "signature_b"
            changed = msgspec.structs.replace(deed, nonce=deed.nonce + pick % 3)
            self._move("join", known={**told, "nonce": changed.nonce, own: self.notary.sign(self.mallory, changed)})
        elif how == "acknowledge":
            self._acknowledge([deed])
        elif how == "close":
            self._close(msgspec.structs.replace(deed, payer=None, amount=0, nonce=self.stage.channel.last_nonce))
        else:
            chain = [doubly_signed(self.notary, deed)]
            payload = {"transfers": chain} if how == "submit" else {"reason": "", "evidence": {"transfers": chain}}
            self._move("submit_transfers" if how == "submit" else "dispute", **payload)

    def _close(self, deed: Deed) -> None:
        """With the honest party's signature, if there is one; else with one that Mallory has made up."""
        own = self.notary.sign(self.mallory, deed)
        others = self.notary.signed[deed].get(self.honest.who.id, own)
        signature_a, signature_b = (own, others) if self.mallory is ALICE else (others, own)
        finals = {"final_balance_a": deed.balances[0], "final_balance_b": deed.balances[1]}
        self._move("close", **finals, signature_a=signature_a, signature_b=signature_b)

    @rule(cause=st.sampled_from([Cause.CONTACT_REVOKED, Cause.CONTACT_REVOKED, Cause.BANNED]))
    def end_the_contact(self, cause: Cause) -> None:
        self.stage.revoke(cause)
        self.honest.acts()

    def _acknowledge(self, deeds: list[Deed]) -> None:
        for deed in deeds:
            signature = self.notary.sign(self.mallory, deed)
            self._move("acknowledge_transfer", amount=deed.amount, nonce=deed.nonce, signature=signature)

    def _chain(self, count: int) -> list[Json]:
        return [doubly_signed(self.notary, deed) for deed in self.honest.chain[:count]]

    # The clock

    @rule(seconds=st.sampled_from([1, 300, HOUR_S]), is_timer_late=st.booleans())
    def wait(self, seconds: int, *, is_timer_late: bool) -> None:
        """A timer may be late by a moment; nothing may hang on that."""
        self.stage.wait(seconds, is_timer_late=is_timer_late and seconds < HOUR_S)
        self.honest.acts()

    @precondition(lambda self: self.stage.timer is not None)
    @rule(ahead_s=st.sampled_from([1, 1, HOUR_S]))
    def wait_until_it_is_nearly_due(self, ahead_s: int) -> None:
        assert self.stage.timer is not None
        self.stage.wait(max(0, int((self.stage.timer - self.stage.now).total_seconds()) - ahead_s))

    @invariant()
    def nobody_loses_what_both_have_signed(self) -> None:
        self.honest.require_safe()

    def teardown(self) -> None:
        """Who has not asked does now; then the clock alone goes on to the end of the third window."""
        self.honest.asks()
        assert self.honest.ends_by is not None
        while self.stage.now < self.honest.ends_by:
            self.stage.wait(HOUR_S * 6)
            self.honest.acts()
        self.honest.require_safe()


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

Silence.TestCase.settings = settings(
    max_examples=300, stateful_step_count=60, deadline=None, suppress_health_check=CHECKS
)
TestSilence = Silence.TestCase


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_mallory_does_for_long_the_other_has_its_money() -> None:
    run_state_machine_as_test(
        Silence,
        settings=settings(max_examples=5_000, stateful_step_count=100, deadline=None, suppress_health_check=CHECKS),
    )


# ---------------------------------------------------------------------- every order of moves, at every telling time

Act = Callable[[Honest], object]


def _sends(event: str, /, **payload: Any) -> Act:
    return lambda honest: honest.stage.send(honest.mallory, event, **payload)


def _proposes(honest: Honest) -> None:
    deed = honest.next_transfer(honest.mallory, 1)
    signature = honest.notary.sign(honest.mallory, deed)
    honest.stage.send(honest.mallory, "propose_transfer", amount=1, nonce=deed.nonce, signature=signature)


def _hands_in(event: str) -> Act:
    """The first transfer of two."""

    def act(honest: Honest) -> None:
        chain = [doubly_signed(honest.notary, deed) for deed in honest.chain[:1]]
        payload = (
            {"transfers": chain} if event == "submit_transfers" else {"reason": "", "evidence": {"transfers": chain}}
        )
        honest.stage.send(honest.mallory, event, **payload)

    return act


def _knows(honest: Honest) -> None:
    """The newest transfer that the honest party has signed and shown, countersigned."""
    honest.stage.send(honest.mallory, "join", known=known(honest.notary, honest.shown[-1]))


MOVES: dict[str, Act] = {
    "propose": _proposes,
    "know": _knows,
    "force_close": _sends("force_close"),
    "dispute": _sends("dispute", reason=""),
    "withdraw": _sends("withdraw_dispute"),
    "deposit": _sends("deposit", amount=1),
    "part": _hands_in("submit_transfers"),
    "evidence": _hands_in("dispute"),
    "revoke": lambda honest: honest.stage.revoke(),
    "ban": lambda honest: honest.stage.revoke(Cause.BANNED),
}
BEFORE: dict[str, Act] = MOVES | {
    "own proposal": lambda honest: honest.pay(5) if honest.is_online else None,
    "own dispute": lambda honest: honest.tries("dispute", reason=""),
    "5 minutes": lambda honest: honest.stage.wait(300, is_timer_late=True),
    "6 hours": lambda honest: honest.stage.wait(6 * HOUR_S),
}
"""What may have happened when the honest party asks."""


def _branch(honest: Honest, act: Act) -> Honest | None:
    """The same party after one more move of Mallory's, and what it does about it; None where the move is refused."""
    another = Honest(honest.stage.copy(), honest.who, honest.notary)
    another.chain, another.shown, another.asked_at = honest.chain.copy(), honest.shown.copy(), honest.asked_at
    try:
        act(another)
    except Refusal:
        return None
    another.acts()
    return another


def _waits(honest: Honest) -> Iterator[Act]:
    """Until a second before something is due, until then, with the timer on time or late, and a quarter of a day."""
    stage = honest.stage
    yield lambda it: it.stage.wait(6 * HOUR_S)
    if stage.timer is not None:
        left = int((stage.timer - stage.now).total_seconds())
        for seconds, is_late in ((left - 1, False), (left, False), (left, True)):
            if seconds > 0:
                yield partial(_wait, seconds=seconds, is_late=is_late)


def _wait(honest: Honest, *, seconds: int, is_late: bool) -> None:
    honest.stage.wait(seconds, is_timer_late=is_late)


def _key(honest: Honest) -> tuple[object, ...]:
    """What the future depends on, with times as they are from the asking on."""
    channel, since = honest.stage.channel, honest.asked_at
    assert since is not None
    closing, dispute = channel.closing, channel.dispute
    is_late = honest.stage.timer is not None and honest.stage.timer <= honest.stage.now
    return (
        is_late,
        *(honest.stage.now - since, channel.status, channel.state_lost, channel.is_revoked, channel.disputes_used),
        *(closing and closing.ends_at - since, dispute and (dispute.agent_id, dispute.ends_at - since)),
        *(channel.last_nonce, channel.balance_a, channel.balance_b, honest.stage.paid),
    )


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("who", [ALICE, BOB], ids=["opener", "counterparty"])
@pytest.mark.parametrize("window_s", [DAY_S, 2 * DAY_S])
def test_in_every_order_of_mallorys_moves_the_other_has_its_money_in_three_windows(
    mode: Mode, who: Player, window_s: int
) -> None:
    honest = Honest(Stage(mode=mode, window_s=window_s), who, Notary())
    for amount in (100, 10):
        _is_paid(honest, amount)
    asked: list[Honest] = []
    for first in (None, *BEFORE.values()):
        for second in (None, *BEFORE.values()):
            for third in (None, MOVES["dispute"], MOVES["force_close"], MOVES["know"]):
                after: Honest | None = honest
                for act in (first, second, third):
                    after = after if act is None or after is None else _branch(after, act)
                if after is not None:
                    asked.append(after)
    seen: set[tuple[object, ...]] = set()
    ends = 0
    for one in asked:
        one.asks()
        ends += _go_on(one, seen)
    assert ends > 10


def _is_paid(honest: Honest, amount: int) -> None:
    if not honest.is_online:
        honest.is_paid_outside(amount)
        return
    deed = honest.next_transfer(honest.mallory, amount)
    signature = honest.notary.sign(honest.mallory, deed)
    honest.stage.send(honest.mallory, "propose_transfer", amount=amount, nonce=deed.nonce, signature=signature)
    honest.answers()
    honest.hears()


def _go_on(honest: Honest, seen: set[tuple[object, ...]]) -> int:
    """Try everything from here on, as far as it was not tried before; how many ends were reached."""
    ends, left = 0, [honest]
    while left:
        now = left.pop()
        now.require_safe()
        key = _key(now)
        if key in seen:
            continue
        seen.add(key)
        if now.stage.paid is not None:
            ends += 1
            continue
        for act in (*MOVES.values(), *_waits(now)):
            after = _branch(now, act)
            if after is not None:
                left.append(after)
    return ends


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("who", [ALICE, BOB], ids=["opener", "counterparty"])
def test_who_withdraws_a_dispute_after_the_window_is_over_pays_at_once(mode: Mode, who: Player) -> None:
    """Not when the timer runs the next time: nobody waits for that."""
    stage = Stage(mode=mode)
    stage.send(who, "force_close")
    stage.wait(DAY_S - 1)
    stage.send(who, "dispute", reason="")
    stage.wait(1)
    assert stage.paid is None

    reply = stage.send(who, "withdraw_dispute")

    assert (reply["status"], reply["cause"]) == ("closed", "force_close")
    assert (reply["final_balance_a"], reply["final_balance_b"], stage.lock) == (1_000, 1_000, 0)

"""A payment channel under honest and scrambled moves in any order, beside a witness that says what each may do.

The witness (payment_witness.py) knows which signatures were made and nothing of how they are checked. So what it lets
a channel pay out comes from deposits, doubly signed transfers, a doubly signed close or an operator's decision.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
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
from tests.channels.payment_scrambles import FALSEHOODS, FLAWS, closing, false_signature, spoilt
from tests.channels.payment_stage import DAY_S, HOUR_S, PURSE, WEEK_S, Json, Stage
from tests.channels.payment_witness import PLAYERS, Deed, Notary, Witness, doubly_signed, effects, known
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, OTHER_ID, Player

SIDES = st.sampled_from([ALICE, BOB])
AMOUNTS = st.sampled_from([1, 2, 5, 100, 500])
PICKS = st.integers(0, 1_000)
WAITS = st.sampled_from([1, 299, 300, HOUR_S, DAY_S - 1, DAY_S, 3 * DAY_S, WEEK_S])
LIES = st.sampled_from([*[""] * 8, *FALSEHOODS])
HONEST_NAMES = [0] * 8
LONG = 15
"""How many moves a run has before it may end."""
SILENT_EVENTS = {"join", "submit_transfers"}
"""What is answered also where it changes nothing, and says `duplicate` in its own way."""


def _other(who: Player) -> Player:
    return BOB if who is ALICE else ALICE


def _outcome(act: Callable[[], Json]) -> tuple[Json, str | None]:
    """The reply to an event, or the reason of its refusal."""
    try:
        return act(), None
    except Refusal as refusal:
        return {}, refusal.reason


class Paying(RuleBasedStateMachine):
    """Alice pays Bob and Bob pays Alice; both are honest or not; Carol has no part in it."""

    def __init__(self) -> None:
        super().__init__()
        self.notary = Notary()
        self.stage = Stage(counter_deposit=None)
        self.sent: list[tuple[Player, str, Json]] = []
        self.outside: list[Deed] = []
        self.start(Mode.ONLINE, DAY_S, 1_000, 0)

    @initialize(
        mode=st.sampled_from(Mode),
        window_s=st.sampled_from([DAY_S, 3 * DAY_S, WEEK_S]),
        deposit=st.sampled_from([5, 1_000, 1_000, 1_000]),
        counter=st.sampled_from([0, *[300] * 6, None]),
    )
    def start(self, mode: Mode, window_s: int, deposit: int, counter: int | None) -> None:
        self.stage = Stage(mode=mode, window_s=window_s, deposit=deposit, counter_deposit=counter)
        self.witness = Witness(
            self.notary, channel_id=FRESH_ID, mode=mode, window_s=window_s, deposit=deposit, purse=PURSE
        )
        if counter is not None:
            self.witness.accept(BOB, counter)

    # How a move is made

    def _try(self, who: Player, event: str, effect: Callable[[], bool], **payload: Any) -> bool:
        """Send an event and require the effect that the witness expects; whether it had one."""
        self.sent.append((who, event, payload))
        return self._carry_out(lambda: self.stage.send(who, event, **payload), effect, is_silent=event in SILENT_EVENTS)

    def _carry_out(self, act: Callable[[], Json], effect: Callable[[], bool], *, is_silent: bool = False) -> bool:
        self.witness.tick(self.stage.now)
        is_expected, before = effect(), self.stage.everything()
        reply, reason = _outcome(act)
        if reason is not None:
            assert self.stage.everything() == before, "a refusal changes nothing"
            assert not is_expected, reason
        elif not is_expected:
            assert is_silent or reply["duplicate"] is True
            assert not reply.get("applied")
            assert self.stage.everything() == before or self._is_late, "what has no effect changes nothing"
        else:
            assert self.stage.channel.status == self.witness.status, "an event is decided on what the clock has left"
        return is_expected

    @property
    def _is_late(self) -> bool:
        """Whether the clock has changed the channel and nobody has noticed yet."""
        self.witness.tick(self.stage.now)
        return self.stage.timer is not None and self.stage.timer <= self.stage.now

    def _replay(self, who: Player, event: str, payload: Json) -> bool:
        return self._try(who, event, effects(self.witness, who, payload)[event], **payload)

    def _signature(self, who: Player, deed: Deed, lie: str) -> str:
        return false_signature(self.notary, _other(who) if lie == "forged" else who, deed, lie)

    # Before it is open

    @rule(
        who=SIDES,
        how=st.sampled_from([*["accept"] * 8, "decline", "cancel"]),
        deposit=st.sampled_from([300, 0, -1]),
    )
    @precondition(lambda self: self.witness.status == "pending")
    def answer(self, who: Player, how: str, deposit: int) -> None:
        payloads: dict[str, Json] = {"accept": {"deposit": deposit}, "decline": {"reason": ""}, "cancel": {}}
        self._replay(who, how, payloads[how])

    # Online

    @precondition(lambda self: self.witness.is_online or self._is_for_once())
    @rule(who=SIDES, amount=AMOUNTS, lie=LIES, named=st.sampled_from([*HONEST_NAMES, -1, 1]))
    def propose(self, who: Player, amount: int, lie: str, named: int) -> None:
        self.witness.tick(self.stage.now)
        deed = self.witness.transfer(who, amount)
        signature = self._signature(who, deed, lie)
        self._replay(who, "propose_transfer", {"amount": amount, "nonce": deed.nonce + named, "signature": signature})

    @rule(who=SIDES, lie=LIES, more=st.sampled_from([*HONEST_NAMES, 1]), named=st.sampled_from([*HONEST_NAMES, -1, 1]))
    @precondition(lambda self: self.witness.proposal is not None)
    def acknowledge(self, who: Player, lie: str, more: int, named: int) -> None:
        deed = self.witness.proposal
        assert deed is not None
        signature = self._signature(who, deed, lie)
        payload = {"amount": deed.amount + more, "nonce": deed.nonce + named, "signature": signature}
        self._replay(who, "acknowledge_transfer", payload)

    @rule(payments=st.lists(st.tuples(SIDES, AMOUNTS), min_size=1, max_size=4), lie=LIES)
    @precondition(lambda self: self.witness.is_online and self.witness.proposal is None)
    def pay(self, payments: list[tuple[Player, int]], lie: str) -> None:
        """Honest proposals, so that transfers are not rare; the last one may be acknowledged with a lie."""
        for number, (who, amount) in enumerate(payments, start=1):
            self.propose(who, amount, "", 0)
            if self.witness.proposal is not None:
                self.acknowledge(_other(who), lie if number == len(payments) else "", 0, 0)

    @rule(who=SIDES, named=st.sampled_from([None, 0, -1, 1]))
    @precondition(lambda self: self.witness.is_online)
    def reject(self, who: Player, named: int | None) -> None:
        nonce = None if named is None else self.witness.last_nonce + 1 + named
        self._replay(who, "reject_transfer", {"reason": "", "nonce": nonce})

    @precondition(lambda self: self.witness.is_online or self._is_for_once())
    @rule(who=SIDES, amount=st.sampled_from([1, 10, 50, 0, PURSE]))
    def put_more_in(self, who: Player, amount: int) -> None:
        self._replay(who, "deposit", {"amount": amount})

    # Offline

    @rule(
        payments=st.lists(st.tuples(SIDES, AMOUNTS), min_size=1, max_size=4),
        is_handed_in=st.booleans(),
        spoil=st.sampled_from([*[""] * 6, *FLAWS]),
    )
    @precondition(lambda self: not self.witness.is_online)
    def pay_outside(self, payments: list[tuple[Player, int]], spoil: str, *, is_handed_in: bool) -> None:
        for who, amount in payments:
            self.sign_outside(who, amount, None, is_fork=False)
        if is_handed_in:
            self.hand_in(BOB, "submit_transfers", (0, 30), spoil, 0)

    @rule(who=SIDES, amount=AMOUNTS, task_id=st.sampled_from([None, None, OTHER_ID]), is_fork=st.booleans())
    @precondition(lambda self: not self.witness.is_online)
    def sign_outside(self, who: Player, amount: int, task_id: str | None, *, is_fork: bool) -> None:
        """Both sign what follows their last transfer; or, both cheating, what follows the one before."""
        tip = self.outside[-2:-1] if is_fork else self.outside[-1:]
        if not tip or tip[0].nonce < self.witness.last_nonce:
            tip = self.witness.transfers[-1:]
        deed = self.witness.transfer(who, amount, task_id=task_id)
        if tip:
            moved = amount if who is BOB else -amount
            balances = (tip[0].balances[0] + moved, tip[0].balances[1] - moved)
            deed = msgspec.structs.replace(deed, nonce=tip[0].nonce + 1, balances=balances)
        if min(deed.balances) >= 0:
            self.notary.sign_both(deed)
            self.outside.append(deed)

    @rule(
        who=SIDES,
        event=st.sampled_from(["submit_transfers", "submit_transfers", "submit_transfers", "dispute"]),
        part=st.tuples(st.integers(0, 4), st.sampled_from([0, 1, 2, 30, 30])),
        spoil=st.sampled_from([*[""] * 6, *FLAWS]),
        pick=PICKS,
    )
    def hand_in(self, who: Player, event: str, part: tuple[int, int], spoil: str, pick: int) -> None:
        """A part of the chain: so many that are executed already, and how many in all."""
        executed, count = part
        begin = max(self.witness.last_nonce - executed, 0)
        chain = [doubly_signed(self.notary, deed) for deed in self._chain(pick)][begin : begin + count]
        self._hand_in(who, event, spoilt(chain, spoil, pick))

    def _chain(self, pick: int) -> Sequence[Deed]:
        """What has been signed outside, one transfer at each nonce; at a fork, one or the other branch."""
        by_nonce: dict[int, Deed] = {deed.nonce: deed for deed in self.witness.nonces}
        for deed in self.outside if pick % 2 else reversed(self.outside):
            by_nonce.setdefault(deed.nonce, deed)
        return [by_nonce[nonce] for nonce in sorted(by_nonce)]

    def _hand_in(self, who: Player, event: str, chain: Sequence[Json]) -> bool:
        if event == "dispute":
            return self._replay(who, event, {"reason": "late", "evidence": {"transfers": list(chain)}})
        return self._replay(who, event, {"transfers": list(chain)})

    # Ends

    @rule(who=SIDES, lie=LIES, shift=st.sampled_from([0, 0, 1, -1, 5_000]), is_more=st.sampled_from([0, 0, 0, 1]))
    def ask_for_a_close(self, who: Player, lie: str, shift: int, is_more: int) -> None:
        finals = self._finals(shift, is_more)
        signature = self._signature(who, self.witness.close_deed(finals), lie)
        self._replay(who, "close_request", closing(finals, signature=signature))

    @rule(who=SIDES, lie=LIES, is_b=st.booleans(), shift=st.sampled_from([0, 0, 1]), is_more=st.sampled_from([0, 0, 1]))
    def close(self, who: Player, lie: str, shift: int, is_more: int, *, is_b: bool) -> None:
        finals = self._finals(shift, is_more)
        deed = self.witness.close_deed(finals)
        signatures = {
            "signature_a": self._signature(ALICE, deed, "" if is_b else lie),
            "signature_b": self._signature(BOB, deed, lie if is_b else ""),
        }
        if lie or self._is_late_enough():
            self._replay(who, "close", closing(finals, **signatures))

    @rule(who=SIDES)
    @precondition(lambda self: self.witness.requests)
    def answer_a_close(self, who: Player) -> None:
        """With the signature that was relayed, and one's own."""
        asker, finals = next(iter(self.witness.requests.items()))
        deed = self.witness.close_deed(finals)
        self.notary.sign(PLAYERS[asker], deed)
        signature_a, signature_b = self.notary.sign_both(deed)
        if self._is_late_enough():
            self._replay(who, "close", closing(finals, signature_a=signature_a, signature_b=signature_b))

    def _finals(self, shift: int, more: int) -> tuple[int, int]:
        balance_a, balance_b = self.witness.balances
        return balance_a - shift, balance_b + shift + more

    def _is_for_once(self) -> bool:
        """Every fourth time, for what would come too often."""
        return len(self.sent) % 4 == 0

    def _is_late_enough(self) -> bool:
        """Whether a channel may end now: the ways to an end are many, and most runs should be long."""
        return self._is_for_once() and len(self.sent) > LONG

    @rule(who=SIDES)
    def force_close(self, who: Player) -> None:
        if self._is_for_once():
            self._replay(who, "force_close", {})

    @rule(who=SIDES, evidence=st.sampled_from([None, {"log": ["x"]}]))
    def dispute(self, who: Player, evidence: Json | None) -> None:
        if self._is_for_once():
            self._replay(who, "dispute", {"reason": "why", "evidence": evidence})

    @rule(who=SIDES)
    @precondition(lambda self: self.witness.dispute is not None)
    def withdraw_dispute(self, who: Player) -> None:
        self._replay(who, "withdraw_dispute", {})

    @rule(shift=st.integers(0, 5), is_more=st.sampled_from([0, 0, 1]))
    def the_operator_decides(self, shift: int, is_more: int) -> None:
        if self._is_for_once():
            finals = self._finals(shift, is_more)
            self._carry_out(lambda: self.stage.decide(*finals), lambda: self.witness.decide(finals))

    @rule(who=SIDES, ahead=st.integers(0, 3))
    @precondition(lambda self: self.witness.is_online)
    def know_what_was_lost(self, who: Player, ahead: int) -> None:
        """What both have signed and the server never had, as if it had been restored from an older copy."""
        if self._is_late_enough():
            self.witness.tick(self.stage.now)
            lost = msgspec.structs.replace(self.witness.transfer(who, 0), amount=3)
            lost = msgspec.structs.replace(lost, nonce=lost.nonce + ahead)
            self._replay(who, "join", {"known": known(self.notary, lost)})

    @rule(cause=st.sampled_from([Cause.CONTACT_REVOKED, Cause.BANNED]))
    def the_contact_ends(self, cause: Cause) -> None:
        if len(self.sent) > LONG:
            self.witness.tick(self.stage.now)
            self.witness.revoke(is_ban=cause is Cause.BANNED)
            self.stage.revoke(cause)

    # What was once signed comes back

    @rule(who=SIDES, event=st.sampled_from(["join", "submit_transfers", "acknowledge_transfer", "dispute"]), pick=PICKS)
    @precondition(lambda self: self.witness.nonces)
    def bring_a_used_nonce_back(self, who: Player, event: str, pick: int) -> None:
        """Countersigned now by who did not when it was proposed."""
        self.bring_back(who, event, self.witness.nonces[pick % len(self.witness.nonces)])

    @rule(who=SIDES, event=st.sampled_from(["join", "submit_transfers", "acknowledge_transfer", "dispute"]), pick=PICKS)
    @precondition(lambda self: self.notary.signed_by_both())
    def bring_anything_back(self, who: Player, event: str, pick: int) -> None:
        deeds = self.notary.signed_by_both()
        deed = deeds[pick % len(deeds)]
        if event != "join" or deed in self.witness.nonces or deed.channel_id == OTHER_ID or pick % 7 == 0:
            self.bring_back(who, event, deed)

    def bring_back(self, who: Player, event: str, deed: Deed) -> None:
        if event == "acknowledge_transfer":
            signature = self.notary.sign(who, deed)
            self._replay(who, event, {"amount": deed.amount, "nonce": deed.nonce, "signature": signature})
        elif event == "join":
            self._replay(who, event, {"known": known(self.notary, deed)})
        elif event == "submit_transfers" or self._is_for_once():
            self._hand_in(who, event, [doubly_signed(self.notary, deed)])

    @rule(who=SIDES, pick=PICKS, is_by_another=st.booleans())
    @precondition(lambda self: self.sent)
    def send_again(self, who: Player, pick: int, *, is_by_another: bool) -> None:
        sender, event, payload = self.sent[pick % len(self.sent)]
        if event not in {"force_close", "dispute", "decline", "cancel"}:
            self._replay(who if is_by_another else sender, event, payload)

    @rule(pick=PICKS)
    @precondition(lambda self: self.sent)
    def a_stranger_sends_again(self, pick: int) -> None:
        _, event, payload = self.sent[pick % len(self.sent)]
        before = self.stage.everything()
        with pytest.raises(Refusal, match="channel") as refusal:
            self.stage.send(CAROL, event, **payload)
        assert refusal.value.reason == "not_found"
        assert self.stage.everything() == before

    @rule(who=SIDES)
    def join(self, who: Player) -> None:
        self._try(who, "join", lambda: False, known=None)

    # What the clock does

    @rule(seconds=WAITS, is_timer_late=st.booleans())
    def let_time_pass(self, seconds: int, *, is_timer_late: bool) -> None:
        if seconds < HOUR_S or self._is_for_once():
            self.stage.wait(seconds, is_timer_late=is_timer_late)

    @rule()
    def the_timer_runs(self) -> None:
        """Early, late or again."""
        self.stage.run_timer()

    # What always holds

    @invariant()
    def the_balances_are_what_was_deposited(self) -> None:
        channel = self.stage.channel
        assert min(channel.balance_a, channel.balance_b) >= 0
        assert channel.balance_a + channel.balance_b == channel.deposit_a + channel.deposit_b == self.witness.total
        assert self.stage.lock == (0 if channel.is_final else self.witness.total)
        assert sum(self.stage.accounts.values()) == 2 * PURSE

    @invariant()
    def a_nonce_is_used_once_and_none_is_left_out(self) -> None:
        steps = self.stage.steps
        assert [step.number for step in steps] == list(range(1, len(steps) + 1))
        told = [step for step in steps if step.kind != "state_lost"]  # It tells of nonces of a lost past.
        used = [step.nonce for step in told if step.nonce is not None]
        assert used == list(range(1, len(used) + 1))
        if told == steps:
            assert all(later.last_nonce - one.last_nonce == (later.nonce is not None) for one, later in pairwise(steps))
        assert len(steps) == self.stage.channel.steps

    @invariant()
    def the_timer_is_armed_for_what_is_due(self) -> None:
        channel = self.stage.channel
        if channel.is_final or channel.state_lost is not None:
            return
        ends = [
            *([channel.expires_at] if channel.status == "pending" else []),
            *([channel.dispute.ends_at] if channel.dispute else [channel.closing.ends_at] if channel.closing else []),
            *([channel.pending_proposal.expires_at] if channel.pending_proposal else []),
        ]
        assert all(self.stage.timer is not None and self.stage.timer <= end for end in ends)

    @invariant()
    def the_channel_stands_where_the_witness_says(self) -> None:
        if not self._is_late:
            channel, witness = self.stage.channel, self.witness
            pending = channel.pending_proposal
            assert (channel.status, channel.state_lost is not None) == (witness.status, witness.is_frozen)
            assert (channel.balance_a, channel.balance_b, channel.last_nonce) == (*witness.balances, witness.last_nonce)
            assert (pending and pending.nonce) == (witness.proposal and witness.proposal.nonce)
            assert set(channel.disputes_used) == witness.disputes_used
            assert {one.agent_id for one in channel.close_requests} == set(witness.requests) or channel.is_final

    @invariant()
    def everybody_has_what_the_witness_says(self) -> None:
        if not self._is_late:
            assert {who.id: self.stage.purse(who) for who in PLAYERS.values()} == self.witness.purses

    def teardown(self) -> None:
        """Nobody acts any more: the clock alone ends what began to end, and all of it can be proved offline."""
        self.stage.wait(3 * WEEK_S)
        self.witness.tick(self.stage.now)
        self.the_balances_are_what_was_deposited()
        self.the_channel_stands_where_the_witness_says()
        self.everybody_has_what_the_witness_says()
        assert self.stage.channel.is_final or self.witness.is_frozen or self.witness.status == "open"
        self.stage.verify()


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

Paying.TestCase.settings = settings(
    max_examples=200, stateful_step_count=100, deadline=None, suppress_health_check=CHECKS
)
TestPaying = Paying.TestCase


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_whatever_is_sent_for_long_the_witness_is_right() -> None:
    run_state_machine_as_test(
        Paying,
        settings=settings(max_examples=5_000, stateful_step_count=100, deadline=None, suppress_health_check=CHECKS),
    )

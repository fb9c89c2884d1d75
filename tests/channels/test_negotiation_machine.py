"""Honest and scrambled moves in any order, beside a model that knows amounts, turns and the clock but no signatures."""

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from channels.errors import Refusal
from channels.handlers import Decision, Empty
from channels.negotiation import (
    EXPIRES,
    JOIN,
    TIMERS,
    Accept,
    MakeOffer,
    NegotiationSession,
    Phase,
    Reject,
    agreement_document,
)
from crypto import canonical_digest, format_public_key, public_key_of, receipt_message, sign, verify_receipt
from tests.channels.bargain import Mirror, act, opened, signed_accept, signed_offer, topic_of
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    MARKET,
    NOW,
    OTHER_ID,
    Player,
    as_told,
    broadcasts_of,
    context,
    market_with,
)

PLATFORM = bytes([7]) * 32
MAX_OFFER = 2000
SIDES = st.sampled_from([ALICE, BOB])
AMOUNTS = st.integers(1, 12) | st.integers(1, MAX_OFFER)  # Small ones meet often.
ELSEWHERE = msgspec.structs.replace(MARKET, signing_domain="other.test")


def _other(who: Player) -> Player:
    return BOB if who is ALICE else ALICE


class Negotiating(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.session = opened()
        self.now = NOW
        self.rounds_max = 10
        self.offers: list[tuple[Player, int]] = []
        self.outcome: Phase | None = None
        self.final: NegotiationSession | None = None
        self.executed: list[tuple[Player, str, MakeOffer | Accept | Reject]] = []
        self.mirrors: list[Mirror] = []

    @initialize(rounds_max=st.sampled_from([1, 2, 10]), terms=st.sampled_from([None, {"pages": 3}]))
    def open(self, rounds_max: int, terms: dict[str, Any] | None) -> None:
        self.rounds_max = rounds_max
        self.session = opened(terms=terms, market=market_with(rounds_per_side_max=rounds_max))
        self.mirrors = [Mirror(who, self._join(who)) for who in (ALICE, BOB)]

    # What the model knows

    def _is_over(self) -> str | None:
        """Why nothing is taken any more."""
        if self.outcome is Phase.EXPIRED or (self.outcome is None and self.now >= self.session.expires_at):
            return "expired"
        return "terminal_state" if self.outcome else None

    def _expected_offer(self, who: Player, amount: int) -> str | None:
        """The refusal of an honestly signed offer; None if it is taken."""
        if over := self._is_over():
            return over
        if self.offers and self.offers[-1][0] is who:
            return "not_your_turn"
        if sum(made is who for made, _ in self.offers) >= self.rounds_max:
            return "max_rounds_exceeded"
        return None if 1 <= amount <= MAX_OFFER else "amount_out_of_range"

    def _expected_accept(self, who: Player) -> str | None:
        if over := self._is_over():
            return over
        if len(self.offers) < 2:
            return "no_counter_offer"
        return "not_your_turn" if self.offers[-1][0] is who else None

    # Moves

    def _join(self, who: Player) -> Any:
        return JOIN.decide(self.session, Empty(), context(who)).reply

    def _try(self, event: str, request: MakeOffer | Accept | Reject, who: Player) -> Decision | str:
        """Send an event; what was decided, or why not. A refusal leaves the session as it was."""
        before = msgspec.json.encode(self.session)
        try:
            decision = act(self.session, event, request, who, now=self.now)
        except Refusal as refusal:
            assert msgspec.json.encode(self.session) == before
            return refusal.reason
        self._take(decision, who)
        self.executed.append((who, event, request))
        return decision

    def _take(self, decision: Decision, who: Player | None) -> None:
        if decision.state is not None:
            self.session = decision.state
        for mirror in self.mirrors:
            mirror.hear(decision, sender=who)

    def _is_repeated(self, event: str, request: MakeOffer | Accept | Reject, who: Player) -> bool:
        return (who, event, request) in self.executed

    @rule(who=SIDES, amount=AMOUNTS, is_equal=st.booleans())
    def offer(self, who: Player, amount: int, is_equal: bool) -> None:  # noqa: FBT001 - hypothesis names it.
        counter = next((made for side, made in reversed(self.offers) if side is not who), None)
        amount = counter if is_equal and counter is not None else amount
        request = signed_offer(self.session, who, amount)
        expected = self._expected_offer(who, amount)

        outcome = self._try("offer", request, who)

        assert (outcome if isinstance(outcome, str) else None) == expected
        if expected is None:
            self.offers.append((who, amount))
            self.outcome = Phase.AGREED if amount == counter else None

    @precondition(lambda self: len(self.offers) > 1)
    @rule(who=SIDES)
    def accept(self, who: Player) -> None:
        request = signed_accept(self.session, who)
        if self._is_repeated("accept", request, who):
            return
        expected = self._expected_accept(who)

        outcome = self._try("accept", request, who)

        assert (outcome if isinstance(outcome, str) else None) == expected
        if expected is None:
            self.outcome = Phase.AGREED

    @rule(who=SIDES, reason=st.sampled_from(["", "no"]))
    def reject(self, who: Player, reason: str) -> None:
        request = Reject(reason=reason)
        if self._is_repeated("reject", request, who):
            return
        expected = self._is_over()

        outcome = self._try("reject", request, who)

        assert (outcome if isinstance(outcome, str) else None) == expected
        if expected is None:
            self.outcome = Phase.REJECTED

    @precondition(lambda self: self.executed)
    @rule(pick=st.integers(0, 50))
    def repeat(self, pick: int) -> None:
        """What took effect is answered again, and does nothing, however late."""
        who, event, request = self.executed[pick % len(self.executed)]
        before = self.session

        decision = act(self.session, event, request, who, now=self.now)

        assert decision.reply["duplicate"] is True
        assert (decision.state, decision.broadcasts, decision.changes) == (None, (), ())
        assert self.session == before

    @rule(seconds=st.sampled_from([1, 60, 700, 1800]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def timer(self) -> None:
        """It may run at any time, early, late or again."""
        decision = TIMERS[EXPIRES](self.session, context(ALICE, now=self.now, topic=topic_of(self.session)))
        if self.outcome is None and self.now >= self.session.expires_at:
            assert [told.event for told in broadcasts_of(decision)] == ["negotiation_expired"]
            self.outcome = Phase.EXPIRED
        else:
            assert decision == Decision()
        self._take(decision, None)

    # Scrambled moves: each is wrong in one way or another, whatever the state

    @rule(
        who=SIDES,
        amount=AMOUNTS,
        scramble=st.sampled_from(
            ["forged", "amount", "low", "high", "elsewhere", "session", "old round", "named round", "garbage", "carol"]
        ),
    )
    def scrambled_offer(self, who: Player, amount: int, scramble: str) -> None:
        request = self._scrambled_offer(who, amount, scramble)
        if self._is_repeated("offer", request, who):
            return
        sender = CAROL if scramble == "carol" else who

        outcome = self._try("offer", request, sender)

        assert isinstance(outcome, str), f"{scramble}: {request} was taken"

    def _scrambled_offer(self, who: Player, amount: int, scramble: str) -> MakeOffer:
        session = self.session
        honest = signed_offer(session, who, amount)
        forger = msgspec.structs.replace(who, secret_key=CAROL.secret_key)
        moved = msgspec.structs.replace(session, id=OTHER_ID)
        makers: dict[str, Callable[[], MakeOffer]] = {
            "forged": lambda: signed_offer(session, forger, amount),
            "amount": lambda: signed_offer(session, who, amount, signed_amount=amount + 1),
            "low": lambda: signed_offer(session, who, 0),
            "high": lambda: signed_offer(session, who, MAX_OFFER + amount),
            "elsewhere": lambda: signed_offer(session, who, amount, market=ELSEWHERE),
            "session": lambda: signed_offer(moved, who, amount),
            "old round": lambda: (
                signed_offer(session, who, amount, round_number=len(session.offers))
                if session.offers
                else signed_offer(session, _other(who), amount)
            ),
            "named round": lambda: msgspec.structs.replace(honest, round=len(session.offers) + 2),
            "garbage": lambda: msgspec.structs.replace(honest, signature=honest.signature[:-2]),
            "carol": lambda: honest,
        }
        return makers[scramble]()

    @precondition(lambda self: len(self.offers) > 1)
    @rule(
        who=SIDES,
        scramble=st.sampled_from(["forged", "amount", "elsewhere", "session", "offer", "garbage", "carol", "other"]),
    )
    def scrambled_accept(self, who: Player, scramble: str) -> None:
        request = self._scrambled_accept(who, scramble)
        if self._is_repeated("accept", request, who):
            return
        sender = CAROL if scramble == "carol" else who

        outcome = self._try("accept", request, sender)

        assert isinstance(outcome, str), f"{scramble}: {request} was taken"

    def _scrambled_accept(self, who: Player, scramble: str) -> Accept:
        session = self.session
        honest = signed_accept(session, who)
        forger = msgspec.structs.replace(who, secret_key=CAROL.secret_key)
        makers: dict[str, Callable[[], Accept]] = {
            "forged": lambda: signed_accept(session, forger),
            "amount": lambda: signed_accept(session, who, amount=honest.amount + 1),
            "elsewhere": lambda: signed_accept(session, who, market=ELSEWHERE),
            "session": lambda: signed_accept(msgspec.structs.replace(session, id=OTHER_ID), who),
            "offer": lambda: Accept(
                amount=honest.amount, signature=signed_offer(session, who, honest.amount).signature
            ),
            "garbage": lambda: Accept(amount=honest.amount, signature=honest.signature.replace("=", "")),
            "carol": lambda: honest,
            "other": lambda: signed_accept(session, _other(who)),
        }
        return makers[scramble]()

    # What always holds

    @invariant()
    def rounds_have_no_gaps_and_sides_alternate(self) -> None:
        offers = self.session.offers
        assert [made.round for made in offers] == list(range(1, len(offers) + 1))
        assert all(a.agent_id != b.agent_id for a, b in pairwise(offers))
        assert [(made.agent_id, made.amount) for made in offers] == [(who.id, amount) for who, amount in self.offers]
        for who in (ALICE, BOB):
            assert sum(made.agent_id == who.id for made in offers) <= self.rounds_max

    @invariant()
    def the_session_stands_where_the_model_says(self) -> None:
        assert self.session.status is (self.outcome or Phase.OPEN)

    @invariant()
    def final_stays_final(self) -> None:
        if self.final is not None:
            assert self.session == self.final
        elif self.session.status is not Phase.OPEN:
            self.final = self.session

    @invariant()
    def what_was_told_is_what_a_fresh_join_is_told(self) -> None:
        for mirror in self.mirrors:
            assert mirror.known == as_told(self._join(mirror.who))

    @invariant()
    def an_agreement_verifies_offline_and_nothing_else_is_one(self) -> None:
        if self.session.status is not Phase.AGREED:
            assert self.session.amount is None
            return
        (_, before), (_, last) = self.offers[-2:]
        assert self.session.amount == (before + last) // 2
        document = as_told(agreement_document(self.session, MARKET))
        message = receipt_message(
            signing_domain=MARKET.signing_domain,
            kind="agreement",
            document_id=self.session.id,
            document_digest=canonical_digest(document),
        )
        receipt = {
            "kind": "agreement",
            "id": self.session.id,
            "signing_domain": MARKET.signing_domain,
            "document": document,
            "platform": {
                "public_key": format_public_key(public_key_of(PLATFORM)),
                "signature": sign(PLATFORM, message),
            },
        }
        assert verify_receipt(receipt, platform_key=public_key_of(PLATFORM)).kind == "agreement"


Negotiating.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestNegotiating = Negotiating.TestCase

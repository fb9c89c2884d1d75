from datetime import timedelta

import msgspec
import pytest

from channels.changes import Timer
from channels.handlers import Decision
from channels.negotiation import (
    EXPIRES,
    HANDLERS,
    TIMERS,
    Accept,
    MakeOffer,
    NegotiationSession,
    Phase,
    Reject,
)
from channels.told import Audience
from tests.channels.bargain import (
    GARBAGE,
    act,
    agreed_by_accept,
    ended,
    offered,
    opened,
    send_bad,
    signed_accept,
    signed_offer,
    state_after,
    topic_of,
)
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    FRESH_ID,
    NOW,
    Player,
    as_told,
    broadcasts_of,
    capped,
    context,
    market_with,
    refused,
)

FINAL = tuple(phase for phase in Phase if phase is not Phase.OPEN)


class TestOffering:
    @pytest.mark.parametrize("first", [ALICE, BOB], ids=["client", "provider"])
    def test_either_side_may_open_and_the_other_is_told(self, first: Player) -> None:
        session = opened()
        other = BOB if first is ALICE else ALICE
        request = signed_offer(session, first, 900)

        decision = act(session, "offer", request, first)

        (made,) = state_after(decision).offers
        assert (made.agent_id, made.round, made.amount, made.signature) == (first.id, 1, 900, request.signature)
        (relayed,) = broadcasts_of(decision)
        assert (relayed.topic, relayed.event, relayed.audience) == (topic_of(session), "offer", Audience.OTHER_AGENTS)
        assert as_told(relayed.payload) == {
            "session_id": FRESH_ID,
            "agent_id": first.id,
            "round": 1,
            "amount": 900,
            "signature": request.signature,
            "digest": made.digest,
            "made_at": "2026-03-01T12:00:00Z",
            "turn": other.id,
            "next_round": 2,
            "midpoint": None,
        }
        assert decision.reply["turn"] == other.id
        assert decision.changes == ()

    def test_the_second_offer_exposes_the_midpoint_rounded_down(self) -> None:
        session = offered(opened(), (BOB, 1001))

        decision = act(session, "offer", signed_offer(session, ALICE, 600), ALICE)

        assert decision.reply["midpoint"] == 800  # Rounds down, in the client's favour.

    @pytest.mark.parametrize("amount", [1, 2000])
    def test_one_unit_and_twice_the_base_are_offers(self, amount: int) -> None:
        assert offered(opened(), (ALICE, amount)).offers[0].amount == amount

    @pytest.mark.parametrize("amount", [0, -1, 2001, 10**30])
    def test_less_than_one_or_more_than_twice_the_base_is_out_of_range(self, amount: int) -> None:
        request = MakeOffer(amount=amount, signature=GARBAGE)

        refusal = refused(act, opened(), "offer", request, ALICE)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "amount_out_of_range",
            {"max_offer": 2000},
        )

    def test_an_offer_equal_to_the_standing_one_agrees_at_once(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001), (ALICE, 700))

        decision = act(session, "offer", signed_offer(session, BOB, 700), BOB)

        after = state_after(decision)
        assert (after.status, after.amount, after.accepted_by, after.accept_signature) == (
            Phase.AGREED,
            700,
            None,
            None,
        )
        assert after.agreement_expires_at == NOW + timedelta(hours=24)
        offer, complete = broadcasts_of(decision)
        assert (offer.event, offer.audience) == ("offer", Audience.OTHER_AGENTS)
        assert (complete.event, complete.audience) == ("negotiation_complete", Audience.ALL)
        assert as_told(complete.payload)["accepted_by"] is None
        assert decision.changes == (Timer(EXPIRES, topic_of(session), None),)

    def test_an_offer_equal_to_one_that_no_longer_stands_does_not_agree(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001), (ALICE, 700))

        assert offered(session, (BOB, 600)).status is Phase.OPEN

    @pytest.mark.parametrize("round_number", [None, 1])
    def test_repeating_an_offer_is_a_duplicate_that_changes_nothing_and_tells_what_became_of_it(
        self, round_number: int | None
    ) -> None:
        request = msgspec.structs.replace(signed_offer(opened(), ALICE, 600), round=round_number)
        for session in (offered(opened(), (ALICE, 600)), agreed_by_accept(), ended(Phase.EXPIRED)):
            decision = act(session, "offer", request, ALICE, now=NOW + timedelta(days=1))

            assert decision.reply["duplicate"] is True
            assert decision.reply["status"] == session.status
            assert (decision.state, decision.broadcasts, decision.changes) == (None, (), ())

    def test_the_same_words_for_another_round_are_no_duplicate(self) -> None:
        session = offered(opened(), (ALICE, 600))
        request = msgspec.structs.replace(signed_offer(opened(), ALICE, 600), round=2)

        assert refused(act, session, "offer", request, ALICE).reason == "not_your_turn"

    def test_bob_repeating_alices_offer_as_his_own_is_no_duplicate(self) -> None:
        session = offered(opened(), (ALICE, 600))

        refusal = refused(act, session, "offer", signed_offer(opened(), ALICE, 600), BOB)

        assert refusal.reason == "invalid_signature"


class TestTheOrderOfAnOffersRefusals:
    """Each case has its own fault and every later one."""

    def test_an_ended_session_wins_over_turn_round_amount_and_signature(self) -> None:
        session = offered(opened(), (ALICE, 600))
        bad = MakeOffer(amount=0, signature=GARBAGE, round=9)

        late = refused(act, session, "offer", bad, ALICE, now=session.expires_at)
        over = refused(act, ended(Phase.REJECTED), "offer", bad, ALICE)

        assert (late.kind, late.reason) == ("expired", "expired")
        assert (over.kind, over.reason, over.context) == ("conflict", "terminal_state", {"status": "rejected"})

    def test_the_turn_wins_over_round_rounds_left_amount_and_signature(self) -> None:
        session = offered(opened(market=market_with(rounds_per_side_max=1)), (ALICE, 600))

        refusal = refused(act, session, "offer", MakeOffer(amount=0, signature=GARBAGE, round=9), ALICE)

        assert (refusal.reason, refusal.context) == ("not_your_turn", {"turn": BOB.id})

    def test_the_round_wins_over_rounds_left_amount_and_signature(self) -> None:
        session = offered(opened(market=market_with(rounds_per_side_max=1)), (ALICE, 600), (BOB, 1001))

        for wrong in (1, 2, 4):
            request = MakeOffer(amount=0, signature=GARBAGE, round=wrong)
            refusal = refused(act, session, "offer", request, ALICE)
            assert (refusal.kind, refusal.reason) == ("conflict", "stale_state")
            assert refusal.context == {"expected_round": 3, "expected_digest": session.offers[-1].digest}

    def test_the_rounds_left_win_over_amount_and_signature(self) -> None:
        session = offered(opened(market=market_with(rounds_per_side_max=1)), (ALICE, 600), (BOB, 1001))

        refusal = refused(act, session, "offer", MakeOffer(amount=0, signature=GARBAGE, round=3), ALICE)

        assert (refusal.reason, refusal.context) == ("max_rounds_exceeded", {"max_rounds": 1})

    def test_the_amount_wins_over_cap_and_signature(self) -> None:
        alice = capped(ALICE, 500)

        refusal = refused(act, opened(), "offer", MakeOffer(amount=2001, signature=GARBAGE), alice)

        assert refusal.reason == "amount_out_of_range"

    def test_the_cap_wins_over_the_signature(self) -> None:
        alice = capped(ALICE, 500)

        refusal = refused(act, opened(), "offer", MakeOffer(amount=501, signature=GARBAGE), alice)

        assert (refusal.reason, refusal.context) == ("spend_cap_exceeded", {"max_amount": 500})

    def test_the_signature_comes_last_and_says_what_it_should_have_covered(self) -> None:
        session = opened()

        refusal = refused(act, session, "offer", MakeOffer(amount=600, signature=GARBAGE, round=1), ALICE)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")
        assert refusal.context == {"expected_round": 1, "expected_digest": session.session_digest}

    def test_ten_offers_a_side_and_no_more(self) -> None:
        session = opened()
        for step in range(10):
            session = offered(session, (ALICE, 100 + step), (BOB, 1500 - step))

        refusal = refused(act, session, "offer", signed_offer(session, ALICE, 200), ALICE)

        assert refusal.reason == "max_rounds_exceeded"
        assert act(session, "accept", signed_accept(session, ALICE), ALICE).reply["status"] == "agreed"


class TestAccepting:
    def test_the_answering_side_agrees_on_the_midpoint_and_both_are_told(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))
        request = signed_accept(session, ALICE)

        decision = act(session, "accept", request, ALICE)

        after = state_after(decision)
        assert (after.status, after.amount, after.accepted_by) == (Phase.AGREED, 800, ALICE.id)
        assert (after.ended_at, after.agreement_expires_at) == (NOW, NOW + timedelta(hours=24))
        accept, complete = broadcasts_of(decision)
        assert (accept.event, accept.audience) == ("accept", Audience.OTHER_AGENTS)
        assert accept.payload == {
            "session_id": FRESH_ID,
            "agent_id": ALICE.id,
            "amount": 800,
            "signature": request.signature,
        }
        assert (complete.topic, complete.event, complete.audience) == (
            topic_of(session),
            "negotiation_complete",
            Audience.ALL,
        )
        assert as_told(complete.payload) == {
            "session_id": FRESH_ID,
            "agreement_id": FRESH_ID,
            "amount": 800,
            "capability": "translate",
            "client_agent_id": ALICE.id,
            "provider_agent_id": BOB.id,
            "offers": [
                {
                    "round": made.round,
                    "agent_id": made.agent_id,
                    "amount": made.amount,
                    "signature": made.signature,
                    "digest": made.digest,
                }
                for made in session.offers
            ],
            "accepted_by": ALICE.id,
            "accept_signature": request.signature,
            "completed_at": "2026-03-01T12:00:00Z",
            "agreement_expires_at": "2026-03-02T12:00:00Z",
        }
        assert decision.reply["agreement_id"] == FRESH_ID
        assert decision.changes == (Timer(EXPIRES, topic_of(session), None),)

    def test_the_provider_may_accept_what_the_client_offered_last(self) -> None:
        session = offered(opened(), (BOB, 1001), (ALICE, 600))

        after = state_after(act(session, "accept", signed_accept(session, BOB), BOB))

        assert (after.amount, after.accepted_by) == (800, BOB.id)

    def test_repeating_an_acceptance_is_a_duplicate_that_changes_nothing(self) -> None:
        session = agreed_by_accept()
        assert session.accept_signature is not None
        repeated = Accept(amount=800, signature=session.accept_signature)

        decision = act(session, "accept", repeated, ALICE, now=NOW + timedelta(days=1))

        assert (decision.reply["duplicate"], decision.reply["agreement_id"]) == (True, FRESH_ID)
        assert (decision.state, decision.broadcasts, decision.changes) == (None, (), ())

    def test_another_acceptance_of_an_agreement_is_refused_asended(self) -> None:
        session = agreed_by_accept()
        assert session.accept_signature is not None

        for who, request in (
            (ALICE, Accept(amount=801, signature=session.accept_signature)),
            (BOB, Accept(amount=800, signature=session.accept_signature)),
        ):
            told = refused(act, session, "accept", request, who)
            assert told.reason == "terminal_state"


class TestTheOrderOfAnAcceptancesRefusals:
    """Each case has its own fault and every later one."""

    BAD = Accept(amount=1, signature=GARBAGE)

    def test_an_ended_session_wins_over_all(self) -> None:
        session = offered(opened(), (ALICE, 600))

        assert refused(act, session, "accept", self.BAD, ALICE, now=session.expires_at).reason == "expired"
        assert refused(act, ended(Phase.CANCELLED), "accept", self.BAD, ALICE).reason == "terminal_state"

    @pytest.mark.parametrize("moves", [(), ((ALICE, 600),), ((BOB, 600),)])
    def test_a_missing_offer_wins_over_turn_amount_and_signature(self, moves: tuple[tuple[Player, int], ...]) -> None:
        session = offered(opened(), *moves)

        assert refused(act, session, "accept", self.BAD, ALICE).reason == "no_counter_offer"

    def test_the_turn_wins_over_amount_and_signature(self) -> None:
        session = offered(opened(), (BOB, 1001), (ALICE, 600))

        refusal = refused(act, session, "accept", self.BAD, ALICE)

        assert (refusal.reason, refusal.context) == ("not_your_turn", {"turn": BOB.id})

    @pytest.mark.parametrize("amount", [799, 801])
    def test_another_amount_than_the_midpoint_wins_over_cap_and_signature(self, amount: int) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))
        request = Accept(amount=amount, signature=GARBAGE)

        refusal = refused(act, session, "accept", request, capped(ALICE, 700))

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "amount_mismatch",
            {"expected_amount": 800},
        )

    def test_the_cap_wins_over_the_signature(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))

        refusal = refused(act, session, "accept", Accept(amount=800, signature=GARBAGE), capped(ALICE, 799))

        assert (refusal.reason, refusal.context) == ("spend_cap_exceeded", {"max_amount": 799})

    def test_the_signature_comes_last_and_says_what_it_should_have_covered(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))

        refusal = refused(act, session, "accept", Accept(amount=800, signature=GARBAGE), ALICE)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")
        assert refusal.context == {
            "client_offer_digest": session.offers[0].digest,
            "provider_offer_digest": session.offers[1].digest,
            "expected_amount": 800,
        }

    def test_a_providers_cap_does_not_bind_what_it_earns(self) -> None:
        session = offered(opened(), (BOB, 1001), (ALICE, 600))

        assert act(session, "accept", signed_accept(session, BOB), capped(BOB, 1)).reply["status"] == "agreed"


class TestRejecting:
    @pytest.mark.parametrize("who", [ALICE, BOB], ids=["alice", "bob"])
    @pytest.mark.parametrize("moves", [(), ((ALICE, 600),), ((ALICE, 600), (BOB, 1001))], ids=["0", "1", "2"])
    def test_either_side_may_end_it_at_any_time_and_the_other_is_told_why(
        self, who: Player, moves: tuple[tuple[Player, int], ...]
    ) -> None:
        session = offered(opened(), *moves)

        decision = act(session, "reject", Reject(reason="too dear"), who)

        after = state_after(decision)
        assert (after.status, after.ended_by, after.reason, after.ended_at) == (Phase.REJECTED, who.id, "too dear", NOW)
        (relayed,) = broadcasts_of(decision)
        assert (relayed.event, relayed.audience) == ("reject", Audience.OTHER_AGENTS)
        assert as_told(relayed.payload) == {
            "session_id": FRESH_ID,
            "agent_id": who.id,
            "reason": "too dear",
            "ended_at": "2026-03-01T12:00:00Z",
        }
        assert decision.changes == (Timer(EXPIRES, topic_of(session), None),)

    def test_repeating_a_rejection_is_a_duplicate_and_any_other_is_refused(self) -> None:
        session = state_after(act(opened(), "reject", Reject(reason="too dear"), ALICE))

        decision = act(session, "reject", Reject(reason="too dear"), ALICE)

        assert (decision.reply["duplicate"], decision.state, decision.broadcasts) == (True, None, ())
        assert refused(act, session, "reject", Reject(reason="too dear"), BOB).reason == "terminal_state"
        assert refused(act, session, "reject", Reject(reason="too late"), ALICE).reason == "terminal_state"

    def test_a_reason_has_at_most_two_thousand_characters_and_the_payload_goes_first(self) -> None:
        refusal = refused(act, None, "reject", Reject(reason="x" * 2001), CAROL)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "reason"})
        assert act(opened(), "reject", Reject(reason="x" * 2000), BOB).reply["status"] == "rejected"

    def test_after_its_time_a_session_cannot_be_rejected_any_more(self) -> None:
        session = opened()

        assert refused(act, session, "reject", Reject(), BOB, now=session.expires_at).kind == "expired"


class TestEveryEventInEveryFinalPhase:
    @pytest.mark.parametrize("event", list(HANDLERS))
    @pytest.mark.parametrize("status", FINAL)
    @pytest.mark.parametrize("who", [ALICE, BOB], ids=["alice", "bob"])
    def test_an_ended_session_takes_no_event(self, status: Phase, event: str, who: Player) -> None:
        session = ended(status)

        refusal = refused(send_bad, session, event, who)

        assert refusal.reason == ("expired" if status is Phase.EXPIRED else "terminal_state")


class TestExpiry:
    def _fire(self, session: NegotiationSession, *, after_s: int) -> Decision:
        now = session.created_at + timedelta(seconds=after_s)
        return TIMERS[EXPIRES](session, context(ALICE, now=now, topic=topic_of(session)))

    def test_the_timer_ends_an_open_session_and_tells_both(self) -> None:
        decision = self._fire(opened(), after_s=1800)

        after = state_after(decision)
        assert (after.status, after.ended_at) == (Phase.EXPIRED, opened().expires_at)
        (told,) = broadcasts_of(decision)
        assert (told.topic, told.event, told.audience) == (topic_of(after), "negotiation_expired", Audience.ALL)
        assert as_told(told.payload) == {
            "session_id": FRESH_ID,
            "expired_at": "2026-03-01T12:30:00Z",
            "ended_at": "2026-03-01T12:30:00Z",
        }

    def test_a_timer_that_runs_early_or_on_an_ended_session_does_nothing(self) -> None:
        assert self._fire(opened(), after_s=1799) == Decision()
        assert self._fire(agreed_by_accept(), after_s=1800) == Decision()

    def test_the_last_moment_is_in_time_and_the_due_time_is_late_before_the_timer_has_run(self) -> None:
        session = opened()
        request = signed_offer(session, ALICE, 600)

        in_time = act(session, "offer", request, ALICE, now=session.expires_at - timedelta(microseconds=1))
        late = refused(act, session, "offer", request, ALICE, now=session.expires_at)

        assert in_time.reply["next_round"] == 2
        assert as_told(late.response())["expired_at"] == "2026-03-01T12:30:00Z"


class TestSignaturesOfEarlierRounds:
    def test_an_offer_signed_before_the_other_sides_first_offer_came_is_stale(self) -> None:
        early = signed_offer(opened(), ALICE, 600)
        session = offered(opened(), (BOB, 1001))

        refusal = refused(act, session, "offer", early, ALICE)

        assert (refusal.kind, refusal.reason) == ("conflict", "stale_state")
        assert refusal.context == {"expected_round": 2, "expected_digest": session.offers[0].digest}

    def test_an_offer_signed_for_her_own_previous_round_is_stale(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))

        refusal = refused(act, session, "offer", signed_offer(session, ALICE, 700, round_number=1), ALICE)

        assert refusal.reason == "stale_state"

    @pytest.mark.parametrize("round_number", [1, 2])
    def test_an_offer_signed_for_rounds_long_past_is_just_not_signed(self, round_number: int) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001), (ALICE, 610), (BOB, 1000))
        request = signed_offer(session, ALICE, 700, round_number=round_number)

        assert refused(act, session, "offer", request, ALICE).reason == "invalid_signature"

    def test_an_acceptance_signed_over_earlier_offers_with_the_same_midpoint_is_stale(self) -> None:
        first = offered(opened(), (ALICE, 600), (BOB, 1001))
        second = offered(first, (ALICE, 600))
        third = offered(second, (BOB, 1000))
        assert first.midpoint == second.midpoint == third.midpoint == 800

        for earlier in (first, second):
            stale = signed_accept(earlier, ALICE)
            refusal = refused(act, third, "accept", stale, ALICE)
            assert (refusal.kind, refusal.reason) == ("conflict", "stale_state")
            assert refusal.context["provider_offer_digest"] == third.offers[3].digest

    def test_an_acceptance_of_offers_long_past_is_just_not_signed(self) -> None:
        first = offered(opened(), (ALICE, 600), (BOB, 1001))
        last = offered(first, (ALICE, 600), (BOB, 1000), (ALICE, 600), (BOB, 1001))

        refusal = refused(act, last, "accept", signed_accept(first, ALICE), ALICE)

        assert refusal.reason == "invalid_signature"

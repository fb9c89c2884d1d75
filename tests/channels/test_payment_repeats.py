"""What is sent again in a payment channel has one effect, and what has expired has none."""

from typing import Any

import pytest

from channels.told import Audience
from tests import paying
from tests.channels.channel_play import FORGED, Play, payload_of, proposed
from tests.channels.payment_stage import Json
from tests.channels.roles import ALICE, BOB, FRESH_ID, OTHER_ID, Player, market_with

TOPIC = f"payment:{FRESH_ID}"
PROPOSAL_S = 300
SIDES = pytest.mark.parametrize(("payer", "payee"), [(ALICE, BOB), (BOB, ALICE)], ids=["a pays b", "b pays a"])


class TestRepeating:
    def test_a_pending_proposal_is_a_duplicate(self) -> None:
        play = Play()
        sent = play.proposal()
        play.send(ALICE, "propose_transfer", **sent)

        assert play.repeats(ALICE, "propose_transfer", **sent)["outcome"] == {"nonce": 1, "status": "pending"}

    @SIDES
    def test_a_completed_proposal_brings_its_outcome(self, payer: Player, payee: Player) -> None:
        play = Play()
        sent = play.proposal(payer)
        play.send(payer, "propose_transfer", **sent)
        completed = play.acknowledge()["last_transfer"]
        play.pay()

        outcome = play.repeats(payer, "propose_transfer", **sent)["outcome"]

        assert outcome == {"status": "completed", **completed}

    @pytest.mark.parametrize(
        ("who", "reason", "text"), [(BOB, "rejected", "no"), (ALICE, "withdrawn", ""), (None, "expired", None)]
    )
    def test_a_voided_proposal_brings_its_outcome(self, who: Player | None, reason: str, text: str | None) -> None:
        play = Play()
        sent = play.proposal()
        play.send(ALICE, "propose_transfer", **sent)
        if who is None:
            play.wait(PROPOSAL_S)
        else:
            play.send(who, "reject_transfer", reason=text)

        outcome = play.repeats(ALICE, "propose_transfer", **sent)["outcome"]

        assert outcome == {"nonce": 1, "status": "voided", "reason": reason, "text": text}

    @SIDES
    def test_an_executed_acknowledgement_brings_its_outcome(self, payer: Player, payee: Player) -> None:
        play = proposed(payer)
        answer = play.acknowledgement(payee)
        completed = play.send(payee, "acknowledge_transfer", **answer)["last_transfer"]
        play.pay()

        assert play.repeats(payee, "acknowledge_transfer", **answer)["outcome"] == {"status": "completed", **completed}

    def test_also_after_the_channel_has_ended(self) -> None:
        play = Play()
        sent = play.proposal()
        play.send(ALICE, "propose_transfer", **sent)
        answer = play.acknowledgement()
        play.send(BOB, "acknowledge_transfer", **answer)
        play.close()

        assert play.repeats(ALICE, "propose_transfer", **sent)["outcome"]["status"] == "completed"
        assert play.repeats(BOB, "acknowledge_transfer", **answer)["outcome"]["status"] == "completed"

    @pytest.mark.parametrize("who", [ALICE, BOB])
    def test_a_rejection_of_that_nonce_brings_its_outcome(self, who: Player) -> None:
        play = proposed()
        play.send(who, "reject_transfer", reason="no", nonce=1)
        play.propose()

        outcome = play.repeats(who, "reject_transfer", reason="no", nonce=1)["outcome"]

        assert outcome == {
            "nonce": 1,
            "status": "voided",
            "reason": "rejected" if who is BOB else "withdrawn",
            "text": "no",
        }

    def test_a_rejection_without_a_nonce_is_for_what_is_pending_now(self) -> None:
        play = proposed()
        play.send(BOB, "reject_transfer", reason="no")

        assert play.refused(BOB, "reject_transfer", reason="no").reason == "no_pending_transfer"

    @pytest.mark.parametrize("changed", [{"amount": 11}, {"signature": FORGED}, {"task_id": OTHER_ID}])
    @pytest.mark.parametrize(("end", "reason"), [("", "transfer_pending"), ("completed", "nonce_replayed")])
    def test_another_proposal_at_a_nonce_is_none(self, changed: Json, end: str, reason: str) -> None:
        play = Play()
        sent = play.proposal()
        play.send(ALICE, "propose_transfer", **sent)
        if end:
            play.acknowledge()

        assert play.refused(ALICE, "propose_transfer", **sent | changed).reason == reason

    def test_the_proposal_of_the_other_one_is_none(self) -> None:
        play = Play()
        sent = play.proposal()
        play.send(ALICE, "propose_transfer", **sent)
        assert play.refused(BOB, "propose_transfer", **sent).reason == "transfer_pending"
        play.send(BOB, "reject_transfer")
        assert play.refused(BOB, "propose_transfer", **sent).reason == "nonce_replayed"

    @pytest.mark.parametrize("changed", [{"amount": 11}, {"signature": FORGED}])
    def test_another_acknowledgement_at_a_nonce_is_none(self, changed: Json) -> None:
        play = proposed()
        answer = play.acknowledgement()
        play.send(BOB, "acknowledge_transfer", **answer)

        assert play.refused(BOB, "acknowledge_transfer", **answer | changed).reason == "nonce_replayed"

    def test_the_payer_repeating_the_payees_acknowledgement_is_none(self) -> None:
        play = proposed()
        answer = play.acknowledgement()
        play.send(BOB, "acknowledge_transfer", **answer)

        assert play.refused(ALICE, "acknowledge_transfer", **answer).reason == "nonce_replayed"

    @pytest.mark.parametrize(("who", "text"), [(ALICE, "no"), (BOB, "another"), (BOB, "")])
    def test_another_rejection_of_a_nonce_is_none(self, who: Player, text: str) -> None:
        play = proposed()
        play.send(BOB, "reject_transfer", reason="no", nonce=1)

        assert play.refused(who, "reject_transfer", reason=text, nonce=1).reason == "nonce_replayed"

    def test_what_was_executed_was_not_rejected(self) -> None:
        play = Play()
        play.pay()

        assert play.refused(BOB, "reject_transfer", nonce=1).reason == "nonce_replayed"


class TestExpiring:
    def test_after_five_minutes_the_nonce_is_used_up_and_both_are_told(self) -> None:
        play = proposed()
        play.wait(PROPOSAL_S - 1)
        assert play.snapshot["pending_proposal"] is not None

        play.wait(1)

        assert play.snapshot == play.snapshot | {"pending_proposal": None, "last_nonce": 1, "balance_a": 1_000}
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "transfer_voided", Audience.ALL)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "nonce": 1,
            "amount": 10,
            "from_agent_id": ALICE.id,
            "agent_id": None,
            "reason": "expired",
            "text": None,
            "last_nonce": 1,
            "next_nonce": 2,
        }
        assert (play.step.kind, play.step.agent_id, play.step.details["reason"]) == ("voided", None, "expired")
        assert play.timer is None

    def test_the_clock_decides_also_before_its_timer_has_run(self) -> None:
        play = proposed()
        answer = play.acknowledgement()
        play.wait(PROPOSAL_S, is_timer_late=True)

        assert play.refused(BOB, "acknowledge_transfer", **answer).reason == "nonce_replayed"
        assert play.refused(BOB, "reject_transfer").reason == "no_pending_transfer"

    def test_at_the_last_moment_it_can_be_acknowledged(self) -> None:
        play = proposed()
        play.wait(PROPOSAL_S - 1)

        assert play.acknowledge()["last_transfer"]["nonce"] == 1

    def test_the_next_one_can_be_proposed_at_once_and_both_hear_of_both(self) -> None:
        play = proposed()
        play.wait(PROPOSAL_S, is_timer_late=True)
        ahead: Any = {**play.snapshot, "last_nonce": 1}
        sent = paying.proposal(ahead, BOB.secret_key, from_agent_id=BOB.id, amount=5)

        reply = play.send(BOB, "propose_transfer", **sent)

        assert (reply["last_nonce"], reply["pending_proposal"]["nonce"]) == (1, 2)
        assert [(told.event, told.audience) for told in play.told_last()] == [
            ("transfer_voided", Audience.ALL),
            ("propose_transfer", Audience.OTHER_AGENTS),
        ]
        assert (play.step.kind, play.step.nonce) == ("voided", 1)

    def test_how_long_it_stands_is_a_setting(self) -> None:
        play = Play(market=market_with(proposal_ttl_s=7))
        play.propose()

        play.wait(7)

        assert play.snapshot["pending_proposal"] is None

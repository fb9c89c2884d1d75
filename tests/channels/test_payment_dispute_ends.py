"""How a dispute of a payment channel ends, each of the ways; and what an operator decides."""

from typing import Any

import pytest

from channels.errors import not_found
from channels.ledger import available, channel_lock
from channels.payment_disputes import DecideChannel, decide_channel
from channels.payment_state import ChannelFacts
from channels.told import Audience
from tests.channels.channel_play import GARBAGE, OLGA, Play, in_phase, offline, payload_of
from tests.channels.payment_stage import DAY_S, WEEK_S, Json
from tests.channels.roles import ALICE, BOB, FRESH_ID, Player, as_told, context, refused

TOPIC = f"payment:{FRESH_ID}"
TEXT_MAX = 2_000
SIDES = pytest.mark.parametrize(("who", "other"), [(ALICE, BOB), (BOB, ALICE)], ids=["alice", "bob"])


def paid_out(final_a: int, final_b: int) -> list[tuple[str, dict[str, int]]]:
    lock = {channel_lock(FRESH_ID): -(final_a + final_b)}
    return [("unlock", {**lock, available(ALICE.id): final_a, available(BOB.id): final_b})]


class TestHowItEnds:
    @SIDES
    def test_by_a_joint_close(self, who: Player, other: Player) -> None:
        play = Play()
        play.dispute(who)

        reply = play.close((1_700, 300))

        assert (reply["cause"], reply["final_balance_a"], reply["dispute"]) == ("joint_close", 1_700, None)
        assert reply["disputes_used"] == [who.id]

    @SIDES
    @pytest.mark.parametrize("phase", ["open", "closing"])
    def test_by_withdrawal_which_brings_back_what_was_before(self, phase: str, who: Player, other: Player) -> None:
        play = in_phase(phase)
        before = play.snapshot
        play.dispute(who)
        play.wait(3_600)

        reply = play.send(who, "withdraw_dispute")

        assert reply == play.snapshot == before | {"disputes_used": [who.id]}
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "withdraw_dispute", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "agent_id": who.id, "channel": reply}
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("dispute_withdrawn", who.id, {})
        assert play.entries() == []

    def test_by_withdrawal_after_which_one_pays_again(self) -> None:
        play = Play()
        play.dispute(BOB)
        play.send(BOB, "withdraw_dispute")

        assert play.pay()["last_nonce"] == 1

    @pytest.mark.parametrize("is_timer_late", [True, False])
    def test_by_withdrawal_that_pays_at_once_where_the_window_has_run_out_meanwhile(
        self, *, is_timer_late: bool
    ) -> None:
        play = in_phase("closing")
        play.wait(3_600)
        play.dispute(BOB)
        play.wait(DAY_S - 1, is_timer_late=is_timer_late)

        reply = play.send(BOB, "withdraw_dispute")

        assert reply == reply | {"status": "closed", "cause": "force_close", "final_balance_a": 1_000, "dispute": None}
        assert play.entries() == paid_out(1_000, 1_000)
        withdrawn, closed = play.told_last()
        assert (withdrawn.event, payload_of(withdrawn)["channel"]["status"]) == ("withdraw_dispute", "closing")
        assert (closed.event, payload_of(closed)["channel"]) == ("channel_closed", reply)
        assert play.kinds()[-2:] == ["dispute_withdrawn", "closed"]
        assert play.step.agent_id is None

    @SIDES
    @pytest.mark.parametrize("phase", ["open", "closing"])
    def test_by_the_clock_with_the_balances_whoever_disputed(self, phase: str, who: Player, other: Player) -> None:
        play = Play()
        play.pay(ALICE, 10)
        if phase == "closing":
            play.send(ALICE, "force_close")
        play.dispute(who)
        play.wait(DAY_S - 1)
        assert play.snapshot["status"] == "disputed"

        play.wait(1)

        assert play.snapshot == play.snapshot | {
            "status": "closed",
            "cause": "dispute_timeout",
            "final_balance_a": 990,
            "final_balance_b": 1_010,
            "dispute": None,
            "closing": None,
        }
        assert play.entries() == paid_out(990, 1_010)
        closed = play.told_once()
        assert (closed.event, payload_of(closed)["cause"]) == ("channel_closed", "dispute_timeout")
        assert (play.step.kind, play.step.agent_id, play.step.details["cause"]) == ("closed", None, "dispute_timeout")

    def test_by_the_clock_also_before_its_timer_has_run(self) -> None:
        play = in_phase("disputed")
        play.wait(DAY_S, is_timer_late=True)

        assert play.refused(BOB, "withdraw_dispute").reason == "terminal_state"
        assert play.refuses(lambda: play.decide(1_000, 1_000)).reason == "terminal_state"
        assert play.refused(ALICE, "close", **play.closing()).reason == "terminal_state"
        assert play.send(ALICE, "join")["cause"] == "dispute_timeout"

    @pytest.mark.parametrize("phase", ["open", "closing"])
    def test_offline_by_evidence_that_is_applied_at_once(self, phase: str) -> None:
        play = in_phase(phase, mode=offline().channel.mode)
        before = play.snapshot
        chain = play.chain(100, -30)
        evidence = {"transfers": chain, "about": "the goods"}

        reply = play.send(BOB, "dispute", reason="see there", evidence=evidence)

        assert reply == play.snapshot
        assert (reply["status"], reply["dispute"], reply["closing"]) == (phase, None, before["closing"])
        assert (reply["balance_a"], reply["balance_b"], reply["last_nonce"]) == (930, 1_070, 2)
        assert reply["disputes_used"] == [BOB.id]
        told = play.told_once()
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "agent_id": BOB.id,
            "reason": "see there",
            "evidence": as_told(evidence),
            "ends_at": "2026-03-02T12:00:00Z",
            "is_settled": True,
            "channel": reply,
        }
        assert play.kinds()[-4:] == ["dispute", "transfer", "transfer", "dispute_settled"]
        assert (play.step.agent_id, play.step.details) == (BOB.id, {})
        assert play.verify().checks

    def test_offline_evidence_that_was_applied_before_settles_it_too(self) -> None:
        play = offline()
        chain = play.chain(100)
        play.send(ALICE, "submit_transfers", transfers=chain)

        reply = play.send(BOB, "dispute", reason="", evidence={"transfers": chain})

        assert (reply["status"], reply["balance_a"], reply["last_nonce"]) == ("open", 900, 1)

    @pytest.mark.parametrize("evidence", [None, [], {}, {"transfer": []}, "transfers"])
    def test_offline_evidence_without_transfers_waits(self, evidence: Any) -> None:
        assert offline().send(BOB, "dispute", reason="", evidence=evidence)["status"] == "disputed"

    def test_online_evidence_is_for_the_operator_alone(self) -> None:
        play = Play()

        reply = play.send(BOB, "dispute", reason="", evidence={"transfers": play.chain(100)})

        assert (reply["status"], reply["balance_a"]) == ("disputed", 1_000)
        assert payload_of(play.told_once())["is_settled"] is False

    @pytest.mark.parametrize(
        "transfers",
        [5, None, {}, [5], [{"nonce": "1"}], [{"nonce": True, "amount": 1}], [{}]],
        ids=["number", "null", "object", "numbers", "text", "boolean", "empty"],
    )
    def test_offline_what_is_no_chain_is_refused(self, transfers: Any) -> None:
        refusal = offline().refused(BOB, "dispute", reason="", evidence={"transfers": transfers})

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "invalid_payload",
            {"field": "evidence.transfers"},
        )

    def test_offline_a_bad_chain_is_refused_and_the_dispute_is_not_used(self) -> None:
        play = offline()
        chain = play.chain(100, 100)
        chain[1]["signature_b"] = GARBAGE

        refusal = play.refused(BOB, "dispute", reason="", evidence={"transfers": chain})
        assert (refusal.reason, refusal.context["index"]) == ("bad_transfer", 1)
        assert play.refused(BOB, "dispute", reason="", evidence={"transfers": []}).reason == "invalid_payload"
        assert play.dispute(BOB)["status"] == "disputed"

    def test_offline_another_chain_than_was_applied_is_refused(self) -> None:
        play = offline()
        other = play.chain(101)
        play.hand_in(100)

        refusal = play.refused(BOB, "dispute", reason="", evidence={"transfers": other})

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "nonce_replayed",
            {"index": 0, "expected_nonce": 2},
        )

    def test_by_an_operators_decision(self) -> None:
        play = in_phase("disputed")

        reply = play.decide(300, 1_700, reason="  Bob has delivered. ")

        assert reply == play.snapshot
        assert reply == reply | {
            "status": "closed",
            "cause": "operator",
            "reason": "Bob has delivered.",
            "dispute": None,
            "final_balance_a": 300,
            "final_balance_b": 1_700,
            "close_signature_a": None,
        }
        assert play.entries() == paid_out(300, 1_700)
        told = play.told_once()
        assert (told.event, told.audience) == ("channel_closed", Audience.ALL)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "cause": "operator",
            "final_balance_a": 300,
            "final_balance_b": 1_700,
            "closed_at": "2026-03-01T12:00:00Z",
            "channel": reply,
        }
        assert (play.step.kind, play.step.agent_id) == ("closed", None)
        assert play.step.details == {
            "cause": "operator",
            "final_balance_a": 300,
            "final_balance_b": 1_700,
            "signature_a": None,
            "signature_b": None,
            "reason": "Bob has delivered.",
        }


class TestDeciding:
    def test_also_what_states_were_lost_of(self) -> None:
        play = in_phase("frozen")
        play.wait(10 * WEEK_S)

        reply = play.decide(970, 1_030)

        assert (reply["cause"], reply["state_lost"]["nonce"]) == ("operator", 1)

    def test_it_is_repeated_as_a_duplicate_whatever_the_words(self) -> None:
        play = in_phase("disputed")
        first = play.decide(300, 1_700)
        before = play.everything()

        assert play.decide(300, 1_700, reason="Once more.") == {**first, "duplicate": True}
        assert play.everything() == before

    def test_another_decision_is_too_late(self) -> None:
        play = in_phase("disputed")
        play.decide(300, 1_700)

        refusal = play.refuses(lambda: play.decide(400, 1_600))

        assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "closed"})

    @pytest.mark.parametrize("phase", ["open", "closing", "pending", "revoked"])
    def test_what_nobody_disputes_is_not_decided(self, phase: str) -> None:
        play = in_phase(phase)

        refusal = play.refuses(lambda: play.decide(1_000, 1_000))

        assert (refusal.kind, refusal.reason) == ("conflict", "not_disputed")
        assert refusal.context == {"status": play.snapshot["status"]}

    @pytest.mark.parametrize("reason", ["", " \n", "x" * (TEXT_MAX + 1), "\x00"])
    def test_it_needs_a_reason(self, reason: str) -> None:
        play = in_phase("disputed")

        refusal = play.refuses(lambda: play.decide(1_000, 1_000, reason=reason))

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "reason"})

    def test_all_that_is_locked_is_paid_out(self) -> None:
        play = in_phase("disputed")

        assert play.refuses(lambda: play.decide(-1, 2_001)).reason == "amount_out_of_range"
        refusal = play.refuses(lambda: play.decide(1_000, 999))
        assert (refusal.reason, refusal.context) == ("sum_mismatch", {"total": 2_000})

    def test_there_must_be_a_channel(self) -> None:
        request = DecideChannel(final_balance_a=1, final_balance_b=1, reason="So be it.")

        refusal = refused(decide_channel, ChannelFacts(channel=None), request, context(OLGA))

        assert refusal.response() == not_found("payment channel").response()

    def test_the_refusals_have_one_order(self) -> None:
        bad = {"final_balance_a": -1, "final_balance_b": 1}
        cases: list[tuple[str, Play, Json]] = [
            ("invalid_payload", in_phase("declined"), bad | {"reason": ""}),
            ("terminal_state", in_phase("declined"), bad),
            ("not_disputed", Play(), bad),
            ("amount_out_of_range", in_phase("disputed"), bad),
            ("sum_mismatch", in_phase("disputed"), bad | {"final_balance_a": 1}),
        ]

        def reason_of(play: Play, sent: Json) -> str:
            return play.refuses(lambda: play.decide(**sent)).reason

        assert [reason_of(play, sent) for _, play, sent in cases] == [case[0] for case in cases]

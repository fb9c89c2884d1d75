"""Disputes of a payment channel: who opens one, how it ends, and what an operator decides."""

from datetime import timedelta
from typing import Any

import pytest

from channels.payment_state import Cause
from channels.told import Audience
from tests.channels.channel_play import Play, in_phase, offline, payload_of
from tests.channels.payment_stage import DAY_S, WEEK_S, Json
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, NOW, Player, as_told

TOPIC = f"payment:{FRESH_ID}"
TEXT_MAX = 2_000
EVIDENCE_MAX = 65_536
SIDES = pytest.mark.parametrize(("who", "other"), [(ALICE, BOB), (BOB, ALICE)], ids=["alice", "bob"])


class TestOpeningOne:
    @SIDES
    @pytest.mark.parametrize("phase", ["open", "closing", "revoked"])
    def test_it_freezes_the_channel_and_both_are_told(self, phase: str, who: Player, other: Player) -> None:
        play = in_phase(phase)
        before = play.snapshot
        evidence = {"since": 3, "words": ["it", None, True]}

        reply = play.send(who, "dispute", reason="nothing came", evidence=evidence)

        assert reply == play.snapshot
        assert reply == before | {
            "status": "disputed",
            "dispute": {
                "agent_id": who.id,
                "reason": "nothing came",
                "evidence": evidence,
                "opened_at": "2026-03-01T12:00:00Z",
                "ends_at": "2026-03-02T12:00:00Z",
            },
            "disputes_used": [who.id],
        }
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "dispute", Audience.ALL)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "agent_id": who.id,
            "reason": "nothing came",
            "evidence": evidence,
            "ends_at": "2026-03-02T12:00:00Z",
            "is_settled": False,
            "channel": reply,
        }
        assert (play.step.kind, play.step.agent_id, play.step.nonce) == ("dispute", who.id, None)
        assert as_told(play.step.details) == {
            "reason": "nothing came",
            "evidence": evidence,
            "ends_at": "2026-03-02T12:00:00Z",
        }
        assert (play.entries(), play.spent(), play.mail()) == ([], [], [])
        assert play.timer == NOW + timedelta(days=1)

    def test_evidence_may_be_left_out(self) -> None:
        assert Play().send(ALICE, "dispute", reason="")["dispute"]["evidence"] is None

    @SIDES
    def test_it_voids_what_is_pending(self, who: Player, other: Player) -> None:
        play = Play()
        play.propose()
        answer = play.acknowledgement()

        reply = play.dispute(who)

        assert (reply["pending_proposal"], reply["last_nonce"], reply["balance_a"]) == (None, 1, 1_000)
        voided, told = play.told_last()
        assert (voided.event, voided.audience) == ("transfer_voided", Audience.ALL)
        assert payload_of(voided) == payload_of(voided) | {"reason": "dispute", "agent_id": who.id, "text": None}
        assert payload_of(told)["channel"] == reply
        assert play.kinds()[-2:] == ["voided", "dispute"]
        assert play.refused(BOB, "acknowledge_transfer", **answer).reason == "nonce_replayed"

    @SIDES
    def test_each_party_disputes_once(self, who: Player, other: Player) -> None:
        play = Play()
        for one in (who, other):
            play.dispute(one)
            play.send(one, "withdraw_dispute")

        assert play.snapshot["disputes_used"] == [who.id, other.id]
        for one in (who, other):
            refusal = play.refused(one, "dispute", reason="again")
            assert (refusal.kind, refusal.reason) == ("conflict", "dispute_used")

    def test_the_one_under_way_is_repeated_as_a_duplicate(self) -> None:
        play = Play()
        play.dispute(BOB, evidence={"at": [1, 2]})
        play.wait(60)

        play.repeats(BOB, "dispute", reason="wrong", evidence={"at": [1, 2]})

    @pytest.mark.parametrize(
        ("who", "sent"),
        [
            (BOB, {"reason": "another", "evidence": 1}),
            (BOB, {"reason": "wrong", "evidence": 2}),
            (BOB, {"reason": "wrong", "evidence": True}),
            (ALICE, {"reason": "wrong", "evidence": 1}),
        ],
    )
    def test_another_one_meanwhile_is_none(self, who: Player, sent: Json) -> None:
        play = Play()
        play.dispute(BOB, evidence=1)

        refusal = play.refused(who, "dispute", **sent)

        assert (refusal.reason, refusal.context) == ("channel_not_open", {"status": "disputed"})

    @pytest.mark.parametrize(
        ("evidence", "field"),
        [
            ("x" * (EVIDENCE_MAX - 1), "evidence"),
            (["ä" * (EVIDENCE_MAX // 2)], "evidence"),
            (1.5, "evidence"),
            ({"at": [2**53]}, "evidence"),
        ],
        ids=["too long", "too many bytes", "a float", "a large number"],
    )
    def test_evidence_is_bounded_and_can_be_verified_by_others(self, evidence: Any, field: str) -> None:
        refusal = Play().refused(ALICE, "dispute", reason="", evidence=evidence)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": field})

    def test_evidence_and_reason_may_be_as_long_as_they_may(self) -> None:
        longest = {"reason": "x" * TEXT_MAX, "evidence": "x" * (EVIDENCE_MAX - 2)}

        assert Play().send(ALICE, "dispute", **longest)["status"] == "disputed"

    def test_a_longer_reason_is_refused(self) -> None:
        refusal = Play().refused(ALICE, "dispute", reason="x" * (TEXT_MAX + 1))

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "reason"})

    def test_the_refusals_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        used, waiting = offline(), offline(counter_deposit=None)
        used.dispute(ALICE)
        used.send(ALICE, "withdraw_dispute")
        bad: Json = {"reason": "", "evidence": {"transfers": 5}}
        cases: list[tuple[str, Player, Play, Json]] = [
            ("invalid_payload", MALLORY, in_phase("frozen"), bad | {"reason": "x" * (TEXT_MAX + 1)}),
            ("invalid_payload", MALLORY, in_phase("frozen"), bad | {"evidence": 0.5}),
            ("not_found", MALLORY, in_phase("frozen"), bad),
            ("state_lost", ALICE, in_phase("frozen"), bad),
            ("terminal_state", ALICE, in_phase("expired", mode=used.channel.mode), bad),
            ("channel_not_open", ALICE, waiting, bad),
            ("dispute_used", ALICE, used, bad),
            ("invalid_payload", ALICE, offline(), bad),
        ]

        reasons = [play.refused(who, "dispute", **sent).reason for _, who, play, sent in cases]

        assert reasons == [case[0] for case in cases]

    def test_after_the_force_close_window_it_is_too_late_also_before_the_timer_has_run(self) -> None:
        play = in_phase("closing")
        play.wait(DAY_S, is_timer_late=True)

        assert play.refused(BOB, "dispute", reason="").reason == "terminal_state"


class TestHowLongItLasts:
    @pytest.mark.parametrize("window_s", [DAY_S, WEEK_S])
    def test_online_it_is_a_day_whatever_the_window_is(self, window_s: int) -> None:
        play = Play(window_s=window_s)

        play.send(ALICE, "force_close")
        play.dispute(BOB)

        assert play.snapshot["dispute"]["ends_at"] == "2026-03-02T12:00:00Z"

    @pytest.mark.parametrize("window_s", [DAY_S, 3 * DAY_S, WEEK_S])
    def test_offline_it_is_never_shorter_than_the_time_in_which_a_chain_may_come(self, window_s: int) -> None:
        play = offline(window_s=window_s)

        play.dispute(BOB)

        assert play.channel.dispute is not None
        assert play.channel.dispute.ends_at == NOW + timedelta(seconds=window_s)

    @pytest.mark.parametrize(
        ("waited_s", "ends_s"), [(0, WEEK_S), (WEEK_S - DAY_S, WEEK_S), (WEEK_S - 60, WEEK_S - 60 + DAY_S)]
    )
    def test_offline_it_never_cuts_the_window_of_a_force_close_short(self, waited_s: int, ends_s: int) -> None:
        play = offline(window_s=WEEK_S)
        play.send(ALICE, "force_close")
        play.wait(waited_s)

        play.dispute(ALICE)

        assert play.channel.dispute is not None
        assert play.channel.dispute.ends_at == NOW + timedelta(seconds=ends_s)

    def test_the_chain_may_come_at_its_last_moment(self) -> None:
        play = offline(window_s=WEEK_S)
        play.dispute(ALICE)
        play.wait(WEEK_S - 1)

        play.hand_in(500, who=BOB)
        play.wait(1)

        assert (play.snapshot["cause"], play.snapshot["final_balance_b"]) == ("dispute_timeout", 1_500)


class TestWithdrawing:
    def test_only_its_opener_may(self) -> None:
        refusal = in_phase("disputed").refused(ALICE, "withdraw_dispute")

        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": "disputer"})

    @pytest.mark.parametrize("phase", ["open", "closing", "pending", "revoked"])
    def test_what_is_not_disputed_has_none(self, phase: str) -> None:
        play = in_phase(phase)

        refusal = play.refused(BOB, "withdraw_dispute")

        assert (refusal.kind, refusal.reason) == ("conflict", "not_disputed")
        assert refusal.context == {"status": play.snapshot["status"]}

    def test_the_refusals_have_one_order(self) -> None:
        cases: list[tuple[str, Player, Play]] = [
            ("not_found", CAROL, in_phase("closed")),
            ("terminal_state", ALICE, in_phase("closed")),
            ("not_disputed", ALICE, Play()),
            ("forbidden_role", ALICE, in_phase("disputed")),
        ]

        assert [play.refused(who, "withdraw_dispute").reason for _, who, play in cases] == [case[0] for case in cases]

    def test_once_withdrawn_there_is_none(self) -> None:
        play = in_phase("disputed")
        play.send(BOB, "withdraw_dispute")

        assert play.refused(BOB, "withdraw_dispute").reason == "not_disputed"


def test_who_alternates_all_there_is_holds_the_others_money_for_three_windows_at_most() -> None:
    play = Play()
    play.dispute(ALICE)
    play.wait(DAY_S - 1)
    play.send(ALICE, "withdraw_dispute")
    play.send(BOB, "force_close")
    play.wait(DAY_S - 1)

    assert play.refused(ALICE, "dispute", reason="again").reason == "dispute_used"
    play.revoke(Cause.BANNED)
    play.wait(1)
    assert play.snapshot["cause"] == "force_close"

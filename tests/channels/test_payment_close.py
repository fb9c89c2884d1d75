"""The end of a payment channel: as both have signed, or without the other party when a window is over."""

from datetime import timedelta

import pytest

from channels.ledger import available, channel_lock
from channels.payment_state import Cause
from channels.told import Audience
from tests.channels.channel_play import GARBAGE, Play, in_phase, offline, payload_of
from tests.channels.payment_stage import DAY_S, PURSE, WEEK_S, Json
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, NOW, Player

TOPIC = f"payment:{FRESH_ID}"
LOCK = channel_lock(FRESH_ID)


def unlocked(final_a: int, final_b: int) -> list[tuple[str, dict[str, int]]]:
    shares = {available(ALICE.id): final_a, available(BOB.id): final_b}
    return [("unlock", {LOCK: -(final_a + final_b), **{name: share for name, share in shares.items() if share}})]


class TestClosing:
    @pytest.mark.parametrize("who", [ALICE, BOB])
    @pytest.mark.parametrize("finals", [(990, 1_010), (1_200, 800), (2_000, 0), (0, 2_000)])
    def test_both_are_paid_as_both_have_signed_whatever_the_balances_are(
        self, who: Player, finals: tuple[int, int]
    ) -> None:
        play = Play()
        play.pay()
        sent = play.closing(finals)

        reply = play.send(who, "close", **sent)

        assert reply == play.snapshot
        assert reply == reply | {
            "status": "closed",
            "cause": "joint_close",
            "reason": None,
            "closed_at": "2026-03-01T12:00:00Z",
            "final_balance_a": finals[0],
            "final_balance_b": finals[1],
            "close_signature_a": sent["signature_a"],
            "close_signature_b": sent["signature_b"],
            "balance_a": 990,
            "balance_b": 1_010,
            "last_nonce": 1,
        }
        assert play.entries() == unlocked(*finals)
        assert play.lock == 0
        assert (play.purse(ALICE), play.purse(BOB)) == tuple(PURSE - 1_000 + final for final in finals)
        assert (play.spent(), play.mail()) == ([], [])

    def test_both_are_told(self) -> None:
        play = Play()

        play.close((1_200, 800))

        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_closed", Audience.ALL)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "cause": "joint_close",
            "final_balance_a": 1_200,
            "final_balance_b": 800,
            "closed_at": "2026-03-01T12:00:00Z",
            "channel": play.snapshot,
        }

    def test_its_step_keeps_both_signatures(self) -> None:
        play = Play()
        sent = play.closing((1_200, 800))

        play.send(BOB, "close", **sent)

        assert (play.step.kind, play.step.agent_id, play.step.nonce) == ("closed", BOB.id, None)
        assert play.step.details == {**sent, "cause": "joint_close", "reason": None}
        assert (play.step.balance_a, play.step.balance_b) == (1_000, 1_000)

    @pytest.mark.parametrize("phase", ["open", "closing", "disputed", "frozen", "revoked"])
    def test_agreement_ends_whatever_goes_on(self, phase: str) -> None:
        play = in_phase(phase)

        reply = play.close((1_500, 500))

        assert (reply["status"], reply["cause"], reply["closing"], reply["dispute"]) == (
            "closed",
            "joint_close",
            None,
            None,
        )
        play.wait(3 * WEEK_S)
        assert (play.timer, play.snapshot) == (None, reply)

    def test_also_a_channel_that_nobody_had_accepted_here_before_its_states_were_lost(self) -> None:
        play = Play(counter_deposit=None)
        play.freeze()

        assert play.close((300, 700))["cause"] == "joint_close"
        assert play.entries() == unlocked(300, 700)

    def test_at_the_end_nothing_is_requested_any_more(self) -> None:
        play = Play()
        play.send(ALICE, "close_request", **play.close_request())

        assert play.close()["close_requests"] == []

    def test_it_is_repeated_as_a_duplicate_by_either(self) -> None:
        play = Play()
        sent = play.closing((1_500, 500))
        play.send(ALICE, "close", **sent)

        for who in (ALICE, BOB):
            play.repeats(who, "close", **sent)

    def test_another_close_afterwards_is_too_late(self) -> None:
        play = Play()
        play.close((1_500, 500))

        for sent in (
            play.closing((1_400, 600)),
            play.closing((1_500, 500)) | {"signature_b": GARBAGE},
            play.closing((1_500, 500)) | {"final_balance_a": 1_400, "final_balance_b": 600},
        ):
            refusal = play.refused(BOB, "close", **sent)
            assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "closed"})

    @pytest.mark.parametrize(
        ("finals", "reason", "told"),
        [
            ((-1, 2_001), "amount_out_of_range", {"minimum": 0}),
            ((2_001, -1), "amount_out_of_range", {"minimum": 0}),
            ((1_000, 999), "sum_mismatch", {"total": 2_000}),
            ((1_000, 1_001), "sum_mismatch", {"total": 2_000}),
            ((10**30, 0), "sum_mismatch", {"total": 2_000}),
        ],
    )
    @pytest.mark.parametrize("event", ["close", "close_request"])
    def test_all_that_is_locked_is_paid_out_and_nothing_else(
        self, event: str, finals: tuple[int, int], reason: str, told: Json
    ) -> None:
        signed = {"final_balance_a": finals[0], "final_balance_b": finals[1]}
        signatures = ("signature",) if event == "close_request" else ("signature_a", "signature_b")

        refusal = Play().refused(ALICE, event, **signed, **dict.fromkeys(signatures, GARBAGE))

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", reason, told)

    @pytest.mark.parametrize("event", ["close", "close_request"])
    def test_the_refusals_have_one_order(self, event: str) -> None:
        """Each case mends one thing more than the one before it."""
        ended, pending = in_phase("closed"), Play()
        pending.propose()
        bad: Json = {"final_balance_a": -1, "final_balance_b": 5}
        cases: list[tuple[str, Player, Play, Json]] = [
            ("not_found", CAROL, ended, bad),
            ("terminal_state", ALICE, ended, bad),
            ("channel_not_open", ALICE, Play(counter_deposit=None), bad),
            ("transfer_pending", ALICE, pending, bad),
            ("amount_out_of_range", ALICE, Play(), bad),
            ("sum_mismatch", ALICE, Play(), bad | {"final_balance_a": 5}),
            ("invalid_signature", ALICE, Play(), {"final_balance_a": 0, "final_balance_b": 2_000}),
        ]
        signatures = ("signature",) if event == "close_request" else ("signature_a", "signature_b")

        reasons = [
            play.refused(who, event, **sent, **dict.fromkeys(signatures, GARBAGE)).reason
            for _, who, play, sent in cases
        ]

        assert reasons == [case[0] for case in cases]

    def test_while_a_transfer_is_proposed_it_is_answered_first(self) -> None:
        play = Play()
        play.propose()

        refusal = play.refused(ALICE, "close", **play.closing())

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "transfer_pending", {"nonce": 1})

    def test_a_proposal_that_has_expired_by_the_clock_has_used_its_nonce(self) -> None:
        play = Play()
        before = play.closing()
        play.propose()
        play.wait(300, is_timer_late=True)
        assert play.snapshot["pending_proposal"] is not None, "its timer has not run yet"

        refusal = play.refused(ALICE, "close", **before)

        assert (refusal.reason, refusal.context["last_nonce"]) == ("stale_state", 1)


class TestCloseRequests:
    @pytest.mark.parametrize(("who", "other"), [(ALICE, BOB), (BOB, ALICE)])
    def test_the_other_one_is_told_and_can_answer_with_close(self, who: Player, other: Player) -> None:
        play = Play()
        play.pay()
        sent = play.close_request(who, (1_500, 500))

        reply = play.send(who, "close_request", **sent)

        requested = {**sent, "agent_id": who.id, "nonce": 1, "requested_at": "2026-03-01T12:00:00Z"}
        assert reply == play.snapshot
        assert reply["close_requests"] == [requested]
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "close_request", Audience.OTHER_AGENTS)
        assert payload_of(told) == {"channel_id": FRESH_ID, **requested}
        assert (play.step.kind, play.step.agent_id, play.step.details) == (
            "close_request",
            who.id,
            {**sent, "nonce": 1},
        )
        assert (play.entries(), play.spent(), play.mail()) == ([], [], [])
        answer = play.closing((1_500, 500)) | {f"signature_{'a' if who is ALICE else 'b'}": sent["signature"]}
        assert play.send(other, "close", **answer)["status"] == "closed"

    def test_each_party_has_one_and_the_newest_counts(self) -> None:
        play = Play()
        for who, finals in ((ALICE, (1_500, 500)), (BOB, (900, 1_100)), (ALICE, (1_400, 600))):
            play.send(who, "close_request", **play.close_request(who, finals))

        stands = [(one["agent_id"], one["final_balance_a"]) for one in play.snapshot["close_requests"]]
        assert stands == [(BOB.id, 900), (ALICE.id, 1_400)]
        assert play.kinds()[-3:] == ["close_request"] * 3

    def test_the_standing_one_is_repeated_as_a_duplicate(self) -> None:
        play = Play()
        sent = play.close_request(ALICE, (1_500, 500))
        play.send(ALICE, "close_request", **sent)
        play.wait(60)

        play.repeats(ALICE, "close_request", **sent)

    def test_the_others_signature_does_not_make_it_a_duplicate(self) -> None:
        play = Play()
        sent = play.close_request(ALICE, (1_500, 500))
        play.send(ALICE, "close_request", **sent)

        assert play.refused(BOB, "close_request", **sent).reason == "invalid_signature"

    def test_once_replaced_it_is_a_new_one(self) -> None:
        play = Play()
        first = play.close_request(ALICE, (1_500, 500))
        play.send(ALICE, "close_request", **first)
        play.send(ALICE, "close_request", **play.close_request(ALICE, (1_400, 600)))

        assert "duplicate" not in play.send(ALICE, "close_request", **first)

    @pytest.mark.parametrize("phase", ["open", "closing", "disputed", "frozen", "revoked"])
    def test_it_stands_while_the_nonce_does(self, phase: str) -> None:
        play = in_phase(phase)

        assert len(play.send(BOB, "close_request", **play.close_request(BOB))["close_requests"]) == 1

    def test_a_dispute_does_not_end_it(self) -> None:
        play = Play()
        sent = play.close_request(BOB, (1_500, 500))
        play.send(BOB, "close_request", **sent)
        play.dispute(BOB)

        assert play.close((1_500, 500))["cause"] == "joint_close"

    def test_strangers_find_no_channel(self) -> None:
        play = Play()

        for event, sent in (("close", play.closing()), ("close_request", play.close_request())):
            assert play.refused(MALLORY, event, **sent).reason == "not_found"


class TestForceClosing:
    @pytest.mark.parametrize("who", [ALICE, BOB])
    @pytest.mark.parametrize("window_s", [DAY_S, WEEK_S])
    def test_it_opens_the_window_of_the_channel_and_both_are_told(self, who: Player, window_s: int) -> None:
        play = Play(window_s=window_s)
        play.wait(60)

        reply = play.send(who, "force_close")

        ends_at = NOW + timedelta(seconds=60 + window_s)
        assert reply == play.snapshot
        assert reply["status"] == "closing"
        assert reply["closing"] == {
            "by": who.id,
            "began_at": "2026-03-01T12:01:00Z",
            "ends_at": f"{ends_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "force_close", "channel": reply}
        assert (play.step.kind, play.step.agent_id) == ("force_close", who.id)
        assert play.channel.closing is not None
        assert play.channel.closing.ends_at == ends_at
        assert (play.entries(), play.spent()) == ([], []), "nobody is paid yet"

    def test_it_voids_what_is_pending(self) -> None:
        play = Play()
        play.propose()

        reply = play.send(BOB, "force_close")

        assert (reply["pending_proposal"], reply["last_nonce"], reply["balance_a"]) == (None, 1, 1_000)
        voided, updated = play.told_last()
        assert (voided.event, voided.audience) == ("transfer_voided", Audience.ALL)
        assert payload_of(voided) == payload_of(voided) | {"reason": "force_close", "agent_id": BOB.id, "text": None}
        assert payload_of(updated)["channel"] == reply
        assert play.kinds()[-2:] == ["voided", "force_close"]

    def test_when_the_window_is_over_the_balances_are_paid_out(self) -> None:
        play = Play()
        play.pay(ALICE, 10)
        play.send(BOB, "deposit", amount=50)
        play.send(ALICE, "force_close")
        play.wait(DAY_S - 1)
        assert play.snapshot["status"] == "closing"

        play.wait(1)

        assert play.snapshot == play.snapshot | {
            "status": "closed",
            "cause": "force_close",
            "closing": None,
            "final_balance_a": 990,
            "final_balance_b": 1_060,
            "close_signature_a": None,
            "close_signature_b": None,
        }
        assert play.entries() == unlocked(990, 1_060)
        (closed,) = play.told_last()
        assert (closed.event, closed.audience, payload_of(closed)["cause"]) == (
            "channel_closed",
            Audience.ALL,
            "force_close",
        )
        assert (play.step.kind, play.step.agent_id) == ("closed", None)
        assert play.step.details == play.step.details | {"cause": "force_close", "signature_a": None}
        assert play.timer is None

    @pytest.mark.parametrize("who", [ALICE, BOB])
    def test_while_it_is_closing_it_is_a_duplicate_and_the_window_stays(self, who: Player) -> None:
        play = in_phase("closing")
        play.wait(3_600)

        play.repeats(who, "force_close")

    def test_after_the_window_it_is_too_late_also_before_the_timer_has_run(self) -> None:
        play = in_phase("closing")
        play.wait(DAY_S, is_timer_late=True)

        refusal = play.refused(ALICE, "force_close")

        assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "closed"})

    def test_the_refusals_have_one_order(self) -> None:
        frozen, disputed = in_phase("frozen"), in_phase("disputed")
        cases: list[tuple[str, Player, Play]] = [
            ("not_found", MALLORY, frozen),
            ("state_lost", ALICE, frozen),
            ("terminal_state", ALICE, in_phase("declined")),
            ("channel_not_open", ALICE, in_phase("pending")),
            ("channel_not_open", ALICE, disputed),
        ]

        assert [play.refused(who, "force_close").reason for _, who, play in cases] == [case[0] for case in cases]
        assert disputed.refused(ALICE, "force_close").context == {"status": "disputed"}
        assert frozen.refused(ALICE, "force_close").context == {"known_nonce": 1, "last_nonce": 1}

    def test_when_one_has_nothing_only_the_other_is_paid(self) -> None:
        play = Play(counter_deposit=0)
        play.send(ALICE, "force_close")

        play.wait(DAY_S)

        assert play.entries() == unlocked(1_000, 0)

    def test_a_banned_agents_channel_is_closed_by_nobody(self) -> None:
        play = Play()
        play.revoke(Cause.BANNED)

        play.repeats(ALICE, "force_close")
        assert play.snapshot["closing"]["by"] is None

    def test_in_offline_mode_a_chain_may_still_come_in_the_window(self) -> None:
        play = offline()
        play.send(ALICE, "force_close")
        play.hand_in(100, who=BOB)

        play.wait(DAY_S)

        assert (play.snapshot["cause"], play.snapshot["final_balance_b"]) == ("force_close", 1_100)


class TestOneTimer:
    """A channel has one, for the first thing of it that is due, and it is armed again when it fires."""

    def test_it_moves_from_one_to_the_next(self) -> None:
        play = Play(counter_deposit=None)
        assert play.timer == NOW + timedelta(seconds=DAY_S)
        play.send(BOB, "accept")

        play.propose()
        assert play.timer == NOW + timedelta(seconds=300)
        play.acknowledge()
        play.wait(300)
        assert play.timer is None, "it has fired, and nothing is due"

        play.send(ALICE, "force_close")
        assert play.timer == play.now + timedelta(seconds=DAY_S)

    def test_firing_early_it_is_armed_for_what_is_due_now(self) -> None:
        play = Play()
        play.propose()
        play.send(BOB, "reject_transfer")
        play.send(ALICE, "force_close")

        play.wait(300)

        assert play.snapshot["status"] == "closing"
        assert play.timer == NOW + timedelta(seconds=DAY_S)
        assert (play.told_last(), play.entries()) == ([], [])

    def test_for_what_comes_later_it_is_not_armed_again(self) -> None:
        play = Play()
        play.propose()
        armed = play.timer

        play.send(ALICE, "force_close")

        assert play.timer == armed
        assert [type(change).__name__ for change in play.last.changes] == ["NoteStep", "NoteStep"]

    def test_one_of_a_channel_that_has_ended_does_nothing(self) -> None:
        play = in_phase("closing")
        play.close()
        before = play.snapshot

        play.wait(DAY_S)

        assert (play.snapshot, play.timer, play.told_last()) == (before, None, [])

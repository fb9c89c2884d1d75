"""A payment channel before it is accepted: declined, taken back or expired; and what is deposited once it is."""

import msgspec
import pytest

from channels.errors import not_found
from channels.ledger import available, channel_lock
from channels.told import Audience
from tests.channels.channel_play import Play, offline, payload_of
from tests.channels.payment_stage import DAY_S
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, Player, as_told

TEXT_MAX = 2_000
TOPIC = f"payment:{FRESH_ID}"
LOCK = channel_lock(FRESH_ID)


class TestDeclining:
    def test_the_opener_has_its_deposit_back(self) -> None:
        play = Play(counter_deposit=None)

        reply = play.send(BOB, "decline", reason="no need")

        assert reply == play.snapshot
        assert reply == reply | {
            "status": "declined",
            "cause": "declined",
            "reason": "no need",
            "closed_at": "2026-03-01T12:00:00Z",
            "final_balance_a": 1_000,
            "final_balance_b": 0,
        }
        assert play.entries() == [("unlock", {LOCK: -1_000, available(ALICE.id): 1_000})]
        assert (play.lock, play.spent()) == (0, [])
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("declined", BOB.id, {"reason": "no need"})

    def test_both_are_told_and_the_opener_gets_a_stored_message(self) -> None:
        play = Play(counter_deposit=None)

        play.send(BOB, "decline", reason="no need")

        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "declined", "channel": play.snapshot}
        (mail,) = play.mail()
        assert (mail.to_agent_id, mail.payload["status"], mail.payload["reason"]) == (ALICE.id, "declined", "no need")

    def test_repeating_it_is_a_duplicate_but_with_other_words_it_is_too_late(self) -> None:
        play = Play(counter_deposit=None)
        play.send(BOB, "decline")

        play.repeats(BOB, "decline", reason="")
        refusal = play.refused(BOB, "decline", reason="no")
        assert (refusal.reason, refusal.context) == ("terminal_state", {"status": "declined"})

    def test_only_the_counterparty_may(self) -> None:
        play = Play(counter_deposit=None)

        assert play.refused(ALICE, "decline").context == {"role": "counterparty"}
        assert play.refused(MALLORY, "decline").reason == "not_found"

    def test_a_long_reason_is_refused(self) -> None:
        play = Play(counter_deposit=None)

        refusal = play.refused(BOB, "decline", reason="x" * (TEXT_MAX + 1))
        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "reason"})
        assert play.send(BOB, "decline", reason="x" * TEXT_MAX)["status"] == "declined"


class TestTakingBack:
    def test_the_opener_has_its_deposit_back(self) -> None:
        play = Play(counter_deposit=None)

        reply = play.send(ALICE, "cancel")

        assert reply == reply | {"status": "declined", "cause": "cancelled", "reason": None, "final_balance_a": 1_000}
        assert play.entries() == [("unlock", {LOCK: -1_000, available(ALICE.id): 1_000})]
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("cancelled", ALICE.id, {})
        told = play.told_once()
        assert (told.event, told.audience) == ("channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "cancelled", "channel": play.snapshot}
        assert play.mail() == []

    def test_repeating_it_is_a_duplicate(self) -> None:
        play = Play(counter_deposit=None)
        play.send(ALICE, "cancel")

        play.repeats(ALICE, "cancel")

    def test_only_the_opener_may(self) -> None:
        play = Play(counter_deposit=None)

        refusal = play.refused(BOB, "cancel")
        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": "opener"})
        assert play.refused(CAROL, "cancel").reason == "not_found"


class TestExpiring:
    def test_after_a_day_the_opener_has_its_deposit_back(self) -> None:
        play = Play(counter_deposit=None)

        play.wait(DAY_S - 1)
        assert play.snapshot["status"] == "pending"
        play.wait(1)

        assert play.snapshot == play.snapshot | {"status": "expired", "cause": "expired", "final_balance_a": 1_000}
        assert play.entries() == [("unlock", {LOCK: -1_000, available(ALICE.id): 1_000})]
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("expired", None, {})
        assert payload_of(play.told_once()) == {"channel_id": FRESH_ID, "change": "expired", "channel": play.snapshot}
        assert play.timer is None

    @pytest.mark.parametrize("is_timer_late", [True, False])
    @pytest.mark.parametrize(("who", "event"), [(BOB, "accept"), (BOB, "decline"), (ALICE, "cancel")])
    def test_then_it_is_too_late_also_before_the_timer_has_run(
        self, who: Player, event: str, *, is_timer_late: bool
    ) -> None:
        play = Play(counter_deposit=None)
        play.wait(DAY_S, is_timer_late=is_timer_late)

        refusal = play.refused(who, event)

        assert (refusal.kind, refusal.reason) == ("expired", "expired")
        assert as_told(refusal.context) == {"expired_at": "2026-03-02T12:00:00Z"}


class TestDepositing:
    @pytest.mark.parametrize(("who", "side"), [(ALICE, "a"), (BOB, "b")])
    def test_either_raises_its_own_side_and_the_nonce_stays(self, who: Player, side: str) -> None:
        play = Play(counter_deposit=1_000)
        play.pay(amount=10)
        before = play.snapshot

        reply = play.send(who, "deposit", amount=50)

        assert reply == play.snapshot
        assert reply == before | {
            f"deposit_{side}": 1_050,
            f"deposited_since_{side}": 50,
            f"balance_{side}": before[f"balance_{side}"] + 50,
        }
        assert play.entries() == [("lock", {available(who.id): -50, LOCK: 50})]
        assert play.spent() == [50]
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "deposit", "channel": reply}
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("deposit", who.id, {"amount": 50})
        assert play.step.nonce is None

    def test_what_came_since_the_last_transfer_adds_up_and_begins_anew_with_the_next(self) -> None:
        play = Play(counter_deposit=0)
        play.send(ALICE, "deposit", amount=50)
        assert (play.snapshot["deposited_since_a"], play.snapshot["deposited_since_b"]) == (1_050, 0)

        play.send(BOB, "deposit", amount=5)
        play.pay()

        assert (play.snapshot["deposited_since_a"], play.snapshot["deposited_since_b"]) == (0, 0)
        assert (play.snapshot["deposit_a"], play.snapshot["deposit_b"]) == (1_050, 5)

    def test_it_ends_a_standing_close_request_because_the_sum_is_another(self) -> None:
        play = Play()
        play.send(ALICE, "close_request", **play.close_request(ALICE))

        assert play.send(BOB, "deposit", amount=1)["close_requests"] == []

    @pytest.mark.parametrize("amount", [0, -5])
    def test_less_than_one_is_no_deposit(self, amount: int) -> None:
        refusal = Play().refused(ALICE, "deposit", amount=amount)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "amount_out_of_range", {"minimum": 1})

    def test_money_that_is_not_there_is_not_locked(self) -> None:
        assert Play().refused(ALICE, "deposit", amount=10**6).reason == "insufficient_balance"

    def test_while_a_transfer_is_proposed_balances_stay(self) -> None:
        play = Play()
        play.propose()

        for who in (ALICE, BOB):
            refusal = play.refused(who, "deposit", amount=1)
            assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "transfer_pending", {"nonce": 1})

    def test_a_proposal_that_has_expired_by_the_clock_is_in_nobodys_way(self) -> None:
        play = Play()
        play.propose()
        play.wait(300, is_timer_late=True)

        assert play.send(ALICE, "deposit", amount=1)["pending_proposal"] is None
        assert [told.event for told in play.told_last()] == ["transfer_voided", "channel_updated"]

    def test_an_offline_channel_takes_none(self) -> None:
        refusal = offline().refused(ALICE, "deposit", amount=1)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "wrong_mode", {"mode": "offline"})

    def test_a_narrowed_contact_bounds_the_sum_of_the_openers_deposits_and_of_nobody_elses(self) -> None:
        play = Play()
        play.channel = msgspec.structs.replace(play.channel, max_price=1_100)
        play.send(ALICE, "deposit", amount=99)

        refusal = play.refused(ALICE, "deposit", amount=2)
        assert (refusal.kind, refusal.reason, refusal.context) == (
            "forbidden",
            "contact_scope_exceeded",
            {"max_price": 1_100},
        )
        assert play.send(ALICE, "deposit", amount=1)["deposit_a"] == 1_100
        assert play.send(BOB, "deposit", amount=5_000)["deposit_b"] == 6_000

    def test_strangers_find_no_channel(self) -> None:
        for who in (CAROL, MALLORY):
            assert Play().refused(who, "deposit", amount=1).response() == not_found("payment channel").response()

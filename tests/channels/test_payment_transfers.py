"""Transfers in an online channel: proposed by who pays, acknowledged by who is paid, or not."""

from datetime import timedelta

import pytest

from channels.changes import Timer
from channels.errors import not_found
from channels.payment_state import Cause
from channels.task_state import Escrow, Task
from channels.told import Audience
from tests.channels.channel_play import GARBAGE, Play, offline, payload_of, proposed
from tests.channels.payment_stage import Json
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, NOW, OTHER_ID, Player

TOPIC = f"payment:{FRESH_ID}"
PROPOSAL_S = 300
MEMO_MAX = 200
TEXT_MAX = 2_000
SIDES = pytest.mark.parametrize(("payer", "payee"), [(ALICE, BOB), (BOB, ALICE)], ids=["a pays b", "b pays a"])


def task_of(client: Player = ALICE, provider: Player = BOB) -> Task:
    return Task(
        id=OTHER_ID,
        client_agent_id=client.id,
        provider_agent_id=provider.id,
        client_owner_id=client.agent.owner_id,
        is_countable=True,
        capability="translate",
        price=0,
        fee=0,
        fee_bps=500,
        escrow_status=Escrow.NONE,
        created_at=NOW,
        deadline=NOW,
    )


class TestProposing:
    @SIDES
    def test_the_proposer_pays_and_the_other_is_told(self, payer: Player, payee: Player) -> None:
        play = Play()
        sent = play.proposal(payer, 10)

        reply = play.send(payer, "propose_transfer", **sent, memo="for words")

        balances = (990, 1_010) if payer is ALICE else (1_010, 990)
        pending = {
            "nonce": 1,
            "amount": 10,
            "from_agent_id": payer.id,
            "to_agent_id": payee.id,
            "balance_a": balances[0],
            "balance_b": balances[1],
            "task_id": None,
            "memo": "for words",
            "signature": sent["signature"],
            "proposed_at": "2026-03-01T12:00:00Z",
            "expires_at": "2026-03-01T12:05:00Z",
        }
        assert reply == play.snapshot
        assert reply["pending_proposal"] == pending
        assert (reply["balance_a"], reply["balance_b"], reply["last_nonce"]) == (1_000, 1_000, 0)
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "propose_transfer", Audience.OTHER_AGENTS)
        assert payload_of(told) == {"channel_id": FRESH_ID, **pending}
        assert play.kinds() == ["opened", "accepted"], "it is no step before it ends"
        assert play.last.changes == (Timer("payment_clock", TOPIC, NOW + timedelta(seconds=PROPOSAL_S)),)

    @SIDES
    @pytest.mark.parametrize("amount", [1, 1_000])
    def test_one_unit_and_all_that_the_payer_has_can_be_paid(self, payer: Player, payee: Player, amount: int) -> None:
        play = Play()

        assert play.propose(payer, amount)["pending_proposal"]["amount"] == amount

    @pytest.mark.parametrize("amount", [0, -1, -(10**30)])
    def test_less_than_one_unit_cannot(self, amount: int) -> None:
        refusal = Play().refused(ALICE, "propose_transfer", amount=amount, nonce=1, signature=GARBAGE)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "amount_out_of_range", {"minimum": 1})

    @pytest.mark.parametrize("amount", [1_001, 10**18])
    def test_more_than_the_payer_has_cannot_whatever_the_other_has(self, amount: int) -> None:
        refusal = Play(counter_deposit=5_000).refused(
            ALICE, "propose_transfer", amount=amount, nonce=1, signature=GARBAGE
        )

        assert (refusal.kind, refusal.reason) == ("conflict", "insufficient_channel_balance")
        assert refusal.context == {"balance": 1_000, "required": amount}

    @pytest.mark.parametrize("nonce", [2, 0, -1, 1])
    def test_a_used_nonce_is_replayed(self, nonce: int) -> None:
        play = Play()
        for _ in range(2):
            play.pay()

        refusal = play.refused(ALICE, "propose_transfer", amount=1, nonce=nonce, signature=GARBAGE)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "nonce_replayed", {"expected_nonce": 3})

    @pytest.mark.parametrize("nonce", [2, 10**30])
    def test_a_nonce_that_is_not_the_next_leaves_a_gap(self, nonce: int) -> None:
        refusal = Play().refused(ALICE, "propose_transfer", amount=1, nonce=nonce, signature=GARBAGE)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "nonce_gap", {"expected_nonce": 1})

    def test_one_may_be_pending_at_a_time(self) -> None:
        play = proposed()

        for who in (ALICE, BOB):
            refusal = play.refused(who, "propose_transfer", amount=11, nonce=1, signature=GARBAGE)
            assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "transfer_pending", {"nonce": 1})

    def test_a_memo_has_two_hundred_characters_at_most(self) -> None:
        play = Play()

        refusal = play.refused(ALICE, "propose_transfer", **play.proposal(), memo="ä" * (MEMO_MAX + 1))

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "memo"})
        assert play.propose(memo="ä" * MEMO_MAX)["pending_proposal"]["memo"] == "ä" * MEMO_MAX

    @pytest.mark.parametrize("task", [task_of(), task_of(BOB, ALICE)], ids=["alice hired", "bob hired"])
    def test_it_may_be_for_a_task_of_the_two(self, task: Task) -> None:
        play = Play()
        play.tasks[OTHER_ID] = task

        reply = play.send(ALICE, "propose_transfer", **play.proposal(task_id=OTHER_ID))

        assert reply["pending_proposal"]["task_id"] == OTHER_ID
        assert play.acknowledge()["last_transfer"]["task_id"] == OTHER_ID

    @pytest.mark.parametrize("task", [None, task_of(ALICE, CAROL), task_of(CAROL, BOB)])
    def test_a_task_of_others_is_none(self, task: Task | None) -> None:
        play = Play()
        play.tasks |= {} if task is None else {OTHER_ID: task}

        refusal = play.refused(ALICE, "propose_transfer", **play.proposal(task_id=OTHER_ID))

        assert refusal.response() == not_found("task of the two").response()

    def test_strangers_find_no_channel(self) -> None:
        play = Play()

        for who in (CAROL, MALLORY):
            refusal = play.refused(who, "propose_transfer", **play.proposal())
            assert refusal.response() == not_found("payment channel").response()

    def test_the_refusals_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        bad: Json = {"amount": 5_000, "nonce": 9, "signature": GARBAGE, "task_id": OTHER_ID}

        def spoiled(play: Play) -> Play:
            play.revoke(Cause.CONTACT_REVOKED)
            return play

        frozen = spoiled(Play())
        frozen.freeze()
        ended, closing = spoiled(offline()), spoiled(offline())
        ended.close()
        closing.send(ALICE, "force_close")
        pending = proposed()
        pending.wait(1)
        cases: list[tuple[str, Player, Play, Json]] = [
            ("invalid_payload", MALLORY, frozen, bad | {"memo": "x" * 201}),
            ("not_found", MALLORY, frozen, bad),
            ("state_lost", ALICE, frozen, bad),
            ("terminal_state", ALICE, ended, bad),
            ("channel_not_open", ALICE, closing, bad),
            ("wrong_mode", ALICE, spoiled(offline()), bad),
            ("contact_revoked", ALICE, spoiled(Play()), bad),
            ("transfer_pending", ALICE, pending, bad),
            ("nonce_gap", ALICE, Play(), bad),
            ("nonce_replayed", ALICE, Play(), bad | {"nonce": 0}),
            ("amount_out_of_range", ALICE, Play(), bad | {"nonce": 1, "amount": 0}),
            ("insufficient_channel_balance", ALICE, Play(), bad | {"nonce": 1}),
            ("not_found", ALICE, Play(), bad | {"nonce": 1, "amount": 1}),
            ("invalid_signature", ALICE, Play(), bad | {"nonce": 1, "amount": 1, "task_id": None}),
        ]

        reasons = [play.refused(who, "propose_transfer", **sent).reason for _, who, play, sent in cases]

        assert reasons == [case[0] for case in cases]


class TestAcknowledging:
    @SIDES
    def test_the_amount_moves_and_both_are_told(self, payer: Player, payee: Player) -> None:
        play = Play()
        task = task_of()
        play.tasks[OTHER_ID] = task
        sent = play.proposal(payer, 10, task_id=OTHER_ID)
        play.send(payer, "propose_transfer", **sent, memo="for words")
        play.wait(5)
        answer = play.acknowledgement(payee)

        reply = play.send(payee, "acknowledge_transfer", **answer)

        balances = {"balance_a": 990, "balance_b": 1_010} if payer is ALICE else {"balance_a": 1_010, "balance_b": 990}
        first, second = sent["signature"], answer["signature"]
        transfer = {
            "nonce": 1,
            "amount": 10,
            "from_agent_id": payer.id,
            "to_agent_id": payee.id,
            **balances,
            "task_id": OTHER_ID,
            "signature_a": first if payer is ALICE else second,
            "signature_b": second if payer is ALICE else first,
            "completed_at": "2026-03-01T12:00:05Z",
        }
        assert reply == play.snapshot
        assert reply == reply | balances | {
            "last_nonce": 1,
            "next_nonce": 2,
            "pending_proposal": None,
            "last_transfer": transfer,
            "deposited_since_a": 0,
            "deposited_since_b": 0,
            "deposit_a": 1_000,
            "deposit_b": 1_000,
        }
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "transfer_complete", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, **transfer}
        details = {name: value for name, value in transfer.items() if name not in {*balances, "completed_at"}}
        step = play.step
        assert (step.kind, step.agent_id, step.nonce) == ("transfer", payee.id, 1)
        assert step.details == {**details, "memo": "for words"}
        assert (step.balance_a, step.balance_b, step.last_nonce) == (*balances.values(), 1)
        assert (play.entries(), play.spent(), play.mail()) == ([], [], []), "the money stays in the channel"

    def test_many_transfers_follow_one_another(self) -> None:
        play = Play()

        for payer, amount in ((ALICE, 600), (BOB, 1_600), (ALICE, 1), (BOB, 1)):
            play.pay(payer, amount)

        assert (play.snapshot["balance_a"], play.snapshot["balance_b"], play.snapshot["last_nonce"]) == (2_000, 0, 4)
        assert play.verify().checks

    def test_it_ends_a_standing_close_request(self) -> None:
        play = Play()
        play.send(ALICE, "close_request", **play.close_request())

        assert play.pay()["close_requests"] == []

    def test_the_payer_cannot(self) -> None:
        play = proposed()

        refusal = play.refused(ALICE, "acknowledge_transfer", **play.acknowledgement(ALICE))

        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": "payee"})

    @pytest.mark.parametrize("other", [{"amount": 9}, {"amount": 11}, {"nonce": 2}, {"nonce": 10**20}])
    def test_another_amount_or_nonce_does_not_match(self, other: Json) -> None:
        play = proposed()

        refusal = play.refused(BOB, "acknowledge_transfer", **play.acknowledgement() | other)

        assert (refusal.kind, refusal.reason) == ("conflict", "proposal_mismatch")
        assert refusal.context == {"expected_nonce": 1, "expected_amount": 10}

    def test_nothing_is_pending(self) -> None:
        refusal = Play().refused(BOB, "acknowledge_transfer", amount=1, nonce=1, signature=GARBAGE)

        assert (refusal.kind, refusal.reason) == ("conflict", "no_pending_transfer")
        assert refusal.context == {"expected_nonce": 1}

    @pytest.mark.parametrize("end", ["rejected", "withdrawn", "expired"])
    def test_a_nonce_that_was_voided_is_used_up(self, end: str) -> None:
        play = proposed()
        answer = play.acknowledgement()
        if end == "expired":
            play.wait(PROPOSAL_S)
        else:
            play.send(BOB if end == "rejected" else ALICE, "reject_transfer")

        refusal = play.refused(BOB, "acknowledge_transfer", **answer)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "nonce_replayed", {"expected_nonce": 2})

    def test_strangers_find_no_channel(self) -> None:
        play = proposed()

        assert play.refused(MALLORY, "acknowledge_transfer", **play.acknowledgement()).reason == "not_found"

    def test_the_refusals_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        frozen = Play()
        frozen.pay()
        frozen.freeze()
        used, ended, waiting, paid_offline = proposed(), proposed(), Play(counter_deposit=None), offline()
        used.acknowledge()
        used.send(ALICE, "force_close")
        ended.acknowledge()
        ended.close()
        paid_offline.hand_in(5)
        pending = proposed()
        cases: list[tuple[str, Player, Play, Json]] = [
            ("not_found", MALLORY, frozen, {"nonce": 1}),
            ("state_lost", BOB, frozen, {"nonce": 1}),
            ("terminal_state", BOB, ended, {"nonce": 1}),
            ("nonce_replayed", BOB, used, {"nonce": 1}),
            ("channel_not_open", BOB, used, {"nonce": 2}),
            ("channel_not_open", BOB, waiting, {"nonce": 1}),
            ("nonce_replayed", BOB, paid_offline, {"nonce": 1}),
            ("wrong_mode", BOB, offline(), {"nonce": 1}),
            ("no_pending_transfer", BOB, Play(), {"nonce": 1}),
            ("forbidden_role", ALICE, pending, {"nonce": 9}),
            ("proposal_mismatch", BOB, pending, {"nonce": 9}),
            ("invalid_signature", BOB, pending, {"nonce": 1, "amount": 10}),
        ]

        reasons = [
            play.refused(who, "acknowledge_transfer", **{"amount": 1, "signature": GARBAGE, **sent}).reason
            for _, who, play, sent in cases
        ]

        assert reasons == [case[0] for case in cases]


class TestRejecting:
    @SIDES
    @pytest.mark.parametrize("by", ["payer", "payee"])
    def test_it_uses_the_nonce_up_and_the_other_is_told(self, payer: Player, payee: Player, by: str) -> None:
        play = proposed(payer)
        pending, before = play.snapshot["pending_proposal"], play.snapshot
        who, word = (payee, "rejected") if by == "payee" else (payer, "withdrawn")

        reply = play.send(who, "reject_transfer", reason="not ordered")

        assert reply == play.snapshot == before | {"last_nonce": 1, "next_nonce": 2, "pending_proposal": None}
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "reject_transfer", Audience.OTHER_AGENTS)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "nonce": 1,
            "amount": 10,
            "from_agent_id": payer.id,
            "agent_id": who.id,
            "reason": word,
            "text": "not ordered",
            "last_nonce": 1,
            "next_nonce": 2,
        }
        step = play.step
        assert (step.kind, step.agent_id, step.nonce) == ("voided", who.id, 1)
        names = ("nonce", "amount", "from_agent_id", "to_agent_id", "task_id", "memo", "signature")
        assert step.details == {name: pending[name] for name in names} | {"reason": word, "text": "not ordered"}
        assert (step.balance_a, step.balance_b, step.last_nonce) == (1_000, 1_000, 1)
        assert (play.entries(), play.spent(), play.mail()) == ([], [], [])

    def test_what_was_rejected_can_never_be_executed(self) -> None:
        play = proposed()
        answer, sent = play.acknowledgement(), play.proposal()
        play.send(BOB, "reject_transfer")

        assert play.refused(BOB, "acknowledge_transfer", **answer).reason == "nonce_replayed"
        assert play.repeats(ALICE, "propose_transfer", **sent)["outcome"]["status"] == "voided"

    @pytest.mark.parametrize("nonce", [None, 1])
    def test_the_nonce_may_be_said(self, nonce: int | None) -> None:
        assert proposed().send(BOB, "reject_transfer", nonce=nonce)["last_nonce"] == 1

    def test_another_nonce_does_not_match(self) -> None:
        refusal = proposed().refused(BOB, "reject_transfer", nonce=2)

        assert (refusal.kind, refusal.reason) == ("conflict", "proposal_mismatch")
        assert refusal.context == {"expected_nonce": 1, "expected_amount": 10}

    def test_it_ends_a_standing_close_request_too(self) -> None:
        play = Play()
        play.send(ALICE, "close_request", **play.close_request())
        play.propose()

        assert play.send(BOB, "reject_transfer")["close_requests"] == []

    def test_a_long_reason_is_refused(self) -> None:
        play = proposed()

        refusal = play.refused(BOB, "reject_transfer", reason="x" * (TEXT_MAX + 1))
        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "reason"})
        assert play.send(BOB, "reject_transfer", reason="x" * TEXT_MAX)["last_nonce"] == 1

    def test_the_refusals_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        frozen, used, ended = Play(), Play(), Play()
        frozen.freeze()
        for play in (used, ended):
            play.pay()
        used.send(ALICE, "force_close")
        ended.close()
        paid_offline = offline()
        paid_offline.hand_in(5)
        cases: list[tuple[str, Player, Play, Json]] = [
            ("invalid_payload", MALLORY, frozen, {"reason": "x" * (TEXT_MAX + 1)}),
            ("not_found", MALLORY, frozen, {}),
            ("state_lost", BOB, frozen, {"nonce": 0}),
            ("terminal_state", BOB, ended, {"nonce": 1}),
            ("nonce_replayed", BOB, used, {"nonce": 1}),
            ("channel_not_open", BOB, used, {}),
            ("wrong_mode", BOB, offline(), {}),
            ("nonce_replayed", BOB, paid_offline, {"nonce": 1}),
            ("no_pending_transfer", BOB, Play(), {"nonce": 9}),
            ("proposal_mismatch", BOB, proposed(), {"nonce": 9}),
        ]

        reasons = [play.refused(who, "reject_transfer", **sent).reason for _, who, play, sent in cases]

        assert reasons == [case[0] for case in cases]

"""What is signed in a payment channel: anything else is refused, and the refusal says what was expected."""

from collections.abc import Callable

import pytest

from tests import paying
from tests.channels.channel_play import FORGED, GARBAGE, Play
from tests.channels.payment_stage import Json
from tests.channels.roles import ALICE, BOB, MALLORY, OTHER_ID, Player, secret_of

SEEDS = {ALICE.id: ALICE.secret_key, BOB.id: BOB.secret_key}


def transfer_signature(
    play: Play, who: Player, *, seed: bytes | None = None, of: Json | None = None, **changed: object
) -> str:
    """A signature of a party over Alice paying 10, or over something else."""
    terms: Json = {"from_agent_id": ALICE.id, "amount": 10, "nonce": play.snapshot["last_nonce"] + 1, **changed}
    terms.setdefault("balances", paying.after(play.snapshot, from_agent_id=ALICE.id, amount=10))
    return paying.transfer_signature({**play.snapshot, **(of or {})}, seed or who.secret_key, **terms)


Spoiler = Callable[[Play, Player], str]

SPOILED: dict[str, Spoiler] = {
    "no base64": lambda play, who: GARBAGE,
    "empty": lambda play, who: "",
    "another alphabet": lambda play, who: "ä" * 88,
    "zeroes": lambda play, who: FORGED,
    "unpadded": lambda play, who: transfer_signature(play, who).rstrip("="),
    "spaced": lambda play, who: f" {transfer_signature(play, who)}",
    "cut": lambda play, who: transfer_signature(play, who)[:84],
    "mallory's": lambda play, who: transfer_signature(play, who, seed=MALLORY.secret_key),
    "the other party's": lambda play, who: transfer_signature(play, BOB if who is ALICE else ALICE),
    "another channel's": lambda play, who: transfer_signature(play, who, of={"channel_id": OTHER_ID}),
    "another domain's": lambda play, who: transfer_signature(play, who, of={"signing_domain": "other.test"}),
    "swapped balances": lambda play, who: transfer_signature(play, who, balances=(1_010, 990)),
    "balances before it": lambda play, who: transfer_signature(play, who, balances=(1_000, 1_000)),
    "another amount": lambda play, who: transfer_signature(play, who, amount=11),
    "another payer": lambda play, who: transfer_signature(play, who, from_agent_id=BOB.id),
    "another nonce": lambda play, who: transfer_signature(play, who, nonce=2),
    "a task": lambda play, who: transfer_signature(play, who, task_id=OTHER_ID),
    "a close": lambda play, who: paying.close_signature(play.snapshot, who.secret_key, (990, 1_010), nonce=1),
}


class TestTransfers:
    @pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
    def test_a_proposal_is_signed_over_just_what_it_makes(self, spoil: Spoiler) -> None:
        play = Play()

        refusal = play.refused(ALICE, "propose_transfer", amount=10, nonce=1, signature=spoil(play, ALICE))

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")
        assert refusal.context == {"expected_nonce": 1, "balance_a": 990, "balance_b": 1_010}

    @pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
    def test_an_acknowledgement_too(self, spoil: Spoiler) -> None:
        play = Play()
        play.propose()
        wrong = spoil(play, BOB)

        refusal = play.refused(BOB, "acknowledge_transfer", amount=10, nonce=1, signature=wrong)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")
        assert refusal.context == {"expected_nonce": 1, "balance_a": 990, "balance_b": 1_010}

    def test_the_task_is_signed(self) -> None:
        play = Play()
        play.propose()

        with_task = transfer_signature(play, BOB, task_id=OTHER_ID)
        assert play.refused(BOB, "acknowledge_transfer", amount=10, nonce=1, signature=with_task).reason == (
            "invalid_signature"
        )

    def test_the_payers_signature_does_not_count_for_the_payee(self) -> None:
        play = Play()
        signature = play.propose()["pending_proposal"]["signature"]

        assert play.refused(BOB, "acknowledge_transfer", amount=10, nonce=1, signature=signature).reason == (
            "invalid_signature"
        )

    def test_what_was_good_for_one_nonce_is_not_for_the_next(self) -> None:
        play = Play()
        sent = play.proposal()
        play.send(ALICE, "propose_transfer", **sent)
        play.acknowledge()

        assert play.refused(ALICE, "propose_transfer", **sent | {"nonce": 2}).reason == "invalid_signature"


class TestStaleBalances:
    """A transfer that was signed just before somebody deposited is told to be late, not badly signed."""

    @pytest.mark.parametrize("depositor", [ALICE, BOB])
    def test_before_the_latest_deposit(self, depositor: Player) -> None:
        play = Play()
        sent = play.proposal()
        play.send(depositor, "deposit", amount=100)

        refusal = play.refused(ALICE, "propose_transfer", **sent)

        assert (refusal.kind, refusal.reason) == ("conflict", "stale_state")
        balances = (1_090, 1_010) if depositor is ALICE else (990, 1_110)
        assert refusal.context == {"expected_nonce": 1, "balance_a": balances[0], "balance_b": balances[1]}

    def test_an_acknowledgement_of_the_balances_before_the_deposit_is_late_too(self) -> None:
        play = Play()
        before = transfer_signature(play, BOB)
        play.send(BOB, "deposit", amount=100)
        play.propose()

        refusal = play.refused(BOB, "acknowledge_transfer", amount=10, nonce=1, signature=before)

        assert (refusal.kind, refusal.reason) == ("conflict", "stale_state")
        assert refusal.context == {"expected_nonce": 1, "balance_a": 990, "balance_b": 1_110}

    def test_another_signature_stays_a_bad_one(self) -> None:
        play = Play()
        sent = play.proposal()
        play.send(BOB, "deposit", amount=100)

        assert play.refused(ALICE, "propose_transfer", **sent | {"amount": 11}).reason == "invalid_signature"
        assert play.refused(ALICE, "propose_transfer", **sent | {"signature": GARBAGE}).reason == "invalid_signature"

    def test_all_that_the_payer_had_then_may_have_been_signed(self) -> None:
        play = Play(deposit=5)
        sent = play.proposal(ALICE, 5)
        play.send(ALICE, "deposit", amount=100)

        assert play.refused(ALICE, "propose_transfer", **sent).reason == "stale_state"

    def test_what_the_payer_did_not_have_then_cannot_have_been_signed(self) -> None:
        play = Play(deposit=5)
        play.send(ALICE, "deposit", amount=100)

        refusal = play.refused(ALICE, "propose_transfer", amount=50, nonce=1, signature=GARBAGE)

        assert refusal.reason == "invalid_signature"

    def test_once_the_nonce_has_moved_it_is_simply_wrong(self) -> None:
        play = Play()
        late = {**play.snapshot, "last_nonce": 1}
        sent = paying.proposal(late, ALICE.secret_key, from_agent_id=ALICE.id, amount=10)
        play.send(BOB, "deposit", amount=100)
        play.propose(BOB)
        play.send(ALICE, "reject_transfer")

        assert play.refused(ALICE, "propose_transfer", **sent).reason == "invalid_signature"

    def test_before_an_earlier_deposit_it_is_simply_wrong(self) -> None:
        play = Play()
        sent = play.proposal()
        for _ in range(2):
            play.send(BOB, "deposit", amount=100)

        assert play.refused(ALICE, "propose_transfer", **sent).reason == "invalid_signature"


CloseSpoiler = Callable[[Play, bytes], str]

FINALS = (400, 1_600)
SPOILED_CLOSES: dict[str, CloseSpoiler] = {
    "no base64": lambda play, seed: GARBAGE,
    "zeroes": lambda play, seed: FORGED,
    "mallory's": lambda play, seed: paying.close_signature(play.snapshot, secret_of(0xD), FINALS),
    "the other party's": lambda play, seed: paying.close_signature(
        play.snapshot, next(one for one in SEEDS.values() if one != seed), FINALS
    ),
    "another channel's": lambda play, seed: paying.close_signature(
        {**play.snapshot, "channel_id": OTHER_ID}, seed, FINALS
    ),
    "another domain's": lambda play, seed: paying.close_signature(
        {**play.snapshot, "signing_domain": "other.test"}, seed, FINALS
    ),
    "swapped finals": lambda play, seed: paying.close_signature(play.snapshot, seed, (1_600, 400)),
    "two nonces before": lambda play, seed: paying.close_signature(play.snapshot, seed, FINALS, nonce=0),
    "the next nonce": lambda play, seed: paying.close_signature(play.snapshot, seed, FINALS, nonce=3),
    "a transfer": lambda play, seed: paying.transfer_signature(
        play.snapshot, seed, from_agent_id=ALICE.id, amount=600, balances=FINALS, nonce=2
    ),
}


def paid_twice() -> Play:
    play = Play()
    play.pay(ALICE, 10)
    play.pay(BOB, 10)
    return play


class TestCloses:
    @pytest.mark.parametrize("side", ["a", "b"])
    @pytest.mark.parametrize("spoil", SPOILED_CLOSES.values(), ids=SPOILED_CLOSES)
    def test_a_close_is_signed_by_both_over_just_its_finals(self, spoil: CloseSpoiler, side: str) -> None:
        play = paid_twice()
        who = ALICE if side == "a" else BOB
        sent = play.closing(FINALS) | {f"signature_{side}": spoil(play, who.secret_key)}

        refusal = play.refused(ALICE, "close", **sent)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")
        assert refusal.context == {"agent_id": who.id, "last_nonce": 2, "balance_a": 1_000, "balance_b": 1_000}
        assert f"party {side.upper()}" in refusal.message

    @pytest.mark.parametrize("who", [ALICE, BOB])
    @pytest.mark.parametrize("spoil", SPOILED_CLOSES.values(), ids=SPOILED_CLOSES)
    def test_a_close_request_by_who_sends_it(self, spoil: CloseSpoiler, who: Player) -> None:
        play = paid_twice()
        sent = play.close_request(who, FINALS) | {"signature": spoil(play, who.secret_key)}

        refusal = play.refused(who, "close_request", **sent)

        assert (refusal.reason, refusal.context["agent_id"]) == ("invalid_signature", who.id)

    @pytest.mark.parametrize("late", ["signature_a", "signature_b"])
    def test_a_close_of_the_nonce_before_is_late(self, late: str) -> None:
        play = Play()
        before = play.closing(FINALS)
        play.pay()

        refusal = play.refused(BOB, "close", **play.closing(FINALS) | {late: before[late]})

        assert (refusal.kind, refusal.reason) == ("conflict", "stale_state")
        who = ALICE if late == "signature_a" else BOB
        assert refusal.context == {"agent_id": who.id, "last_nonce": 1, "balance_a": 990, "balance_b": 1_010}

    def test_so_is_a_close_request(self) -> None:
        play = Play()
        before = play.close_request(ALICE, FINALS)
        play.propose()
        play.send(BOB, "reject_transfer")

        assert play.refused(ALICE, "close_request", **before).reason == "stale_state"

    def test_at_the_first_nonce_there_is_none_before(self) -> None:
        play = Play()

        refusal = play.refused(ALICE, "close", **play.closing() | {"signature_a": GARBAGE})

        assert (refusal.reason, refusal.context["last_nonce"]) == ("invalid_signature", 0)

"""How a payment channel is shown: whole, as a receipt's document, and as the head of its exported history."""

from collections.abc import Callable

import msgspec
import pytest

from channels.channel_steps import StepKind
from channels.payment_state import UNTOLD, PaymentChannel, history_header, receipt_document, snapshot
from tests.channels.channel_play import PHASES, Play, in_phase, offline
from tests.channels.payment_stage import DAY_S, Json
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, as_told, refused


def document_of(play: Play) -> Json:
    document: Json = as_told(receipt_document(play.channel, MARKET))
    return document


def decided(play: Play) -> None:
    play.dispute(BOB)
    play.decide(1, 1_999)


def forced(play: Play) -> None:
    play.send(ALICE, "force_close")
    play.wait(DAY_S)


def timed_out(play: Play) -> None:
    play.dispute(BOB)
    play.wait(DAY_S)


ENDS: dict[str, Callable[[Play], object]] = {
    "force_close": forced,
    "dispute_timeout": timed_out,
    "operator": decided,
}


class TestTheReceipt:
    def test_of_a_joint_close_holds_all_that_is_needed_to_verify_it(self) -> None:
        play = Play()
        play.pay(ALICE, 10)
        play.send(BOB, "deposit", amount=5)
        sent = play.closing((1_000, 1_005))
        play.wait(60)
        play.send(BOB, "close", **sent)

        assert document_of(play) == {
            "channel_id": FRESH_ID,
            "mode": "online",
            "agent_a_id": ALICE.id,
            "agent_b_id": BOB.id,
            "public_key_a": ALICE.agent.public_key,
            "public_key_b": BOB.agent.public_key,
            "deposit_a": 1_000,
            "deposit_b": 1_005,
            "last_nonce": 1,
            "last_transfer": play.snapshot["last_transfer"],
            "deposited_since_a": 0,
            "deposited_since_b": 5,
            "balance_a": 990,
            "balance_b": 1_015,
            "cause": "joint_close",
            "close": {"nonce": 1, **sent},
            "reason": None,
            "final_balance_a": 1_000,
            "final_balance_b": 1_005,
            "currency": "USD",
            "exponent": 6,
            "opened_at": "2026-03-01T12:00:00Z",
            "closed_at": "2026-03-01T12:01:00Z",
        }
        assert play.verify().checks

    @pytest.mark.parametrize("make", [Play, offline])
    @pytest.mark.parametrize(("cause", "end"), ENDS.items(), ids=ENDS)
    def test_of_another_end_holds_no_close(
        self, cause: str, end: Callable[[Play], object], make: Callable[[], Play]
    ) -> None:
        play = make()

        end(play)

        document = document_of(play)
        assert (document["cause"], document["close"], document["last_transfer"]) == (cause, None, None)
        assert document["reason"] == ("So be it." if cause == "operator" else None)
        assert play.verify().checks

    @pytest.mark.parametrize("phase", [phase for phase in PHASES if phase != "closed"])
    def test_before_the_end_and_of_what_was_never_opened_there_is_none(self, phase: str) -> None:
        play = in_phase(phase)

        refusal = refused(receipt_document, play.channel, MARKET)

        assert (refusal.kind, refusal.reason) == ("conflict", "not_closed")
        assert refusal.context == {"status": play.channel.status}


def test_the_head_of_a_history_says_whose_it_is() -> None:
    assert as_told(history_header(offline(window_s=3 * DAY_S).channel, MARKET)) == {
        "kind": "payment_history",
        "id": FRESH_ID,
        "signing_domain": "market.test",
        "currency": "USD",
        "exponent": 6,
        "mode": "offline",
        "window_s": 3 * DAY_S,
        "agent_a_id": ALICE.id,
        "agent_b_id": BOB.id,
        "public_key_a": ALICE.agent.public_key,
        "public_key_b": BOB.agent.public_key,
    }


def test_the_parties_see_all_of_it_but_what_the_server_keeps_for_itself() -> None:
    shown = snapshot(Play().channel, MARKET)

    names = {field.name for field in msgspec.structs.fields(PaymentChannel)} - UNTOLD
    assert shown.keys() == names | {"channel_id", "next_nonce", "signing_domain", "currency", "exponent"}


@pytest.mark.parametrize("phase", PHASES)
def test_the_whole_history_of_each_phase_verifies_and_ends_with_the_channel_as_it_is(phase: str) -> None:
    play = in_phase(phase)

    assert play.verify().checks
    last = play.step
    assert (last.balance_a, last.balance_b, last.last_nonce) == (
        play.channel.balance_a,
        play.channel.balance_b,
        play.channel.last_nonce,
    )
    assert [step.number for step in play.steps] == list(range(1, play.channel.steps + 1))


def test_only_transfers_and_what_is_voided_consume_a_nonce() -> None:
    play = Play()
    play.send(ALICE, "deposit", amount=1)
    play.pay()
    play.propose()
    play.send(BOB, "reject_transfer")
    play.send(ALICE, "close_request", **play.close_request())
    play.dispute(BOB)

    assert [(step.kind, step.nonce) for step in play.steps] == [
        (StepKind.OPENED, None),
        (StepKind.ACCEPTED, None),
        (StepKind.DEPOSIT, None),
        (StepKind.TRANSFER, 1),
        (StepKind.VOIDED, 2),
        (StepKind.CLOSE_REQUEST, None),
        (StepKind.DISPUTE, None),
    ]

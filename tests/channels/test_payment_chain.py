"""Transfers that were signed outside the server: a gapless chain, verified one by one, applied whole or not at all."""

from collections.abc import Callable
from typing import Any

import pytest

from channels.errors import not_found
from channels.ledger import MONEY_MAX
from channels.payment import HANDLERS
from channels.payment_state import Cause
from channels.told import Audience
from tests import paying
from tests.channels.channel_play import FORGED, GARBAGE, OFFLINE, Play, in_phase, offline, payload_of
from tests.channels.payment_stage import DAY_S, Json
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, OTHER_ID, Player, market_with

TOPIC = f"payment:{FRESH_ID}"


class TestHandingIn:
    @pytest.mark.parametrize("who", [ALICE, BOB])
    def test_either_party_hands_in_what_both_have_signed_and_both_are_told(self, who: Player) -> None:
        play = offline()
        chain = play.chain(100, -30, 5)
        play.wait(60)

        reply = play.send(who, "submit_transfers", transfers=chain)

        assert reply == {**play.snapshot, "applied": 3, "duplicates": 0}
        assert reply == reply | {
            "balance_a": 925,
            "balance_b": 1_075,
            "last_nonce": 3,
            "next_nonce": 4,
            "deposited_since_a": 0,
            "deposited_since_b": 0,
        }
        assert reply["last_transfer"] == {
            **chain[2],
            "to_agent_id": BOB.id,
            "balance_a": 925,
            "balance_b": 1_075,
            "completed_at": "2026-03-01T12:01:00Z",
        }
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "transfers_submitted", Audience.ALL)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "agent_id": who.id,
            "applied": 3,
            "channel": play.snapshot,
        }
        assert (play.entries(), play.spent(), play.mail()) == ([], [], [])
        assert play.verify().checks

    def test_each_is_a_step(self) -> None:
        play = offline()
        chain = play.chain(100, -30)

        play.send(BOB, "submit_transfers", transfers=chain)

        first, second = play.steps[-2:]
        assert (first.kind, first.agent_id, first.nonce, first.balance_a) == ("transfer", BOB.id, 1, 900)
        assert (second.kind, second.agent_id, second.nonce, second.balance_a) == ("transfer", BOB.id, 2, 930)
        assert second.details == {**chain[1], "to_agent_id": ALICE.id, "memo": None}

    @pytest.mark.parametrize("phase", ["open", "closing", "disputed", "revoked"])
    def test_while_it_is_open_closing_or_disputed_and_after_a_revocation(self, phase: str) -> None:
        play = in_phase(phase, mode=OFFLINE)
        status = play.snapshot["status"]

        reply = play.hand_in(100)

        assert (reply["applied"], reply["status"], reply["balance_a"]) == (1, status, 900)

    def test_what_was_applied_before_is_passed_over(self) -> None:
        play = offline()
        chain = play.chain(100, -30, 5)
        play.send(ALICE, "submit_transfers", transfers=chain[:2])

        reply = play.send(BOB, "submit_transfers", transfers=chain)

        assert (reply["applied"], reply["duplicates"], reply["last_nonce"]) == (1, 2, 3)
        assert payload_of(play.told_once())["applied"] == 1
        assert play.kinds()[-3:] == ["transfer"] * 3

    @pytest.mark.parametrize("who", [ALICE, BOB])
    def test_a_whole_chain_again_changes_nothing_and_tells_nobody(self, who: Player) -> None:
        play = offline()
        chain = play.chain(100, -30)
        play.send(ALICE, "submit_transfers", transfers=chain)
        before = play.everything()

        reply = play.send(who, "submit_transfers", transfers=chain)

        assert reply == {**play.snapshot, "applied": 0, "duplicates": 2}
        assert (play.everything(), play.last.state, play.last.changes, play.last.broadcasts) == (before, None, (), ())

    def test_one_that_stands_twice_in_a_chain_is_applied_once(self) -> None:
        play = offline()
        (first,) = play.chain(100)

        reply = play.send(ALICE, "submit_transfers", transfers=[first, first])

        assert (reply["applied"], reply["duplicates"], reply["balance_a"]) == (1, 1, 900)

    def test_tasks_are_not_looked_up(self) -> None:
        play = offline()
        signed = {
            name: paying.transfer_signature(
                play.snapshot, who.secret_key, from_agent_id=ALICE.id, amount=7, task_id=OTHER_ID
            )
            for name, who in (("signature_a", ALICE), ("signature_b", BOB))
        }
        transfer = {"amount": 7, "nonce": 1, "from_agent_id": ALICE.id, "task_id": OTHER_ID, **signed}

        reply = play.send(BOB, "submit_transfers", transfers=[transfer])

        assert reply["last_transfer"]["task_id"] == OTHER_ID

    def test_it_ends_a_standing_close_request(self) -> None:
        play = offline()
        sent = play.close_request(ALICE)
        play.send(ALICE, "close_request", **sent)

        assert play.hand_in(1)["close_requests"] == []
        assert play.refused(ALICE, "close_request", **sent).reason == "stale_state"

    def test_a_thousand_are_handed_in_at_once_and_no_more(self) -> None:
        play = offline(market=market_with(transfers_per_frame_max=3))
        chain = play.chain(1, 1, 1, 1)

        refusal = play.refused(ALICE, "submit_transfers", transfers=chain)
        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "transfers"})
        assert play.send(ALICE, "submit_transfers", transfers=chain[:3])["applied"] == 3
        assert Play().market.limits.transfers_per_frame_max == 1_000

    def test_none_is_refused(self) -> None:
        refusal = offline().refused(ALICE, "submit_transfers", transfers=[])

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "transfers"})

    def test_after_the_window_it_is_too_late_also_before_the_timer_has_run(self) -> None:
        play = in_phase("closing", mode=OFFLINE)
        chain = play.chain(100)
        play.wait(DAY_S, is_timer_late=True)

        assert play.refused(BOB, "submit_transfers", transfers=chain).reason == "terminal_state"


Spoiler = Callable[[Play, Json], Any]


def signed_again(play: Play, transfer: Json, **changed: Any) -> Json:
    """The second transfer of the chain, signed by both over other terms."""
    after_first = {**play.snapshot, "balance_a": 900, "balance_b": 1_100, "last_nonce": 1}
    terms = {"from_agent_id": transfer["from_agent_id"], "amount": transfer["amount"], "nonce": 2} | changed
    balances = paying.after(after_first, from_agent_id=terms["from_agent_id"], amount=terms["amount"])
    names = {"from_agent_id", "amount", "nonce", "task_id"}
    return terms | {
        f"signature_{side}": paying.transfer_signature(
            after_first,
            who.secret_key,
            balances=balances,
            **{name: value for name, value in terms.items() if name in names},
        )
        for side, who in (("a", ALICE), ("b", BOB))
    }


BAD: dict[str, tuple[str, Spoiler, Json]] = {
    "a gap": ("nonce_gap", lambda play, one: signed_again(play, one, nonce=3), {}),
    "far ahead": ("nonce_gap", lambda play, one: one | {"nonce": 2**53}, {}),
    "a stranger": ("not_a_party", lambda play, one: one | {"from_agent_id": CAROL.id}, {}),
    "nobody": ("not_a_party", lambda play, one: one | {"from_agent_id": ""}, {}),
    "nothing": ("amount_out_of_range", lambda play, one: one | {"amount": 0}, {}),
    "less than nothing": ("amount_out_of_range", lambda play, one: one | {"amount": -1}, {}),
    "too much": ("insufficient_channel_balance", lambda play, one: one | {"amount": 901}, {"balance": 900}),
    "far too much": (
        "insufficient_channel_balance",
        lambda play, one: one | {"amount": MONEY_MAX + 1},
        {"balance": 900},
    ),
    "a bad task id": ("invalid_task_id", lambda play, one: one | {"task_id": "x\ny"}, {}),
    "a task id in capitals": ("invalid_task_id", lambda play, one: one | {"task_id": CAROL.id.upper()}, {}),
}


class TestWhatIsNotGood:
    """Alice pays 100, then 10; the second one is spoiled, so neither is applied."""

    def _refused(self, play: Play, spoiled: Json) -> Json:
        first, _ = play.chain(100, 10)
        refusal = play.refused(BOB, "submit_transfers", transfers=[first, spoiled])
        assert (refusal.kind, refusal.reason) == ("invalid", "bad_transfer")
        return refusal.context

    @pytest.mark.parametrize(("cause", "spoil", "more"), BAD.values(), ids=BAD)
    def test_the_first_that_is_not_good_is_told_and_nothing_is_applied(
        self, cause: str, spoil: Spoiler, more: Json
    ) -> None:
        play = offline()

        told = self._refused(play, spoil(play, play.chain(100, 10)[1]))

        assert told == {"index": 1, "cause": cause, "expected_nonce": 2, **more}

    @pytest.mark.parametrize("side", ["signature_a", "signature_b"])
    @pytest.mark.parametrize("bad", [GARBAGE, FORGED, "", "mallory", "channel", "domain", "swapped", "stale", "other"])
    def test_both_signatures_cover_just_the_transfer(self, side: str, bad: str) -> None:
        play = offline()
        _, second = play.chain(100, 10)
        who = ALICE if side == "signature_a" else BOB
        terms: Json = {"from_agent_id": ALICE.id, "amount": 10, "nonce": 2, "balances": (890, 1_110)}
        base, seed = play.snapshot, who.secret_key
        spoiled: dict[str, Callable[[], str]] = {
            "mallory": lambda: paying.transfer_signature(base, MALLORY.secret_key, **terms),
            "channel": lambda: paying.transfer_signature(base | {"channel_id": OTHER_ID}, seed, **terms),
            "domain": lambda: paying.transfer_signature(base | {"signing_domain": "other.test"}, seed, **terms),
            "swapped": lambda: paying.transfer_signature(base, seed, **{**terms, "balances": (1_110, 890)}),
            "stale": lambda: paying.transfer_signature(base, seed, **{**terms, "balances": (990, 1_010)}),
            "other": lambda: second["signature_b" if side == "signature_a" else "signature_a"],
        }

        told = self._refused(play, second | {side: spoiled[bad]() if bad in spoiled else bad})

        assert told == {
            "index": 1,
            "cause": "invalid_signature",
            "expected_nonce": 2,
            "balance_a": 890,
            "balance_b": 1_110,
        }

    def test_another_transfer_at_a_nonce_of_the_same_chain_is_replayed(self) -> None:
        play = offline()
        first, second = play.chain(100, 10)

        refusal = play.refused(
            BOB, "submit_transfers", transfers=[first, second, signed_again(play, second, amount=11)]
        )

        assert (refusal.kind, refusal.reason) == ("conflict", "nonce_replayed")
        assert refusal.context == {"index": 2, "expected_nonce": 3}

    @pytest.mark.parametrize(
        "changed", [{"amount": 101}, {"from_agent_id": BOB.id}, {"task_id": OTHER_ID}, {"nonce": 0}, {"nonce": -1}]
    )
    def test_another_transfer_at_an_applied_nonce_is_replayed(self, changed: Json) -> None:
        play = offline()
        (first,) = play.chain(100)
        play.send(ALICE, "submit_transfers", transfers=[first])

        refusal = play.refused(BOB, "submit_transfers", transfers=[first, first | changed])

        assert (refusal.kind, refusal.reason) == ("conflict", "nonce_replayed")
        assert refusal.context == {"index": 1, "expected_nonce": 2}

    def test_an_older_state_cannot_come_back(self) -> None:
        """Mallory hands in another second transfer, which both once signed too, after the true one was applied."""
        play = offline()
        first, second = play.chain(100, 10)
        forked = signed_again(play, second, amount=1)
        play.send(ALICE, "submit_transfers", transfers=[first, second])

        assert play.refused(BOB, "submit_transfers", transfers=[first, forked]).reason == "nonce_replayed"
        assert play.snapshot["balance_a"] == 890

    def test_the_causes_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        play = offline()
        bad: Json = {
            "nonce": 9,
            "from_agent_id": CAROL.id,
            "amount": 0,
            "task_id": "bad",
            "signature_a": GARBAGE,
            "signature_b": GARBAGE,
        }
        mended: list[tuple[str, Json]] = [
            ("nonce_gap", {}),
            ("not_a_party", {"nonce": 1}),
            ("amount_out_of_range", {"from_agent_id": ALICE.id}),
            ("insufficient_channel_balance", {"amount": 1_001}),
            ("invalid_task_id", {"amount": 1}),
            ("invalid_signature", {"task_id": None}),
        ]
        causes: list[str] = []
        for _, change in mended:
            bad |= change
            causes.append(play.refused(ALICE, "submit_transfers", transfers=[bad]).context["cause"])

        assert causes == [cause for cause, _ in mended]

    def test_the_refusals_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        play = offline()
        play.hand_in(100)
        used = {"nonce": 1, "from_agent_id": CAROL.id, "amount": 0, "signature_a": "", "signature_b": ""}
        cases: list[tuple[str, Player, Play, list[Json]]] = [
            ("not_found", MALLORY, in_phase("closed"), []),
            ("terminal_state", ALICE, in_phase("closed"), []),
            ("channel_not_open", ALICE, in_phase("pending"), []),
            ("wrong_mode", ALICE, Play(), []),
            ("invalid_payload", ALICE, play, []),
            ("nonce_replayed", ALICE, play, [used]),
            ("bad_transfer", ALICE, play, [used | {"nonce": 2}]),
        ]

        reasons = [one.refused(who, "submit_transfers", transfers=sent).reason for _, who, one, sent in cases]

        assert reasons == [case[0] for case in cases]

    def test_strangers_find_no_channel(self) -> None:
        play = offline()

        refusal = play.refused(CAROL, "submit_transfers", transfers=play.chain(1))

        assert refusal.response() == not_found("payment channel").response()


class TestBesideTheWriter:
    """Chains are verified before the writer takes them, so that nobody waits for a thousand signatures."""

    def test_what_brings_chains_is_rehearsed_and_limited_by_its_bytes(self) -> None:
        rehearsed = {event for event, handler in HANDLERS.items() if handler.is_rehearsed}

        assert rehearsed == {"dispute", "submit_transfers"}
        assert {event for event, handler in HANDLERS.items() if handler.rate == "chain"} == rehearsed


def test_a_payer_whose_payee_does_not_countersign_force_closes_and_loses_nothing_more() -> None:
    play = offline()
    play.hand_in(100)
    play.send(ALICE, "force_close")

    play.wait(DAY_S)

    assert (play.snapshot["final_balance_a"], play.snapshot["final_balance_b"]) == (900, 1_100)


def test_after_a_ban_the_chain_may_still_be_handed_in() -> None:
    play = offline()
    chain = play.chain(100)
    play.revoke(Cause.BANNED)

    assert play.send(BOB, "submit_transfers", transfers=chain)["applied"] == 1

"""Joining a payment channel: what is answered, what a client that is behind is brought, and what one ahead proves."""

from collections.abc import Callable

import msgspec
import pytest

from channels import payment
from channels.errors import not_found
from channels.handlers import Access
from channels.identity import Identity
from channels.payment_state import ChannelFacts
from channels.told import Audience
from tests import paying
from tests.channels.channel_play import FORGED, GARBAGE, OFFLINE, PHASES, Play, in_phase, offline, payload_of
from tests.channels.payment_stage import DAY_S, Json, elsewhere
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, OTHER_ID, Player, context, market_with, refused

TOPIC = f"payment:{FRESH_ID}"
STATE_LOST = {"nonce", "amount", "from_agent_id", "balance_a", "balance_b", "task_id", "signature_a", "signature_b"}
"""What is kept of a state that was lost, beside who has reported it and when."""


def signed_by_both(play: Play, *, nonce: int, amount: int = 10, payer: Player = ALICE) -> Json:
    """A doubly signed state at any nonce, as if the balances of now had been those before."""
    terms: Json = {"from_agent_id": payer.id, "amount": amount, "nonce": nonce}
    balance_a, balance_b = paying.after(play.snapshot, from_agent_id=payer.id, amount=amount)
    signatures = {
        f"signature_{side}": paying.transfer_signature(play.snapshot, who.secret_key, **terms)
        for side, who in (("a", ALICE), ("b", BOB))
    }
    return {**terms, "balance_a": balance_a, "balance_b": balance_b, "task_id": None, **signatures}


class TestWhoMay:
    @pytest.mark.parametrize("who", [ALICE, BOB])
    @pytest.mark.parametrize("phase", PHASES)
    def test_both_parties_at_any_time_and_they_get_the_whole_channel(self, phase: str, who: Player) -> None:
        play = in_phase(phase)
        before = play.everything()

        assert play.send(who, "join") == play.snapshot
        assert play.everything() == before

    @pytest.mark.parametrize("who", [CAROL, MALLORY])
    def test_to_strangers_there_is_no_channel(self, who: Player) -> None:
        assert Play().refused(who, "join").response() == not_found("payment channel").response()

    @pytest.mark.parametrize("event", ["join", *payment.HANDLERS])
    def test_where_there_is_none_there_is_none(self, event: str) -> None:
        handler = payment.JOIN if event == "join" else payment.HANDLERS[event]
        sent = Play()
        payloads: dict[str, Json] = {
            "propose_transfer": sent.proposal(),
            "acknowledge_transfer": {"amount": 1, "nonce": 1, "signature": GARBAGE},
            "close": sent.closing(),
            "close_request": sent.close_request(),
            "dispute": {"reason": ""},
            "submit_transfers": {"transfers": []},
        }
        request = msgspec.convert(payloads.get(event, {}), handler.request)

        refusal = refused(handler.decide, ChannelFacts(channel=None), request, context(ALICE))

        assert refusal.response() == not_found("payment channel").response()

    def test_only_agents_may_try(self) -> None:
        owner = Identity(kind="user", user_id="u", handle="alice", key_id="k")

        payment.ACCESS(ALICE.identity, FRESH_ID)
        assert refused(payment.ACCESS, owner, FRESH_ID).reason == "agent_required"

    def test_every_event_comes_in_order_with_the_others_and_needs_the_scope(self) -> None:
        for handler in (payment.JOIN, payment.FORCE_CLOSE, *payment.HANDLERS.values()):
            assert (handler.access, handler.scope) == (Access.WRITE, "payments")

    def test_what_the_server_keeps_for_itself_is_not_told(self) -> None:
        assert not {"before_deposit", "steps", "clock_at"} & Play().snapshot.keys()


class TestTheClock:
    def test_what_is_due_has_happened_when_one_joins(self) -> None:
        play = Play()
        play.propose()
        play.wait(300, is_timer_late=True)

        reply = play.send(BOB, "join")

        assert (reply["pending_proposal"], reply["last_nonce"]) == (None, 1)
        assert [told.event for told in play.told_last()] == ["transfer_voided"]

    def test_of_a_channel_that_is_gone_it_changes_nothing(self) -> None:
        decision = payment.clock(ChannelFacts(channel=None), context(ALICE))

        assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())


class TestBehind:
    """A client that knows an older state is brought the signed states after it."""

    def _played(self) -> Play:
        """Nonces 1 and 3 are transfers, 2 and 4 were voided."""
        play = Play()
        for amount in (10, 20):
            play.pay(ALICE, amount)
            play.propose(BOB, 5)
            play.send(ALICE, "reject_transfer")
        return play

    @pytest.mark.parametrize(("nonce", "missing"), [(0, [1, 3]), (1, [3]), (2, [3]), (3, []), (4, [])])
    def test_it_is_brought_what_came_after_but_nothing_that_was_voided(self, nonce: int, missing: list[int]) -> None:
        play = self._played()

        reply = play.send(ALICE, "join", known={"nonce": nonce})

        assert [one["nonce"] for one in reply["missing_transfers"]] == missing
        assert reply["missing_after"] is None
        assert reply == {**play.snapshot, "missing_transfers": reply["missing_transfers"], "missing_after": None}

    def test_they_come_in_the_form_of_the_last_transfer(self) -> None:
        play = Play()
        play.pay()

        (missing,) = play.send(BOB, "join", known={"nonce": 0})["missing_transfers"]

        assert missing == play.snapshot["last_transfer"]

    def test_who_does_not_say_what_it_knows_is_brought_nothing(self) -> None:
        reply = self._played().send(ALICE, "join", known=None)

        assert not {"missing_transfers", "missing_after"} & reply.keys()

    def test_many_come_in_pages(self) -> None:
        play = offline(market=market_with(missing_transfers_max=3))
        play.hand_in(*[1] * 7)

        pages: list[tuple[list[int], int | None]] = []
        known: int | None = 0
        while known is not None:
            reply = play.send(ALICE, "join", known={"nonce": known})
            known = reply["missing_after"]
            pages.append(([one["nonce"] for one in reply["missing_transfers"]], known))

        assert pages == [([1, 2, 3], 3), ([4, 5, 6], 6), ([7], None)]

    def test_a_page_that_is_just_full_is_the_last(self) -> None:
        play = offline(market=market_with(missing_transfers_max=3))
        play.hand_in(*[1] * 3)

        assert play.send(ALICE, "join", known={"nonce": 0})["missing_after"] is None

    def test_what_it_knows_it_may_say_whole(self) -> None:
        play = Play()
        first = play.pay()["last_transfer"]
        play.pay()
        before = play.everything()

        reply = play.send(BOB, "join", known=first)

        assert ([one["nonce"] for one in reply["missing_transfers"]], reply["state_lost"]) == ([2], None)
        assert play.everything() == before


class TestAhead:
    """A doubly signed state that the server should have, and has not, freezes an online channel."""

    @pytest.mark.parametrize("who", [ALICE, BOB])
    @pytest.mark.parametrize("phase", ["pending", "open", "closing", "disputed", "revoked"])
    def test_it_freezes_the_channel_and_both_are_told(self, phase: str, who: Player) -> None:
        play = in_phase(phase)
        lost, before = play.lost_state(), play.snapshot

        reply = play.send(who, "join", known=lost)

        state_lost = {**lost, "reported_by": who.id, "reported_at": "2026-03-01T12:00:00Z"}
        assert play.snapshot == before | {"state_lost": state_lost, "last_nonce": 1, "next_nonce": 2}
        assert reply == {**play.snapshot, "missing_transfers": [], "missing_after": None}
        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "state_lost", Audience.ALL)
        assert payload_of(told) == {
            "channel_id": FRESH_ID,
            "known_nonce": 1,
            "last_nonce": 1,
            "channel": play.snapshot,
        }
        assert (play.step.kind, play.step.agent_id, play.step.nonce) == ("state_lost", who.id, None)
        assert play.step.details == {name: lost[name] for name in STATE_LOST}
        assert (play.entries(), play.spent(), play.mail()) == ([], [], [])

    def test_it_voids_what_is_pending(self) -> None:
        play = Play()
        play.propose()
        lost = signed_by_both(play, nonce=1, amount=11)

        play.send(BOB, "join", known=lost)

        assert (play.snapshot["pending_proposal"], play.snapshot["last_nonce"]) == (None, 1)
        voided, told = play.told_last()
        assert (voided.event, told.event) == ("transfer_voided", "state_lost")
        assert payload_of(voided) == payload_of(voided) | {"reason": "state_lost", "agent_id": None, "text": None}
        assert play.kinds()[-2:] == ["voided", "state_lost"]

    def test_a_fork_at_an_executed_nonce_freezes(self) -> None:
        play = Play()
        other = signed_by_both(play, nonce=1, amount=11)
        play.pay(ALICE, 10)

        assert play.send(BOB, "join", known=other)["state_lost"]["amount"] == 11

    def test_a_fork_at_a_voided_nonce_freezes(self) -> None:
        play = Play()
        other = signed_by_both(play, nonce=1, amount=11)
        play.propose(ALICE, 10)
        play.send(BOB, "reject_transfer")

        assert play.send(BOB, "join", known=other)["state_lost"]["amount"] == 11

    @pytest.mark.parametrize("payer", [ALICE, BOB])
    @pytest.mark.parametrize("end", ["pending", "rejected", "withdrawn", "expired", "due"])
    def test_what_was_proposed_here_proves_nothing_because_the_payee_can_countersign_it_alone(
        self, end: str, payer: Player
    ) -> None:
        play = Play()
        countersigned = signed_by_both(play, nonce=1, payer=payer)
        payee = BOB if payer is ALICE else ALICE
        play.propose(payer, 10)
        if end in {"rejected", "withdrawn"}:
            play.send(payee if end == "rejected" else payer, "reject_transfer")
        elif end != "pending":
            play.wait(300, is_timer_late=end == "due")

        assert play.send(payee, "join", known=countersigned)["state_lost"] is None

    @pytest.mark.parametrize("payer", [ALICE, BOB])
    def test_nor_does_it_after_other_transfers_and_deposits(self, payer: Player) -> None:
        play = Play()
        countersigned = signed_by_both(play, nonce=1, payer=payer)
        play.propose(payer, 10)
        play.send(payer, "reject_transfer")
        play.pay(ALICE, 70)
        play.send(BOB, "deposit", amount=5)

        for who in (ALICE, BOB):
            assert play.send(who, "join", known=countersigned)["state_lost"] is None

    def test_what_was_executed_is_known(self) -> None:
        play = Play()
        done = play.pay()["last_transfer"]
        play.pay()

        assert play.send(ALICE, "join", known=done)["state_lost"] is None

    def test_an_older_fork_freezes_whatever_came_since(self) -> None:
        play = Play()
        other = signed_by_both(play, nonce=1, amount=11)
        for _ in range(3):
            play.pay()

        reply = play.send(BOB, "join", known=other)

        assert (reply["state_lost"]["nonce"], reply["last_nonce"]) == (1, 3)

    @pytest.mark.parametrize("phase", ["open", "closing", "disputed", "revoked"])
    def test_an_offline_channel_never_freezes_because_it_is_always_behind(self, phase: str) -> None:
        play = in_phase(phase, mode=OFFLINE)
        before = play.everything()

        for nonce in (1, 7):
            assert play.send(BOB, "join", known=signed_by_both(play, nonce=nonce))["state_lost"] is None
        assert play.everything() == before

    @pytest.mark.parametrize("phase", ["closed", "declined", "expired"])
    def test_what_has_ended_does_not_freeze(self, phase: str) -> None:
        play = in_phase(phase)
        before = play.everything()

        assert play.send(BOB, "join", known=signed_by_both(play, nonce=7))["state_lost"] is None
        assert play.everything() == before

    def test_frozen_it_is_not_frozen_once_more_by_what_is_no_newer(self) -> None:
        play = in_phase("frozen")
        before = play.everything()

        play.send(BOB, "join", known=signed_by_both(play, nonce=1, amount=11))

        assert play.everything() == before

    @pytest.mark.parametrize("phase", ["open", "closing", "disputed", "pending"])
    def test_frozen_it_waits_without_a_time_out(self, phase: str) -> None:
        play = in_phase(phase)
        play.freeze()
        before = play.snapshot

        play.wait(100 * DAY_S)

        assert (play.snapshot, play.timer) == (before, None)

    def test_one_may_be_frozen_and_brought_what_it_lacks_at_once(self) -> None:
        play = Play()
        play.pay()

        reply = play.send(BOB, "join", known=play.lost_state(nonce=5))

        assert (reply["last_nonce"], reply["missing_transfers"], reply["missing_after"]) == (5, [], None)


class TestWhatProvesNothing:
    @pytest.mark.parametrize("side", ["signature_a", "signature_b"])
    @pytest.mark.parametrize("bad", [GARBAGE, FORGED, "mallory", "channel", "domain", "other"])
    def test_both_signatures_must_verify(self, side: str, bad: str) -> None:
        play = Play()
        play.pay()
        lost = signed_by_both(play, nonce=2)
        who = ALICE if side == "signature_a" else BOB
        terms: Json = {"from_agent_id": ALICE.id, "amount": 10, "nonce": 2}
        spoiled: dict[str, Callable[[], str]] = {
            "mallory": lambda: paying.transfer_signature(play.snapshot, MALLORY.secret_key, **terms),
            "channel": lambda: paying.transfer_signature(elsewhere(play.snapshot), who.secret_key, **terms),
            "domain": lambda: paying.transfer_signature(
                play.snapshot | {"signing_domain": "other.test"}, who.secret_key, **terms
            ),
            "other": lambda: lost["signature_b" if side == "signature_a" else "signature_a"],
        }

        refusal = play.refused(BOB, "join", known=lost | {side: spoiled[bad]() if bad in spoiled else bad})

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")
        assert refusal.context == {"last_nonce": 1, "balance_a": 990, "balance_b": 1_010}
        assert side in refusal.message

    @pytest.mark.parametrize(
        "changed",
        [
            {"amount": None},
            {"balance_a": None},
            {"balance_b": None},
            {"signature_a": None},
            {"signature_b": None},
            {"from_agent_id": None},
            {"from_agent_id": CAROL.id},
            {"amount": -1},
            {"balance_a": -1},
            {"balance_b": 2**53},
            {"task_id": "x\ny"},
        ],
    )
    @pytest.mark.parametrize("play", [Play, offline])
    def test_a_newer_state_needs_all_of_it(self, play: type[Play], changed: Json) -> None:
        channel = play()

        refusal = channel.refused(BOB, "join", known=signed_by_both(channel, nonce=1) | changed)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "known"})

    def test_the_bare_nonce_of_a_newer_state_is_refused_too(self) -> None:
        refusal = Play().refused(BOB, "join", known={"nonce": 1})

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "known"})

    @pytest.mark.parametrize("changed", [{"signature_a": None}, {"task_id": "bad"}, {"amount": -5}])
    def test_part_of_an_older_state_asks_for_what_came_after_it(self, changed: Json) -> None:
        play = Play()
        first = play.pay()["last_transfer"]

        assert play.send(ALICE, "join", known=first | changed)["missing_transfers"] == []

    def test_a_state_of_nonce_0_proves_nothing(self) -> None:
        play = Play()

        assert play.send(ALICE, "join", known=signed_by_both(play, nonce=0))["state_lost"] is None

    @pytest.mark.parametrize("nonce", [-1, 2**53])
    def test_what_is_no_nonce_is_no_payload(self, nonce: int) -> None:
        play = Play()

        with pytest.raises(msgspec.ValidationError, match="nonce"):
            play.send(BOB, "join", known=play.lost_state() | {"nonce": nonce})

    @pytest.mark.parametrize("changed", [{"amount": 0}, {"task_id": OTHER_ID}, {"nonce": 2**53 - 1}])
    def test_what_nobody_can_have_signed_is_no_proof(self, changed: Json) -> None:
        play = Play()

        assert play.refused(BOB, "join", known=signed_by_both(play, nonce=1) | changed).reason == "invalid_signature"

    def test_the_refusals_have_one_order(self) -> None:
        play = Play()
        bad = signed_by_both(play, nonce=1) | {"signature_a": None, "signature_b": GARBAGE}
        cases: list[tuple[str, Player, Json]] = [
            ("not_found", MALLORY, bad),
            ("invalid_payload", BOB, bad),
            ("invalid_signature", BOB, bad | {"signature_a": GARBAGE}),
        ]

        assert [play.refused(who, "join", known=known).reason for _, who, known in cases] == [case[0] for case in cases]

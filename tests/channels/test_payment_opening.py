"""How a payment channel comes about, ends before anybody has accepted it, and is deposited to."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels import payment_opening
from channels.agents import AgentStatus
from channels.changes import Insert, Mail, NoteStep, Spend, Timer
from channels.contacts import NO_TIE, Kind, Scope, Tie
from channels.errors import not_found
from channels.handlers import Access, Decision
from channels.ledger import available, channel_lock
from channels.opening import Opening
from channels.payment_opening import AcceptanceFacts, OpenChannel, open_channel
from channels.payment_state import PaymentChannel
from channels.told import Audience
from tests.channels.channel_play import ONLINE, Play, offline, payload_of
from tests.channels.payment_stage import DAY_S, WEEK_S
from tests.channels.roles import ALICE, BOB, CAROL, FRESH_ID, MALLORY, NOW, Player, as_told, context, player, refused

STRANGE: dict[str, Any] = {"organisation_id": None, "owner_organisation_id": None}
TOPIC = f"payment:{FRESH_ID}"
LOCK = channel_lock(FRESH_ID)


def opening(
    *,
    client: dict[str, Any] | None = None,
    provider: dict[str, Any] | None = None,
    tie: Tie = NO_TIE,
    open_count: int = 0,
) -> Opening:
    """Alice and Bob, with other fields."""
    return Opening(
        client=player("alice", number=0xA, **(client or {})).agent,
        provider=player("bob", number=0xB, **(provider or {})).agent,
        open_count=open_count,
        tie=tie,
    )


def narrowed(**scope: Any) -> Opening:
    """Alice and Bob as strangers whose contact is for that alone."""
    return opening(client=STRANGE, provider=STRANGE, tie=Tie(is_contact=True, scope=Scope(**scope)))


def open_with(facts: Opening | None = None, *, deposit: int = 1_000, **fields: Any) -> Decision:
    request = OpenChannel(counterparty_agent_id=BOB.id, deposit=deposit, **fields)
    return open_channel(opening() if facts is None else facts, request, context(ALICE))


def stored(decision: Decision) -> PaymentChannel:
    (insert,) = (change for change in decision.changes if isinstance(change, Insert))
    assert (insert.store, insert.id) == ("payment", FRESH_ID)
    assert isinstance(insert.state, PaymentChannel)
    return insert.state


class TestOpening:
    def test_it_locks_the_openers_deposit_and_waits_for_the_counterparty(self) -> None:
        play = Play(counter_deposit=None)

        expires = "2026-03-02T12:00:00Z"
        assert play.last.reply == play.last.reply | {
            "channel_id": FRESH_ID,
            "id": FRESH_ID,
            "status": "pending",
            "mode": "online",
            "window_s": DAY_S,
            "agent_a_id": ALICE.id,
            "agent_b_id": BOB.id,
            "public_key_a": ALICE.agent.public_key,
            "public_key_b": BOB.agent.public_key,
            "deposit_a": 1_000,
            "deposit_b": 0,
            "deposited_since_a": 1_000,
            "balance_a": 1_000,
            "balance_b": 0,
            "last_nonce": 0,
            "next_nonce": 1,
            "signing_domain": "market.test",
            "currency": "USD",
            "exponent": 6,
        }
        assert as_told(play.last.reply)["expires_at"] == expires
        assert play.entries() == [("lock", {available(ALICE.id): -1_000, LOCK: 1_000})]
        assert play.spent() == [1_000]
        assert play.last.broadcasts == ()
        assert play.last.state is None
        assert play.timer == NOW + timedelta(days=1)
        assert play.channel.clock_at == play.timer

    def test_the_channel_is_inserted_as_it_is_told(self) -> None:
        decision = open_with()

        channel = stored(decision)
        assert as_told(decision.reply)["status"] == channel.status == "pending"
        assert [type(change) for change in decision.changes if not hasattr(change, "postings")] == [
            Insert,
            NoteStep,
            Spend,
            Mail,
            Timer,
        ]
        assert channel.steps == 1

    def test_the_counterparty_gets_a_stored_message_of_it(self) -> None:
        (mail,) = Play(counter_deposit=None, deposit=70).mail()

        assert (mail.to_agent_id, mail.type, mail.from_agent_id) == (BOB.id, "payment_channel", ALICE.id)
        assert as_told(mail.payload) == {
            "channel_id": FRESH_ID,
            "topic": TOPIC,
            "status": "pending",
            "agent_a_id": ALICE.id,
            "agent_a_handle": ALICE.agent.handle,
            "deposit": 70,
            "mode": "online",
            "window_s": DAY_S,
            "expires_at": "2026-03-02T12:00:00Z",
        }

    def test_its_first_step_says_so(self) -> None:
        (step,) = Play(counter_deposit=None).steps

        assert (step.number, step.kind, step.at, step.agent_id, step.nonce) == (1, "opened", NOW, ALICE.id, None)
        assert (step.balance_a, step.balance_b, step.last_nonce) == (1_000, 0, 0)
        assert step.details == {"deposit": 1_000}

    @pytest.mark.parametrize("window_s", [None, DAY_S, 3 * DAY_S, WEEK_S])
    def test_the_window_is_a_day_to_a_week(self, window_s: int | None) -> None:
        assert stored(open_with(window_s=window_s)).window_s == (window_s or DAY_S)

    def test_the_mode_is_chosen(self) -> None:
        assert stored(open_with()).mode == "online"
        assert offline().snapshot["mode"] == "offline"

    def test_it_needs_nothing_that_the_other_offers(self) -> None:
        assert stored(open_with(opening(provider={"capabilities": ()}))).agent_b_id == BOB.id

    def test_the_scope_of_the_contact_goes_with_it(self) -> None:
        assert stored(open_with(narrowed(max_price=5_000))).max_price == 5_000
        assert stored(open_with()).max_price is None
        assert stored(open_with(opening(tie=Tie(is_contact=True, scope=Scope(max_price=1))))).max_price is None, (
            "Alice needs no contact with an agent of her own organisation"
        )


class TestWhatIsNotOpened:
    @pytest.mark.parametrize("window_s", [DAY_S - 1, WEEK_S + 1, 0, -1])
    def test_another_window(self, window_s: int) -> None:
        refusal = refused(open_with, window_s=window_s)

        assert (refusal.kind, refusal.reason) == ("invalid", "window_out_of_range")
        assert refusal.context == {"window_min_s": DAY_S, "window_max_s": WEEK_S}

    @pytest.mark.parametrize("deposit", [0, -1])
    def test_without_a_deposit(self, deposit: int) -> None:
        refusal = refused(open_with, deposit=deposit)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "amount_out_of_range", {"minimum": 1})

    def test_with_nobody_there(self) -> None:
        facts = Opening(client=ALICE.agent, provider=None, open_count=0)

        assert refused(open_with, facts).response() == not_found("agent").response()

    @pytest.mark.parametrize("status", [AgentStatus.DRAFT, AgentStatus.BANNED])
    def test_with_a_stranger_that_is_hidden(self, status: AgentStatus) -> None:
        facts = opening(provider={**STRANGE, "status": status})

        assert refused(open_with, facts).response() == not_found("agent").response()

    def test_with_oneself(self) -> None:
        facts = Opening(client=ALICE.agent, provider=ALICE.agent, open_count=0)

        refusal = refused(open_with, facts)

        assert (refusal.kind, refusal.reason) == ("invalid", "same_agent")

    def test_with_a_stranger(self) -> None:
        refusal = refused(open_with, opening(provider=STRANGE))

        assert (refusal.kind, refusal.reason) == ("forbidden", "contact_required")

    def test_with_whom_one_has_blocked_or_is_blocked_by(self) -> None:
        assert refused(open_with, opening(tie=Tie(has_blocked=True))).reason == "blocked_by_you"
        assert refused(open_with, opening(tie=Tie(is_blocked=True))).reason == "not_found"

    def test_without_keys(self) -> None:
        for facts in (opening(client={"public_key": None}), opening(provider={"public_key": None})):
            refusal = refused(open_with, facts)
            assert (refusal.kind, refusal.reason) == ("conflict", "public_key_required")

    def test_while_one_of_the_two_is_not_active(self) -> None:
        for facts in (
            opening(client={"status": AgentStatus.SUSPENDED}),
            opening(provider={"status": AgentStatus.INACTIVE}),
        ):
            refusal = refused(open_with, facts)
            assert (refusal.kind, refusal.reason) == ("conflict", "agent_unavailable")

    def test_more_than_twenty_of_a_pair(self) -> None:
        assert stored(open_with(opening(open_count=19))).status == "pending"

        refusal = refused(open_with, opening(open_count=20))

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "too_many_open", {"max": 20})

    def test_what_the_contact_is_not_for(self) -> None:
        for facts, told in (
            (narrowed(kinds=(Kind.TASK, Kind.NEGOTIATION)), {"kinds": (Kind.TASK, Kind.NEGOTIATION)}),
            (narrowed(max_price=999), {"max_price": 999}),
            (msgspec.structs.replace(narrowed(max_open=2), open_of_all_kinds=2), {"max_open": 2}),
        ):
            refusal = refused(open_with, facts)
            assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "contact_scope_exceeded", told)

    def test_what_the_contact_is_just_for_is_opened(self) -> None:
        exact = narrowed(kinds=(Kind.PAYMENT_CHANNEL,), max_price=1_000, max_open=2)

        assert stored(open_with(msgspec.structs.replace(exact, open_of_all_kinds=1))).max_price == 1_000

    def test_with_money_that_is_not_there(self) -> None:
        assert refused(Play, deposit=1_000_001).reason == "insufficient_balance"

    def test_the_refusals_have_one_order(self) -> None:
        """Each case mends one thing more than the one before it."""
        no_key = {"public_key": None, "status": AgentStatus.SUSPENDED}
        resting = {"status": AgentStatus.SUSPENDED}
        poor = Tie(is_contact=True, scope=Scope(max_price=1))
        closed = Tie(is_contact=True, scope=Scope(kinds=(), max_price=1))
        bad = {"deposit": 0, "window_s": 1}
        late = {"deposit": 2}

        def facts(fields: dict[str, Any], tie: Tie, open_count: int = 20) -> Opening:
            return opening(client=STRANGE | fields, provider=STRANGE | fields, tie=tie, open_count=open_count)

        nobody = Opening(client=facts(no_key, NO_TIE).client, provider=None, open_count=20)
        cases: list[tuple[str, Opening, dict[str, Any]]] = [
            ("window_out_of_range", nobody, bad),
            ("amount_out_of_range", nobody, {"deposit": 0}),
            ("not_found", nobody, late),
            ("same_agent", msgspec.structs.replace(nobody, provider=nobody.client), late),
            ("blocked_by_you", facts(no_key, Tie(has_blocked=True)), late),
            ("contact_required", facts(no_key, NO_TIE), late),
            ("contact_scope_exceeded", facts(no_key, closed), late),
            ("public_key_required", facts(no_key, poor), late),
            ("agent_unavailable", facts(resting, poor), late),
            ("too_many_open", facts({}, poor), late),
            ("contact_scope_exceeded", facts({}, poor, 0), late),
        ]

        assert [refused(open_with, given, **fields).reason for _, given, fields in cases] == [case[0] for case in cases]


class TestAccepting:
    def test_it_locks_the_counterpartys_deposit_and_opens(self) -> None:
        play = Play(counter_deposit=None)
        play.wait(60)

        reply = play.send(BOB, "accept", deposit=300)

        assert reply == play.snapshot
        assert reply == reply | {
            "status": "open",
            "accepted_at": "2026-03-01T12:01:00Z",
            "deposit_b": 300,
            "deposited_since_b": 300,
            "balance_a": 1_000,
            "balance_b": 300,
            "cause": None,
        }
        assert play.entries() == [("lock", {available(BOB.id): -300, LOCK: 300})]
        assert play.spent() == [300]
        assert (play.step.kind, play.step.agent_id, play.step.details) == ("accepted", BOB.id, {"deposit": 300})

    @pytest.mark.parametrize("payload", [{}, {"deposit": 0}])
    def test_it_needs_no_deposit(self, payload: dict[str, int]) -> None:
        play = Play(counter_deposit=None)

        assert play.send(BOB, "accept", **payload)["status"] == "open"

        assert (play.entries(), play.spent()) == ([], [])

    def test_both_are_told_and_the_opener_gets_a_stored_message(self) -> None:
        play = Play(counter_deposit=None)

        play.send(BOB, "accept", deposit=300)

        told = play.told_once()
        assert (told.topic, told.event, told.audience) == (TOPIC, "channel_updated", Audience.ALL)
        assert payload_of(told) == {"channel_id": FRESH_ID, "change": "accepted", "channel": play.snapshot}
        (mail,) = play.mail()
        assert (mail.to_agent_id, mail.type, mail.from_agent_id) == (ALICE.id, "payment_channel", BOB.id)
        assert as_told(mail.payload) == {
            "channel_id": FRESH_ID,
            "topic": TOPIC,
            "status": "open",
            "agent_b_id": BOB.id,
            "deposit": 300,
            "reason": None,
        }

    def test_repeating_it_is_a_duplicate_for_as_long_as_it_is_open_on_it(self) -> None:
        play = Play(counter_deposit=300)
        play.pay()

        play.repeats(BOB, "accept", deposit=300)
        assert play.refused(BOB, "accept", deposit=301).reason == "channel_not_pending"
        play.send(ALICE, "force_close")
        refusal = play.refused(BOB, "accept", deposit=300)
        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "channel_not_pending",
            {"status": "closing"},
        )

    def test_only_the_counterparty_may(self) -> None:
        play = Play(counter_deposit=None)

        for who, reason in ((ALICE, "forbidden_role"), (CAROL, "not_found"), (MALLORY, "not_found")):
            assert play.refused(who, "accept").reason == reason
        assert play.refused(ALICE, "accept").context == {"role": "counterparty"}

    def test_a_deposit_below_zero_is_none(self) -> None:
        refusal = Play(counter_deposit=None).refused(BOB, "accept", deposit=-1)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "amount_out_of_range", {"minimum": 0})

    def test_money_that_is_not_there_is_not_locked(self) -> None:
        assert Play(counter_deposit=None).refused(BOB, "accept", deposit=1_000_001).reason == "insufficient_balance"

    @pytest.mark.parametrize("resting", [ALICE, BOB], ids=["opener", "counterparty"])
    def test_both_must_be_active(self, resting: Player) -> None:
        play = Play(counter_deposit=None)
        agents = [
            msgspec.structs.replace(who.agent, status=AgentStatus.SUSPENDED) if who is resting else who.agent
            for who in (ALICE, BOB)
        ]
        facts = AcceptanceFacts(channel=play.channel, agents=tuple(agents))

        refusal = refused(payment_opening.accept_channel, facts, payment_opening.Acceptance(), context(BOB))

        assert (refusal.kind, refusal.reason) == ("conflict", "agent_unavailable")
        assert refusal.context == {"agent_id": resting.id}


HANDLERS = [getattr(payment_opening, name) for name in ("OPEN", "ACCEPT", "DECLINE", "CANCEL", "DEPOSIT")]


def test_all_of_it_comes_in_order_with_the_other_events_and_needs_the_scope() -> None:
    assert {(handler.access, handler.scope) for handler in HANDLERS} == {(Access.WRITE, "payments")}


def test_where_there_is_no_channel_there_is_none_to_accept() -> None:
    refusal = refused(
        payment_opening.accept_channel, AcceptanceFacts(channel=None), payment_opening.Acceptance(), context(BOB)
    )

    assert refusal.response() == not_found("payment channel").response()


def test_the_timer_is_armed_once_for_what_is_due_first() -> None:
    play = Play(mode=ONLINE, counter_deposit=None)
    play.send(BOB, "accept")
    assert play.timer == NOW + timedelta(days=1), "it is left armed, and finds nothing"

    play.propose()

    (timer,) = (change for change in play.last.changes if isinstance(change, Timer))
    assert timer == Timer("payment_clock", TOPIC, NOW + timedelta(seconds=300))

"""Pay as you stream: Alice pays Bob unit by unit over their channel, and he is at most one credit ahead of her."""

import hashlib
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import Capability, PricingModel
from channels.contacts import Scope, Tie
from channels.hiring import OpenTask, TaskOpening, open_task
from channels.opening import Opening
from channels.payment_state import Phase, StateLost
from channels.stream_price import require_paid
from channels.task_state import StreamPrice, StreamState
from tests import paying
from tests.channels.played import Played
from tests.channels.roles import ALICE, BOB, CAROL, NOW, context, market_with, refused
from tests.channels.work import Mirror, hired, push, stream, topic_of

WEEK = timedelta(days=7)
ONE_SHA256 = hashlib.sha256(b"one").hexdigest()
LOST = StateLost(
    nonce=5,
    amount=1,
    from_agent_id=ALICE.id,
    balance_a=1,
    balance_b=1,
    task_id=None,
    signature_a="a",
    signature_b="b",
    reported_by=BOB.id,
    reported_at=NOW,
)
UNIT = 100
PER_CHUNK = {"amount": UNIT, "per": "chunk"}
PER_BYTES = {"amount": UNIT, "per": "bytes", "unit_bytes": 10}


class Town(Played):
    """A marketplace where Bob works for 100 a unit, and Alice has a channel with him."""

    def __init__(self, *, deposit: int = 500, accepted: bool = True, **channel: Any) -> None:
        super().__init__()
        self.deposit(ALICE, 10_000)
        self.deposit(BOB, 10_000)
        self.change_agent(BOB, capabilities=(Capability("translate", UNIT),))
        self.wire = self.channel(deposit=deposit, accepted=accepted, **channel)

    @property
    def channel_id(self) -> str:
        return self.wire.partition(":")[2]

    def hire(self, **changed: Any) -> str:
        """A task that is paid as it streams; its id."""
        fields = {"stream_price": PER_CHUNK, "channel_id": self.channel_id} | changed
        return hired(self, **fields)

    def send(self, task_id: str, *texts: str) -> None:
        stream(self, task_id, "output", *texts)


@pytest.fixture
def town() -> Town:
    return Town()


class TestOpening:
    def test_holds_nothing_and_is_told_to_the_provider(self, town: Town) -> None:
        before = town.available(ALICE)

        task_id = town.hire(stream_price={**PER_BYTES, "credit": 3})

        whole = town.join(ALICE, topic_of(task_id))
        price = {**PER_BYTES, "credit": 3}
        assert (whole["stream_price"], whole["channel_id"]) == (price, town.channel_id)
        assert (whole["price"], whole["fee"], whole["net"], whole["escrow_status"]) == (0, 0, 0, "none")
        assert (whole["hold_seconds"], whole["paid"], whole["units"], whole["paid_up_to"]) == (0, 0, 0, 0)
        assert (town.available(ALICE), town.spent[ALICE.identity.key_id]) == (before, 1_000), "the deposit alone"
        handoff = town.mail(BOB)[-1].payload
        assert (handoff["stream_price"], handoff["channel_id"], handoff["price"]) == (price, town.channel_id, 0)
        assert not town.task(task_id).is_countable

    def test_the_provider_may_have_opened_the_channel(self) -> None:
        town = Town()
        opened = town.open_channel(BOB, counterparty_agent_id=ALICE.id, deposit=500)
        town.rest(ALICE, f"payment:{opened['id']}", "accept", deposit=500)

        assert town.task(town.hire(channel_id=opened["id"])).channel_id == opened["id"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"max_price": UNIT},
            {"negotiation_session_id": "a", "max_price": None},
            {"stream_price": None},
            {"stream_price": None, "max_price": UNIT, "negotiation_session_id": "a", "channel_id": None},
        ],
    )
    def test_names_one_way_to_pay(self, town: Town, fields: dict[str, Any]) -> None:
        refusal = refused(town.hire, **fields)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "max_price"})

    @pytest.mark.parametrize("fields", [{"channel_id": None}, {"stream_price": None, "max_price": UNIT}])
    def test_a_channel_goes_with_it_and_with_nothing_else(self, town: Town, fields: dict[str, Any]) -> None:
        refusal = refused(town.hire, **fields)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "channel_id"})

    def test_there_is_no_hold(self, town: Town) -> None:
        refusal = refused(town.hire, hold_seconds=0)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "hold_seconds"})

    @pytest.mark.parametrize(
        ("price", "field"),
        [
            ({**PER_CHUNK, "unit_bytes": 10}, "stream_price.unit_bytes"),
            ({**PER_BYTES, "unit_bytes": None}, "stream_price.unit_bytes"),
            ({**PER_BYTES, "unit_bytes": 0}, "stream_price.unit_bytes"),
            ({**PER_BYTES, "unit_bytes": 16_777_217}, "stream_price.unit_bytes"),
            ({**PER_CHUNK, "credit": 0}, "stream_price.credit"),
            ({**PER_CHUNK, "credit": 1_001}, "stream_price.credit"),
        ],
    )
    def test_a_unit_is_what_it_says(self, town: Town, price: dict[str, Any], field: str) -> None:
        refusal = refused(town.hire, stream_price=price)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": field})

    @pytest.mark.parametrize("price", [{**PER_BYTES, "unit_bytes": 16_777_216}, {**PER_CHUNK, "credit": 1_000}])
    def test_up_to_the_limits(self, town: Town, price: dict[str, Any]) -> None:
        assert town.hire(stream_price=price)

    def test_the_market_limits_the_credit(self, town: Town) -> None:
        town.market = market_with(stream_credit_max=2)

        assert town.hire(stream_price={**PER_CHUNK, "credit": 2})
        assert refused(town.hire, stream_price={**PER_CHUNK, "credit": 3}).reason == "invalid_payload"

    @pytest.mark.parametrize("amount", [-1, 0, 10**15 + 1])
    def test_a_unit_costs_something(self, town: Town, amount: int) -> None:
        refusal = refused(town.hire, stream_price={**PER_CHUNK, "amount": amount})

        assert (refusal.kind, refusal.reason) == ("invalid", "amount_out_of_range")
        assert refusal.context == {"minimum": 1, "price_max": 10**15}

    def test_a_unit_costs_the_list_price_at_least(self, town: Town) -> None:
        refusal = refused(town.hire, stream_price={**PER_CHUNK, "amount": UNIT - 1})

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "price_below_base", {"base_price": UNIT})
        assert town.hire(stream_price={**PER_CHUNK, "amount": 10**15})

    def test_an_auction_is_negotiated(self, town: Town) -> None:
        town.change_agent(BOB, pricing_model=PricingModel.AUCTION)

        assert refused(town.hire).reason == "negotiation_required"

    @pytest.mark.parametrize(("max_price", "is_opened"), [(UNIT - 1, False), (UNIT, True)])
    def test_a_contact_bounds_the_unit(self, town: Town, max_price: int, *, is_opened: bool) -> None:
        lone = {"organisation_id": None, "owner_organisation_id": None}
        client, provider = (msgspec.structs.replace(town.agent(who.id), **lone) for who in (ALICE, BOB))
        tie = Tie(is_contact=True, scope=Scope(max_price=max_price))
        request = OpenTask(
            provider_agent_id=BOB.id,
            capability="translate",
            channel_id=town.channel_id,
            stream_price=StreamPrice(amount=UNIT, per="chunk"),
        )
        opening = Opening(client=client, provider=provider, open_count=0, tie=tie)
        facts = TaskOpening(opening=opening, agreement=None, channel=town.states["payment"][town.channel_id])

        if is_opened:
            assert open_task(facts, request, context(ALICE)).changes
            return
        refusal = refused(open_task, facts, request, context(ALICE))
        assert (refusal.reason, refusal.context) == ("contact_scope_exceeded", {"max_price": max_price})


class TestTheChannel:
    def test_is_of_the_two(self, town: Town) -> None:
        ours = town.states["payment"][town.channel_id]
        town.states["payment"]["other"] = msgspec.structs.replace(ours, id="other", agent_b_id=CAROL.id)

        for channel_id in ("no-channel", "other"):
            refusal = refused(town.hire, channel_id=channel_id)
            assert (refusal.kind, refusal.reason) == ("not_found", "not_found")

    @pytest.mark.parametrize(
        ("channel", "changed", "reason"),
        [
            ({"accepted": False}, {}, "channel_not_open"),
            ({"mode": "offline"}, {}, "wrong_mode"),
            ({}, {"is_revoked": True}, "contact_revoked"),
            ({}, {"status": "closing"}, "channel_not_open"),
            ({}, {"status": "disputed"}, "channel_not_open"),
            ({}, {"status": "closed"}, "terminal_state"),
            ({}, {"state_lost": LOST}, "state_lost"),
        ],
    )
    def test_pays_now(self, channel: dict[str, Any], changed: dict[str, Any], reason: str) -> None:
        town = Town(**channel)
        changed = {name: Phase(value) if name == "status" else value for name, value in changed.items()}
        stored = town.states["payment"][town.channel_id]
        town.states["payment"][town.channel_id] = msgspec.structs.replace(stored, **changed)

        refusal = refused(town.hire)

        assert (refusal.kind, refusal.reason) == ("conflict", reason)

    def test_is_asked_after_the_price_and_before_the_room(self, town: Town) -> None:
        """Each case mends one thing more than the one before it."""
        town.market = market_with(tasks_open_max=0)
        bad = {**PER_CHUNK, "amount": 1}

        assert refused(town.hire, stream_price={**bad, "credit": 0}, channel_id="no").reason == "invalid_payload"
        assert refused(town.hire, stream_price=bad, channel_id="no", capability="sing").reason == (
            "capability_not_offered"
        )
        assert refused(town.hire, stream_price={**bad, "amount": 0}, channel_id="no").reason == "amount_out_of_range"
        assert refused(town.hire, stream_price=bad, channel_id="no").reason == "price_below_base"
        assert refused(town.hire, channel_id="no").reason == "not_found"
        assert refused(town.hire).reason == "too_many_open"


class TestPaying:
    def test_a_transfer_for_the_task_pays_units_and_both_are_told(self, town: Town) -> None:
        task_id = town.hire()
        town.send(task_id, "one")
        listeners = [town.listen(who, topic_of(task_id)) for who in (ALICE, BOB)]

        town.pay(town.wire, ALICE, 250, task_id)

        told = {
            "task_id": task_id,
            "channel_id": town.channel_id,
            "nonce": 1,
            "amount": 250,
            "paid": 250,
            "paid_up_to": 2,
            "units": 1,
        }
        for listener in listeners:
            assert [(heard.event, heard.payload) for heard in listener.heard] == [("task_paid", told)]
        assert (town.task(task_id).paid, town.task(task_id).paid_up_to) == (250, 2)

    def test_parts_add_up(self, town: Town) -> None:
        task_id = town.hire()

        for amount in (99, 1, 150):
            town.pay(town.wire, ALICE, amount, task_id)

        assert (town.task(task_id).paid, town.task(task_id).paid_up_to) == (250, 2)

    def test_a_repeated_acknowledgement_pays_once(self, town: Town) -> None:
        task_id = town.hire()
        channel = town.propose(town.wire, ALICE, 250, task_id)
        payload = paying.acknowledgement(channel, BOB.secret_key, channel["pending_proposal"])
        town.push(BOB, town.wire, "acknowledge_transfer", payload)
        before = town.everything()

        assert town.push(BOB, town.wire, "acknowledge_transfer", payload)["duplicate"] is True
        assert town.everything() == before

    @pytest.mark.parametrize("way", ["no task", "another task", "backwards", "another channel", "a held price"])
    def test_nothing_else_pays(self, town: Town, way: str) -> None:
        task_id = town.hire()
        other = town.hire()
        if way == "no task":
            town.pay(town.wire, ALICE, 250)
        elif way == "another task":
            town.pay(town.wire, ALICE, 250, other)
        elif way == "backwards":
            town.pay(town.wire, BOB, 250, task_id)
        elif way == "another channel":
            town.pay(town.channel(), ALICE, 250, task_id)
        else:
            other = hired(town, max_price=UNIT)
            town.pay(town.wire, ALICE, 250, other)
            assert town.task(other).paid == 0

        assert town.task(task_id).paid == 0

    def test_a_proposal_that_is_rejected_pays_nothing(self, town: Town) -> None:
        task_id = town.hire()
        town.propose(town.wire, ALICE, 250, task_id)

        town.push(BOB, town.wire, "reject_transfer", {})

        assert town.task(task_id).paid == 0

    def test_what_is_due_can_be_paid_after_the_end(self, town: Town) -> None:
        task_id = town.hire()
        town.send(task_id, "one")
        push(town, ALICE, task_id, "cancel")

        town.pay(town.wire, ALICE, UNIT, task_id)

        assert (town.task(task_id).status, town.task(task_id).paid) == ("cancelled", UNIT)

    def test_what_is_told_keeps_a_snapshot_current(self, town: Town) -> None:
        task_id = town.hire()
        alice, bob = Mirror(town, ALICE, task_id), Mirror(town, BOB, task_id)

        for text in ("one", "two", "three"):
            bob.push("output_stream", {"chunk": text, "seq": town.task(task_id).output_stream.next_seq})
            alice.require_fresh()
            town.pay(town.wire, ALICE, UNIT, task_id)
            alice.require_fresh()
            bob.require_fresh()


class TestDelivering:
    def test_a_chunk_is_taken_as_far_as_the_credit_reaches(self, town: Town) -> None:
        task_id = town.hire(stream_price={**PER_CHUNK, "credit": 2})
        town.send(task_id, "one", "two")
        before = town.everything()

        refusal = refused(town.send, task_id, "three")

        assert (refusal.kind, refusal.reason) == ("conflict", "payment_due")
        assert refusal.context == {"units": 3, "paid_up_to": 0, "credit": 2, "unit_price": UNIT, "due": UNIT}
        assert town.everything() == before
        town.pay(town.wire, ALICE, UNIT, task_id)
        town.send(task_id, "three")
        assert (town.task(task_id).units, town.task(task_id).paid_up_to) == (3, 1)

    def test_a_part_of_a_unit_pays_for_none(self, town: Town) -> None:
        task_id = town.hire()
        town.send(task_id, "one")
        town.pay(town.wire, ALICE, UNIT - 1, task_id)

        refusal = refused(town.send, task_id, "two")

        assert (refusal.context["paid_up_to"], refusal.context["due"]) == (0, 1)

    def test_a_duplicate_costs_nothing(self, town: Town) -> None:
        task_id = town.hire()
        town.send(task_id, "one")

        reply = push(town, BOB, task_id, "output_stream", chunk="one", seq=0)

        assert (reply["duplicate"], reply["units"], reply["paid_up_to"]) == (True, 1, 0)

    def test_a_chunk_ahead_counts(self, town: Town) -> None:
        task_id = town.hire()
        push(town, BOB, task_id, "output_stream", chunk="two", seq=1)

        assert refused(push, town, BOB, task_id, "output_stream", chunk="one", seq=0).reason == "payment_due"

    def test_input_costs_nothing(self, town: Town) -> None:
        task_id = town.hire()

        for text in ("one", "two", "three"):
            stream(town, task_id, "input", text)

        assert town.task(task_id).units == 0

    def test_bytes_are_paid_by_the_unit_begun(self, town: Town) -> None:
        task_id = town.hire(stream_price=PER_BYTES)
        town.send(task_id, "1234567890")
        assert town.task(task_id).units == 1

        assert refused(town.send, task_id, "x").context["units"] == 2
        town.pay(town.wire, ALICE, UNIT, task_id)
        town.send(task_id, "x")
        town.send(task_id, "123456789")
        assert town.task(task_id).units == 2

    def test_no_chunk_is_more_than_a_unit(self, town: Town) -> None:
        task_id = town.hire(stream_price=PER_BYTES)

        refusal = refused(town.send, task_id, "12345678901")

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "too_large",
            "chunk_too_large",
            {"chunk_bytes_max": 10},
        )

    def test_a_held_price_pays_for_all(self, town: Town) -> None:
        task_id = hired(town, max_price=UNIT)
        task = town.task(task_id)

        require_paid(task, StreamState(next_seq=10**6), chunk_bytes=65_536)
        assert (task.units, task.paid_up_to) == (None, None)


class TestStopping:
    @pytest.mark.parametrize("event", ["cancel", "complete", "error", "deadline"])
    def test_no_money_moves_and_nothing_counts(self, town: Town, event: str) -> None:
        """Each has lost what is on credit at most, whoever stops, and however."""
        task_id = town.hire()
        before = town.available(ALICE), town.available(BOB)
        town.send(task_id, "one")
        if event == "deadline":
            town.advance(604_800)
        elif event == "cancel":
            push(town, ALICE, task_id, "cancel")
        else:
            push(town, BOB, task_id, "output_complete", checksum=ONE_SHA256, total_size=3)
            push(town, BOB, task_id, event, **({"type": "no"} if event == "error" else {}))

        task = town.task(task_id)
        assert task.is_final
        assert (task.escrow_status, task.hold_ends_at, task.kept_until) == ("none", None, town.now + WEEK)
        assert (town.available(ALICE), town.available(BOB)) == before
        assert town.outcomes == []

    def test_there_is_nothing_to_dispute(self, town: Town) -> None:
        task_id = town.hire()
        town.send(task_id, "one")

        refusal = refused(push, town, ALICE, task_id, "dispute", reason="no")

        assert (refusal.reason, refusal.context) == ("not_held", {"escrow_status": "none"})

    def test_there_is_nothing_to_release(self, town: Town) -> None:
        task_id = town.hire()
        push(town, BOB, task_id, "complete", result=1)

        assert refused(push, town, ALICE, task_id, "release").reason == "not_held"

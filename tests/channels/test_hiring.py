from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import AgentStatus, Capability, PricingModel
from channels.ledger import available, escrow
from channels.negotiation import Phase as NegotiationPhase
from crypto import NO_CHUNKS
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    MARKET,
    NOW,
    OTHER_ID,
    Player,
    agent_named,
    as_told,
    capped,
    market_with,
    player,
    refused,
)
from tests.channels.work import (
    AGREED_PRICE,
    FEE,
    GLOBAL_BOB,
    PRICE,
    PURSE,
    agreement,
    deliver,
    held,
    hired,
    in_phase,
    topic_of,
    world_of,
)
from tests.channels.world import World

DAY_S = 86_400
STRANGER = player("carol", number=0xC, organisation_id=None, owner_organisation_id=None)


@pytest.fixture
def world() -> World:
    return world_of()


def hire(world: World, who: Player = ALICE, **changes: Any) -> Any:
    """Hire Bob to translate at his list price, but for what is changed; None leaves a field out."""
    fields = {"provider_agent_id": BOB.id, "capability": "translate", "max_price": PRICE} | changes
    return world.open_task(who, **{name: value for name, value in fields.items() if value is not None})


def hire_as_agreed(world: World, who: Player = ALICE, **changes: Any) -> Any:
    """Hire Bob by the agreement, but for what is changed."""
    return hire(world, who, **({"max_price": None, "negotiation_session_id": OTHER_ID} | changes))


class TestHiringAtTheListPrice:
    def test_opens_a_pending_task_and_shows_the_whole_of_it(self, world: World) -> None:
        reply = hire(world, input={"text": "hello", "to": ["fr"]})

        joined = [world.join(who, topic_of(reply["task_id"])) for who in (ALICE, BOB)]
        assert joined == [reply, {**reply, "checkpoint": None}]
        closed = {"complete": False, "verified": False, "checksum": None}
        untouched = {"next_seq": 0, "total_size": 0, "digest": NO_CHUNKS, **closed}
        assert reply == {
            "id": reply["task_id"],
            "task_id": reply["task_id"],
            "client_agent_id": ALICE.id,
            "provider_agent_id": BOB.id,
            "status": "pending",
            "capability": "translate",
            "input": {"text": "hello", "to": ["fr"]},
            "negotiation_session_id": None,
            "price": PRICE,
            "fee": FEE,
            "fee_bps": 500,
            "net": PRICE - FEE,
            "escrow_status": "held",
            "hold_seconds": 3_600,
            "hold_ends_at": None,
            "channel_id": None,
            "stream_price": None,
            "paid": 0,
            "units": None,
            "paid_up_to": None,
            "dispute": None,
            "settlement": None,
            "kept_until": None,
            "private_channel_id": None,
            "streams": {"input": untouched, "output": untouched},
            "progress": None,
            "result": None,
            "error": None,
            "reason": None,
            "ended_by": None,
            "created_at": "2026-03-01T12:00:00Z",
            "started_at": None,
            "ended_at": None,
            "deadline": "2026-03-08T12:00:00Z",
            "currency": "USD",
            "exponent": 6,
            "signing_domain": MARKET.signing_domain,
        }

    def test_holds_the_price_and_counts_it_against_the_keys_cap(self, world: World) -> None:
        task_id = hire(world)["task_id"]

        assert (world.available(ALICE), held(world, task_id)) == (PURSE - PRICE, PRICE)
        assert world.spent == {ALICE.identity.key_id: PRICE}
        world.require_balance()

    def test_holds_the_list_price_where_the_ceiling_is_higher(self, world: World) -> None:
        assert hire(world, max_price=9_999)["price"] == PRICE

    def test_leaves_the_provider_a_message_with_all_that_it_decides_on(self, world: World) -> None:
        task_id = hire(world)["task_id"]

        (message,) = world.mail(BOB)
        assert (message.type, message.from_agent_id) == ("task_handoff", ALICE.id)
        assert message.payload == {
            "task_id": task_id,
            "topic": f"task:{task_id}",
            "client_agent_id": ALICE.id,
            "client_handle": "alice/bot",
            "capability": "translate",
            "price": PRICE,
            "fee": FEE,
            "fee_bps": 500,
            "net": PRICE - FEE,
            "negotiation_session_id": None,
            "hold_seconds": 3_600,
            "channel_id": None,
            "stream_price": None,
            "deadline": "2026-03-08T12:00:00Z",
            "private_channel_id": None,
        }

    def test_of_a_free_capability_moves_no_money(self, world: World) -> None:
        world.change_agent(BOB, capabilities=(Capability("translate", 0),))

        reply = hire(world, max_price=0)

        assert (reply["price"], reply["fee"], reply["net"], reply["escrow_status"]) == (0, 0, 0, "none")
        assert world.available(ALICE) == PURSE
        assert world.spent == {}
        assert [entry.kind for entry in world.entries] == ["deposit"]

    def test_fixes_price_and_fee_whatever_changes_later(self, world: World) -> None:
        task_id = hire(world)["task_id"]
        world.change_agent(BOB, capabilities=(Capability("translate", 5),))
        world.market = msgspec.structs.replace(MARKET, fee_bps=9_000)

        world.push(BOB, topic_of(task_id), "complete", {"result": 1})
        world.push(ALICE, topic_of(task_id), "release")

        assert world.available(BOB) == PRICE - FEE

    @pytest.mark.parametrize(
        ("provider", "price", "is_countable"),
        [(GLOBAL_BOB, PRICE, True), (BOB, PRICE, False), (GLOBAL_BOB, 19, False), (GLOBAL_BOB, 0, False)],
        ids=["another house", "the same organisation", "too cheap for a fee", "free"],
    )
    def test_counts_for_reputation_only_what_costs_something(
        self, provider: Player, price: int, *, is_countable: bool
    ) -> None:
        world = world_of(ALICE, provider)
        world.change_agent(provider, capabilities=(Capability("translate", price),))

        task_id = hire(world, provider_agent_id=provider.id)["task_id"]

        assert world.task(task_id).is_countable is is_countable


class TestTheListPrice:
    @pytest.mark.parametrize("max_price", [-1, 10**15 + 1])
    def test_a_ceiling_is_itself_a_price(self, world: World, max_price: int) -> None:
        refusal = refused(hire, world, max_price=max_price)

        assert (refusal.kind, refusal.reason) == ("invalid", "amount_out_of_range")
        assert refusal.context == {"price_max": 10**15}

    @pytest.mark.parametrize("max_price", [0, PRICE - 1])
    def test_above_the_ceiling_is_refused_and_told(self, world: World, max_price: int) -> None:
        refusal = refused(hire, world, max_price=max_price)

        assert (refusal.kind, refusal.reason) == ("conflict", "price_below_base")
        assert refusal.context == {"base_price": PRICE}

    def test_of_a_provider_that_only_bargains_is_none(self, world: World) -> None:
        world.change_agent(BOB, pricing_model=PricingModel.AUCTION)

        assert refused(hire, world).reason == "negotiation_required"

    def test_of_a_provider_that_never_bargains_is_taken(self, world: World) -> None:
        world.change_agent(BOB, pricing_model=PricingModel.FIXED)

        assert hire(world)["price"] == PRICE


class TestHiringByAnAgreement:
    def test_holds_what_was_agreed_and_consumes_the_agreement(self, world: World) -> None:
        before = agreement(world)

        reply = hire_as_agreed(world)

        assert (reply["price"], reply["negotiation_session_id"]) == (AGREED_PRICE, before.id)
        assert world.available(ALICE) == PURSE - AGREED_PRICE
        used = world.states["negotiation"][before.id]
        assert used == msgspec.structs.replace(before, task_id=reply["task_id"])

    def test_works_with_a_provider_that_only_bargains(self, world: World) -> None:
        agreement(world)
        world.change_agent(BOB, pricing_model=PricingModel.AUCTION)

        assert hire_as_agreed(world)["price"] == AGREED_PRICE

    def test_a_second_time_tells_the_first_task(self, world: World) -> None:
        agreement(world)
        task_id = hire_as_agreed(world)["task_id"]
        before = world.everything()

        refusal = refused(hire_as_agreed, world)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "agreement_used", {"task_id": task_id})
        assert world.everything() == before

    def test_a_second_time_tells_the_first_task_whatever_has_changed_since(self) -> None:
        world = world_of(market=market_with(tasks_open_max=1))
        agreement(world)
        deadline = NOW + timedelta(minutes=2)
        task_id = hire_as_agreed(world, deadline=deadline)["task_id"]
        world.change_agent(BOB, status=AgentStatus.BANNED, capabilities=())
        world.advance(30 * DAY_S)

        refusal = refused(hire_as_agreed, world, capped(ALICE, 1), deadline=deadline)

        assert (refusal.reason, refusal.context) == ("agreement_used", {"task_id": task_id})

    def test_by_an_unknown_one_is_not_found(self, world: World) -> None:
        assert refused(hire_as_agreed, world).reason == "not_found"

    def test_by_somebody_elses_is_not_found(self, world: World) -> None:
        agreement(world)
        world.deposit(MALLORY, PURSE)

        refusal = refused(hire_as_agreed, world, MALLORY)

        assert (refusal.kind, refusal.reason) == ("not_found", "not_found")

    @pytest.mark.parametrize("status", [phase for phase in NegotiationPhase if phase is not NegotiationPhase.AGREED])
    def test_needs_that_there_is_one(self, world: World, status: NegotiationPhase) -> None:
        agreement(world, status=status)

        refusal = refused(hire_as_agreed, world)

        assert (refusal.kind, refusal.reason) == ("conflict", "agreement_mismatch")
        assert refusal.context == {"status": status}

    @pytest.mark.parametrize("is_used", [False, True], ids=["fresh", "used"])
    def test_mallory_cannot_move_it_to_another_hire(self, world: World, *, is_used: bool) -> None:
        """Nor does she learn of the task that has consumed it."""
        agreement(world)
        for agent in (ALICE, BOB):
            world.change_agent(agent, capabilities=(Capability("translate", 1_000), Capability("draw", 1_000)))
        if is_used:
            hire_as_agreed(world)

        for attempt in (
            lambda: hire_as_agreed(world, capability="draw"),
            lambda: hire_as_agreed(world, provider_agent_id=CAROL.id),
            lambda: hire_as_agreed(world, BOB, provider_agent_id=ALICE.id),
        ):
            refusal = refused(attempt)
            assert (refusal.reason, refusal.context) == ("agreement_mismatch", {"status": "agreed"})

    def test_a_day_after_it_was_made_is_too_late(self, world: World) -> None:
        session = agreement(world)
        world.advance(DAY_S)

        refusal = refused(hire_as_agreed, world)

        assert (refusal.kind, refusal.reason) == ("expired", "agreement_expired")
        assert refusal.context == {"expired_at": session.agreement_expires_at}

    def test_just_before_a_day_is_over_is_in_time(self, world: World) -> None:
        agreement(world)
        world.advance(DAY_S - 0.001)

        assert hire_as_agreed(world)["price"] == AGREED_PRICE

    def test_asks_the_gate_again(self, world: World) -> None:
        agreement(world)
        world.change_agent(BOB, organisation_id=None, owner_organisation_id=None)

        assert refused(hire_as_agreed, world).reason == "contact_required"


class TestThePayload:
    @pytest.mark.parametrize(
        "changes",
        [{"max_price": None}, {"negotiation_session_id": OTHER_ID}],
        ids=["neither a price nor an agreement", "both a price and an agreement"],
    )
    def test_names_exactly_one_way_to_a_price(self, world: World, changes: dict[str, Any]) -> None:
        refusal = refused(hire, world, **changes)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "max_price"})

    def test_holds_an_input_up_to_the_limit(self) -> None:
        world = world_of(market=market_with(result_bytes_max=10))

        assert hire(world, input="8 bytes.")["input"] == "8 bytes."
        refusal = refused(hire, world, input="9 bytes..")
        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "input"})

    @pytest.mark.parametrize(
        ("asked", "told"),
        [
            ("2026-03-01T12:01:00Z", "2026-03-01T12:01:00Z"),
            ("2026-03-31T12:00:00Z", "2026-03-31T12:00:00Z"),
            ("2026-03-02T14:00:00+05:00", "2026-03-02T09:00:00Z"),
            ("2026-03-02T00:00:00.123999Z", "2026-03-02T00:00:00.123000Z"),
        ],
        ids=["the earliest", "the latest", "with an offset", "finer than a millisecond"],
    )
    def test_sets_a_deadline_that_is_kept_in_utc_and_whole_milliseconds(
        self, world: World, asked: str, told: str
    ) -> None:
        reply = hire(world, deadline=asked)

        assert reply["deadline"] == told
        assert world.timers == {(topic_of(reply["task_id"]), "task_deadline"): datetime.fromisoformat(told)}

    @pytest.mark.parametrize(
        "asked",
        [
            "2026-03-01T12:00:59.999Z",
            "2026-03-31T12:00:00.001Z",
            "2026-03-01T12:01:00+00:01",
            "0001-01-01T00:00:00+14:00",
            "9999-12-31T23:59:59-14:00",
        ],
    )
    def test_refuses_a_deadline_outside_60_seconds_to_30_days(self, world: World, asked: str) -> None:
        refusal = refused(hire, world, deadline=asked)

        assert (refusal.kind, refusal.reason) == ("invalid", "deadline_out_of_range")
        assert refusal.context == {
            "earliest": datetime(2026, 3, 1, 12, 1, tzinfo=UTC),
            "latest": datetime(2026, 3, 31, 12, 0, tzinfo=UTC),
        }

    def test_refuses_a_deadline_without_an_offset(self, world: World) -> None:
        assert refused(hire, world, deadline="2026-03-02T12:00:00").reason == "invalid_payload"


class TestMoney:
    def test_that_is_not_there_opens_nothing(self, world: World) -> None:
        before = world.everything()

        refusal = refused(hire, world, CAROL)

        assert refusal.reason == "insufficient_balance"
        assert world.everything() == before

    def test_to_the_last_unit_can_be_spent(self, world: World) -> None:
        tasks = [hire(world)["task_id"] for _ in range(PURSE // PRICE)]

        assert refused(hire, world).reason == "insufficient_balance"
        assert {world.accounts[escrow(task_id)] for task_id in tasks} == {PRICE}
        assert world.accounts[available(ALICE.id)] == 0

    def test_above_the_keys_cap_is_refused_and_at_the_cap_it_is_not(self, world: World) -> None:
        refusal = refused(hire, world, capped(ALICE, PRICE - 1))

        assert (refusal.reason, refusal.context) == ("spend_cap_exceeded", {"max_amount": PRICE - 1})
        assert hire(world, capped(ALICE, PRICE))["price"] == PRICE


def test_a_pair_has_so_many_unfinished_tasks_and_an_end_makes_room() -> None:
    world = world_of(market=market_with(tasks_open_max=2))
    in_phase(world, "in_progress")
    task_id = hired(world)

    refusal = refused(hire, world)

    assert (refusal.reason, refusal.context) == ("too_many_open", {"max": 2})
    deliver(world, task_id)
    world.push(BOB, topic_of(task_id), "complete")
    assert hire(world)["status"] == "pending"


def test_a_user_hires_nobody(world: World) -> None:
    owner = Player(
        agent=ALICE.agent,
        secret_key=b"",
        identity=msgspec.structs.replace(ALICE.identity, kind="user", agent_id=None),
    )

    assert refused(hire, world, owner).reason == "agent_required"


def test_agents_without_a_signing_key_can_work() -> None:
    keyless = [
        Player(agent=agent_named(name, number=number, public_key=None), secret_key=b"", identity=who.identity)
        for name, number, who in (("alice", 0xA, ALICE), ("bob", 0xB, BOB))
    ]

    assert hire(world_of(*keyless))["status"] == "pending"


def test_the_checks_have_one_order_and_the_first_that_fails_is_told() -> None:
    """Each case mends one thing more than the one before it."""
    world = world_of(ALICE, BOB, STRANGER, market=market_with(tasks_open_max=1, result_bytes_max=8))
    world.change_agent(BOB, status=AgentStatus.SUSPENDED, pricing_model=PricingModel.AUCTION)
    poor = capped(ALICE, 1)
    wrong: dict[str, Any] = {
        "max_price": None,
        "input": "too large for it",
        "deadline": NOW,
        "provider_agent_id": OTHER_ID,
        "capability": "sing",
    }
    mended: dict[str, Any] = {}

    def reason(**mends: Any) -> str:
        mended.update(mends)
        return refused(hire, world, poor, **(wrong | mended)).reason

    assert reason() == "invalid_payload"
    assert reason(max_price=-1) == "invalid_payload"
    assert reason(input=None) == "deadline_out_of_range"
    assert reason(deadline=None) == "not_found"
    assert reason(provider_agent_id=ALICE.id) == "same_agent"
    assert reason(provider_agent_id=STRANGER.id) == "contact_required"
    assert reason(provider_agent_id=BOB.id) == "agent_unavailable"
    world.change_agent(BOB, status=AgentStatus.ACTIVE)
    assert reason() == "capability_not_offered"
    assert reason(capability="translate") == "amount_out_of_range"
    assert reason(max_price=PRICE - 1) == "negotiation_required"
    world.change_agent(BOB, pricing_model=PricingModel.HYBRID)
    assert reason() == "price_below_base"
    hire(world)
    assert reason(max_price=PRICE) == "too_many_open"
    world.advance(8 * DAY_S)
    assert reason() == "spend_cap_exceeded"
    world.accounts = {}
    assert refused(hire, world).reason == "insufficient_balance"


def test_a_stored_task_is_read_as_it_was_written(world: World) -> None:
    task = world.task(hire(world, input=[1, {"a": None}])["task_id"])

    assert msgspec.convert(as_told(task), type(task)) == task

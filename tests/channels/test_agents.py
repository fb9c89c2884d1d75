from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.agents import Agent, AgentStatus, Capability, PricingModel, require_active, require_public_key
from tests.channels.roles import ALICE, refused


def _with(**fields: object) -> Agent:
    return msgspec.structs.replace(ALICE.agent, **fields)


class TestPrices:
    AGENT = _with(capabilities=(Capability("translate", 1000), Capability("summarise"), Capability("greet", 0)))

    @pytest.mark.parametrize(
        ("capability", "base_price", "price"),
        [
            ("translate", 50, 1000),
            ("summarise", 50, 50),
            ("summarise", None, None),
            ("greet", 50, 0),
            ("sing", 50, None),
        ],
    )
    def test_a_capability_costs_its_own_price_else_the_base_price(
        self, capability: str, base_price: int | None, price: int | None
    ) -> None:
        agent = msgspec.structs.replace(self.AGENT, base_price=base_price)

        assert agent.price_of(capability) == price

    def test_an_agent_offers_what_it_has_named(self) -> None:
        assert self.AGENT.offers("summarise")
        assert not self.AGENT.offers("sing")


class TestReputation:
    @pytest.mark.parametrize(
        ("completed", "failed", "centi"),
        [
            (0, 0, 350),
            (1, 0, 375),
            (0, 1, 292),  # 5 × 3.5 / 6 = 2.9166…
            (1, 1, 321),  # 5 × 4.5 / 7 = 3.2142…
            (2, 1, 344),  # 5 × 5.5 / 8 = 3.4375
            (10_000, 0, 500),
            (0, 10_000, 0),
        ],
    )
    def test_a_new_agent_has_three_and_a_half_stars_and_each_task_moves_it(
        self, completed: int, failed: int, centi: int
    ) -> None:
        assert _with(tasks_completed=completed, tasks_failed=failed).reputation_centi == centi

    @given(completed=st.integers(0, 10**6), failed=st.integers(0, 10**6))
    def test_it_is_the_exact_formula_rounded_half_up_within_its_bounds(self, completed: int, failed: int) -> None:
        exact = 100 * 5 * (completed + Fraction(7, 2)) / (completed + failed + 5)
        expected = int(min(exact, Fraction(500)) + Fraction(1, 2))

        assert _with(tasks_completed=completed, tasks_failed=failed).reputation_centi == expected

    @pytest.mark.parametrize(
        ("completed", "failed", "delta", "centi"),
        [(0, 0, 10, 360), (1, 0, -15, 360), (0, 0, -351, 0), (10_000, 0, 10, 500), (0, 10_000, -15, 0)],
    )
    def test_what_operators_decide_adds_to_it_within_its_bounds(
        self, completed: int, failed: int, delta: int, centi: int
    ) -> None:
        agent = _with(tasks_completed=completed, tasks_failed=failed, dispute_delta_centi=delta)

        assert agent.reputation_centi == centi

    def test_the_success_rate_is_unknown_before_the_first_counted_task(self) -> None:
        assert _with().success_rate is None
        assert _with(tasks_completed=3, tasks_failed=1).success_rate == 0.75
        assert _with(tasks_failed=1).success_rate == 0.0


class TestRequirements:
    @pytest.mark.parametrize("status", list(AgentStatus))
    def test_only_an_active_agent_is_available(self, status: AgentStatus) -> None:
        agent = _with(status=status)

        assert agent.is_active is (status is AgentStatus.ACTIVE)
        if agent.is_active:
            require_active(agent)
        else:
            refusal = refused(require_active, agent)
            assert (refusal.reason, refusal.context) == ("agent_unavailable", {"agent_id": agent.id})

    def test_an_agent_without_a_key_signs_nothing(self) -> None:
        refusal = refused(require_public_key, _with(public_key=None))

        assert (refusal.kind, refusal.reason) == ("conflict", "public_key_required")
        assert require_public_key(ALICE.agent) == ALICE.agent.public_key


def test_the_relation_to_others_rests_on_owner_organisations_and_listing() -> None:
    party = _with(tags=("text",), is_listed=False, is_global=True).party

    assert (party.id, party.user_id) == (ALICE.agent.id, ALICE.agent.owner_id)
    assert (party.has_tags, party.is_listed, party.is_global) == (True, False, True)
    assert not _with(tags=()).party.has_tags


def test_the_words_that_are_stored_and_told_stay() -> None:
    assert " ".join(AgentStatus) == "draft active inactive suspended banned"
    assert " ".join(PricingModel) == "hybrid fixed auction"


def test_an_agent_is_listed_and_bargains_unless_it_says_otherwise() -> None:
    agent = _with()

    assert (agent.is_listed, agent.is_global, agent.pricing_model) == (True, False, PricingModel.HYBRID)

from typing import Any

import pytest

from channels.agents import AgentStatus, Capability
from channels.contacts import Kind
from channels.opening import Opening, require_counterpart, require_room
from tests.channels.roles import ALICE, BOB, player, refused

STRANGE_BOB = player("bob", number=0xB, organisation_id=None, owner_organisation_id=None).agent


def opening(*, client: dict[str, Any] | None = None, provider: dict[str, Any] | None = None) -> Opening:
    """Alice and Bob, with other fields."""
    return Opening(
        client=player("alice", number=0xA, **(client or {})).agent,
        provider=player("bob", number=0xB, **(provider or {})).agent,
        open_count=0,
    )


@pytest.mark.parametrize("keys", [True, False], ids=["signed", "unsigned"])
def test_the_provider_comes_with_its_list_price(*, keys: bool) -> None:
    facts = Opening(client=ALICE.agent, provider=BOB.agent, open_count=0)

    assert require_counterpart(facts, capability="translate", keys=keys, kind=Kind.TASK) == (BOB.agent, 1_000)


def test_a_capability_without_a_price_of_its_own_has_the_base_price() -> None:
    facts = opening(provider={"capabilities": (Capability("draw"),), "base_price": 70})

    assert require_counterpart(facts, capability="draw", keys=False, kind=Kind.TASK)[1] == 70


def test_agents_without_keys_may_work_but_not_sign() -> None:
    for facts in (opening(client={"public_key": None}), opening(provider={"public_key": None})):
        assert require_counterpart(facts, capability="translate", keys=False, kind=Kind.TASK)[1] == 1_000
        assert (
            refused(require_counterpart, facts, capability="translate", keys=True, kind=Kind.NEGOTIATION).reason
            == "public_key_required"
        )


def test_the_checks_have_one_order_and_the_first_that_fails_is_told() -> None:
    """Each case mends one thing more than the one before it."""
    everything_else = {"public_key": None, "status": AgentStatus.SUSPENDED, "capabilities": ()}
    strange = {"organisation_id": None, "owner_organisation_id": None}
    cases: list[tuple[str, Opening]] = [
        ("not_found", Opening(client=opening(client=everything_else).client, provider=None, open_count=0)),
        ("same_agent", Opening(client=ALICE.agent, provider=ALICE.agent, open_count=0)),
        ("contact_required", opening(client=everything_else, provider=everything_else | strange)),
        ("public_key_required", opening(client=everything_else, provider=everything_else)),
        ("public_key_required", opening(client={"status": AgentStatus.DRAFT}, provider=everything_else)),
        ("agent_unavailable", opening(client={"status": AgentStatus.DRAFT}, provider={"capabilities": ()})),
        ("agent_unavailable", opening(provider={"status": AgentStatus.INACTIVE, "capabilities": ()})),
        ("capability_not_offered", opening(provider={"capabilities": ()})),
    ]

    reasons = [
        refused(require_counterpart, facts, capability="translate", keys=True, kind=Kind.NEGOTIATION).reason
        for _, facts in cases
    ]

    assert reasons == [reason for reason, _ in cases]


@pytest.mark.parametrize("capabilities", [(), (Capability("translate"),), (Capability("draw", 5),)])
def test_what_is_not_offered_at_a_price_cannot_be_had(capabilities: tuple[Capability, ...]) -> None:
    facts = opening(provider={"capabilities": capabilities})

    refusal = refused(require_counterpart, facts, capability="translate", keys=False, kind=Kind.TASK)

    assert (refusal.kind, refusal.reason) == ("conflict", "capability_not_offered")
    assert refusal.context == {"capabilities": [own.name for own in capabilities]}


def test_strangers_need_a_contact() -> None:
    facts = Opening(client=ALICE.agent, provider=STRANGE_BOB, open_count=0)

    refusal = refused(require_counterpart, facts, capability="translate", keys=False, kind=Kind.TASK)

    assert (refusal.kind, refusal.reason) == ("forbidden", "contact_required")


@pytest.mark.parametrize("tags", [("text",), ()], ids=["found", "not found"])
def test_strangers_are_told_whom_to_ask_where_they_can_find_it(tags: tuple[str, ...]) -> None:
    strange = {"organisation_id": None, "owner_organisation_id": None, "tags": tags}

    refusal = refused(
        require_counterpart, opening(provider=strange), capability="translate", keys=False, kind=Kind.TASK
    )

    assert refusal.context == ({"handle": "bob/bot"} if tags else {})


@pytest.mark.parametrize("status", AgentStatus)
def test_to_strangers_drafts_and_banned_agents_do_not_exist(status: AgentStatus) -> None:
    strange = {"organisation_id": None, "owner_organisation_id": None, "status": status}
    is_hidden = status in {AgentStatus.DRAFT, AgentStatus.BANNED}

    for facts, reason in (
        (opening(provider=strange), "not_found" if is_hidden else "contact_required"),
        (opening(provider={"status": status}), None if status is AgentStatus.ACTIVE else "agent_unavailable"),
    ):
        if reason is not None:
            refusal = refused(require_counterpart, facts, capability="translate", keys=False, kind=Kind.TASK)
            assert refusal.reason == reason


def test_the_last_place_of_a_pair_can_be_taken_and_no_other_after_it() -> None:
    require_room(19, open_max=20)

    refusal = refused(require_room, 20, open_max=20)

    assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "too_many_open", {"max": 20})

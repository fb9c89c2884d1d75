from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import AgentStatus, Capability, PricingModel
from channels.changes import Insert, Mail, Timer
from channels.handlers import Access, Decision, Empty
from channels.negotiation import (
    ACCESS,
    EXPIRES,
    HANDLERS,
    JOIN,
    TOPIC,
    OpenNegotiation,
    Phase,
    open_negotiation,
)
from channels.opening import Opening
from tests.channels.bargain import (
    ended,
    offered,
    opened,
    send_bad,
)
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    FRESH_ID,
    NOW,
    Player,
    agent_named,
    as_told,
    context,
    identity_of,
    player,
    refused,
)

REQUEST = OpenNegotiation(provider_agent_id=BOB.id, capability="translate")


def _open(
    request: OpenNegotiation = REQUEST, *, client: Player = ALICE, provider: Any = BOB.agent, open_count: int = 0
) -> Decision:
    facts = Opening(client=client.agent, provider=provider, open_count=open_count)
    return open_negotiation(facts, request, context(client))


class TestOpening:
    def test_alice_gets_the_session_with_the_list_price_frozen_as_base_and_twice_it_as_the_highest_offer(self) -> None:
        reply = as_told(_open().reply)

        assert reply == {
            "id": FRESH_ID,
            "session_id": FRESH_ID,
            "client_agent_id": ALICE.id,
            "provider_agent_id": BOB.id,
            "client_public_key": ALICE.agent.public_key,
            "provider_public_key": BOB.agent.public_key,
            "capability": "translate",
            "base_max": 1000,
            "max_offer": 2000,
            "max_rounds": 10,
            "max_price": None,
            "terms": None,
            "session_digest": reply["session_digest"],
            "status": "open",
            "offers": [],
            "created_at": "2026-03-01T12:00:00Z",
            "expires_at": "2026-03-01T12:30:00Z",
            "ended_at": None,
            "ended_by": None,
            "reason": None,
            "amount": None,
            "accepted_by": None,
            "accept_signature": None,
            "agreement_expires_at": None,
            "agreement_id": None,
            "task_id": None,
            "private_channel_id": None,
            "turn": None,
            "next_round": 1,
            "midpoint": None,
            "signing_domain": "market.test",
            "currency": "USD",
            "exponent": 6,
        }

    def test_the_session_is_stored_its_expiry_armed_and_bob_left_a_message(self) -> None:
        insert, timer, mail = _open().changes

        assert isinstance(insert, Insert)
        assert (insert.store, insert.id, insert.state) == ("negotiation", FRESH_ID, opened())
        assert timer == Timer(EXPIRES, f"negotiation:{FRESH_ID}", NOW + timedelta(minutes=30))
        assert isinstance(mail, Mail)
        assert (mail.to_agent_id, mail.type, mail.from_agent_id) == (BOB.id, "negotiation", ALICE.id)
        assert as_told(mail.payload) == {
            "session_id": FRESH_ID,
            "topic": f"negotiation:{FRESH_ID}",
            "client_agent_id": ALICE.id,
            "client_handle": "alice/bot",
            "capability": "translate",
            "base_max": 1000,
            "expires_at": "2026-03-01T12:30:00Z",
            "private_channel_id": None,
        }

    def test_a_capability_without_a_price_of_its_own_is_bargained_over_at_the_base_price(self) -> None:
        bob = agent_named("bob", number=0xB, capabilities=(Capability("translate"),), base_price=70)

        assert _open(provider=bob).reply["base_max"] == 70

    @pytest.mark.parametrize(
        ("terms", "why"),
        [
            ({"share": 0.5}, "integer"),
            ({"deep": {"list": [1, 2**53]}}, "within"),
            ({"text": "x" * 16_384}, "16384"),
        ],
        ids=["float", "large integer", "too large"],
    )
    def test_terms_that_have_no_canonical_form_or_are_too_large_are_refused(
        self, terms: dict[str, Any], why: str
    ) -> None:
        request = msgspec.structs.replace(REQUEST, terms=terms)

        refusal = refused(_open, request)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_terms")
        assert why in refusal.message

    def test_terms_of_exactly_the_limit_are_taken(self) -> None:
        terms = {"text": "x" * (16_384 - len('{"text":""}'))}

        assert _open(msgspec.structs.replace(REQUEST, terms=terms)).reply["terms"] == terms

    @pytest.mark.parametrize("missing", ["terms", "capability", "base price"])
    def test_every_part_of_what_is_bargained_over_changes_the_session_digest(self, missing: str) -> None:
        changed = {
            "terms": lambda: opened(terms={"due": "today"}),
            "capability": lambda: opened(
                provider=player("bob", number=0xB, capabilities=(Capability("summarise", 1000),)),
                capability="summarise",
            ),
            "base price": lambda: opened(
                provider=player("bob", number=0xB, capabilities=(Capability("translate", 1001),))
            ),
        }[missing]()

        assert changed.session_digest != opened().session_digest

    FAULTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
        ("invalid_terms", "request", {"terms": {"share": 0.5}}),
        ("contact_required", "provider", {"organisation_id": None}),
        ("public_key_required", "client", {"public_key": None}),
        ("public_key_required", "provider", {"public_key": None}),
        ("agent_unavailable", "client", {"status": AgentStatus.INACTIVE}),
        ("agent_unavailable", "provider", {"status": AgentStatus.SUSPENDED}),
        ("capability_not_offered", "request", {"capability": "sing"}),
        ("pricing_model_fixed", "provider", {"pricing_model": PricingModel.FIXED}),
        ("free_agent", "provider", {"capabilities": (Capability("translate", 0),)}),
        ("too_many_open", "count", {"open_count": 20}),
    )

    @pytest.mark.parametrize("first", range(len(FAULTS)), ids=[f"{reason}-{of}" for reason, of, _ in FAULTS])
    def test_of_all_faults_the_first_in_the_documented_order_is_told(self, first: int) -> None:
        fields: dict[str, dict[str, Any]] = {"request": {}, "client": {}, "provider": {}, "count": {}}
        for _, of, fault in self.FAULTS[first:]:
            fields[of] |= fault

        refusal = refused(
            _open,
            msgspec.structs.replace(REQUEST, **fields["request"]),
            client=player("alice", number=0xA, **fields["client"]),
            provider=agent_named("bob", number=0xB, **fields["provider"]),
            **fields["count"],
        )

        assert refusal.reason == self.FAULTS[first][0]

    def test_a_provider_that_alice_may_not_know_of_is_not_found_before_all_else_but_the_payload(self) -> None:
        keyless = player("alice", number=0xA, public_key=None)

        assert refused(_open, client=keyless, provider=None).reason == "not_found"

    def test_alice_cannot_hire_herself_whatever_else_is_wrong(self) -> None:
        keyless = player("alice", number=0xA, public_key=None)

        refusal = refused(_open, client=keyless, provider=keyless.agent, open_count=99)

        assert refusal.reason == "same_agent"

    def test_the_twentieth_open_session_of_a_pair_is_still_allowed_and_the_next_tells_the_limit(self) -> None:
        assert _open(open_count=19).reply["status"] == "open"
        assert refused(_open, open_count=20).context == {"max": 20}


class TestJoining:
    @pytest.mark.parametrize("who", [ALICE, BOB], ids=["alice", "bob"])
    @pytest.mark.parametrize("status", list(Phase))
    def test_both_parties_may_read_the_whole_session_in_every_phase(self, who: Player, status: Phase) -> None:
        session = opened() if status is Phase.OPEN else ended(status)

        decision = JOIN.decide(session, Empty(), context(who))

        assert decision.state is None
        assert decision.reply["status"] == status
        assert as_told(decision.reply)["offers"] == as_told(session.offers)

    def test_the_reply_says_whose_turn_it_is_the_next_round_and_the_midpoint(self) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))

        reply = JOIN.decide(session, Empty(), context(BOB)).reply

        assert (reply["turn"], reply["next_round"], reply["midpoint"]) == (ALICE.id, 3, 800)

    @pytest.mark.parametrize("event", ["join", *HANDLERS])
    def test_to_carol_the_session_does_not_exist(self, event: str) -> None:
        session = offered(opened(), (ALICE, 600), (BOB, 1001))

        for state in (session, None):
            told = refused(send_bad, state, event, CAROL)
            assert told.response() == {
                "reason": "not_found",
                "message": "There is no such negotiation, or you may not see it.",
            }

    def test_a_user_may_not_even_try_to_join(self) -> None:
        owner = msgspec.structs.replace(identity_of(ALICE.agent), kind="user", agent_id=None)

        assert refused(ACCESS, owner, FRESH_ID).reason == "agent_required"
        ACCESS(CAROL.identity, FRESH_ID)  # Whether she takes part, the join decides.

    def test_every_event_runs_in_order_on_the_session_and_needs_the_scope(self) -> None:
        assert TOPIC == "negotiation:*"
        assert {*HANDLERS} == {"offer", "accept", "reject"}
        for handler in (JOIN, *HANDLERS.values()):
            assert (handler.loads, handler.access, handler.scope) == ("negotiation", Access.WRITE, "negotiate")

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import Agent, AgentStatus, Capability, PricingModel
from channels.identity import AGENT_SCOPES, SCOPES
from channels.limits import Market
from channels.registration import (
    OWNERS_TRANSITIONS,
    AgentDraft,
    AgentPatch,
    CapabilityDraft,
    Caps,
    ban,
    register,
    reinstate,
    require_key_proof,
    require_key_scopes,
    revise,
    suspend,
)
from crypto import did_from_public_key, key_proof_message, parse_public_key, sign
from tests.channels.roles import ALICE, BOB, FRESH_ID, MALLORY, MARKET, NOW, Player, refused

LATER = NOW + timedelta(hours=1)
DRAFT = AgentDraft(name="Research Bot", description="Reads and sums up.")


def _register(draft: AgentDraft = DRAFT, *, by_operator: bool = False, market: Market = MARKET, **fields: Any) -> Agent:
    return register(
        msgspec.structs.replace(draft, **fields),
        agent_id=FRESH_ID,
        owner_id="john's id",
        handle="john/research-bot",
        organisation_id="acme",
        owner_organisation_id="acme",
        by_operator=by_operator,
        now=NOW,
        market=market,
    )


def _revise(agent: Agent = ALICE.agent, *, by_operator: bool = False, **fields: Any) -> Agent:
    return revise(agent, AgentPatch(**fields), by_operator=by_operator, now=LATER, market=MARKET)


def register_body(body: bytes) -> Agent:
    """What becomes of a draft as it is sent."""
    return _register(msgspec.json.decode(body, type=AgentDraft))


BAD_FIELDS: list[tuple[str, Any, str, str]] = [
    ("name", " ", "invalid_payload", "name"),
    ("name", "x" * 101, "invalid_payload", "name"),
    ("description", "\n", "invalid_payload", "description"),
    ("description", "x" * 2001, "invalid_payload", "description"),
    ("capabilities", (CapabilityDraft(name="Not One"),), "invalid_capability", "capabilities.0"),
    ("capabilities", (CapabilityDraft(name="a"), CapabilityDraft(name="a")), "invalid_capability", "capabilities"),
    ("capabilities", (CapabilityDraft(name="a", price=-1),), "invalid_price", "capabilities.0.price"),
    ("base_price", 10**15 + 1, "invalid_price", "base_price"),
    ("base_price", "1e3", "invalid_price", "base_price"),
    ("tags", ("not one",), "invalid_payload", "tags"),
    ("public_key", "nonsense", "invalid_public_key", "public_key"),
    ("did", "did:web:example.org", "invalid_public_key", "public_key"),
    ("protocol_versions", (), "invalid_payload", "protocol_versions"),
    ("protocol_versions", ("1.0", "one point oh"), "invalid_payload", "protocol_versions"),
    ("protocol_versions", tuple(f"1.{minor}" for minor in range(17)), "invalid_payload", "protocol_versions"),
    ("metadata", {"text": "x" * 8192}, "invalid_payload", "metadata"),
    ("metadata", {"status": "busy"}, "invalid_payload", "metadata.status"),
]
BAD_IDS = [f"{field}-{number}" for number, (field, *_) in enumerate(BAD_FIELDS)]


class TestRegistering:
    def test_a_name_and_a_description_are_enough(self) -> None:
        assert _register() == Agent(
            id=FRESH_ID,
            owner_id="john's id",
            name="Research Bot",
            handle="john/research-bot",
            description="Reads and sums up.",
            organisation_id="acme",
            owner_organisation_id="acme",
            created_at=NOW,
            updated_at=NOW,
        )

    def test_everything_else_is_taken_as_an_agent_keeps_it(self) -> None:
        agent = _register(
            name=" Research  Bot ",
            capabilities=(
                CapabilityDraft(name="translate", price="0.001"),
                CapabilityDraft(name="greet", price=0),
                CapabilityDraft(name="sum"),
            ),
            base_price=70,
            pricing_model=PricingModel.AUCTION,
            tags=("Text", "text"),
            is_listed=False,
            did=did_from_public_key(parse_public_key(ALICE.agent.public_key or "")),
            protocol_versions=("1.0", "2.0", "1.0"),
            metadata={"languages": ["de"], "nothing": None},
            status="draft",
        )

        assert agent.name == "Research Bot"
        assert agent.capabilities == (Capability("translate", 1000), Capability("greet", 0), Capability("sum"))
        assert (agent.base_price, agent.pricing_model) == (70, PricingModel.AUCTION)
        assert (agent.tags, agent.is_listed) == (("text",), False)
        assert agent.public_key == ALICE.agent.public_key
        assert agent.protocol_versions == ("1.0", "2.0")
        assert agent.metadata == {"languages": ["de"]}
        assert agent.status is AgentStatus.DRAFT

    @pytest.mark.parametrize(("field", "value", "reason", "place"), BAD_FIELDS, ids=BAD_IDS)
    def test_a_field_that_is_wrong_is_refused_by_name(self, field: str, value: object, reason: str, place: str) -> None:
        refusal = refused(_register, **{field: value})  # type: ignore[arg-type]  # `field` is one of a draft.

        assert (refusal.kind, refusal.reason, refusal.context["field"]) == ("invalid", reason, place)

    def test_sixteen_protocol_versions_are_not_too_many(self) -> None:
        versions = tuple(f"1.{minor}" for minor in range(16))

        assert _register(protocol_versions=versions).protocol_versions == versions

    def test_only_an_operator_makes_an_agent_global(self) -> None:
        refusal = refused(_register, is_global=True)

        assert (refusal.kind, refusal.reason) == ("forbidden", "operator_required")
        assert _register(is_global=True, by_operator=True).is_global

    def test_the_payload_is_refused_before_the_role(self) -> None:
        assert refused(_register, is_global=True, did="nonsense").reason == "invalid_public_key"

    @pytest.mark.parametrize("status", ["draft", "active", "inactive"])
    def test_an_agent_begins_as_its_owner_says(self, status: str) -> None:
        body = msgspec.json.encode({"name": "a", "description": "b", "status": status})

        assert register_body(body).status == status

    @pytest.mark.parametrize("body", [b'"suspended"', b'"banned"', b'"gone"', b"null"])
    def test_no_other_status_than_the_owners_own_can_even_be_sent(self, body: bytes) -> None:
        with pytest.raises(msgspec.ValidationError, match=r"\$\.status"):
            msgspec.json.decode(b'{"name": "a", "description": "b", "status": ' + body + b"}", type=AgentDraft)

    @pytest.mark.parametrize("price", [b"8.5", b"8.0", b"1e3", b"true"])
    def test_a_price_that_is_a_float_cannot_even_be_sent(self, price: bytes) -> None:
        with pytest.raises(msgspec.ValidationError, match=r"\$\.base_price"):
            msgspec.json.decode(b'{"name": "a", "description": "b", "base_price": ' + price + b"}", type=AgentDraft)


class TestRevising:
    def test_what_is_left_out_stays(self) -> None:
        revised = _revise()

        assert revised == msgspec.structs.replace(ALICE.agent, updated_at=LATER)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ({"name": "New  Name"}, {"name": "New Name"}),
            ({"description": "Other."}, {"description": "Other."}),
            (
                {"capabilities": (CapabilityDraft(name="sing", price="1"),)},
                {"capabilities": (Capability("sing", 10**6),)},
            ),
            ({"base_price": "0.5"}, {"base_price": 500_000}),
            ({"base_price": None}, {"base_price": None}),
            ({"pricing_model": PricingModel.FIXED}, {"pricing_model": PricingModel.FIXED}),
            ({"tags": ("A",)}, {"tags": ("a",)}),
            ({"is_listed": False}, {"is_listed": False}),
            ({"is_global": False}, {}),
            ({"public_key": BOB.agent.public_key}, {"public_key": BOB.agent.public_key}),
            ({"public_key": None}, {"public_key": None}),
            ({"did": None}, {"public_key": None}),
            ({"protocol_versions": ("2.0",)}, {"protocol_versions": ("2.0",)}),
            ({"metadata": {"a": 1}}, {"metadata": {"a": 1}}),
            ({"status": "inactive"}, {"status": AgentStatus.INACTIVE}),
        ],
        ids=lambda fields: ",".join(fields) or "nothing",
    )
    def test_what_is_given_is_changed_and_nothing_else(self, given: dict[str, Any], kept: dict[str, Any]) -> None:
        assert _revise(**given) == msgspec.structs.replace(ALICE.agent, updated_at=LATER, **kept)

    def test_a_did_brings_its_key(self) -> None:
        did = did_from_public_key(parse_public_key(BOB.agent.public_key or ""))

        assert _revise(did=did).public_key == BOB.agent.public_key
        assert refused(_revise, did=did, public_key=ALICE.agent.public_key).reason == "invalid_public_key"

    @pytest.mark.parametrize(("field", "value", "reason", "place"), BAD_FIELDS, ids=BAD_IDS)
    def test_a_field_that_is_wrong_is_refused_by_name(self, field: str, value: object, reason: str, place: str) -> None:
        refusal = refused(_revise, **{field: value})  # type: ignore[arg-type]  # `field` is one of a patch.

        assert (refusal.kind, refusal.reason, refusal.context["field"]) == ("invalid", reason, place)

    @pytest.mark.parametrize("is_global", [True, False])
    def test_only_an_operator_makes_an_agent_global_or_ends_that(self, *, is_global: bool) -> None:
        agent = msgspec.structs.replace(ALICE.agent, is_global=not is_global)

        assert refused(_revise, agent, is_global=is_global).reason == "operator_required"
        assert _revise(agent, is_global=is_global, by_operator=True).is_global is is_global
        assert _revise(agent, is_global=not is_global).is_global is not is_global

    def test_the_refusals_come_in_the_order_payload_role_state(self) -> None:
        banned = msgspec.structs.replace(ALICE.agent, status=AgentStatus.BANNED)

        assert refused(_revise, banned, name="", is_global=True, status="active").reason == "invalid_payload"
        assert refused(_revise, banned, is_global=True, status="active").reason == "operator_required"
        assert refused(_revise, banned, status="active").reason == "terminal_state"

    def test_of_a_banned_agent_nothing_can_be_changed(self) -> None:
        banned = msgspec.structs.replace(ALICE.agent, status=AgentStatus.BANNED)

        refusal = refused(_revise, banned, name="New")

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "terminal_state", {"status": "banned"})

    def test_a_suspended_agent_can_be_changed_but_not_activated_by_its_owner(self) -> None:
        suspended = msgspec.structs.replace(ALICE.agent, status=AgentStatus.SUSPENDED)

        assert _revise(suspended, name="New").status is AgentStatus.SUSPENDED
        refusal = refused(_revise, suspended, status="active")
        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "invalid_transition",
            {"status": "suspended"},
        )


class TestStatus:
    OWNERS = ("draft", "active", "inactive")
    ALLOWED = frozenset([("draft", "active"), ("active", "inactive"), ("inactive", "active")])

    @pytest.mark.parametrize("present", list(AgentStatus))
    @pytest.mark.parametrize("wanted", OWNERS)
    def test_an_owner_moves_its_agent_by_the_table_alone(self, present: AgentStatus, wanted: str) -> None:
        agent = msgspec.structs.replace(ALICE.agent, status=present)

        if (present, wanted) in self.ALLOWED or present == wanted:
            assert _revise(agent, status=wanted).status == wanted
        else:
            expected = "terminal_state" if present is AgentStatus.BANNED else "invalid_transition"
            assert refused(_revise, agent, status=wanted).reason == expected

    def test_the_table_speaks_of_every_status_that_is_not_final(self) -> None:
        assert {*OWNERS_TRANSITIONS} == {*AgentStatus} - {AgentStatus.BANNED}

    @pytest.mark.parametrize("present", list(AgentStatus))
    @pytest.mark.parametrize(
        ("move", "target", "sources"),
        [
            (suspend, "suspended", {"active", "inactive"}),
            (reinstate, "active", {"suspended"}),
            (ban, "banned", {"draft", "active", "inactive", "suspended"}),
        ],
        ids=["suspend", "reinstate", "ban"],
    )
    def test_an_operator_moves_an_agent_and_what_is_done_already_stays(
        self, present: AgentStatus, move: Any, target: str, sources: set[str]
    ) -> None:
        agent = msgspec.structs.replace(ALICE.agent, status=present)

        if present == target:
            assert move(agent, now=LATER) is agent
        elif present in sources:
            assert move(agent, now=LATER) == msgspec.structs.replace(
                agent, status=AgentStatus(target), updated_at=LATER
            )
        else:
            expected = "terminal_state" if present is AgentStatus.BANNED else "invalid_transition"
            assert refused(move, agent, now=LATER).reason == expected


class TestTheKeyProof:
    CHALLENGE = "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJA"

    def _signature(
        self,
        who: Player = ALICE,
        *,
        domain: str = MARKET.signing_domain,
        owner_id: str = ALICE.agent.owner_id,
        agent_id: str | None = None,
        challenge: str = CHALLENGE,
    ) -> str:
        message = key_proof_message(signing_domain=domain, owner_id=owner_id, agent_id=agent_id, challenge=challenge)
        return sign(who.secret_key, message)

    def _prove(
        self, signature: str, *, public_key: str | None = ALICE.agent.public_key, agent_id: str | None = None
    ) -> None:
        require_key_proof(
            public_key=public_key or "",
            signature=signature,
            challenge=self.CHALLENGE,
            owner_id=ALICE.agent.owner_id,
            agent_id=agent_id,
            market=MARKET,
        )

    @pytest.mark.parametrize("agent_id", [None, ALICE.id], ids=["new agent", "new key"])
    def test_who_holds_the_secret_key_proves_it(self, agent_id: str | None) -> None:
        self._prove(self._signature(agent_id=agent_id), agent_id=agent_id)

    def test_the_published_vector_is_a_proof(self) -> None:
        require_key_proof(
            public_key="11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
            signature="eAdG19gWK7sya7saIWld8tKQfpxPtbpxpqEgHjD77pPaHU6JR1KTDaJ7ClhRuAuqxETAG4mTfW2fAHsgbawWDg==",
            challenge=self.CHALLENGE,
            owner_id="cccccccc-cccc-4ccc-8ccc-cccccccccccc",
            agent_id=None,
            market=MARKET,
        )

    @pytest.mark.parametrize(
        "fields",
        [
            {"who": MALLORY},
            {"domain": "other.test"},
            {"owner_id": MALLORY.agent.owner_id},
            {"agent_id": ALICE.id},
            {"challenge": "another"},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_mallory_cannot_register_a_key_that_she_does_not_hold_nor_move_a_proof(
        self, fields: dict[str, Any]
    ) -> None:
        refusal = refused(self._prove, self._signature(**fields))

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_signature")

    @pytest.mark.parametrize("signature", ["", "nonsense", "A" * 88])
    def test_what_is_no_signature_is_refused(self, signature: str) -> None:
        assert refused(self._prove, signature).reason == "invalid_signature"

    def test_what_is_no_key_is_refused(self) -> None:
        assert refused(self._prove, self._signature(), public_key="nonsense").reason == "invalid_public_key"


class TestKeysThatMakeKeys:
    OWN = ("discover", "tasks")

    def _require(self, scopes: tuple[str, ...] = OWN, *, own: Caps | None = None, caps: Caps | None = None) -> None:
        require_key_scopes(own_scopes=self.OWN, own_caps=own or Caps(), scopes=scopes, caps=caps or Caps())

    @pytest.mark.parametrize("scopes", [(), ("tasks",), OWN])
    def test_a_key_gives_the_scopes_that_it_has(self, scopes: tuple[str, ...]) -> None:
        self._require(scopes)

    def test_it_gives_no_other(self) -> None:
        refusal = refused(self._require, ("tasks", "payments", "admin"))

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "forbidden",
            "scope_exceeded",
            {"scopes": ["admin", "payments"]},
        )

    def test_an_ordinary_key_makes_no_operators_key(self) -> None:
        refusal = refused(require_key_scopes, own_scopes=AGENT_SCOPES, own_caps=Caps(), scopes=SCOPES, caps=Caps())

        assert refusal.context == {"scopes": ["admin"]}

    def test_a_scope_that_does_not_exist_is_refused_first(self) -> None:
        refusal = refused(self._require, ("payments", "everything"), own=Caps(max_amount=1), caps=Caps(max_amount=-1))

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "scopes"})

    @pytest.mark.parametrize("field", ["max_amount", "max_amount_per_day"])
    @pytest.mark.parametrize("cap", [-1, 2**53])
    def test_a_cap_is_an_amount_of_money(self, field: str, cap: int) -> None:
        refusal = refused(self._require, ("payments",), caps=Caps(**{field: cap}))

        assert (refusal.reason, refusal.context) == ("invalid_amount", {"field": field})

    @pytest.mark.parametrize("field", ["max_amount", "max_amount_per_day"])
    @pytest.mark.parametrize("cap", [0, 499, 500])
    def test_a_cap_may_be_as_high_as_the_own_one(self, field: str, cap: int) -> None:
        self._require(own=Caps(**{field: 500}), caps=Caps(**{field: cap}))

    @pytest.mark.parametrize("field", ["max_amount", "max_amount_per_day"])
    @pytest.mark.parametrize("cap", [501, None])
    def test_a_higher_cap_or_none_at_all_is_more_than_the_own_one(self, field: str, cap: int | None) -> None:
        refusal = refused(self._require, own=Caps(**{field: 500}), caps=Caps(**{field: cap}))

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "spend_cap_exceeded",
            {"field": field, field: 500},
        )

    def test_a_key_without_caps_may_give_any(self) -> None:
        self._require(caps=Caps(max_amount=2**53 - 1, max_amount_per_day=1))

    def test_a_scope_too_many_is_told_before_a_cap_too_high(self) -> None:
        assert refused(self._require, ("admin",), own=Caps(max_amount=1)).reason == "scope_exceeded"

from typing import Any

import msgspec
import pytest

from channels import negotiation, task
from channels.agents import Agent, AgentStatus, Capability
from channels.changes import NotePresence
from channels.contacts import NO_TIE, Tie, is_present_to
from channels.discovery import (
    ACCESS,
    HANDLERS,
    JOIN,
    TOPIC,
    VISIBLE,
    Announce,
    Arrival,
    Cursor,
    Discover,
    Found,
    Hit,
    UpdateMetadata,
    encode_cursor,
    hit_payload,
    parse_search,
)
from channels.handlers import Access, Decision, Empty, KnowTies, ShowPresence, Track, UpdateMeta
from channels.told import Audience, Broadcast
from tests.channels.roles import ALICE, BOB, NOW, agent_named, as_told, context, identity_of, market_with, refused

TIES = {BOB.id: Tie(is_contact=True)}
EARLIER = NOW.replace(year=2025)
OFFERED = msgspec.structs.replace(
    ALICE.agent, capabilities=(Capability("translate", 1000), Capability("sum", 5)), updated_at=EARLIER
)


def _with(agent: Agent = OFFERED, **fields: object) -> Agent:
    return msgspec.structs.replace(agent, **fields)


def _announce(*names: str, agent: Agent = OFFERED, prices: dict[str, int] | None = None) -> Decision:
    request = Announce(capabilities=names, prices=prices)
    return HANDLERS["announce"].decide(agent, request, context(ALICE, topic=TOPIC))


def _update(metadata: dict[str, Any], *, agent: Agent = OFFERED) -> Decision:
    return HANDLERS["update_metadata"].decide(agent, UpdateMetadata(metadata=metadata), context(ALICE, topic=TOPIC))


class TestTheTopic:
    def test_every_event_says_what_it_needs_and_how_it_runs(self) -> None:
        table = {
            name: (handler.decide, handler.loads, handler.access, handler.scope) for name, handler in HANDLERS.items()
        }

        assert TOPIC == "agents:discovery"
        assert (JOIN.loads, JOIN.access, JOIN.scope) == ("arrival", Access.WRITE, "discover")
        assert {*table} == {
            *("discover", "update_metadata", "announce", "open_negotiation", "open_task", "create_private_channel"),
        }
        assert table["discover"][1:] == ("discovery", Access.READ, "discover")
        assert HANDLERS["discover"].rate == "discovery"
        assert table["announce"][1:] == table["update_metadata"][1:] == ("agent", Access.WRITE, "discover")
        assert table["open_negotiation"] == (negotiation.open_negotiation, "opening", Access.WRITE, "negotiate")
        assert table["open_task"] == (task.open_task, "task_opening", Access.WRITE, "tasks")

    def test_presence_is_shown_to_who_may_see_it(self) -> None:
        assert VISIBLE is is_present_to

    def test_agents_alone_may_join(self) -> None:
        john = msgspec.structs.replace(identity_of(ALICE.agent), kind="user", agent_id=None)

        ACCESS(ALICE.identity, "")
        assert refused(ACCESS, john, "").reason == "agent_required"


class TestJoining:
    def test_alice_is_told_what_money_and_signatures_are_here_and_is_present_under_her_id(self) -> None:
        agent = _with(metadata={"languages": ["de"]})

        decision = JOIN.decide(Arrival(agent=agent, ties=TIES), Empty(), context(ALICE, topic=TOPIC))

        assert decision.reply == {
            "agent_id": ALICE.id,
            "currency": "USD",
            "exponent": 6,
            "signing_domain": "market.test",
        }
        knows, tracked = decision.presence
        assert knows == KnowTies(TIES)
        assert isinstance(tracked, Track)
        assert (tracked.key, tracked.party) == (ALICE.id, agent.party)
        assert decision.changes == (NotePresence(ALICE.id, "online"),)
        assert as_told(tracked.meta) == {
            "status": "online",
            "name": "alice",
            "handle": "alice/bot",
            "capabilities": ["translate", "sum"],
            "metadata": {"languages": ["de"]},
            "online_at": "2026-03-01T12:00:00Z",
        }
        assert decision.state is None

    @pytest.mark.parametrize("status", [status for status in AgentStatus if status is not AgentStatus.ACTIVE])
    def test_who_is_not_active_may_look_and_is_not_shown(self, status: AgentStatus) -> None:
        arrival = Arrival(agent=_with(status=status), ties=TIES)

        decision = JOIN.decide(arrival, Empty(), context(ALICE, topic=TOPIC))

        assert decision.reply["agent_id"] == ALICE.id
        assert (decision.presence, decision.changes) == ((KnowTies(TIES), ShowPresence()), ())


class TestAnnouncing:
    def test_the_set_is_replaced_and_who_stays_keeps_its_price(self) -> None:
        decision = _announce("sing", "translate")

        assert decision.state == _with(capabilities=(Capability("sing"), Capability("translate", 1000)), updated_at=NOW)

    def test_alice_is_answered_and_those_who_see_her_are_told(self) -> None:
        decision = _announce("sing", "translate")

        told = {"agent_id": ALICE.id, "capabilities": ["sing", "translate"], "updated_at": NOW}
        assert decision.reply == told
        assert decision.broadcasts == (Broadcast(TOPIC, "agent_updated", told, Audience.OTHER_AGENTS, about=ALICE.id),)
        assert decision.presence == (
            UpdateMeta(TOPIC, {"capabilities": ["sing", "translate"]}, agent_id=ALICE.id, merge=True),
        )

    def test_of_an_agent_that_nobody_sees_nobody_is_told(self) -> None:
        decision = _announce("sing", agent=_with(status=AgentStatus.INACTIVE))

        assert isinstance(decision.state, Agent)
        assert decision.broadcasts == ()

    def test_the_same_set_in_any_order_is_answered_and_changes_nothing(self) -> None:
        decision = _announce("sum", "translate")

        told = {"agent_id": ALICE.id, "capabilities": ["translate", "sum"], "updated_at": EARLIER}
        assert decision == Decision(reply=told)

    @pytest.mark.parametrize(
        ("names", "place"),
        [
            ((), "capabilities"),
            (tuple(f"c{number}" for number in range(51)), "capabilities"),
            (("a", "a"), "capabilities"),
            (("fine", "Not One"), "capabilities.1"),
        ],
        ids=["none", "fifty-one", "twice", "no name"],
    )
    def test_one_to_fifty_different_names_and_no_others(self, names: tuple[str, ...], place: str) -> None:
        refusal = refused(_announce, *names)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_capability", {"field": place})


class TestAnnouncingPrices:
    def test_who_is_given_a_price_has_it_and_the_others_keep_theirs(self) -> None:
        decision = _announce("sing", "translate", "dance", prices={"sing": 70, "translate": 0})

        offered = (Capability("sing", 70), Capability("translate", 0), Capability("dance"))
        assert decision.state == _with(capabilities=offered, updated_at=NOW)
        assert decision.reply["capabilities"] == ["sing", "translate", "dance"]

    def test_a_price_alone_is_stored_and_told_to_who_searches_alone(self) -> None:
        decision = _announce("sum", "translate", prices={"sum": 6})

        offered = (Capability("translate", 1000), Capability("sum", 6))
        told = {"agent_id": ALICE.id, "capabilities": ["translate", "sum"], "updated_at": NOW}
        assert decision == Decision(state=_with(capabilities=offered, updated_at=NOW), reply=told)

    @pytest.mark.parametrize("prices", [{}, {"sum": 5}, {"sum": 5, "translate": 1000}])
    def test_the_same_prices_again_change_nothing(self, prices: dict[str, int]) -> None:
        assert _announce("sum", "translate", prices=prices).state is None

    def test_a_price_goes_up_to_the_largest_one(self) -> None:
        decision = _announce("sum", prices={"sum": 10**15})

        assert isinstance(decision.state, Agent)
        assert decision.state.capabilities == (Capability("sum", 10**15),)

    @pytest.mark.parametrize("price", [-1, 10**15 + 1])
    def test_a_price_out_of_range_is_refused_and_sets_no_other(self, price: int) -> None:
        refusal = refused(_announce, "sum", "translate", prices={"translate": 7, "sum": price})

        assert (refusal.kind, refusal.reason) == ("invalid", "amount_out_of_range")
        assert refusal.context == {"price_max": 10**15}

    def test_a_price_of_what_is_not_announced_is_refused(self) -> None:
        refusal = refused(_announce, "sum", prices={"translate": 7})

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_capability")
        assert refusal.context == {"field": "prices"}

    @pytest.mark.parametrize("price", [True, "8.50", 8.5, None])
    def test_a_price_is_minor_units(self, price: object) -> None:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"capabilities": ["sum"], "prices": {"sum": price}}, Announce)

    def test_who_may_not_negotiate_sets_no_price_and_may_announce(self) -> None:
        sender = msgspec.structs.replace(ALICE.identity, scopes=frozenset({"discover"}))
        asked = msgspec.structs.replace(context(ALICE, topic=TOPIC), sender=sender)
        priced = Announce(capabilities=("sum",), prices={"sum": 7})

        assert refused(HANDLERS["announce"].decide, OFFERED, priced, asked).reason == "missing_scope"
        assert HANDLERS["announce"].decide(OFFERED, Announce(capabilities=("sum",)), asked).state is not None


class TestMetadata:
    def test_it_is_merged_one_level_deep_and_null_removes(self) -> None:
        agent = _with(metadata={"a": 1, "b": {"x": 1, "y": 2}, "c": 3})

        decision = _update({"b": {"z": 3}, "c": None, "d": None, "e": [1]}, agent=agent)

        merged = {"a": 1, "b": {"z": 3}, "e": [1]}
        assert decision.reply == {"metadata": merged}
        assert decision.state == msgspec.structs.replace(agent, metadata=merged, updated_at=NOW)
        assert decision.presence == (UpdateMeta(TOPIC, {"metadata": merged}, agent_id=ALICE.id, merge=True),)
        assert (decision.broadcasts, decision.changes) == ((), ())

    @pytest.mark.parametrize("status", ["online", "busy", "away"])
    def test_a_status_inside_is_told_and_not_stored(self, status: str) -> None:
        decision = _update({"status": status})

        told = {"metadata": {}, "status": status}
        assert decision.reply == told
        assert decision.state is None
        assert decision.presence == (UpdateMeta(TOPIC, told, agent_id=ALICE.id, merge=True),)
        assert decision.changes == (NotePresence(ALICE.id, status),)

    def test_a_status_of_an_agent_that_is_not_shown_is_not_noted(self) -> None:
        assert _update({"status": "busy"}, agent=_with(status=AgentStatus.INACTIVE)).changes == ()

    @pytest.mark.parametrize("status", ["offline", "", "Busy", None, 1, ["busy"], {"busy": True}])
    def test_any_other_status_is_refused_and_nothing_is_merged(self, status: object) -> None:
        refusal = refused(_update, {"status": status, "a": 1})

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "invalid_payload",
            {"field": "metadata.status"},
        )

    def test_what_changes_nothing_does_nothing(self) -> None:
        agent = _with(metadata={"a": 1})

        assert _update({"a": 1, "b": None}, agent=agent) == Decision(reply={"metadata": {"a": 1}})

    def test_true_is_not_one(self) -> None:
        decision = _update({"a": True}, agent=_with(metadata={"a": 1}))

        assert isinstance(decision.state, Agent)
        assert decision.state.metadata["a"] is True

    def test_eight_kibibytes_after_merging_and_no_more(self) -> None:
        agent = _with(metadata={"a": "x" * 4000})
        rest = 8192 - len('{"a":"","b":""}') - 4000

        assert isinstance(_update({"b": "x" * rest}, agent=agent).state, Agent)
        refusal = refused(_update, {"b": "x" * (rest + 1)}, agent=agent)
        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "metadata"})
        assert isinstance(_update({"a": None, "b": "x" * 8000}, agent=agent).state, Agent)

    def test_it_nests_only_so_deep(self) -> None:
        deep: Any = 1
        for _ in range(100):
            deep = [deep]

        assert refused(_update, {"deep": deep}).context == {"field": "metadata"}


class TestHits:
    BOB = agent_named(
        "bob",
        number=0xB,
        capabilities=(Capability("translate", 1000), Capability("sum")),
        base_price=70,
        tags=("text",),
        metadata={"languages": ["de"]},
        tasks_completed=2,
        tasks_failed=1,
        public_key="PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
    )

    def test_a_hit_has_these_fields(self) -> None:
        hit = Hit(agent=self.BOB, status="busy", price=1000, tie=NO_TIE)

        assert as_told(hit_payload(hit, ALICE.agent.party)) == {
            "id": BOB.id,
            "handle": "bob/bot",
            "did": "did:key:z6MkiaMbhXHNA4eJVCCj8dbzKzTgYDKf6crKgHVHid1F1WCT",
            "name": "bob",
            "description": "What bob does.",
            "capabilities": ["translate", "sum"],
            "price": 1000,
            "base_price": 70,
            "pricing_model": "hybrid",
            "reputation": 3.44,
            "tasks_completed": 2,
            "success_rate": 2 / 3,
            "status": "busy",
            "tags": ["text"],
            "metadata": {"languages": ["de"]},
            "is_contact": False,
            "contact_required": False,
        }

    def test_an_agent_without_a_key_has_no_did_and_a_new_one_no_success_rate(self) -> None:
        bob = agent_named("bob", number=0xB, public_key=None)

        told = as_told(hit_payload(Hit(agent=bob, status="offline", price=None, tie=NO_TIE), ALICE.agent.party))

        assert (told["did"], told["success_rate"], told["price"], told["reputation"]) == (None, None, None, 3.5)

    def test_a_stranger_says_that_it_wants_to_be_asked_first(self) -> None:
        stranger = agent_named("bob", number=0xB, organisation_id=None, tags=("text",))

        told = hit_payload(Hit(agent=stranger, status="online", price=1, tie=NO_TIE), ALICE.agent.party)

        assert (told["is_contact"], told["contact_required"]) == (False, True)

    def test_a_contact_says_that_it_is_one_and_may_be_hired(self) -> None:
        stranger = agent_named("bob", number=0xB, organisation_id=None, tags=("text",))

        told = hit_payload(Hit(agent=stranger, status="online", price=1, tie=TIES[BOB.id]), ALICE.agent.party)

        assert (told["is_contact"], told["contact_required"]) == (True, False)


class TestDiscovering:
    def _found(self, next_cursor: Cursor | None) -> Found:
        hit = Hit(agent=BOB.agent, status="online", price=1000, tie=NO_TIE)
        return Found(hits=(hit,), next_cursor=next_cursor, viewer=ALICE.agent.party)

    def test_the_last_page_has_no_cursor(self) -> None:
        decision = HANDLERS["discover"].decide(self._found(None), Discover(), context(ALICE))

        assert decision.reply["next_cursor"] is None
        assert [hit["id"] for hit in decision.reply["agents"]] == [BOB.id]
        assert (decision.state, decision.broadcasts, decision.presence) == (None, (), ())

    def test_the_next_page_of_the_same_search_begins_where_this_one_ended(self) -> None:
        asked = Discover(capability="translate", limit=1)
        place = Cursor(online=1, reputation_centi=350, price=1000, id=BOB.id)

        reply = HANDLERS["discover"].decide(self._found(place), asked, context(ALICE)).reply

        again = msgspec.structs.replace(asked, cursor=reply["next_cursor"])
        assert parse_search(again, context(ALICE)).cursor == place
        third = HANDLERS["discover"].decide(self._found(place), again, context(ALICE)).reply
        assert third["next_cursor"] == reply["next_cursor"] == encode_cursor(place, parse_search(asked, context(ALICE)))

    def test_the_number_of_tags_is_a_setting(self) -> None:
        asked = msgspec.convert({"filters": {"tags": ["a", "b"]}}, Discover)

        assert refused(parse_search, asked, context(ALICE, market=market_with(tags_max=1))).reason == "invalid_payload"

"""Sending messages: Alice writes to Bob, Mallory where she may not, and Olga as the operator."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import AgentStatus
from channels.identity import Identity
from channels.mail_sending import require_reader, sent, version_between
from channels.messages import Phase, StoredMessage
from tests.channels.roles import (
    ALICE,
    BOB,
    CAROL,
    MALLORY,
    NOW,
    Player,
    context,
    identity_of,
    market_with,
    player,
    refused,
)
from tests.channels.strangers import ALICE as STRANGE_ALICE
from tests.channels.strangers import BOB as STRANGE_BOB
from tests.channels.strangers import befriended, block, strangers
from tests.channels.work import OLGA, hired, world_of
from tests.channels.world import World

DAY_S = 86_400
UNKNOWN = "99999999-0000-4000-8000-000000000000"
PERSON = Identity(kind="user", user_id="paul", handle="paul", key_id="key of paul")
"""A user who is no operator."""

SISTER = player("sister", number=0x7, owner_id=ALICE.agent.owner_id)
"""Another agent of Alice's owner."""


@pytest.fixture
def world() -> World:
    return world_of()


def send(world: World, who: Player | Identity = ALICE, whom: Player = BOB, **fields: Any) -> Any:
    """Send a message; the answer."""
    return world.write(who, **{"to_agent_id": whom.id, "type": "status_update", "payload": {"done": 3}, **fields})


def stored(world: World, answer: Any) -> StoredMessage:
    """The message of an answer, as it is stored."""
    found: StoredMessage = world.states["message"][answer["id"]]
    return found


class TestSending:
    def test_leaves_a_message_and_answers_how_it_stands(self, world: World) -> None:
        answer = send(world, dedup_key="report 3")

        (message,) = world.mail(BOB)
        assert answer == {
            "id": message.id,
            "type": "status_update",
            "payload": {"done": 3},
            "from_agent_id": ALICE.id,
            "to_agent_id": BOB.id,
            "protocol_version": "1.0",
            "from_market": False,
            "dedup_key": "report 3",
            "status": "queued",
            "reason": None,
            "inserted_at": "2026-03-01T12:00:00Z",
            "updated_at": "2026-03-01T12:00:00Z",
            "expires_at": "2026-03-08T12:00:00Z",
        }

    @pytest.mark.parametrize("handle", ["bob/bot", "@bob/bot", "@BOB/Bot"])
    def test_takes_a_handle_in_any_form(self, world: World, handle: str) -> None:
        send(world, to_agent_id=None, to_handle=handle)

        assert len(world.mail(BOB)) == 1

    @pytest.mark.parametrize(
        "type_", ["negotiation", "task_handoff", "status_update", "collaboration", "x_a", "x_" + "9" * 62]
    )
    @pytest.mark.parametrize("payload", [{"a": [1]}, [], "text", 3, True, None])
    def test_takes_any_type_and_any_json(self, world: World, type_: str, payload: object) -> None:
        answer = send(world, type=type_, payload=payload)

        assert (answer["type"], answer["payload"]) == (type_, payload)

    @pytest.mark.parametrize("type_", ["", "news", "x_", "x_A", "x_" + "9" * 63, "X_a", "x_a\n", "System"])
    def test_refuses_other_types(self, world: World, type_: str) -> None:
        refusal = refused(send, world, type=type_)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "type"})
        assert world.mail(BOB) == []

    @pytest.mark.parametrize(
        "receiver",
        [{"to_agent_id": None}, {"to_handle": "bob/bot"}],
        ids=["nobody", "both"],
    )
    def test_names_the_receiver_in_one_way(self, world: World, receiver: dict[str, Any]) -> None:
        refusal = refused(send, world, **receiver)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "to_agent_id"})

    def test_takes_64_kib_and_no_byte_more(self, world: World) -> None:
        most = "x" * (65_536 - 2)  # The quotes count.

        refusal = refused(send, world, payload=most + "x")

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "payload"})
        assert send(world, payload=most)["payload"] == most

    @pytest.mark.parametrize("key", ["", "x" * 129])
    def test_refuses_a_dedup_key_of_another_length(self, world: World, key: str) -> None:
        refusal = refused(send, world, dedup_key=key)

        assert (refusal.reason, refusal.context) == ("invalid_payload", {"field": "dedup_key"})

    def test_needs_the_scope(self, world: World) -> None:
        scopeless = msgspec.structs.replace(ALICE, identity=identity_of(ALICE.agent, scopes=frozenset(("tasks",))))

        assert refused(send, world, scopeless).reason == "missing_scope"

    def test_keeps_the_order_in_which_one_wrote_to_another(self, world: World) -> None:
        answers = [send(world, payload=number) for number in range(5)]

        assert [one.id for one in world.mail(BOB)] == sorted(answer["id"] for answer in answers)
        assert [one.payload for one in world.mail(BOB)] == list(range(5))


class TestTheGate:
    @pytest.fixture
    def world(self) -> World:
        return strangers()

    def write(self, world: World, who: Player = STRANGE_ALICE, whom: Player = STRANGE_BOB, **fields: Any) -> Any:
        return send(world, who, whom, **fields)

    def test_strangers_write_nothing(self, world: World) -> None:
        before = world.everything()

        refusal = refused(self.write, world)

        assert (refusal.kind, refusal.reason) == ("forbidden", "contact_required")
        assert world.everything() == before

    def test_contacts_write_both_ways(self, world: World) -> None:
        befriended(world)

        self.write(world)
        self.write(world, STRANGE_BOB, STRANGE_ALICE)

    def test_a_contact_for_something_else_is_none_for_messages(self, world: World) -> None:
        befriended(world, kinds=["task"])

        assert refused(self.write, world).reason == "contact_scope_exceeded"
        self.write(world, STRANGE_BOB, STRANGE_ALICE)

    def test_a_message_is_no_session_that_is_open(self, world: World) -> None:
        befriended(world, max_open=1)
        hire = {"capability": "translate", "max_price": 1_000}
        world.open_task(STRANGE_ALICE, provider_agent_id=STRANGE_BOB.id, **hire)
        assert refused(world.open_task, STRANGE_ALICE, provider_agent_id=STRANGE_BOB.id, **hire).reason == (
            "contact_scope_exceeded"
        )

        self.write(world)

    def test_where_one_has_blocked_the_other_nothing_is_written(self, world: World) -> None:
        befriended(world)
        block(world, STRANGE_BOB, STRANGE_ALICE)

        assert refused(self.write, world).reason == "not_found"
        assert refused(self.write, world, STRANGE_BOB, STRANGE_ALICE).reason == "blocked_by_you"

    def test_nobody_writes_to_itself(self, world: World) -> None:
        assert refused(self.write, world, STRANGE_ALICE, STRANGE_ALICE).reason == "same_agent"

    def test_an_unknown_receiver_is_not_found(self, world: World) -> None:
        assert refused(self.write, world, to_agent_id=UNKNOWN).reason == "not_found"
        assert refused(self.write, world, to_agent_id=None, to_handle="no/body").reason == "not_found"

    @pytest.mark.parametrize("who", [STRANGE_ALICE, STRANGE_BOB])
    def test_both_are_active(self, world: World, who: Player) -> None:
        befriended(world)
        world.change_agent(who, status=AgentStatus.SUSPENDED)

        refusal = refused(self.write, world)

        assert (refusal.reason, refusal.context) == ("agent_unavailable", {"agent_id": who.id})

    def test_needs_no_signing_key(self, world: World) -> None:
        befriended(world)
        for who in (STRANGE_ALICE, STRANGE_BOB):
            world.change_agent(who, public_key=None)

        self.write(world)


class TestSystemMessages:
    def test_come_from_the_house(self, world: World) -> None:
        answer = send(world, OLGA, type="system", payload="We move on Sunday.")

        assert (answer["from_agent_id"], answer["from_market"], answer["status"]) == (None, True, "queued")
        assert [one.payload for one in world.mail(BOB)] == ["We move on Sunday."]

    @pytest.mark.parametrize("who", [ALICE, PERSON])
    def test_are_the_operators_alone(self, world: World, who: Player | Identity) -> None:
        refusal = refused(send, world, who, type="system")

        assert (refusal.kind, refusal.reason) == ("forbidden", "forbidden_role")
        assert world.mail(BOB) == []

    @pytest.mark.parametrize("who", [OLGA, PERSON])
    def test_are_all_that_people_send(self, world: World, who: Identity) -> None:
        assert refused(send, world, who).reason == "agent_required"

    def test_need_nothing_and_are_never_too_many(self) -> None:
        world = world_of(market=market_with(messages_per_sender_max=1, mailbox_max=1))
        send(world)
        world.change_agent(BOB, status=AgentStatus.SUSPENDED)

        for _ in range(3):
            send(world, OLGA, type="system")

        assert len(world.mail(BOB)) == 4

    def test_need_a_receiver(self, world: World) -> None:
        assert refused(send, world, OLGA, type="system", to_agent_id=UNKNOWN).reason == "not_found"

    def test_have_a_version_that_the_receiver_knows(self, world: World) -> None:
        world.change_agent(BOB, protocol_versions=("1.0", "2.0"))

        assert send(world, OLGA, type="system")["protocol_version"] == "2.0"
        assert refused(send, world, OLGA, type="system", protocol_version="3.0").reason == "no_common_version"

    def test_are_told_once_for_a_dedup_key_whichever_operator_speaks(self, world: World) -> None:
        otto = msgspec.structs.replace(OLGA, user_id="otto", handle="otto", key_id="key of otto")
        first = send(world, OLGA, type="system", dedup_key="move")

        assert send(world, otto, type="system", dedup_key="move") == {**first, "duplicate": True}


class TestVersions:
    @pytest.mark.parametrize(
        ("own", "other", "highest"),
        [
            (("1.0",), ("1.0",), "1.0"),
            (("1.0", "2.0", "3.0"), ("2.0", "1.0"), "2.0"),
            (("1.9", "1.10"), ("1.10", "1.9"), "1.10"),
            (("1", "1.0", "1.0.0"), ("1.0.0", "1.0", "1"), "1.0.0"),
            (("1.0-beta", "1.0"), ("1.0", "1.0-beta"), "1.0"),
            (("beta", "0"), ("0", "beta"), "0"),
            (("2.0-a", "2.0-b", "1.9"), ("1.9", "2.0-a", "2.0-b"), "2.0-b"),
        ],
    )
    def test_the_highest_that_both_know_is_taken(
        self, own: tuple[str, ...], other: tuple[str, ...], highest: str
    ) -> None:
        assert version_between(own, other, wanted=None) == highest
        assert version_between(own[::-1], other[::-1], wanted=None) == highest

    def test_one_that_both_know_may_be_asked_for(self, world: World) -> None:
        for who in (ALICE, BOB):
            world.change_agent(who, protocol_versions=("1.0", "2.0"))

        assert send(world)["protocol_version"] == "2.0"
        assert send(world, protocol_version="1.0")["protocol_version"] == "1.0"

    @pytest.mark.parametrize("wanted", [None, "1.0", "2.0", "3.0"])
    def test_without_one_that_both_know_nothing_is_sent(self, world: World, wanted: str | None) -> None:
        world.change_agent(BOB, protocol_versions=("2.0",))

        refusal = refused(send, world, protocol_version=wanted)

        assert (refusal.kind, refusal.reason) == ("invalid", "no_common_version")
        assert refusal.context == {"own_versions": ("1.0",), "other_versions": ("2.0",)}
        assert world.mail(BOB) == []


class TestDedupKeys:
    def test_the_same_again_is_the_first_message_as_it_stands_now(self, world: World) -> None:
        first = send(world, dedup_key="once")
        world.advance(60)
        world.push(BOB, f"messages:{BOB.id}", "reject", {"message_id": first["id"], "reason": "busy"})

        again = send(world, dedup_key="once", to_agent_id=None, to_handle="bob/bot")

        rejected = {"status": "rejected", "reason": "busy", "updated_at": "2026-03-01T12:01:00Z"}
        assert again == {**first, **rejected, "duplicate": True}
        assert len(world.mail(BOB)) == 1

    def test_the_order_of_members_does_not_count(self, world: World) -> None:
        send(world, dedup_key="once", payload={"a": 1, "b": 2})

        assert send(world, dedup_key="once", payload={"b": 2, "a": 1})["duplicate"] is True

    @pytest.mark.parametrize(
        "other",
        [{"payload": {"done": 4}}, {"type": "collaboration"}, {"to_agent_id": CAROL.id}, {"to_agent_id": UNKNOWN}],
        ids=["payload", "type", "receiver", "unknown receiver"],
    )
    def test_something_else_under_the_same_key_is_refused(self, world: World, other: dict[str, Any]) -> None:
        first = send(world, dedup_key="once")
        before = world.everything()

        refusal = refused(send, world, dedup_key="once", **other)

        assert (refusal.kind, refusal.reason) == ("conflict", "dedup_mismatch")
        assert refusal.context == {"message_id": first["id"]}
        assert world.everything() == before

    def test_a_key_is_its_senders(self, world: World) -> None:
        first = send(world, dedup_key="once")

        assert send(world, CAROL, dedup_key="once")["id"] != first["id"]

    def test_a_key_counts_for_a_week(self, world: World) -> None:
        first = send(world, dedup_key="once")
        world.advance(7 * DAY_S - 1)
        assert send(world, dedup_key="once")["id"] == first["id"]
        world.advance(1)

        again = send(world, dedup_key="once")

        assert again["id"] != first["id"]
        world.advance(DAY_S)
        assert send(world, dedup_key="once") == {**again, "duplicate": True}

    def test_who_repeats_a_call_learns_what_became_of_it_also_where_it_may_write_no_more(self) -> None:
        world = strangers()
        befriended(world)
        first = send(world, STRANGE_ALICE, STRANGE_BOB, dedup_key="once")
        block(world, STRANGE_BOB, STRANGE_ALICE)

        assert send(world, STRANGE_ALICE, STRANGE_BOB, dedup_key="once") == {**first, "duplicate": True}
        assert refused(send, world, STRANGE_ALICE, STRANGE_BOB).reason == "not_found"


class TestFullMailboxes:
    def test_one_sender_fills_its_part_alone(self) -> None:
        world = world_of(market=market_with(messages_per_sender_max=2))
        first, _second = send(world), send(world)
        before = world.everything()

        refusal = refused(send, world)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "mailbox_full",
            {"max": 2, "scope": "sender"},
        )
        assert world.everything() == before
        send(world, MALLORY)
        send(world, ALICE, CAROL)
        world.push(BOB, f"messages:{BOB.id}", "acknowledge", {"message_id": first["id"]})
        send(world)

    def test_what_was_pushed_and_not_answered_counts(self) -> None:
        world = world_of(market=market_with(messages_per_sender_max=1))
        world.mark_pushed(BOB.id, send(world)["id"])

        assert refused(send, world).reason == "mailbox_full"

    def test_all_agents_of_one_owner_fill_their_part_alone(self) -> None:
        world = world_of(market=market_with(messages_per_house_max=2))
        world.states["agent"][SISTER.id] = SISTER.agent
        first, _second = send(world), send(world, SISTER)
        before = world.everything()

        for sender in (ALICE, SISTER):
            refusal = refused(send, world, sender)
            assert (refusal.reason, refusal.context) == ("mailbox_full", {"max": 2, "scope": "house"})
        assert world.everything() == before
        send(world, MALLORY)
        send(world, SISTER, CAROL)
        world.push(BOB, f"messages:{BOB.id}", "acknowledge", {"message_id": first["id"]})
        send(world, SISTER)

    def test_what_is_announced_of_them_is_no_part_of_that(self) -> None:
        world = world_of(market=market_with(messages_per_house_max=1))
        hired(world)
        send(world)

        hired(world)

        assert refused(send, world).context["scope"] == "house"
        assert [one.from_owner_id for one in world.mail(BOB)] == [None, ALICE.agent.owner_id, None]

    def test_agents_of_one_owner_write_to_each_other_as_many_as_fit(self) -> None:
        world = world_of(market=market_with(messages_per_house_max=1, mailbox_max=3))
        world.states["agent"][SISTER.id] = SISTER.agent
        for _ in range(3):
            send(world, SISTER, ALICE)

        assert refused(send, world, SISTER, ALICE).context == {"max": 3, "scope": "mailbox"}

    def test_all_together_fill_the_mailbox(self) -> None:
        world = world_of(market=market_with(mailbox_max=2))
        first, _second = send(world), send(world, CAROL)

        refusal = refused(send, world, MALLORY)

        assert (refusal.reason, refusal.context) == ("mailbox_full", {"max": 2, "scope": "mailbox"})
        world.push(BOB, f"messages:{BOB.id}", "reject", {"message_id": first["id"], "reason": "busy"})
        send(world, MALLORY)

    def test_what_is_announced_is_not_refused_because_of_others(self) -> None:
        world = world_of(market=market_with(mailbox_max=1))
        send(world, CAROL)

        hired(world)

        assert [one.type for one in world.mail(BOB)] == ["status_update", "task_handoff"]

    def test_what_one_has_announced_counts_as_its_own(self) -> None:
        world = world_of(market=market_with(messages_per_sender_max=2))
        send(world)
        hired(world)
        before = world.everything()

        for act in (hired, send):
            refusal = refused(act, world)
            assert (refusal.reason, refusal.context) == ("mailbox_full", {"max": 2, "scope": "sender"})
        assert world.everything() == before

    def test_a_full_mailbox_is_empty_again_a_week_later(self) -> None:
        world = world_of(market=market_with(messages_per_sender_max=1))
        send(world)
        world.advance(7 * DAY_S)

        send(world)


class TestReading:
    @pytest.mark.parametrize(("who", "key"), [(ALICE, "once"), (BOB, None)])
    def test_sender_and_receiver_read_it_whole_but_for_the_senders_key(
        self, world: World, who: Player, key: str | None
    ) -> None:
        message = stored(world, send(world, dedup_key="once"))

        seen = sent(require_reader(message, context(who)), context(who))

        assert seen["dedup_key"] == key
        assert (seen["id"], seen["status"]) == (message.id, Phase.QUEUED)

    def test_it_is_shown_as_it_stands_by_the_clock(self, world: World) -> None:
        message = stored(world, send(world))
        late = context(ALICE, now=NOW + timedelta(days=8))

        seen = sent(message, late)

        assert (seen["status"], seen["updated_at"]) == (Phase.EXPIRED, message.expires_at)

    @pytest.mark.parametrize("who", [CAROL, MALLORY])
    def test_nobody_else_knows_of_it(self, world: World, who: Player) -> None:
        message = stored(world, send(world))

        assert refused(require_reader, message, context(who)).reason == "not_found"
        assert refused(require_reader, None, context(ALICE)).reason == "not_found"

    def test_nobody_knows_of_what_the_house_said_to_another(self, world: World) -> None:
        message = stored(world, send(world, OLGA, type="system"))

        assert refused(require_reader, message, context(CAROL)).reason == "not_found"
        assert refused(require_reader, message, context(OLGA)).reason == "agent_required"

"""What both sides are told of their contacts: flat for agents, nested for users; null and absent are not the same."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.contact_book import (
    Block,
    Contact,
    ContactRequest,
    RequestPhase,
    Side,
    Standing,
    added,
    received,
    removed,
    tie_of,
    updated,
)
from channels.contacts import NO_TIE, Scope, Tie
from channels.told import Broadcast
from tests.channels.book import agent_entity, owner_entity
from tests.channels.roles import NOW, as_told
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    answer,
    asked,
    befriended,
    contacts,
    ears,
    handle_of,
    requests,
    strangers,
)
from tests.channels.world import Who, World

AT_NOON = "2026-03-01T12:00:00Z"


@pytest.fixture
def world() -> World:
    return strangers()


def told(world: World, who: Who, event: str, act: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    """What one is told with that event while `act` is done: exactly once."""
    (ear,) = ears(world, who)
    act(world, *args, **kwargs)
    (payload,) = ear.payloads(event)
    assert isinstance(payload, dict)
    return payload


class TestARequestIsReceived:
    def test_by_an_agent_flat(self, world: World) -> None:
        payload = told(world, BOB, "contact_request_received", asked, ALICE, BOB, message="Shall we?")

        assert payload == {
            "id": requests(world)[0].id,
            "from_handle": "john/alice",
            "from_name": "alice",
            "message": "Shall we?",
            "status": "pending",
            "inserted_at": AT_NOON,
        }

    def test_by_a_user_with_the_requester_nested(self, world: World) -> None:
        payload = told(world, JANE, "contact_request_received", asked, ALICE, JANE, message="Shall we?")

        assert payload == {
            "id": requests(world)[0].id,
            "requester_id": ALICE.id,
            "requester_type": "Agent",
            "recipient_id": JANE.user_id,
            "recipient_type": "User",
            "status": "pending",
            "message": "Shall we?",
            "requester": {"id": ALICE.id, "handle": "john/alice", "name": "alice"},
            "inserted_at": AT_NOON,
            "responded_at": None,
        }

    def test_from_a_user_by_the_users_handle_and_name(self, world: World) -> None:
        flat = told(world, BOB, "contact_request_received", asked, JOHN, BOB)
        nested = told(world, JANE, "contact_request_received", asked, JOHN, JANE)

        assert (flat["from_handle"], flat["from_name"], flat["message"]) == ("john", "John", None)
        assert nested["requester"] == {"id": JOHN.user_id, "handle": "john", "name": "John"}
        assert (nested["requester_type"], nested["message"]) == ("User", None)


@pytest.mark.parametrize(("who", "whom"), [(ALICE, BOB), (ALICE, JANE), (JOHN, BOB), (JOHN, JANE)])
class TestOfWhateverKindTheTwoAre:
    """Agents on `agent_contacts`, users on `user_contacts`: the two of the contact, and never an owner."""

    def test_an_updated_request_is_its_id_and_its_status(self, world: World, who: Who, whom: Who) -> None:
        request_id = asked(world, who, whom)
        one, other = ears(world, who, whom)

        answer(world, whom, "reject", request_id)

        for ear in (one, other):
            assert [(heard.event, heard.payload) for heard in ear.heard] == [
                ("contact_request_updated", {"id": request_id, "status": "rejected"})
            ]

    def test_a_removed_contact_is_its_id(self, world: World, who: Who, whom: Who) -> None:
        contact = befriended(world, who, whom)
        one, other = ears(world, who, whom)

        world.call(who, "remove", handle=handle_of(whom))

        for ear in (one, other):
            assert [(heard.event, heard.payload) for heard in ear.heard] == [("contact_removed", {"id": contact.id})]

    def test_each_is_told_of_the_other_under_one_id(self, world: World, who: Who, whom: Who) -> None:
        one, other = ears(world, who, whom)

        befriended(world, who, whom)

        (of_whom,), (of_who,) = one.payloads("contact_added"), other.payloads("contact_added")
        assert of_whom["id"] == of_who["id"] == contacts(world)[0].id
        assert (of_whom["handle"], of_who["handle"]) == (handle_of(whom), handle_of(who))


class TestANewContact:
    def test_that_is_an_agent_comes_with_what_it_is(self, world: World) -> None:
        payload = told(world, ALICE, "contact_added", befriended)

        assert payload == {
            "id": contacts(world)[0].id,
            "handle": "jane/bob",
            "name": "bob",
            "type": "Agent",
            "description": "What bob does.",
            "is_external": True,
            "inserted_at": AT_NOON,
            "listed_in_directory": True,
            "tags": ["text"],
        }

    def test_an_unlisted_agent_without_tags_says_so(self, world: World) -> None:
        world.change_agent(BOB, is_listed=False, tags=())

        payload = told(world, ALICE, "contact_added", befriended)

        assert (payload["listed_in_directory"], payload["tags"]) == (False, [])

    @pytest.mark.parametrize("who", [ALICE, JOHN], ids=["an agent", "a user"])
    def test_that_is_a_user_leaves_out_what_a_user_does_not_have(self, world: World, who: Who) -> None:
        payload = told(world, who, "contact_added", befriended, who, JANE)

        assert payload == {
            "id": contacts(world)[0].id,
            "handle": "jane",
            "name": "Jane",
            "type": "User",
            "is_external": False,
            "inserted_at": AT_NOON,
        }

    def test_the_scope_is_not_told(self, world: World) -> None:
        payload = told(world, ALICE, "contact_added", befriended, max_price=5)

        assert "scope" not in payload


ALICES = agent_entity(ALICE.agent)
JOHNS = owner_entity(ALICE.agent)
BOBS = agent_entity(BOB.agent)
REQUEST = ContactRequest(
    id="r", requester=ALICES.side, recipient=JOHNS.side, inserted_at=NOW, expires_at=NOW + timedelta(days=1)
)
CONTACT = Contact(id="c", requester=ALICES.side, recipient=JOHNS.side, inserted_at=NOW)


class TestTopics:
    def test_agents_and_users_have_each_their_own(self) -> None:
        assert ALICES.side.topic == f"agent_contacts:{ALICE.id}"
        assert JOHNS.side.topic == f"user_contacts:{ALICE.agent.owner_id}"

    def test_the_requester_is_told_first(self) -> None:
        topics = [ALICES.side.topic, JOHNS.side.topic]

        assert [sent.topic for sent in updated(REQUEST)] == topics
        assert [sent.topic for sent in removed(CONTACT)] == topics

    def test_a_received_request_goes_to_the_recipient(self) -> None:
        sent = received(REQUEST, ALICES)

        assert isinstance(sent, Broadcast)
        assert (sent.topic, sent.event) == (JOHNS.side.topic, "contact_request_received")

    def test_every_payload_can_be_sent(self) -> None:
        for payload in (added(CONTACT, JOHNS), added(CONTACT, BOBS), received(REQUEST, ALICES).payload):
            assert as_told(payload)["inserted_at"] == AT_NOON


class TestStates:
    @pytest.mark.parametrize("phase", RequestPhase)
    @pytest.mark.parametrize("is_over", [True, False])
    def test_a_request_is_expired_by_the_clock_if_it_is_pending(self, phase: RequestPhase, *, is_over: bool) -> None:
        request = msgspec.structs.replace(REQUEST, status=phase)
        now = request.expires_at if is_over else request.expires_at - timedelta(milliseconds=1)

        expired = is_over and phase is RequestPhase.PENDING
        assert request.status_at(now) is (RequestPhase.EXPIRED if expired else phase)

    def test_a_contact_holds_until_its_scope_ends(self) -> None:
        an_hour = msgspec.structs.replace(CONTACT, scope=Scope(expires_at=NOW + timedelta(hours=1)))

        assert (CONTACT.expires_at, an_hour.expires_at) == (None, NOW + timedelta(hours=1))
        assert CONTACT.holds_at(NOW + timedelta(days=10_000))
        assert an_hour.holds_at(NOW + timedelta(minutes=59))
        assert not an_hour.holds_at(NOW + timedelta(hours=1))
        assert not msgspec.structs.replace(CONTACT, status=Standing.ENDED).holds_at(NOW)

    def test_a_contact_has_its_two_and_no_other(self) -> None:
        assert CONTACT.has(ALICE.id)
        assert CONTACT.has(ALICE.agent.owner_id)
        assert not CONTACT.has(BOB.id)

    def test_a_block_names_both_and_holds_until_its_end(self) -> None:
        block = Block(id="b", blocker=ALICES.side, blocked=BOBS.side, inserted_at=NOW)
        an_hour = msgspec.structs.replace(block, expires_at=NOW + timedelta(hours=1))

        assert (block.blocker_id, block.blocked_id) == (ALICE.id, BOB.id)
        assert block.holds_at(NOW + timedelta(days=10_000))
        assert an_hour.holds_at(NOW + timedelta(minutes=59))
        assert not an_hour.holds_at(NOW + timedelta(hours=1))
        assert not msgspec.structs.replace(block, status=Standing.ENDED).holds_at(NOW)


class TestTieOf:
    """By the clock, and as it stands for the acting one."""

    SCOPE = Scope(max_open=1, expires_at=NOW + timedelta(hours=1))
    CONTACT = msgspec.structs.replace(CONTACT, recipient=BOBS.side, scope=SCOPE)
    BLOCK = Block(id="b", blocker=ALICES.side, blocked=BOBS.side, expires_at=NOW + timedelta(hours=1), inserted_at=NOW)
    LATER = NOW + timedelta(hours=1)

    def test_nothing_between_two_is_no_tie(self) -> None:
        assert tie_of(ALICE.id, contact=None, block=None, counter_block=None, now=NOW) is NO_TIE

    def test_the_scope_stands_for_the_requester_alone(self) -> None:
        hers = tie_of(ALICE.id, contact=self.CONTACT, block=None, counter_block=None, now=NOW)
        his = tie_of(BOB.id, contact=self.CONTACT, block=None, counter_block=None, now=NOW)

        assert (hers, his) == (Tie(is_contact=True, scope=self.SCOPE), Tie(is_contact=True))

    def test_the_block_stands_for_each_its_own_way(self) -> None:
        hers = tie_of(ALICE.id, contact=None, block=self.BLOCK, counter_block=None, now=NOW)
        his = tie_of(BOB.id, contact=None, block=None, counter_block=self.BLOCK, now=NOW)

        assert (hers, his) == (Tie(has_blocked=True), Tie(is_blocked=True))

    def test_what_is_over_by_the_clock_is_nothing(self) -> None:
        tie = tie_of(ALICE.id, contact=self.CONTACT, block=self.BLOCK, counter_block=self.BLOCK, now=self.LATER)

        assert tie is NO_TIE

    def test_the_other_way_round_each_has_what_was_the_others(self, world: World) -> None:
        asked(world)
        befriended(world, BOB, JOHN)
        world.call(ALICE, "block", handle="carl/carol")
        for other in (BOB.id, CAROL.id, JOHN.user_id):
            pair = world.book.pair(ALICE.id, other)
            assert pair is not None
            assert pair.mirrored == world.book.pair(other, ALICE.id)
            assert pair.mirrored.mirrored == pair
            assert pair.tie_at(NOW) == world.book.tie(ALICE.id, other)


def test_sides_are_told_apart_by_id_and_type() -> None:
    assert ALICES.id == ALICES.side.id == ALICE.id
    assert ALICES.side != Side(id=ALICE.id, type="User", user_id=ALICE.agent.owner_id)

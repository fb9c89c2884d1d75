"""Asking for contact: what is made of it, what is refused, and what crosses or comes too late."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.agents import AgentStatus
from channels.changes import Insert, Timer
from channels.contact_book import (
    Block,
    Contact,
    ContactRequest,
    Origin,
    Pair,
    Side,
    Standing,
)
from channels.contact_requests import AddContact, Asking, request_contact
from channels.contacts import NO_TIE, Scope, Tie
from channels.errors import not_found
from channels.handlers import Access, Decision
from channels.revocation import combined
from channels.told import Retied
from tests.channels.book import agent_entity
from tests.channels.roles import FRESH_ID, NOW, Player, as_told, context, market_with, player, refused
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    LONE,
    MALLORY,
    answer,
    ask,
    asked,
    befriended,
    block,
    contacts,
    ears,
    requests,
    strangers,
)
from tests.channels.work import hired
from tests.channels.world import CALLS, World

MONTH_S = 2_592_000
HOUR_S = 3_600
SIBLING = player("ann", number=0xE, handle="john/ann", owner_id=ALICE.agent.owner_id, **LONE)
SUSPENDED = player("alice", number=0xA, handle="john/alice", status=AgentStatus.SUSPENDED, **LONE)
SHARED = player("sue", number=0xF, handle="sam/sue", is_global=True)


@pytest.fixture
def world() -> World:
    return strangers()


def side_of(who: Player) -> Side:
    return Side(id=who.id, type="Agent", user_id=who.agent.owner_id)


def two(who: Player = ALICE, whom: Player = BOB, **between: Any) -> Pair:
    """Two agents, and what is between them."""
    return Pair(a=agent_entity(who.agent), b=agent_entity(whom.agent), **between)


def decide(facts: Asking, *, message: str | None = None, **settings: Any) -> Decision:
    """Alice asks, on those facts."""
    return request_contact(facts, AddContact(handle="jane/bob", message=message), context(ALICE, **settings))


class TestAsking:
    def test_a_request_is_pending_and_lasts_a_month(self, world: World) -> None:
        reply = ask(world, message="  Shall we?  ")

        (made,) = requests(world)
        assert reply == {"id": made.id, "status": "pending"}
        assert made == ContactRequest(
            id=made.id,
            requester=side_of(ALICE),
            recipient=side_of(BOB),
            message="Shall we?",
            inserted_at=NOW,
            expires_at=NOW + timedelta(days=30),
        )
        assert world.timers == {(f"contact_request:{made.id}", "contact_request_expires"): made.expires_at}

    def test_it_grants_nothing(self, world: World) -> None:
        asked(world)

        assert (world.book.ties(), world.retied, contacts(world)) == ({}, [], [])
        assert refused(hired, world, provider=BOB, client=ALICE).reason == "contact_required"

    def test_the_recipient_alone_is_told(self, world: World) -> None:
        alice, bob, jane, carol = ears(world, ALICE, BOB, JANE, CAROL)

        asked(world)

        assert bob.events() == ["contact_request_received"]
        assert (alice.heard, jane.heard, carol.heard) == ([], [], [])

    @pytest.mark.parametrize(
        ("who", "whom", "types"),
        [(ALICE, JANE, ("Agent", "User")), (JOHN, BOB, ("User", "Agent")), (JOHN, JANE, ("User", "User"))],
    )
    def test_users_ask_and_are_asked_too(self, world: World, who: Any, whom: Any, types: tuple[str, str]) -> None:
        ask(world, who, whom)

        (made,) = requests(world)
        assert (made.requester.type, made.recipient.type) == types
        assert (made.requester_id, made.recipient_id) == (who.id, whom.id)

    @pytest.mark.parametrize("text", [None, "", " \n\t "])
    def test_a_blank_message_is_none(self, world: World, text: str | None) -> None:
        ask(world, message=text)

        assert requests(world)[0].message is None

    def test_the_message_may_have_five_hundred_characters_and_no_more(self, world: World) -> None:
        refusal = refused(ask, world, message="ä" * 501)
        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "message"})
        assert requests(world) == []

        ask(world, message=f" {'ä' * 500} ")
        assert requests(world)[0].message == "ä" * 500

    def test_a_message_is_text(self, world: World) -> None:
        assert refused(ask, world, message="a\x00b").context == {"field": "message"}

    def test_lifetime_and_length_are_settings(self) -> None:
        world = strangers(market=market_with(contact_request_ttl_s=60, contact_message_chars_max=3))

        assert refused(ask, world, message="four").reason == "invalid_payload"
        asked(world, message="two")
        assert requests(world)[0].expires_at == NOW + timedelta(seconds=60)

    def test_who_may_open_anyway_is_asked_as_one_known(self) -> None:
        world = strangers(ALICE, SIBLING, SHARED, BOB)

        for whom in (SIBLING, SHARED, JOHN, BOB):
            ask(world, ALICE, whom)

        assert [made.is_to_stranger for made in requests(world)] == [False, False, False, True]

    def test_how_it_is_asked(self) -> None:
        handler = CALLS["add"]

        assert (handler.request, handler.decide) == (AddContact, request_contact)
        assert (handler.loads, handler.access, handler.scope) == ("contact_asking", Access.WRITE, "contacts")


class TestRefusals:
    """Each changes nothing: a client that repeats it does no harm."""

    @pytest.fixture(autouse=True)
    def _nothing_changes(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused_without_effect(name: str, **payload: Any) -> Any:
            before = world.everything()
            refusal = refused(world.call, ALICE, name, **payload)
            assert world.everything() == before
            return refusal

        self.refused = refused_without_effect

    def test_nobody_has_that_handle(self) -> None:
        refusal = self.refused("add", handle="jane/nobody")

        assert (refusal.kind, refusal.response()) == ("not_found", not_found("handle").response())

    def test_who_has_blocked_one_is_as_if_it_did_not_exist(self, world: World) -> None:
        block(world, BOB, ALICE)

        refusal = self.refused("add", handle="jane/bob")

        assert (refusal.kind, refusal.response()) == ("not_found", not_found("handle").response())

    def test_oneself(self) -> None:
        refusal = self.refused("add", handle="john/alice")

        assert (refusal.kind, refusal.reason) == ("conflict", "self_contact")

    def test_whom_one_has_blocked(self, world: World) -> None:
        block(world, ALICE, BOB)

        refusal = self.refused("add", handle="jane/bob")

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "blocked_by_you", {"id": BOB.id})

    @pytest.mark.parametrize(("a", "b"), [(ALICE, BOB), (BOB, ALICE)])
    def test_ones_contact_already_whoever_asked_for_it(self, world: World, a: Player, b: Player) -> None:
        befriended(world, a, b)

        refusal = self.refused("add", handle="jane/bob")

        assert (refusal.kind, refusal.reason) == ("conflict", "already_contacts")

    def test_the_same_again_while_it_is_pending(self, world: World) -> None:
        request_id = asked(world)

        refusal = self.refused("add", handle="jane/bob", message="Please!")

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "request_pending",
            {"request_id": request_id},
        )

    @pytest.mark.parametrize("status", [status for status in AgentStatus if status is not AgentStatus.ACTIVE])
    def test_while_the_asker_is_not_active(self, world: World, status: AgentStatus) -> None:
        asked(world, BOB, ALICE)
        world.change_agent(ALICE, status=status)

        for handle in ("jane/bob", "carl/carol"):
            refusal = self.refused("add", handle=handle)
            assert (refusal.kind, refusal.reason, refusal.context) == (
                "conflict",
                "agent_unavailable",
                {"agent_id": ALICE.id},
            )

    def test_a_key_without_the_scope(self, world: World) -> None:
        scopeless = msgspec.structs.replace(
            ALICE, identity=msgspec.structs.replace(ALICE.identity, scopes=frozenset(("tasks",)))
        )

        assert refused(ask, world, scopeless, BOB).reason == "missing_scope"


def test_refusals_have_one_order_and_the_first_that_applies_is_told() -> None:
    """Each case mends one thing more than the one before it."""
    contact = Contact(id="c", requester=side_of(ALICE), recipient=side_of(BOB), inserted_at=NOW)
    hers = Block(id="b", blocker=side_of(ALICE), blocked=side_of(BOB), inserted_at=NOW)
    his = Block(id="k", blocker=side_of(BOB), blocked=side_of(ALICE), inserted_at=NOW)
    sent = ContactRequest(
        id="r", requester=side_of(ALICE), recipient=side_of(BOB), inserted_at=NOW, expires_at=NOW + timedelta(1)
    )
    crowded: dict[str, Any] = {"recent_count": 60, "pending_count": 10, "oldest_recent_at": NOW}
    everything: dict[str, Any] = {"contact": contact, "block": hers, "counter_block": his, "sent": sent}
    cases: list[tuple[str, str | None, Asking]] = [
        ("invalid_payload", "x" * 501, Asking(pair=None, **crowded)),
        ("not_found", None, Asking(pair=None, **crowded)),
        ("self_contact", None, Asking(pair=two(whom=ALICE, **everything), **crowded)),
        ("not_found", None, Asking(pair=two(**everything), **crowded)),
        ("blocked_by_you", None, Asking(pair=two(SUSPENDED, contact=contact, block=hers, sent=sent), **crowded)),
        ("agent_unavailable", None, Asking(pair=two(SUSPENDED, contact=contact, sent=sent), **crowded)),
        ("already_contacts", None, Asking(pair=two(contact=contact, sent=sent), **crowded)),
        ("request_pending", None, Asking(pair=two(sent=sent), **crowded)),
        ("rate_limited", None, Asking(pair=two(), **crowded)),
        ("too_many_pending", None, Asking(pair=two(), pending_count=10)),
    ]

    reasons = [refused(decide, facts, message=message).reason for _, message, facts in cases]

    assert reasons == [reason for reason, _, _ in cases]


class TestAllowance:
    def test_ten_requests_to_strangers_are_pending_at_once_and_no_more(self) -> None:
        decide(Asking(pair=two(), pending_count=9))

        refusal = refused(decide, Asking(pair=two(), pending_count=10))

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "too_many_pending", {"max": 10})

    def test_who_is_no_stranger_may_be_asked_all_the_same(self) -> None:
        for whom in (SIBLING, SHARED):
            decide(Asking(pair=two(whom=whom), pending_count=10))

    def test_what_is_no_longer_pending_makes_room(self) -> None:
        world = strangers(market=market_with(contact_requests_pending_max=2))
        to_bob, to_carol = asked(world, ALICE, BOB), asked(world, ALICE, CAROL)

        assert refused(ask, world, ALICE, MALLORY).reason == "too_many_pending"
        answer(world, CAROL, "reject", to_carol)
        asked(world, ALICE, MALLORY)
        assert refused(ask, world, ALICE, CAROL).reason == "too_many_pending"
        answer(world, ALICE, "cancel", to_bob)
        asked(world, ALICE, CAROL)

    def test_what_is_over_by_the_clock_makes_room_also_without_its_timer(self) -> None:
        world = strangers(market=market_with(contact_requests_pending_max=1))
        asked(world, ALICE, BOB)

        world.advance(MONTH_S, run_timers=False)

        asked(world, ALICE, CAROL)

    def test_sixty_an_hour_and_no_more(self) -> None:
        decide(Asking(pair=two(), recent_count=59, oldest_recent_at=NOW))

        refusal = refused(decide, Asking(pair=two(), recent_count=60, oldest_recent_at=NOW))

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "rate_limited",
            "rate_limited",
            {"retry_after": 3600},
        )

    @pytest.mark.parametrize(
        ("age", "retry_after"),
        [
            (timedelta(0), 3_600),
            (timedelta(milliseconds=1), 3_600),
            (timedelta(seconds=1), 3_599),
            (timedelta(minutes=59, seconds=59), 1),
            (timedelta(minutes=59, seconds=59, milliseconds=999), 1),
        ],
    )
    def test_it_says_when_the_oldest_leaves_the_hour_never_too_early(self, age: timedelta, retry_after: int) -> None:
        refusal = refused(decide, Asking(pair=two(), recent_count=60, oldest_recent_at=NOW - age))

        assert refusal.context == {"retry_after": retry_after}
        assert NOW - age + timedelta(hours=1) <= NOW + timedelta(seconds=retry_after)

    def test_trying_again_when_it_says_so_is_let_through(self) -> None:
        world = strangers(market=market_with(contact_requests_per_hour_max=2))
        answer(world, ALICE, "cancel", asked(world))
        world.advance(600)
        answer(world, ALICE, "cancel", asked(world))

        wait_s = refused(ask, world).context["retry_after"]

        assert wait_s == HOUR_S - 600
        world.advance(wait_s - 1)
        assert refused(ask, world).context == {"retry_after": 1}
        world.advance(1)
        asked(world)

    def test_what_was_refused_does_not_count(self) -> None:
        world = strangers(market=market_with(contact_requests_per_hour_max=2))
        asked(world)
        for _ in range(5):
            assert refused(ask, world).reason == "request_pending"

        asked(world, ALICE, CAROL)

        assert refused(ask, world, ALICE, MALLORY).reason == "rate_limited"

    def test_others_have_an_allowance_of_their_own(self) -> None:
        world = strangers(market=market_with(contact_requests_per_hour_max=1, contact_requests_pending_max=1))
        asked(world, ALICE, BOB)

        asked(world, CAROL, BOB)
        asked(world, JOHN, BOB)

        assert refused(ask, world, ALICE, CAROL).reason == "rate_limited"


class TestCrossing:
    def test_asking_who_has_asked_approves_its_request(self, world: World) -> None:
        request_id = asked(world, BOB, ALICE)
        alice, bob = ears(world, ALICE, BOB)

        reply = ask(world, ALICE, BOB, message="Gladly.")

        assert reply == {"id": request_id, "status": "approved"}
        (request,), (contact,) = requests(world), contacts(world)
        assert (request.status, request.responded_by, request.responded_at) == ("approved", ALICE.id, NOW)
        assert (contact.requester, contact.recipient) == (side_of(BOB), side_of(ALICE))
        assert (contact.origin, contact.scope, contact.status) == (Origin.REQUEST, None, Standing.ACTIVE)
        assert alice.events() == bob.events() == ["contact_request_updated", "contact_added"]
        assert world.retied == [Retied(BOB.id, ALICE.id, Tie(is_contact=True))]
        assert world.timers == {}

    def test_it_needs_no_allowance_because_nothing_new_is_asked(self) -> None:
        received = ContactRequest(
            id="r", requester=side_of(BOB), recipient=side_of(ALICE), inserted_at=NOW, expires_at=NOW + timedelta(1)
        )
        crowded = Asking(pair=two(received=received), recent_count=60, pending_count=10, oldest_recent_at=NOW)

        assert decide(crowded).reply == {"id": "r", "status": "approved"}

    def test_one_that_is_over_by_the_clock_is_not_crossed(self, world: World) -> None:
        old = asked(world, BOB, ALICE)
        world.advance(MONTH_S, run_timers=False)

        reply = ask(world, ALICE, BOB)

        assert reply["status"] == "pending"
        assert reply["id"] != old
        assert contacts(world) == []
        world.run_timers()
        assert [made.status for made in requests(world)] == ["expired", "pending"]


def test_several_decisions_as_one_keep_their_order_and_the_last_reply() -> None:
    one = Decision(reply={"n": 1}, changes=(Timer("a", "t", None),), broadcasts=(Retied("a", "b", NO_TIE),))
    other = Decision(reply={"n": 2}, changes=(Insert("s", "i", 1),), broadcasts=(Retied("c", "d", NO_TIE),))

    assert combined(one, Decision(), other) == Decision(
        reply={"n": 2}, changes=(*one.changes, *other.changes), broadcasts=(*one.broadcasts, *other.broadcasts)
    )


def test_a_scoped_contact_reads_as_it_was_written() -> None:
    """A new contact's id is the one that it was given, and its scope comes back from JSON as it was."""
    contact = Contact(
        id=FRESH_ID, requester=side_of(ALICE), recipient=side_of(BOB), scope=Scope(max_price=5), inserted_at=NOW
    )

    assert msgspec.convert(as_told(contact), Contact) == contact

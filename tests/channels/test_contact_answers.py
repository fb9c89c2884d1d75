"""Answering a contact request: who may, what it may narrow, and what is too late."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from channels.contact_book import Contact, Origin, RequestPhase, Standing
from channels.contact_requests import OPEN_MAX, Answering, Respond, respond
from channels.contacts import Kind, Scope, Tie
from channels.errors import not_found
from channels.handlers import Access
from channels.ledger import MONEY_MAX
from channels.told import Retied
from tests.channels.roles import NOW, Player, context, refused
from tests.channels.strangers import (
    ALICE,
    BOB,
    CAROL,
    JANE,
    JOHN,
    MALLORY,
    MAX,
    answer,
    ask,
    asked,
    befriended,
    block,
    contacts,
    ears,
    handle_of,
    owner_of,
    requests,
    strangers,
)
from tests.channels.world import CALLS, Who, World

MONTH_S = 2_592_000
ACTIONS = ("approve", "reject", "cancel")
IN_AN_HOUR = "2026-03-01T13:00:00Z"
RIGHT_SIDE = [
    ("approve", BOB),
    ("approve", JANE),
    ("reject", BOB),
    ("reject", JANE),
    ("cancel", ALICE),
    ("cancel", JOHN),
]
WRONG_SIDE = [
    ("approve", ALICE, "recipient"),
    ("approve", JOHN, "recipient"),
    ("reject", ALICE, "recipient"),
    ("reject", JOHN, "recipient"),
    ("cancel", BOB, "requester"),
    ("cancel", JANE, "requester"),
]
STATUS = {"approve": "approved", "reject": "rejected", "cancel": "cancelled"}


@pytest.fixture
def world() -> World:
    return strangers()


class TestTheRightSide:
    @pytest.mark.parametrize(("action", "who"), RIGHT_SIDE)
    def test_the_agent_or_its_owner_answers(self, world: World, action: str, who: Who) -> None:
        request_id = asked(world)

        reply = answer(world, who, action, request_id)

        (request,) = requests(world)
        assert reply == {"id": request_id, "status": STATUS[action]}
        assert (request.status, request.responded_by, request.responded_at) == (STATUS[action], who.id, NOW)
        assert world.timers == {}

    @pytest.mark.parametrize("action", ACTIONS)
    def test_both_are_told_and_nobody_else(self, world: World, action: str) -> None:
        request_id = asked(world)
        alice, bob, john, jane, carol = ears(world, ALICE, BOB, JOHN, JANE, CAROL)

        answer(world, ALICE if action == "cancel" else BOB, action, request_id)

        told = ["contact_request_updated", "contact_added"] if action == "approve" else ["contact_request_updated"]
        assert alice.events() == bob.events() == told
        for ear in (alice, bob):
            assert ear.payloads("contact_request_updated") == [{"id": request_id, "status": STATUS[action]}]
        assert (john.heard, jane.heard, carol.heard) == ([], [], [])

    @pytest.mark.parametrize("action", ACTIONS)
    def test_it_is_answered_by_the_other_ones_handle_too(self, world: World, action: str) -> None:
        request_id = asked(world)
        who, other = (ALICE, BOB) if action == "cancel" else (BOB, ALICE)

        reply = world.call(who, "respond", action=action, handle=f"@{handle_of(other)}")

        assert reply == {"id": request_id, "status": STATUS[action]}

    def test_a_user_answers_what_was_asked_of_the_user(self, world: World) -> None:
        request_id = asked(world, ALICE, JANE)

        assert answer(world, JANE, "approve", request_id)["status"] == "approved"
        assert world.book.tie(ALICE.id, JANE.user_id).is_contact
        assert not world.book.tie(ALICE.id, BOB.id).is_contact

    def test_who_owns_both_sides_may_answer_as_either(self, world: World) -> None:
        for action in ACTIONS:
            request_id = asked(world, JOHN, ALICE)

            assert answer(world, JOHN, action, request_id)["status"] == STATUS[action]
            for contact in contacts(world):
                if contact.status is Standing.ACTIVE:
                    world.call(JOHN, "remove", contact_id=contact.id)


class TestApproving:
    def test_the_two_are_contacts(self, world: World) -> None:
        request_id = asked(world)

        answer(world, BOB, "approve", request_id)

        (contact,) = contacts(world)
        assert contact == Contact(
            id=contact.id,
            requester=requests(world)[0].requester,
            recipient=requests(world)[0].recipient,
            origin=Origin.REQUEST,
            inserted_at=NOW,
        )
        assert contact.id != request_id
        assert world.retied == [Retied(ALICE.id, BOB.id, Tie(is_contact=True))]

    def test_neither_owners_nor_siblings_are(self, world: World) -> None:
        befriended(world)

        assert world.book.ties().keys() == {(ALICE.id, BOB.id), (BOB.id, ALICE.id)}

    @pytest.mark.parametrize("end", [None, IN_AN_HOUR])
    def test_who_have_become_contacts_meanwhile_have_a_contact_that_was_asked_for(
        self, world: World, end: str | None
    ) -> None:
        """As members of one organisation do: it outlives that, as the one that was approved."""
        request_id = self._asked_and_become_members(world)
        alice, bob = ears(world, ALICE, BOB)

        reply = answer(world, BOB, "approve", request_id, scope={"max_open": 1, "expires_at": end})

        (contact,), (request,) = contacts(world), requests(world)
        assert reply == {"id": request_id, "status": "approved"}
        assert (contact.id, contact.status, contact.origin) == ("c", "active", Origin.REQUEST)
        assert (contact.requester, contact.recipient) == (request.requester, request.recipient)
        expires_at = NOW + timedelta(hours=1) if end else None
        assert contact.scope == Scope(max_open=1, expires_at=expires_at)
        assert world.timers == ({("contact:c", "contact_expires"): expires_at} if end else {})
        assert alice.events() == bob.events() == ["contact_request_updated"]
        assert world.retied == []

    def test_between_members_asking_back_is_refused_and_approving_is_not(self, world: World) -> None:
        request_id = self._asked_and_become_members(world)

        assert refused(ask, world, BOB, ALICE).reason == "already_contacts"
        answer(world, BOB, "approve", request_id)

        assert (contacts(world)[0].origin, contacts(world)[0].scope) == (Origin.REQUEST, None)

    def _asked_and_become_members(self, world: World) -> str:
        """Alice's request is pending, and an organisation has made the two contacts, Bob first."""
        request_id = asked(world)
        request = requests(world)[0]
        world.states["contact"]["c"] = Contact(
            id="c",
            requester=request.recipient,
            recipient=request.requester,
            origin=Origin.ORGANISATION,
            inserted_at=NOW,
        )
        return request_id

    def test_a_contact_that_is_over_by_the_clock_is_replaced(self, world: World) -> None:
        request_id = asked(world)
        asked_for = requests(world)[0]
        old = Contact(
            id="c",
            requester=asked_for.requester,
            recipient=asked_for.recipient,
            scope=Scope(expires_at=NOW + timedelta(hours=1)),
            inserted_at=NOW,
        )
        world.states["contact"]["c"] = old
        world.advance(3_600, run_timers=False)
        alice, bob = ears(world, ALICE, BOB)

        answer(world, BOB, "approve", request_id)

        ended, new = contacts(world)
        assert (ended.id, ended.status, ended.ended_by) == ("c", "ended", None)
        assert (new.status, new.scope) == ("active", None)
        assert alice.events() == bob.events() == ["contact_removed", "contact_request_updated", "contact_added"]

    @pytest.mark.parametrize("action", ["reject", "cancel"])
    def test_a_no_makes_no_contact(self, world: World, action: str) -> None:
        answer(world, ALICE if action == "cancel" else BOB, action, asked(world))

        assert (contacts(world), world.retied) == ([], [])


class TestScopes:
    def test_an_approval_may_narrow_what_the_requester_may_open(self, world: World) -> None:
        contact = befriended(
            world, kinds=["task", "negotiation"], max_price=500, max_open=3, expires_at="2026-03-02T12:00:00Z"
        )

        scope = Scope(
            kinds=(Kind.TASK, Kind.NEGOTIATION), max_price=500, max_open=3, expires_at=NOW + timedelta(days=1)
        )
        assert contact.scope == scope
        assert world.retied == [Retied(ALICE.id, BOB.id, Tie(is_contact=True, scope=scope))]
        assert world.book.tie(BOB.id, ALICE.id) == Tie(is_contact=True)
        assert world.timers == {(f"contact:{contact.id}", "contact_expires"): scope.expires_at}

    def test_what_is_left_out_is_not_narrowed(self, world: World) -> None:
        answer(world, BOB, "approve", asked(world), scope={})

        assert contacts(world)[0].scope == Scope()
        assert world.timers == {}

    def test_each_kind_stands_once_in_the_order_given(self, world: World) -> None:
        contact = befriended(world, kinds=["task", "room", "task", "message", "room"])

        assert contact.scope is not None
        assert contact.scope.kinds == (Kind.TASK, Kind.ROOM, Kind.MESSAGE)

    def test_it_may_let_nothing_be_opened(self, world: World) -> None:
        assert befriended(world, kinds=[], max_price=0).scope == Scope(kinds=(), max_price=0)

    @pytest.mark.parametrize(
        ("given", "kept"),
        [
            ("2026-03-01T15:30:00.123456+02:00", datetime(2026, 3, 1, 13, 30, 0, 123_000, tzinfo=UTC)),
            ("2026-03-01T13:00:00.000999Z", datetime(2026, 3, 1, 13, 0, tzinfo=UTC)),
            ("2026-03-01T12:00:00.001Z", datetime(2026, 3, 1, 12, 0, 0, 1_000, tzinfo=UTC)),
        ],
    )
    def test_its_end_is_kept_in_utc_and_whole_milliseconds(self, world: World, given: str, kept: datetime) -> None:
        contact = befriended(world, expires_at=given)

        assert contact.expires_at is not None
        assert (contact.expires_at, contact.expires_at.tzinfo) == (kept, UTC)
        assert [*world.timers.values()] == [kept]

    @pytest.mark.parametrize(
        "given",
        ["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000999Z", "2026-03-01T13:59:59+02:00", "2020-01-01T00:00:00Z"],
    )
    def test_one_that_would_be_over_already_is_refused(self, world: World, given: str) -> None:
        request_id = asked(world)
        before = world.everything()

        refusal = refused(answer, world, BOB, "approve", request_id, scope={"expires_at": given})

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "invalid",
            "invalid_payload",
            {"field": "scope.expires_at"},
        )
        assert world.everything() == before

    @pytest.mark.parametrize(
        "scope",
        [
            {"kinds": ["dance"]},
            {"kinds": "task"},
            {"max_price": -1},
            {"max_price": MONEY_MAX + 1},
            {"max_open": 0},
            {"max_open": OPEN_MAX + 1},
            {"max_price": "5"},
            {"expires_at": "2026-03-02T12:00:00"},
            {"expires_at": "tomorrow"},
        ],
    )
    def test_what_is_no_scope_is_refused(self, world: World, scope: dict[str, Any]) -> None:
        request_id = asked(world)

        refusal = refused(answer, world, BOB, "approve", request_id, scope=scope)

        assert (refusal.kind, refusal.reason) == ("invalid", "invalid_payload")
        assert requests(world)[0].status == "pending"

    def test_its_largest_numbers(self, world: World) -> None:
        assert befriended(world, max_price=MONEY_MAX, max_open=OPEN_MAX).scope == Scope(
            max_price=MONEY_MAX, max_open=OPEN_MAX
        )

    @pytest.mark.parametrize(("action", "who"), [("reject", BOB), ("cancel", ALICE)])
    def test_only_an_approval_has_one(self, world: World, action: str, who: Player) -> None:
        request_id = asked(world)

        refusal = refused(answer, world, who, action, request_id, scope={})

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "scope"})
        assert requests(world)[0].status == "pending"


class TestRefusals:
    @pytest.mark.parametrize(("action", "who", "role"), WRONG_SIDE)
    def test_the_wrong_side_is_forbidden(self, world: World, action: str, who: Who, role: str) -> None:
        request_id = asked(world)
        before = world.everything()

        refusal = refused(answer, world, who, action, request_id)

        assert (refusal.kind, refusal.reason, refusal.context) == ("forbidden", "forbidden_role", {"role": role})
        assert world.everything() == before

    @pytest.mark.parametrize("action", ACTIONS)
    @pytest.mark.parametrize("who", [MALLORY, MAX, CAROL], ids=["mallory", "max", "carol"])
    def test_to_who_is_no_party_it_does_not_exist(self, world: World, who: Who, action: str) -> None:
        request_id = asked(world)
        before = world.everything()

        refusal = refused(answer, world, who, action, request_id)
        unknown = refused(answer, world, who, action, "no such request")

        assert (refusal.kind, refusal.response()) == ("not_found", not_found("contact request").response())
        assert refusal.response() == unknown.response()
        assert world.everything() == before

    def test_another_agent_of_the_owner_is_no_party(self) -> None:
        ann = msgspec.structs.replace(
            CAROL,
            agent=msgspec.structs.replace(CAROL.agent, owner_id=BOB.agent.owner_id),
            identity=msgspec.structs.replace(CAROL.identity, user_id=BOB.agent.owner_id),
        )
        world = strangers(ALICE, BOB, ann)

        assert refused(answer, world, ann, "approve", asked(world)).reason == "not_found"

    def test_an_agent_does_not_answer_for_its_owner(self, world: World) -> None:
        request_id = asked(world, ALICE, JANE)

        assert refused(answer, world, BOB, "approve", request_id).reason == "not_found"

    @pytest.mark.parametrize("action", ACTIONS)
    def test_by_handle_there_is_none_where_none_is_pending(self, world: World, action: str) -> None:
        for handle in ("jane/bob", "jane/nobody"):
            assert refused(world.call, ALICE, "respond", action=action, handle=handle).reason == "not_found"

    @pytest.mark.parametrize("ending", ACTIONS)
    @pytest.mark.parametrize(("action", "who"), RIGHT_SIDE)
    def test_every_final_state_is_final(self, world: World, ending: str, action: str, who: Who) -> None:
        request_id = asked(world)
        answer(world, ALICE if ending == "cancel" else BOB, ending, request_id)
        before = world.everything()

        refusal = refused(answer, world, who, action, request_id)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "request_resolved",
            {"status": STATUS[ending]},
        )
        assert world.everything() == before

    @pytest.mark.parametrize(("action", "who"), RIGHT_SIDE)
    @pytest.mark.parametrize("run_timers", [True, False])
    def test_what_is_over_by_the_clock_has_expired_also_without_its_timer(
        self, world: World, action: str, who: Who, *, run_timers: bool
    ) -> None:
        request_id = asked(world)
        world.advance(MONTH_S, run_timers=run_timers)
        before = world.everything()

        refusal = refused(answer, world, who, action, request_id)

        assert (refusal.kind, refusal.reason, refusal.context) == (
            "conflict",
            "request_resolved",
            {"status": RequestPhase.EXPIRED},
        )
        assert world.everything() == before

    def test_a_moment_before_its_end_it_can_be_approved(self, world: World) -> None:
        request_id = asked(world)
        world.advance(MONTH_S - 0.001)

        assert answer(world, BOB, "approve", request_id)["status"] == "approved"

    @pytest.mark.parametrize(("blocker", "blocked"), [(ALICE, BOB), (BOB, ALICE)])
    def test_a_request_between_two_of_whom_one_blocks_is_over(
        self, world: World, blocker: Player, blocked: Player
    ) -> None:
        request_id = asked(world)
        block(world, blocker, blocked)

        assert refused(answer, world, BOB, "approve", request_id).reason == "request_resolved"
        assert contacts(world) == []

    def test_refusals_have_one_order_and_the_first_that_applies_is_told(self, world: World) -> None:
        """Each case mends one thing more than the one before it."""
        answer(world, BOB, "reject", asked(world))
        asked_for, pair = requests(world)[0], world.book.pair(ALICE.id, BOB.id)
        assert pair is not None
        resolved = Answering(request=asked_for, pair=pair)
        pending = msgspec.structs.replace(
            resolved, request=msgspec.structs.replace(asked_for, status=RequestPhase.PENDING)
        )
        late = msgspec.convert({"action": "approve", "scope": {"expires_at": "2020-01-01T00:00:00Z"}}, Respond)
        scoped = msgspec.convert({"action": "reject", "scope": {}}, Respond)
        approving = Respond(action="approve")
        cases = [
            ("not_found", None, late, MALLORY),
            ("not_found", resolved, late, MALLORY),
            ("forbidden_role", resolved, late, ALICE),
            ("invalid_payload", resolved, late, BOB),
            ("invalid_payload", resolved, scoped, BOB),
            ("request_resolved", resolved, approving, BOB),
        ]

        reasons = [refused(respond, facts, request, context(who)).reason for _, facts, request, who in cases]

        assert reasons == [reason for reason, *_ in cases]
        assert respond(pending, approving, context(BOB)).reply["status"] == "approved"


def test_how_it_is_answered() -> None:
    handler = CALLS["respond"]

    assert (handler.request, handler.decide) == (Respond, respond)
    assert (handler.loads, handler.access, handler.scope) == ("contact_answering", Access.WRITE, "contacts")


def test_an_unknown_action_is_no_answer(world: World) -> None:
    assert refused(answer, world, BOB, "ignore", asked(world)).reason == "invalid_payload"


def test_a_rejected_one_may_ask_again_and_be_approved(world: World) -> None:
    answer(world, owner_of(BOB), "reject", asked(world))

    again = ask(world)["id"]

    assert answer(world, BOB, "approve", again)["status"] == "approved"
    assert [made.status for made in requests(world)] == ["rejected", "approved"]

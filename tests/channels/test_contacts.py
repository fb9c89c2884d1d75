"""Who may see whom, and who may open a session with whom: relations, ties, scopes and the gate."""

from collections.abc import Callable
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contacts import (
    NO_TIE,
    Kind,
    Party,
    Relation,
    Scope,
    Tie,
    binding_scope,
    exists_for,
    is_discoverable_by,
    is_present_to,
    max_price_between,
    needs_contact,
    relation,
    require_may_open,
    require_price_in_scope,
    require_reachable,
    same_house,
)
from channels.errors import Refusal, not_found
from tests.channels.roles import refused

ALICE = Party(id="alice", user_id="john")
JOHN = Party(id="john", user_id="john")
BOB = Party(id="bob", user_id="jane", has_tags=True)
JANE = Party(id="jane", user_id="jane")

ACME = {"organisation_id": "acme"}
CONTACT = Tie(is_contact=True)
BLOCKED = Tie(is_blocked=True)
BLOCKING = Tie(has_blocked=True)
TIES = [
    Tie(is_contact=is_contact, is_blocked=is_blocked, has_blocked=has_blocked)
    for is_contact, is_blocked, has_blocked in product((False, True), repeat=3)
]


def _bob(**fields: object) -> Party:
    return msgspec.structs.replace(BOB, **fields)


def _alice(**fields: object) -> Party:
    return msgspec.structs.replace(ALICE, **fields)


SIBLING = _bob(user_id="john")
GLOBAL = _bob(is_global=True)


class TestRelation:
    @pytest.mark.parametrize(
        ("a", "b", "tie", "expected"),
        [
            (ALICE, ALICE, NO_TIE, Relation.SELF),
            (JOHN, JOHN, NO_TIE, Relation.SELF),
            (JOHN, ALICE, NO_TIE, Relation.OWNER),
            (ALICE, JOHN, NO_TIE, Relation.OWNER),
            (ALICE, BOB, BLOCKED, Relation.BLOCKED),
            (ALICE, SIBLING, NO_TIE, Relation.SIBLING),
            (_alice(**ACME), _bob(**ACME), NO_TIE, Relation.SAME_ORGANISATION),
            (_alice(owner_organisation_id="acme"), _bob(**ACME), NO_TIE, Relation.SAME_ORGANISATION),
            (ALICE, GLOBAL, NO_TIE, Relation.GLOBAL),
            (ALICE, BOB, CONTACT, Relation.CONTACT),
            (ALICE, BOB, NO_TIE, Relation.STRANGER),
            (ALICE, BOB, BLOCKING, Relation.STRANGER),
        ],
    )
    def test_how_two_entities_stand_to_each_other(self, a: Party, b: Party, tie: Tie, expected: Relation) -> None:
        assert relation(a, b, tie) is expected

    @pytest.mark.parametrize("tie", TIES)
    def test_the_first_that_applies_is_the_one_whatever_else_they_have_done(self, tie: Tie) -> None:
        alice, everybodys = _alice(**ACME), {"organisation_id": "acme", "is_global": True}
        in_order = [
            (_alice(**everybodys), Relation.SELF),
            (_bob(id="john", user_id="john", **everybodys), Relation.OWNER),
            *([(_bob(user_id="john", **everybodys), Relation.BLOCKED)] if tie.is_blocked else []),
            *([(_bob(**everybodys), Relation.BLOCKED)] if tie.is_blocked else []),
            *([(GLOBAL, Relation.BLOCKED)] if tie.is_blocked else []),
            *([] if tie.is_blocked else [(_bob(user_id="john", **everybodys), Relation.SIBLING)]),
            *([] if tie.is_blocked else [(_bob(**everybodys), Relation.SAME_ORGANISATION)]),
            *([] if tie.is_blocked else [(GLOBAL, Relation.GLOBAL)]),
            *([] if tie.is_blocked else [(BOB, Relation.CONTACT if tie.is_contact else Relation.STRANGER)]),
        ]

        assert [relation(alice, other, tie) for other, _ in in_order] == [expected for _, expected in in_order]

    def test_the_order_is_that_of_the_names(self) -> None:
        names = "self owner blocked sibling same_organisation global contact stranger"

        assert [kind.value for kind in Relation] == names.split()

    @pytest.mark.parametrize("tie", [NO_TIE, CONTACT])
    def test_a_personal_agent_of_a_member_is_not_the_organisations(self, tie: Tie) -> None:
        stands = relation(_alice(**ACME), _bob(owner_organisation_id="acme"), tie)

        assert stands is (Relation.CONTACT if tie.is_contact else Relation.STRANGER)

    def test_having_no_organisation_is_nothing_in_common(self) -> None:
        assert relation(_alice(organisation_id=None), _bob(organisation_id=None)) is Relation.STRANGER

    def test_a_global_agent_is_one_for_all_but_all_are_not_ones_for_it(self) -> None:
        everybodys = _alice(is_global=True)

        assert relation(BOB, everybodys) is Relation.GLOBAL
        assert relation(everybodys, BOB) is Relation.STRANGER

    def test_a_contact_does_not_extend_to_owners_or_siblings(self) -> None:
        """A tie is that of two ids, so there is none of Alice towards Bob's owner; nor do contacts make one house."""
        ties = {BOB.id: CONTACT}
        of_bobs_house = [JANE, _bob(id="ben")]

        assert relation(ALICE, BOB, ties.get(BOB.id, NO_TIE)) is Relation.CONTACT
        for other in of_bobs_house:
            assert relation(ALICE, other, ties.get(other.id, NO_TIE)) is Relation.STRANGER
        assert not same_house(ALICE, BOB)


class TestTies:
    @pytest.mark.parametrize("tie", TIES)
    def test_what_one_has_done_the_other_has_suffered(self, tie: Tie) -> None:
        mirrored = tie.mirrored

        assert (mirrored.is_contact, mirrored.is_blocked, mirrored.has_blocked) == (
            tie.is_contact,
            tie.has_blocked,
            tie.is_blocked,
        )
        assert mirrored.mirrored == tie

    def test_a_scope_binds_one_side_alone(self) -> None:
        assert Tie(is_contact=True, scope=Scope(max_open=1)).mirrored == CONTACT


MISSING = "not_found"
KNOWN = "exists present found"
LISTED = "exists found needs"
STRANGE = "exists needs"
NOTHING = ""


class Row(msgspec.Struct, frozen=True):
    """What one entity may see of another and do to it.

    Args:
        a, b, tie: Who acts, towards whom, and the tie of a towards b.
        sees: Whether b exists for a by its exact handle, is present to it, is found by it, and a needs a contact.
        opens: What the gate says: None, or the reason.
        reaches: What asking, or writing to it says: None, or the reason.
    """

    a: Party
    b: Party
    tie: Tie
    sees: str
    opens: str | None = None
    reaches: str | None = None


CONTACT_FIRST = "contact_required"
UNBLOCK_FIRST = "blocked_by_you"
TABLE = {
    "itself": Row(ALICE, ALICE, NO_TIE, KNOWN),
    "sibling": Row(ALICE, SIBLING, NO_TIE, KNOWN),
    "unlisted sibling": Row(ALICE, _bob(user_id="john", is_listed=False), NO_TIE, KNOWN),
    "owner of the agent": Row(JOHN, ALICE, NO_TIE, KNOWN),
    "the agent's owner": Row(ALICE, JOHN, NO_TIE, KNOWN),
    "agent, whatever was blocked": Row(JOHN, ALICE, Tie(is_blocked=True, has_blocked=True), KNOWN),
    "of the same organisation": Row(_alice(**ACME), _bob(**ACME), NO_TIE, KNOWN),
    "shared by the owner's organisation": Row(_alice(owner_organisation_id="acme"), _bob(**ACME), NO_TIE, KNOWN),
    "global": Row(ALICE, GLOBAL, NO_TIE, KNOWN),
    "global, unlisted and untagged": Row(ALICE, _bob(is_global=True, is_listed=False, has_tags=False), NO_TIE, KNOWN),
    "anybody, for a global one": Row(_alice(is_global=True), _bob(has_tags=False), NO_TIE, STRANGE, CONTACT_FIRST),
    "contact": Row(ALICE, BOB, CONTACT, KNOWN),
    "unlisted and untagged contact": Row(ALICE, _bob(is_listed=False, has_tags=False), CONTACT, KNOWN),
    "stranger, listed and tagged": Row(ALICE, BOB, NO_TIE, LISTED, CONTACT_FIRST),
    "stranger, unlisted": Row(ALICE, _bob(is_listed=False), NO_TIE, STRANGE, CONTACT_FIRST),
    "stranger, untagged": Row(ALICE, _bob(has_tags=False), NO_TIE, STRANGE, CONTACT_FIRST),
    "stranger, personal": Row(ALICE, _bob(is_listed=False, has_tags=False), NO_TIE, STRANGE, CONTACT_FIRST),
    "personal agent of a member": Row(
        _alice(**ACME), _bob(owner_organisation_id="acme", is_listed=False), NO_TIE, STRANGE, CONTACT_FIRST
    ),
    "another user": Row(JOHN, JANE, NO_TIE, STRANGE, CONTACT_FIRST),
    "blocker": Row(ALICE, BOB, BLOCKED, NOTHING, MISSING, MISSING),
    "blocker among siblings": Row(ALICE, SIBLING, BLOCKED, NOTHING, MISSING, MISSING),
    "blocker of one organisation": Row(_alice(**ACME), _bob(**ACME), BLOCKED, NOTHING, MISSING, MISSING),
    "global blocker": Row(ALICE, GLOBAL, BLOCKED, NOTHING, MISSING, MISSING),
    "blocked": Row(ALICE, BOB, BLOCKING, STRANGE, UNBLOCK_FIRST, UNBLOCK_FIRST),
    "blocked sibling": Row(ALICE, SIBLING, BLOCKING, "exists", UNBLOCK_FIRST, UNBLOCK_FIRST),
    "blocked global agent": Row(ALICE, GLOBAL, BLOCKING, "exists", UNBLOCK_FIRST, UNBLOCK_FIRST),
}
"""The other one, as the acting one would call it."""


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
class TestTheTable:
    def test_what_is_seen(self, row: Row) -> None:
        two = (row.a, row.b, row.tie)
        answers = {
            "exists": exists_for(*two),
            "present": is_present_to(*two),
            "found": is_discoverable_by(*two),
            "needs": needs_contact(*two),
        }

        assert answers == {name: name in row.sees.split() for name in answers}

    def test_what_may_be_opened(self, row: Row) -> None:
        for kind in Kind:
            assert _outcome(require_may_open, row.a, row.b, row.tie, kind=kind) == row.opens

    def test_what_may_be_reached(self, row: Row) -> None:
        assert _outcome(require_reachable, row.a, row.b, row.tie) == row.reaches


def _outcome(act: Callable[..., object], *args: Any, **kwargs: Any) -> str | None:
    """None where it is let through, else the reason."""
    try:
        act(*args, **kwargs)
    except Refusal as refusal:
        return refusal.reason
    return None


class TestTheGate:
    def test_strangers_are_told_to_ask_for_contact(self) -> None:
        refusal = refused(require_may_open, ALICE, BOB, NO_TIE, kind=Kind.TASK)

        assert (refusal.kind, refusal.reason) == ("forbidden", "contact_required")
        assert "POST /api/v1/agent/contacts/add" in refusal.message

    @pytest.mark.parametrize(
        ("is_listed", "has_tags", "is_told"), [(True, True, True), (True, False, False), (False, True, False)]
    )
    def test_whom_to_ask_is_told_where_it_is_found_anyway(
        self, *, is_listed: bool, has_tags: bool, is_told: bool
    ) -> None:
        bob = _bob(is_listed=is_listed, has_tags=has_tags)

        refusal = refused(require_may_open, ALICE, bob, NO_TIE, kind=Kind.TASK, handle="jane/bob")

        assert refusal.context == ({"handle": "jane/bob"} if is_told else {})
        assert ("jane/bob" in refusal.message) is is_told

    def test_who_is_blocked_gets_the_answer_of_an_agent_that_does_not_exist(self) -> None:
        """Also in the words of the place where it is looked for."""
        opening = refused(require_may_open, ALICE, BOB, BLOCKED, kind=Kind.TASK)
        reaching = refused(require_reachable, ALICE, BOB, BLOCKED, what="handle")

        assert (opening.kind, opening.response()) == ("not_found", not_found("agent").response())
        assert (reaching.kind, reaching.response()) == ("not_found", not_found("handle").response())

    def test_who_blocks_is_told_to_unblock_first(self) -> None:
        refusal = refused(require_may_open, ALICE, BOB, BLOCKING, kind=Kind.TASK)

        assert (refusal.kind, refusal.reason, refusal.context) == ("conflict", "blocked_by_you", {"id": BOB.id})

    def test_a_block_comes_before_the_contact(self) -> None:
        for tie in (Tie(is_contact=True, is_blocked=True), Tie(is_contact=True, is_blocked=True, has_blocked=True)):
            assert refused(require_may_open, ALICE, BOB, tie, kind=Kind.TASK).reason == "not_found"
        tie = Tie(is_contact=True, has_blocked=True, scope=Scope(kinds=()))
        assert refused(require_may_open, ALICE, BOB, tie, kind=Kind.TASK).reason == "blocked_by_you"


class TestScopes:
    @pytest.mark.parametrize("kind", Kind)
    @pytest.mark.parametrize("allowed", [(), (Kind.TASK,), (Kind.NEGOTIATION, Kind.ROOM), tuple(Kind)])
    def test_the_kinds_that_are_named_are_let_through_alone(self, allowed: tuple[Kind, ...], kind: Kind) -> None:
        tie = Tie(is_contact=True, scope=Scope(kinds=allowed))

        if kind in allowed:
            require_may_open(ALICE, BOB, tie, kind=kind)
            return
        refusal = refused(require_may_open, ALICE, BOB, tie, kind=kind)
        assert (refusal.kind, refusal.reason) == ("forbidden", "contact_scope_exceeded")
        assert refusal.context == {"kinds": allowed}
        assert refusal.message == f"This contact does not let you open: {kind}."

    def test_the_last_place_can_be_taken_and_no_other_after_it(self) -> None:
        tie = Tie(is_contact=True, scope=Scope(max_open=3))

        require_may_open(ALICE, BOB, tie, kind=Kind.TASK, open_count=2)
        refusal = refused(require_may_open, ALICE, BOB, tie, kind=Kind.TASK, open_count=3)
        assert (refusal.kind, refusal.reason, refusal.context) == (
            "forbidden",
            "contact_scope_exceeded",
            {"max_open": 3},
        )

    def test_the_kind_is_asked_before_the_number(self) -> None:
        tie = Tie(is_contact=True, scope=Scope(kinds=(), max_open=1))

        assert refused(require_may_open, ALICE, BOB, tie, kind=Kind.TASK, open_count=1).context == {"kinds": ()}

    @pytest.mark.parametrize("scope", [None, Scope(), Scope(max_price=0)])
    def test_what_is_not_narrowed_is_open(self, scope: Scope | None) -> None:
        for kind in Kind:
            require_may_open(ALICE, BOB, Tie(is_contact=True, scope=scope), kind=kind, open_count=10**6)

    def test_the_highest_price_is_in_it_and_one_more_is_not(self) -> None:
        require_price_in_scope(500, 500)
        require_price_in_scope(0, 0)
        require_price_in_scope(10**15, None)

        refusal = refused(require_price_in_scope, 501, 500)
        assert (refusal.kind, refusal.reason, refusal.context) == (
            "forbidden",
            "contact_scope_exceeded",
            {"max_price": 500},
        )
        assert refused(require_price_in_scope, 1, 0).context == {"max_price": 0}

    def test_it_binds_only_where_a_contact_is_needed(self) -> None:
        narrow = Scope(kinds=(), max_price=0, max_open=1)
        tie = Tie(is_contact=True, scope=narrow)

        assert (binding_scope(ALICE, BOB, tie), max_price_between(ALICE, BOB, tie)) == (narrow, 0)
        for other in (GLOBAL, SIBLING, JOHN, _bob(organisation_id="acme")):
            alice = _alice(**ACME)
            assert (binding_scope(alice, other, tie), max_price_between(alice, other, tie)) == (None, None)
            require_may_open(alice, other, tie, kind=Kind.TASK, open_count=5)

    def test_it_binds_the_requester_alone(self) -> None:
        tie = Tie(is_contact=True, scope=Scope(kinds=(), max_price=0, max_open=1))

        assert refused(require_may_open, ALICE, BOB, tie, kind=Kind.TASK).reason == "contact_scope_exceeded"
        require_may_open(BOB, ALICE, tie.mirrored, kind=Kind.TASK, open_count=5)
        assert max_price_between(BOB, ALICE, tie.mirrored) is None

    @pytest.mark.parametrize("tie", [NO_TIE, CONTACT])
    def test_without_one_no_price_is_too_high(self, tie: Tie) -> None:
        assert max_price_between(ALICE, BOB, tie) is None


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (ALICE, BOB, False),
        (ALICE, _bob(user_id="john"), True),
        (_alice(**ACME), _bob(**ACME), True),
        (_alice(owner_organisation_id="acme"), _bob(**ACME), True),
        (_alice(owner_organisation_id="acme"), _bob(owner_organisation_id="acme"), True),
        (_alice(**ACME), _bob(organisation_id="other"), False),
    ],
)
def test_one_owner_or_one_organisation_is_one_house(*, a: Party, b: Party, expected: bool) -> None:
    assert same_house(a, b) is expected
    assert same_house(b, a) is expected


PARTIES = st.builds(
    Party,
    id=st.sampled_from("abcj"),
    user_id=st.sampled_from("jk"),
    organisation_id=st.sampled_from([None, "acme"]),
    owner_organisation_id=st.sampled_from([None, "acme"]),
    is_global=st.booleans(),
    is_listed=st.booleans(),
    has_tags=st.booleans(),
)
TWO = st.tuples(PARTIES, PARTIES, st.sampled_from(TIES)).filter(lambda two: two[0].id != two[1].id or two[2] == NO_TIE)
"""Viewer, subject and the tie between them; nobody has one to itself."""


@given(TWO)
def test_who_is_seen_in_presence_is_found_and_may_be_hired(two: tuple[Party, Party, Tie]) -> None:
    if is_present_to(*two):
        assert is_discoverable_by(*two)
        require_may_open(*two, kind=Kind.TASK)
    else:
        assert _outcome(require_may_open, *two, kind=Kind.TASK) is not None


@given(TWO)
def test_of_whom_nothing_exists_nothing_is_found_seen_or_reached(two: tuple[Party, Party, Tie]) -> None:
    reached = (_outcome(require_reachable, *two), _outcome(require_may_open, *two, kind=Kind.TASK))

    if exists_for(*two):
        assert "not_found" not in reached
    else:
        assert reached == ("not_found", "not_found")
        assert not is_present_to(*two)
        assert not is_discoverable_by(*two)


@given(TWO)
def test_a_block_only_takes_from_both(two: tuple[Party, Party, Tie]) -> None:
    """Whoever of the two blocks the other, neither sees or finds more of it than before."""
    viewer, subject, tie = two
    for done in ({"has_blocked": True}, {"is_blocked": True}):
        after = tie if viewer.id == subject.id else msgspec.structs.replace(tie, **done)
        for sees in (exists_for, is_present_to, is_discoverable_by):
            assert sees(*two) or not sees(viewer, subject, after)

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.contacts import (
    Party,
    Relation,
    is_discoverable_by,
    is_present_to,
    needs_contact,
    relation,
    require_may_open,
    same_house,
)
from tests.channels.roles import refused

ALICE = Party(id="alice", user_id="john")
JOHN = Party(id="john", user_id="john")
BOB = Party(id="bob", user_id="jane", has_tags=True)

ACME = {"organisation_id": "acme"}


def _bob(**fields: object) -> Party:
    return msgspec.structs.replace(BOB, **fields)


def _alice(**fields: object) -> Party:
    return msgspec.structs.replace(ALICE, **fields)


CASES = [
    (ALICE, ALICE, Relation.SELF),
    (JOHN, JOHN, Relation.SELF),
    (JOHN, ALICE, Relation.OWNER),
    (ALICE, JOHN, Relation.OWNER),
    (ALICE, _bob(user_id="john"), Relation.SIBLING),
    (_alice(**ACME), _bob(**ACME), Relation.SAME_ORGANISATION),
    (_alice(owner_organisation_id="acme"), _bob(**ACME), Relation.SAME_ORGANISATION),
    (ALICE, _bob(is_global=True), Relation.GLOBAL),
    (ALICE, BOB, Relation.STRANGER),
]


@pytest.mark.parametrize(("a", "b", "expected"), CASES)
def test_how_two_entities_stand_to_each_other(a: Party, b: Party, expected: Relation) -> None:
    assert relation(a, b) is expected


def test_the_first_relation_that_applies_is_the_one() -> None:
    everything = {"organisation_id": "acme", "is_global": True}

    assert relation(_alice(**everything), _alice(**everything)) is Relation.SELF
    assert relation(_alice(**everything), _bob(user_id="john", **everything)) is Relation.SIBLING
    assert relation(_alice(**everything), _bob(**everything)) is Relation.SAME_ORGANISATION


def test_a_personal_agent_of_a_member_is_not_the_organisations() -> None:
    assert relation(_alice(**ACME), _bob(owner_organisation_id="acme")) is Relation.STRANGER


def test_having_no_organisation_is_nothing_in_common() -> None:
    assert relation(_alice(organisation_id=None), _bob(organisation_id=None)) is Relation.STRANGER


def test_a_global_agent_is_one_for_all_but_all_are_not_ones_for_it() -> None:
    everybodys = _alice(is_global=True)

    assert relation(BOB, everybodys) is Relation.GLOBAL
    assert relation(everybodys, BOB) is Relation.STRANGER


@pytest.mark.parametrize(("a", "b", "expected"), CASES)
def test_all_but_strangers_are_seen_and_need_no_contact(a: Party, b: Party, expected: Relation) -> None:
    is_stranger = expected is Relation.STRANGER

    assert is_present_to(a, b) is not is_stranger
    assert needs_contact(a, b) is is_stranger


@pytest.mark.parametrize(
    ("is_listed", "has_tags", "is_found"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_strangers_find_only_who_is_listed_with_a_tag(*, is_listed: bool, has_tags: bool, is_found: bool) -> None:
    bob = _bob(is_listed=is_listed, has_tags=has_tags)

    assert is_discoverable_by(ALICE, bob) is is_found
    assert is_discoverable_by(_bob(id="sibling"), bob)


def test_the_gate_refuses_strangers_and_lets_all_others_through() -> None:
    refusal = refused(require_may_open, ALICE, BOB)

    assert (refusal.kind, refusal.reason) == ("forbidden", "contact_required")
    require_may_open(ALICE, _bob(is_global=True))


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


@given(viewer=PARTIES, subject=PARTIES)
def test_who_is_seen_in_presence_is_found_and_may_be_hired(viewer: Party, subject: Party) -> None:
    if is_present_to(viewer, subject):
        assert is_discoverable_by(viewer, subject)
        require_may_open(viewer, subject)
    else:
        assert needs_contact(viewer, subject)

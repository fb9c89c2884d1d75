"""Receipts of agreements: honest ones are proved offline, and no change of any field goes unnoticed."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    ReceiptError,
    did_from_public_key,
    digest,
    offer_message,
    verify_receipt,
)

from .bargains import Receipt, accept, agreement, copy_of, platform_signs
from .roles import ALICE, BOB, DOMAIN, MALLORY, PLATFORM, SESSION_ID, Role
from .spoiling import Place, alterations, holder, is_same, places
from .test_canonical import nested
from .test_keys import UNSAFE_POINTS

ACCEPTED = agreement([1000, 1501])
MATCHED = agreement([800, 1200, 1000, 1000], is_opened_by_provider=True, terms=None)
HONEST = {"accepted": ACCEPTED, "matched": MATCHED}


def check_of(receipt: object, **pins: bytes) -> str:
    """The check that refuses the receipt."""
    with pytest.raises(ReceiptError) as refusal:
        verify_receipt(receipt, **pins)
    assert refusal.value.reason == "invalid_receipt"
    assert refusal.value.context == {"check": refusal.value.check}
    assert str(refusal.value).endswith(".")
    return refusal.value.check


# ------------------------------------------------------------------------------------------------------------ honesty


def test_an_accepted_agreement_is_proved_step_by_step() -> None:
    report = verify_receipt(copy_of(ACCEPTED))

    assert (report.kind, report.id) == ("agreement", SESSION_ID)
    parties, subject, offers, outcome, platform = report.checks
    assert ALICE.agent_id in parties
    assert BOB.agent_id in parties
    assert "translate at the list price 1000, with the terms" in subject
    assert "2 offers by turns, none above 2000" in offers
    assert "The client has accepted 1250" in outcome
    assert DOMAIN in platform


def test_a_matched_agreement_is_proved_without_an_acceptance() -> None:
    report = verify_receipt(copy_of(MATCHED))

    assert "without terms" in report.checks[1]
    assert "4 offers" in report.checks[2]
    assert "met at 1000" in report.checks[3]


def test_bob_may_answer_an_answer_by_accepting() -> None:
    report = verify_receipt(agreement([1501, 1200, 1301]))

    assert "The provider has accepted 1250" in report.checks[3]


def test_the_report_says_which_keys_it_had_to_take_from_the_receipt() -> None:
    nothing_known = verify_receipt(ACCEPTED)
    parties_known = verify_receipt(ACCEPTED, client_key=ALICE.public_key, provider_key=BOB.public_key)
    all_known = verify_receipt(
        ACCEPTED, platform_key=PLATFORM.public_key, client_key=ALICE.public_key, provider_key=BOB.public_key
    )

    assert len(nothing_known.unproven) == 3
    assert [PLATFORM.public_key_text in sentence for sentence in parties_known.unproven] == [True]
    assert all_known.unproven == ()
    assert len(all_known.checks) == len(nothing_known.checks) + 3


@pytest.mark.parametrize("role", ["platform", "client", "provider"])
def test_a_receipt_with_other_keys_than_the_known_ones_is_refused(role: str) -> None:
    assert check_of(ACCEPTED, **{f"{role}_key": MALLORY.public_key}) == "pinned_key"


def test_a_receipt_forged_as_a_whole_deceives_only_who_does_not_compare_the_keys() -> None:
    """Mallory bargains in Alice's name with a key of her own."""
    forged = agreement([1000, 1501], client=Role(ALICE.agent_id, MALLORY.secret_key))

    assert MALLORY.public_key_text in "".join(verify_receipt(forged).unproven)
    assert check_of(forged, client_key=ALICE.public_key) == "pinned_key"


def test_a_receipt_may_hold_keys_as_did() -> None:
    receipt = copy_of(ACCEPTED)
    receipt["document"]["client_public_key"] = did_from_public_key(ALICE.public_key)

    verify_receipt(platform_signs(receipt), client_key=ALICE.public_key)


def test_the_deepest_terms_have_a_receipt() -> None:
    verify_receipt(agreement([1000, 1501], terms=nested(63) | {"more": nested(62)}))


@given(
    amounts=st.lists(st.integers(1, 2000), min_size=2, max_size=20).filter(
        lambda amounts: all(first != second for first, second in pairwise(amounts[:-1]))
    ),
    is_opened_by_provider=st.booleans(),
)
def test_every_honest_bargain_has_a_receipt_that_verifies(*, amounts: list[int], is_opened_by_provider: bool) -> None:
    report = verify_receipt(agreement(amounts, is_opened_by_provider=is_opened_by_provider))

    assert f"{len(amounts)} offers" in report.checks[2]
    assert f" {sum(amounts[-2:]) // 2} minor units" in report.checks[3]


# -------------------------------------------------------------------------------------------------- changes afterwards


@pytest.mark.parametrize("place", [(name, *place) for name, honest in HONEST.items() for place in places(honest)])
def test_no_change_after_signing_goes_unnoticed_at(place: Place) -> None:
    honest, inside = HONEST[str(place[0])], place[1:]
    value = holder(honest, inside)[inside[-1]]

    for altered in alterations(value):
        receipt = copy_of(honest)
        holder(receipt, inside)[inside[-1]] = altered
        if not is_same(altered, value):
            check_of(receipt)


@pytest.mark.parametrize("place", [(name, *place) for name, honest in HONEST.items() for place in places(honest)])
def test_nothing_can_be_left_out_at(place: Place) -> None:
    receipt, inside = copy_of(HONEST[str(place[0])]), place[1:]

    del holder(receipt, inside)[inside[-1]]

    check_of(receipt)


@pytest.mark.parametrize("name", HONEST)
def test_nothing_can_be_added_to_any_object(name: str) -> None:
    objects = [
        (),
        *(place for place in places(HONEST[name]) if isinstance(holder(HONEST[name], place)[place[-1]], dict)),
    ]

    for place in objects:
        receipt = copy_of(HONEST[name])
        target = holder(receipt, (*place, "more"))
        target["more"] = 1
        check_of(receipt)


def test_the_platforms_signature_is_of_this_document_and_by_its_key() -> None:
    moved, forged = copy_of(ACCEPTED), copy_of(ACCEPTED)
    moved["platform"] = MATCHED["platform"]
    forged["platform"]["public_key"] = MALLORY.public_key_text

    assert check_of(moved) == "platform_signature"
    assert check_of(forged) == "platform_signature"


# -------------------------------------------------------------------------- changes that the platform itself has signed


def put(receipt: Receipt, **members: object) -> None:
    receipt["document"].update(members)


def put_offer(receipt: Receipt, index: int, **members: object) -> None:
    receipt["document"]["offers"][index].update(members)


def rename_session(receipt: Receipt) -> None:
    other = "99999999-9999-4999-8999-999999999999"
    receipt["id"] = other
    put(receipt, session_id=other, agreement_id=other)


def replace_client(receipt: Receipt) -> None:
    put(receipt, client_agent_id=MALLORY.agent_id, accepted_by=MALLORY.agent_id)
    put_offer(receipt, 0, agent_id=MALLORY.agent_id)


def raise_an_offer_and_its_digest(receipt: Receipt) -> None:
    """Bob's offer, which nothing but his signature and the acceptance protects now."""
    first, second = receipt["document"]["offers"]
    message = offer_message(
        signing_domain=DOMAIN,
        session_id=SESSION_ID,
        agent_id=BOB.agent_id,
        round_number=2,
        amount=1999,
        answered_digest=first["digest"],
    )
    second.update(amount=1999, digest=digest(message))
    put(receipt, amount=1499)


def skip_a_round(receipt: Receipt) -> None:
    put_offer(receipt, 1, round=3)


def pass_over_bobs_turn(receipt: Receipt) -> None:
    put_offer(receipt, 1, agent_id=ALICE.agent_id)


def accept_by_the_maker_of_the_last_offer(receipt: Receipt) -> None:
    accept(receipt, BOB)


def accept_by_a_stranger(receipt: Receipt) -> None:
    accept(receipt, MALLORY)


def accept_with_bobs_signature_in_alices_name(receipt: Receipt) -> None:
    accept(receipt, BOB)
    put(receipt, accepted_by=ALICE.agent_id)


CHANGES: dict[str, tuple[str, Callable[[Receipt], None]]] = {
    "another deployment": ("digest", lambda receipt: receipt.update(signing_domain="other.test")),
    "another session": ("digest", rename_session),
    "another id of the receipt": ("identity", lambda r: r.update(id="99999999-9999-4999-8999-999999999999")),
    "another client": ("digest", replace_client),
    "a client that made no offer": ("turns", lambda r: put(r, client_agent_id=MALLORY.agent_id)),
    "one agent on both sides": ("identity", lambda r: put(r, provider_agent_id=ALICE.agent_id)),
    "another key of the client": ("offer_signature", lambda r: put(r, client_public_key=MALLORY.public_key_text)),
    "another key of the provider": ("offer_signature", lambda r: put(r, provider_public_key=MALLORY.public_key_text)),
    "one key on both sides": ("key", lambda r: put(r, provider_public_key=ALICE.public_key_text)),
    "one key on both sides, once as did": (
        "key",
        lambda r: put(r, provider_public_key=did_from_public_key(ALICE.public_key)),
    ),
    "no key": ("key", lambda r: put(r, provider_public_key="none")),
    "another capability": ("digest", lambda r: put(r, capability="summarise")),
    "another list price": ("digest", lambda r: put(r, base_max=1001, max_offer=2002)),
    "another list price alone": ("price", lambda r: put(r, base_max=1001)),
    "another highest offer alone": ("price", lambda r: put(r, max_offer=2002)),
    "other terms": ("digest", lambda r: put(r, terms={"languages": ["de", "fr"], "due": "2026-12-01"})),
    "no terms": ("digest", lambda r: put(r, terms=None)),
    "empty terms": ("digest", lambda r: put(r, terms={})),
    "terms that are a list": ("shape", lambda r: put(r, terms=["de", "en"])),
    "another first amount": ("digest", lambda r: put_offer(r, 0, amount=999)),
    "another second amount": ("digest", lambda r: put_offer(r, 1, amount=1500)),
    "an amount above the highest offer": ("price", lambda r: put_offer(r, 1, amount=2001)),
    "an amount of nothing": ("shape", lambda r: put_offer(r, 1, amount=0)),
    "another second amount with its digest": ("offer_signature", raise_an_offer_and_its_digest),
    "a signature of the other side": (
        "offer_signature",
        lambda r: put_offer(r, 0, signature=r["document"]["offers"][1]["signature"]),
    ),
    "a round left out": ("turns", skip_a_round),
    "two offers in a row": ("turns", pass_over_bobs_turn),
    "the offers in reverse": ("turns", lambda r: r["document"]["offers"].reverse()),
    "the last offer left out": ("shape", lambda r: r["document"]["offers"].pop()),
    "another price": ("outcome", lambda r: put(r, amount=1251)),
    "no acceptance": ("outcome", lambda r: put(r, accepted_by=None, accept_signature=None)),
    "an acceptance without a signature": ("shape", lambda r: put(r, accept_signature=None)),
    "an acceptance by nobody": ("shape", lambda r: put(r, accepted_by=None)),
    "an acceptance by the maker of the last offer": ("outcome", accept_by_the_maker_of_the_last_offer),
    "an acceptance by a stranger": ("turns", accept_by_a_stranger),
    "an acceptance with the wrong signature": ("accept_signature", accept_with_bobs_signature_in_alices_name),
}


@pytest.mark.parametrize("change", CHANGES)
def test_not_even_with_the_platforms_help_can_mallory_put_in(change: str) -> None:
    check, alter = CHANGES[change]
    receipt = copy_of(ACCEPTED)

    alter(receipt)

    assert check_of(platform_signs(receipt)) == check


@pytest.mark.parametrize("members", [{"currency": "EUR"}, {"exponent": 2}, {"completed_at": "2026-11-02T12:00:00.5Z"}])
def test_currency_and_time_rest_on_the_platforms_word(members: dict[str, Any]) -> None:
    receipt = copy_of(ACCEPTED)

    put(receipt, **members)

    assert check_of(receipt) == "platform_signature"
    verify_receipt(platform_signs(receipt))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("currency", ""),
        ("currency", "US D"),
        ("currency", "€"),
        ("currency", "X" * 17),
        ("exponent", -1),
        ("exponent", 19),
        ("exponent", True),
        ("completed_at", "2026-11-02T12:00:00"),
        ("completed_at", "2026-11-02T12:00:00+00:00"),
        ("completed_at", "2026-11-02 12:00:00Z"),
        ("completed_at", "2026-13-02T12:00:00Z"),
        ("completed_at", "2026-11-32T12:00:00Z"),
        ("completed_at", "2026-11-02T24:00:00Z"),
        ("completed_at", "2026-11-02T12:00:00.Z"),
        ("completed_at", "٢٠٢٦-11-02T12:00:00Z"),
    ],
)
def test_even_the_platforms_word_has_a_form(member: str, value: object) -> None:
    receipt = copy_of(ACCEPTED)

    put(receipt, **{member: value})

    assert check_of(platform_signs(receipt)) == "shape"


@pytest.mark.parametrize("members", [{"currency": "X" * 16, "exponent": 0}, {"currency": "$", "exponent": 18}])
def test_currency_and_exponent_may_go_to_their_bounds(members: dict[str, Any]) -> None:
    receipt = copy_of(ACCEPTED)

    put(receipt, **members)

    verify_receipt(platform_signs(receipt))


# ------------------------------------------------------------------- bargains that both sides signed against the rules


def test_an_offer_above_twice_the_list_price_is_refused_whoever_signed_it() -> None:
    verify_receipt(agreement([1, 2000]))

    assert check_of(agreement([1, 2001])) == "price"


def test_the_lowest_and_the_highest_list_price_have_receipts_and_a_higher_one_has_none() -> None:
    verify_receipt(agreement([1, 2], base_max=1))
    verify_receipt(agreement([1, 2 * 10**15], base_max=10**15))

    assert check_of(agreement([1, 2 * 10**15], base_max=10**15 + 1)) == "shape"


def test_nobody_makes_more_than_ten_offers() -> None:
    verify_receipt(agreement(range(1, 21)))

    assert check_of(agreement(range(1, 22))) == "shape"


def test_a_bargain_ends_with_the_first_two_equal_offers() -> None:
    assert check_of(agreement([1000, 1000, 900])) == "turns"


def test_equal_offers_leave_nothing_to_accept() -> None:
    receipt = copy_of(MATCHED)

    accept(receipt, BOB)

    assert check_of(platform_signs(receipt)) == "outcome"


@pytest.mark.parametrize(("is_opened_by_provider", "maker"), [(False, BOB), (True, ALICE)])
def test_nobody_accepts_the_midpoint_of_its_own_offer(*, is_opened_by_provider: bool, maker: Role) -> None:
    receipt = agreement([1, 2000], is_opened_by_provider=is_opened_by_provider)

    accept(receipt, maker)

    assert check_of(platform_signs(receipt)) == "outcome"


def test_mallory_cannot_bargain_with_herself_under_a_second_name() -> None:
    """One secret key for two agents: her signatures verify, and prove nothing."""
    twin = Role(BOB.agent_id, ALICE.secret_key)

    assert check_of(agreement([1, 2000], provider=twin)) == "key"


@pytest.mark.parametrize("point", UNSAFE_POINTS)
def test_a_key_is_refused_that_is(point: str) -> None:
    receipt = copy_of(ACCEPTED)
    receipt["document"]["client_public_key"] = did_from_public_key(bytes.fromhex(UNSAFE_POINTS[point]))

    assert check_of(platform_signs(receipt)) == "key"


# ------------------------------------------------------------------------------------------------------ hostile shapes


def test_a_refusal_says_where_the_flaw_is_and_what_was_expected() -> None:
    receipt = copy_of(ACCEPTED)
    put_offer(receipt, 1, amount="1501")
    flaws: list[tuple[object, str]] = [
        ([], "The receipt: expected is an object."),
        ({}, "The receipt: expected is an object with the member `document`."),
        ({**ACCEPTED, "more": 1}, "The receipt: expected is an object of 5 members and no others."),
        ({**ACCEPTED, "platform": None}, "/platform: expected is an object."),
        (receipt, "/document/offers/1/amount: expected is an integer from 1 to 2000000000000000."),
    ]

    for flawed, sentence in flaws:
        with pytest.raises(ReceiptError) as refusal:
            verify_receipt(flawed)
        assert str(refusal.value) == sentence


@pytest.mark.parametrize("kind", ["channel", "agreement2", "platform"])
def test_a_kind_that_is_not_known_is_refused(kind: str) -> None:
    assert check_of({**ACCEPTED, "kind": kind}) == "kind"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_anything_else_in_json_is_no_receipt(value: Any) -> None:
    assert check_of(value) == "shape"


@given(place=st.sampled_from(list(places(ACCEPTED))), value=JSON)
def test_anything_else_in_json_is_no_part_of_a_receipt(place: Place, value: Any) -> None:
    receipt = copy_of(ACCEPTED)
    before = holder(receipt, place)[place[-1]]
    holder(receipt, place)[place[-1]] = value

    if is_same(value, before):
        verify_receipt(receipt)
    else:
        check_of(receipt)


@pytest.mark.parametrize(
    "terms",
    [
        pytest.param({"price": 1.5}, id="a fraction"),
        pytest.param({"price": 2**53}, id="an integer too large"),
        pytest.param({"\ud800": 1}, id="a lone surrogate"),
        pytest.param({1: 2}, id="a name that is a number"),
        pytest.param(nested(71), id="too deep in the document"),
        pytest.param(nested(100_001), id="an abyss"),
    ],
)
def test_terms_without_canonical_json_are_refused(terms: Any) -> None:
    receipt = copy_of(ACCEPTED)
    put(receipt, terms=terms)

    assert check_of(receipt) in {"shape", "digest"}


def test_a_huge_receipt_is_refused_with_a_short_sentence() -> None:
    """Nothing that a stranger wrote is repeated."""
    huge = "x" * 10_000_000
    receipts = [
        {**ACCEPTED, "kind": huge},
        {**ACCEPTED, "id": huge},
        {**ACCEPTED, huge: 1},
        {**ACCEPTED, "document": {**ACCEPTED["document"], "client_public_key": huge}},
        {**ACCEPTED, "document": {**ACCEPTED["document"], "offers": [{}] * 1_000_000}},
        {**ACCEPTED, "platform": {"public_key": huge, "signature": huge}},
    ]

    for receipt in receipts:
        with pytest.raises(ReceiptError) as refusal:
            verify_receipt(receipt)
        assert len(str(refusal.value)) < 200

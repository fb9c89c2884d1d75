"""Receipts of payment channels: honest ones are proved offline, and no change of any field goes unnoticed."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import did_from_public_key, verify_receipt
from crypto.messages import INTEGER_MAX

from .bargains import agreement, copy_of, platform_signs
from .payments import CHANNEL_ID, LOST, OTHER_ID, STORIES, Json, Story, paid_story
from .roles import ALICE, BOB, DOMAIN, MALLORY, PLATFORM, Role
from .spoiling import Place, alterations, holder, is_same, places
from .test_keys import UNSAFE_POINTS
from .test_receipts import check_of

HONEST = {name: platform_signs(story.receipt()) for name, story in STORIES.items()}
JOINT, FORCED, OFFLINE = HONEST["joint_close"], HONEST["force_close"], HONEST["offline"]
UNTRANSFERRED, DECIDED = HONEST["dispute_timeout"], HONEST["operator"]
SPOILED = {"joint_close": JOINT, "force_close": FORCED, "operator": DECIDED}
KEYS = {
    "platform_key": PLATFORM.public_key,
    "opener_key": ALICE.public_key,
    "counterparty_key": BOB.public_key,
}
WORDS = ("currency", "exponent", "opened_at", "closed_at", "completed_at", "mode", "reason")
"""What nobody but the platform has signed, and nothing else follows from."""


# ------------------------------------------------------------------------------------------------------------ honesty


def test_a_joint_close_is_proved_step_by_step() -> None:
    report = verify_receipt(copy_of(JOINT))

    assert (report.kind, report.id) == ("payment_channel", CHANNEL_ID)
    parties, transfer, balances, payout, platform = report.checks
    assert ALICE.agent_id in parties
    assert BOB.agent_id in parties
    assert "Both have signed transfer 2, of 50 minor units" in transfer
    assert "had 9800 and the counterparty 200" in transfer
    assert "since then (0 and 0), the balances were 9800 and 200" in balances
    assert "signed the close at nonce 2, which pays 9800 minor units to the opener and 200" in payout
    assert DOMAIN in platform


def test_voided_nonces_and_later_deposits_are_told() -> None:
    report = verify_receipt(copy_of(FORCED))

    _, transfer, void, balances, payout, _ = report.checks
    assert "transfer 2, of 75" in transfer
    assert "nonces 3 to 5 are said to be void" in void
    assert "since then (5 and 7), the balances were 180 and 7" in balances
    assert "No close has both signatures" in payout
    assert "(force_close)" in payout
    assert "platform's word" in payout


def test_a_single_voided_nonce_is_told() -> None:
    story = Story().opened().accepted().voided(ALICE, 1, "rejected").closed("joint_close")

    assert "The nonce 1 is said to be void" in verify_receipt(platform_signs(story.receipt())).checks[2]


def test_a_channel_without_a_transfer_is_proved() -> None:
    report = verify_receipt(copy_of(UNTRANSFERRED))

    assert "no transfer" in report.checks[1]
    assert "nonces 1 to 2" in report.checks[2]
    assert report.checks[3].startswith("The balances were 100 and 0")
    assert "(dispute_timeout)" in report.checks[4]


def test_an_operators_decision_is_told_to_be_the_platforms_word() -> None:
    assert "operator has decided to pay 0 minor units" in verify_receipt(copy_of(DECIDED)).checks[3]


@pytest.mark.parametrize("name", STORIES)
def test_every_cause_has_a_receipt_that_verifies_under_the_known_keys(name: str) -> None:
    report = verify_receipt(copy_of(HONEST[name]), **KEYS)

    assert report.unproven == ()
    assert len(report.checks) == len(verify_receipt(HONEST[name]).checks) + 3


@pytest.mark.parametrize("name", ["with the acceptance", "closed by both"])
def test_a_channel_that_the_server_had_lost_states_of_has_a_receipt(name: str) -> None:
    verify_receipt(platform_signs(LOST[name].receipt()), **KEYS)


def test_the_report_says_which_keys_it_had_to_take_from_the_receipt() -> None:
    unproven = verify_receipt(JOINT, opener_key=ALICE.public_key).unproven

    assert [key in sentence for key, sentence in zip(("Platform", "counterparty"), unproven, strict=True)] == [
        False,
        True,
    ]
    assert PLATFORM.public_key_text in unproven[0]
    assert BOB.public_key_text in unproven[1]


@pytest.mark.parametrize("role", ["platform", "opener", "counterparty"])
def test_a_receipt_with_other_keys_than_the_known_ones_is_refused(role: str) -> None:
    assert check_of(JOINT, **{f"{role}_key": MALLORY.public_key}) == "pinned_key"


@pytest.mark.parametrize("role", ["client", "provider"])
def test_who_expects_an_agreement_is_not_served_with_a_channel(role: str) -> None:
    assert check_of(JOINT, **{f"{role}_key": ALICE.public_key}) == "pinned_key"


@pytest.mark.parametrize("role", ["opener", "counterparty"])
def test_who_expects_a_channel_is_not_served_with_an_agreement(role: str) -> None:
    assert check_of(agreement([1000, 1501]), **{f"{role}_key": ALICE.public_key}) == "pinned_key"


def test_a_receipt_may_hold_keys_as_did() -> None:
    receipt = copy_of(JOINT)
    receipt["document"]["public_key_b"] = did_from_public_key(BOB.public_key)

    verify_receipt(platform_signs(receipt), **KEYS)


# -------------------------------------------------------------------------------------------------- changes afterwards


@pytest.mark.parametrize("place", [(name, *place) for name, honest in SPOILED.items() for place in places(honest)])
def test_no_change_after_signing_goes_unnoticed_at(place: Place) -> None:
    honest, inside = SPOILED[str(place[0])], place[1:]
    value = holder(honest, inside)[inside[-1]]

    for altered in alterations(value):
        receipt = copy_of(honest)
        holder(receipt, inside)[inside[-1]] = altered
        if not is_same(altered, value):
            check_of(receipt)


@pytest.mark.parametrize("place", [(name, *place) for name, honest in SPOILED.items() for place in places(honest)])
def test_nothing_can_be_left_out_at(place: Place) -> None:
    receipt, inside = copy_of(SPOILED[str(place[0])]), place[1:]

    del holder(receipt, inside)[inside[-1]]

    check_of(receipt)


# -------------------------------------------------------------------------- changes that the platform itself has signed


def put(receipt: Json, **members: object) -> None:
    receipt["document"].update(members)


def put_transfer(receipt: Json, **members: object) -> None:
    receipt["document"]["last_transfer"].update(members)


def put_close(receipt: Json, **members: object) -> None:
    receipt["document"]["close"].update(members)


def rename_channel(receipt: Json) -> None:
    receipt["id"] = OTHER_ID
    put(receipt, channel_id=OTHER_ID)


def replace_opener(receipt: Json) -> None:
    put(receipt, agent_a_id=MALLORY.agent_id)
    put_transfer(receipt, to_agent_id=MALLORY.agent_id)


def turn_the_transfer_round(receipt: Json) -> None:
    put_transfer(receipt, from_agent_id=ALICE.agent_id, to_agent_id=BOB.agent_id)


def shift_one_unit_to_the_opener(receipt: Json) -> None:
    put(receipt, balance_a=9_801, balance_b=199)
    put_transfer(receipt, balance_a=9_801, balance_b=199)


def shift_one_unit_of_the_payout(receipt: Json) -> None:
    put(receipt, final_balance_a=9_801, final_balance_b=199)
    put_close(receipt, final_balance_a=9_801, final_balance_b=199)


def raise_the_last_nonce(receipt: Json) -> None:
    put(receipt, last_nonce=3)
    put_close(receipt, nonce=3)


def swap_signatures(receipt: Json, member: str) -> None:
    place = receipt["document"][member]
    place["signature_a"], place["signature_b"] = place["signature_b"], place["signature_a"]


def pretend_a_later_deposit(receipt: Json) -> None:
    put(receipt, deposit_a=10_001, deposited_since_a=1, balance_a=9_801, final_balance_a=9_801)


def leave_the_transfer_out(receipt: Json) -> None:
    put(receipt, last_transfer=None, deposited_since_a=10_000, balance_a=10_000, balance_b=0)


def deposit_later_in_offline_mode(receipt: Json) -> None:
    put(receipt, deposit_b=11, deposited_since_b=1, balance_b=1, final_balance_b=1)


CHANGES: dict[str, tuple[str, Json, Callable[[Json], None]]] = {
    "another deployment": ("transfer_signature", JOINT, lambda r: r.update(signing_domain="other.test")),
    "another channel": ("transfer_signature", JOINT, rename_channel),
    "another id of the receipt": ("identity", JOINT, lambda r: r.update(id=OTHER_ID)),
    "another opener": ("transfer_signature", JOINT, lambda r: put(r, public_key_a=MALLORY.public_key_text)),
    "another counterparty": ("transfer_signature", JOINT, lambda r: put(r, public_key_b=MALLORY.public_key_text)),
    "another agent as the payee": ("identity", JOINT, lambda r: put(r, agent_a_id=MALLORY.agent_id)),
    "another agent as the payer": ("identity", JOINT, lambda r: put(r, agent_b_id=MALLORY.agent_id)),
    "one agent on both sides": ("identity", JOINT, lambda r: put(r, agent_b_id=ALICE.agent_id)),
    "one key on both sides": ("key", JOINT, lambda r: put(r, public_key_b=ALICE.public_key_text)),
    "one key on both sides, once as did": (
        "key",
        JOINT,
        lambda r: put(r, public_key_b=did_from_public_key(ALICE.public_key)),
    ),
    "no key": ("key", JOINT, lambda r: put(r, public_key_a="none")),
    "a larger deposit": ("sum", JOINT, lambda r: put(r, deposit_a=10_001)),
    "a deposit of the other": ("sum", JOINT, lambda r: put(r, deposit_b=1)),
    "another balance": ("sum", JOINT, lambda r: put(r, balance_b=201)),
    "other balances": ("balances", JOINT, lambda r: put(r, balance_a=9_801, balance_b=199)),
    "another payout of one": ("sum", JOINT, lambda r: put(r, final_balance_a=9_799)),
    "another payout": ("payout", JOINT, lambda r: put(r, final_balance_a=9_801, final_balance_b=199)),
    "another payout and close": ("close_signature", JOINT, shift_one_unit_of_the_payout),
    "other balances after the transfer": ("transfer_signature", JOINT, shift_one_unit_to_the_opener),
    "another amount": ("transfer_signature", JOINT, lambda r: put_transfer(r, amount=51)),
    "an amount that the payee does not have": ("balances", JOINT, lambda r: put_transfer(r, amount=9_801)),
    "an amount that the payee does not have, of the other": (
        "balances",
        DECIDED,
        lambda r: put_transfer(r, amount=51),
    ),
    "an amount of nothing": ("shape", JOINT, lambda r: put_transfer(r, amount=0)),
    "another nonce of the transfer": ("transfer_signature", JOINT, lambda r: put_transfer(r, nonce=1)),
    "a later nonce of the transfer": ("transfer_signature", JOINT, lambda r: put_transfer(r, nonce=3)),
    "a transfer without a nonce": ("shape", JOINT, lambda r: put_transfer(r, nonce=0)),
    "another task": ("transfer_signature", JOINT, lambda r: put_transfer(r, task_id=OTHER_ID)),
    "no task": ("transfer_signature", JOINT, lambda r: put_transfer(r, task_id=None)),
    "a task that is none": ("shape", JOINT, lambda r: put_transfer(r, task_id="-")),
    "the other payer": ("transfer_signature", JOINT, turn_the_transfer_round),
    "a payer from outside": ("identity", JOINT, lambda r: put_transfer(r, from_agent_id=MALLORY.agent_id)),
    "a payee from outside": ("identity", JOINT, lambda r: put_transfer(r, to_agent_id=MALLORY.agent_id)),
    "a payer that pays itself": ("identity", JOINT, lambda r: put_transfer(r, to_agent_id=BOB.agent_id)),
    "each other's signatures of the transfer": (
        "transfer_signature",
        JOINT,
        lambda r: swap_signatures(r, "last_transfer"),
    ),
    "the opener's signature of the transfer twice": (
        "transfer_signature",
        JOINT,
        lambda r: put_transfer(r, signature_b=r["document"]["last_transfer"]["signature_a"]),
    ),
    "each other's signatures of the close": ("close_signature", JOINT, lambda r: swap_signatures(r, "close")),
    "the opener's signature of the close twice": (
        "close_signature",
        JOINT,
        lambda r: put_close(r, signature_b=r["document"]["close"]["signature_a"]),
    ),
    "the signature of a transfer under the close": (
        "close_signature",
        JOINT,
        lambda r: put_close(r, signature_a=r["document"]["last_transfer"]["signature_a"]),
    ),
    "a last nonce before the transfer": ("nonce", JOINT, lambda r: put(r, last_nonce=1)),
    "another last nonce": ("payout", JOINT, lambda r: put(r, last_nonce=3)),
    "another last nonce and close": ("close_signature", JOINT, raise_the_last_nonce),
    "another nonce of the close": ("payout", JOINT, lambda r: put_close(r, nonce=1)),
    "a deposit since the transfer": ("balances", JOINT, lambda r: put(r, deposited_since_a=1)),
    "a deposit since the transfer and its sums": ("payout", JOINT, pretend_a_later_deposit),
    "more deposits since the transfer than in all, of A": (
        "balances",
        FORCED,
        lambda r: put(r, deposit_a=4, deposit_b=183),
    ),
    "more deposits since the transfer than in all, of B": (
        "balances",
        FORCED,
        lambda r: put(r, deposit_a=181, deposit_b=6),
    ),
    "no transfer": ("balances", JOINT, lambda r: put(r, last_transfer=None)),
    "a joint close without its signatures": ("payout", FORCED, lambda r: put(r, cause="joint_close")),
    "a deposit without a transfer": ("balances", UNTRANSFERRED, lambda r: put(r, deposited_since_a=99)),
    "deposits swapped without a transfer": (
        "balances",
        UNTRANSFERRED,
        lambda r: put(r, deposit_a=0, deposit_b=100),
    ),
    "balances swapped without a transfer": (
        "balances",
        UNTRANSFERRED,
        lambda r: put(r, balance_a=0, balance_b=100),
    ),
    "a void nonce in offline mode": ("nonce", OFFLINE, lambda r: put(r, last_nonce=3)),
    "a void nonce in offline mode without a transfer": (
        "nonce",
        HONEST["offline without a transfer"],
        lambda r: put(r, last_nonce=1),
    ),
    "a later deposit in offline mode": ("balances", OFFLINE, deposit_later_in_offline_mode),
    "a close that was not signed": ("payout", JOINT, lambda r: put(r, close=None)),
    "a close of another cause": ("payout", JOINT, lambda r: put(r, cause="force_close")),
    "a cause that is none": ("shape", JOINT, lambda r: put(r, cause="declined")),
    "a reason of nobody": ("payout", JOINT, lambda r: put(r, reason="why not")),
    "a reason of the clock": ("payout", FORCED, lambda r: put(r, reason="why not")),
    "a decision without a reason": ("payout", DECIDED, lambda r: put(r, reason=None)),
    "a reason that is no text": ("shape", DECIDED, lambda r: put(r, reason=1)),
    "a payout of the clock that is not the balances": (
        "payout",
        FORCED,
        lambda r: put(r, final_balance_a=179, final_balance_b=8),
    ),
    "a decision that is no decision": ("payout", DECIDED, lambda r: put(r, cause="force_close", reason=None)),
    "an amount below nothing": ("shape", DECIDED, lambda r: put(r, final_balance_a=-1, final_balance_b=121)),
    "a mode that is none": ("shape", JOINT, lambda r: put(r, mode="both")),
    "a currency that is none": ("shape", JOINT, lambda r: put(r, currency="")),
    "an exponent that is none": ("shape", JOINT, lambda r: put(r, exponent=19)),
    "a time that is none": ("shape", JOINT, lambda r: put(r, opened_at="yesterday")),
    "an end that is none": ("shape", JOINT, lambda r: put(r, closed_at=None)),
    "a time of the transfer that is none": ("shape", JOINT, lambda r: put_transfer(r, completed_at=None)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_not_even_with_the_platforms_help_can_mallory_put_in(change: str) -> None:
    check, honest, alter = CHANGES[change]
    receipt = copy_of(honest)

    alter(receipt)

    assert check_of(platform_signs(receipt)) == check


@pytest.mark.parametrize("name", SPOILED)
def test_only_the_platforms_own_words_can_be_others_with_its_signature(name: str) -> None:
    """Every number, id and signature one after the other, nearly right and signed by the platform."""
    honest = SPOILED[name]
    for place in places(honest["document"]):
        inside = ("document", *place)
        value = holder(honest, inside)[inside[-1]]
        is_word = place[-1] in WORDS or (place[-1] == "last_nonce" and name != "joint_close")
        if isinstance(value, dict) or value is None or is_word:
            continue
        receipt = copy_of(honest)
        holder(receipt, inside)[inside[-1]] = near(value)
        check_of(platform_signs(receipt))


def near(value: Any) -> Any:
    """Another value of the same form, where that is easy."""
    if isinstance(value, int):
        return value + 1
    return value[:-1] + ("A" if value[-1] != "A" else "B") if len(value) != 36 else OTHER_ID


@pytest.mark.parametrize(
    "members",
    [
        {"currency": "EUR"},
        {"exponent": 2},
        {"opened_at": "2026-10-02T12:00:00.5Z", "closed_at": "2026-11-02T12:00:00.5Z"},
    ],
)
def test_currency_and_time_rest_on_the_platforms_word(members: Json) -> None:
    receipt = copy_of(JOINT)

    put(receipt, **members)

    assert check_of(receipt) == "platform_signature"
    verify_receipt(platform_signs(receipt))


def test_that_no_transfer_was_left_out_rests_on_the_platforms_word_and_the_receipt_says_so() -> None:
    """What both have signed at the end is theirs all the same."""
    receipt = copy_of(JOINT)

    leave_the_transfer_out(receipt)

    report = verify_receipt(platform_signs(receipt))
    assert "nonces 1 to 2 are said to be void, which is the platform's word" in report.checks[2]
    assert "signed the close at nonce 2, which pays 9800" in report.checks[4]


def test_what_an_operator_decided_rests_on_the_platforms_word() -> None:
    receipt = copy_of(DECIDED)

    put(receipt, final_balance_a=120, final_balance_b=0, reason="")

    verify_receipt(platform_signs(receipt))


# ------------------------------------------------------------------------------------------------------ hostile parties


def test_mallory_cannot_pay_herself_under_a_second_name() -> None:
    """One secret key for two agents: her signatures verify, and prove nothing."""
    twin = Role(BOB.agent_id, ALICE.secret_key)
    story = Story(counterparty=twin).opened(10).accepted().transfer(ALICE, 5).closed("force_close")

    assert check_of(platform_signs(story.receipt())) == "key"


def test_a_receipt_forged_as_a_whole_deceives_only_who_does_not_compare_the_keys() -> None:
    impostor = Role(ALICE.agent_id, MALLORY.secret_key)
    story = Story(opener=impostor).opened(10).accepted().transfer(impostor, 5).closed("joint_close", (0, 10))
    receipt = platform_signs(story.receipt())

    assert MALLORY.public_key_text in "".join(verify_receipt(receipt).unproven)
    assert check_of(receipt, opener_key=ALICE.public_key) == "pinned_key"


@pytest.mark.parametrize("point", UNSAFE_POINTS)
def test_a_key_is_refused_that_is(point: str) -> None:
    receipt = copy_of(JOINT)
    receipt["document"]["public_key_a"] = did_from_public_key(bytes.fromhex(UNSAFE_POINTS[point]))

    assert check_of(platform_signs(receipt)) == "key"


def test_the_payer_may_pay_all_that_it_has() -> None:
    story = Story().opened(INTEGER_MAX).accepted().transfer(ALICE, INTEGER_MAX).closed("force_close")

    verify_receipt(platform_signs(story.receipt()), **KEYS)


@given(
    deposits=st.tuples(st.integers(1, 50), st.integers(0, 50)),
    moves=st.lists(
        st.tuples(st.sampled_from(["transfer", "voided", "deposit"]), st.booleans(), st.integers(1, 60)), max_size=6
    ),
    is_joint=st.booleans(),
    final_balance_a=st.integers(0, 1000),
)
def test_every_honest_channel_has_a_receipt_that_verifies(
    *, deposits: tuple[int, int], moves: list[tuple[str, bool, int]], is_joint: bool, final_balance_a: int
) -> None:
    story = Story().opened(deposits[0]).accepted(deposits[1])
    for kind, is_by_alice, amount in moves:
        who = ALICE if is_by_alice else BOB
        if kind == "deposit":
            story.deposit(who, amount)
        elif amount <= story.balances[story.side(who)]:
            _ = story.transfer(who, amount) if kind == "transfer" else story.voided(who, amount, "rejected")
    total = sum(story.balances)
    final_balance_a = min(final_balance_a, total)
    finals = (final_balance_a, total - final_balance_a)
    story.closed("joint_close", finals) if is_joint else story.closed("force_close")

    report = verify_receipt(platform_signs(story.receipt()), **KEYS)

    assert f" {story.steps[-1]['details']['final_balance_a']} minor units to the opener" in report.checks[-5]


def test_the_channel_of_the_vectors_has_the_signatures_of_the_vectors() -> None:
    story = paid_story().closed("joint_close", (9_800, 200))

    assert platform_signs(story.receipt())["document"]["close"] == JOINT["document"]["close"]

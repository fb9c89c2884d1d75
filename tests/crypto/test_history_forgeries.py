"""Histories of payment channels that the platform has signed though they are not true, or against the rules."""

from collections.abc import Callable
from typing import Any

import pytest

from crypto import BadDocument, verify_history
from crypto.messages import INTEGER_MAX

from .payments import HISTORIES, OTHER_ID, STORIES, TASK_ID, Json, Story, chained, paid_story, platform_chains
from .roles import ALICE, BOB, DOMAIN, MALLORY, PLATFORM, Role
from .spoiling import holder, places
from .test_canonical import nested
from .test_histories import HONEST, JOINT, KEYS, check_of, copied

WORDS = ("currency", "exponent", "window_s", "at", "memo", "text", "evidence", "ends_at", "reason", "agent_id")
"""What the platform may say as it likes, within its form. `agent_id`: who did a step that anybody may do."""


# -------------------------------------------------------------------------- changes that the platform itself has signed


def details(line: int, **members: object) -> Callable[[list[Json]], None]:
    """Change the details of the step in a line."""
    return lambda lines: lines[line - 1]["details"].update(members)


def step(line: int, **members: object) -> Callable[[list[Json]], None]:
    """Change the step in a line itself."""
    return lambda lines: lines[line - 1].update(members)


def header(**members: object) -> Callable[[list[Json]], None]:
    return step(1, **members)


def both(*changes: Callable[[list[Json]], None]) -> Callable[[list[Json]], None]:
    def change(lines: list[Json]) -> None:
        for one in changes:
            one(lines)

    return change


def swapped(line: int) -> Callable[[list[Json]], None]:
    """Each party's signature in place of the other's."""

    def change(lines: list[Json]) -> None:
        said = lines[line - 1]["details"]
        said["signature_a"], said["signature_b"] = said["signature_b"], said["signature_a"]

    return change


def recount(lines: list[Json]) -> None:
    """Number the steps anew."""
    for number, line in enumerate(lines[1:-1], start=1):
        line["number"] = number


def without(line: int) -> Callable[[list[Json]], None]:
    """Leave a step out, and number the rest as if it had never been."""

    def change(lines: list[Json]) -> None:
        del lines[line - 1]
        recount(lines)

    return change


CHANGES: dict[str, tuple[str, str, int, Callable[[list[Json]], None]]] = {
    # Lines of joint_close: 1 header, 2 opened, 3 accepted, 4 and 5 transfers, 6 close_request, 7 closed, 8 platform.
    "another deployment": ("transfer_signature", "joint_close", 4, header(signing_domain="other.test")),
    "another channel": ("transfer_signature", "joint_close", 4, header(id=OTHER_ID)),
    "another key of the opener": ("transfer_signature", "joint_close", 4, header(public_key_a=MALLORY.public_key_text)),
    "another key of the counterparty": (
        "transfer_signature",
        "joint_close",
        4,
        header(public_key_b=MALLORY.public_key_text),
    ),
    "one key on both sides": ("key", "joint_close", 1, header(public_key_b=ALICE.public_key_text)),
    "no key": ("key", "joint_close", 1, header(public_key_b="none")),
    "one agent on both sides": ("identity", "joint_close", 1, header(agent_b_id=ALICE.agent_id)),
    "another opener": ("identity", "joint_close", 2, header(agent_a_id=MALLORY.agent_id)),
    "another kind": ("shape", "joint_close", 1, header(kind="payment_channel")),
    "another mode": ("shape", "joint_close", 1, header(mode="both")),
    "a window that is none": ("shape", "joint_close", 1, header(window_s=-1)),
    "a larger deposit": ("balances", "joint_close", 2, details(2, deposit=10_001)),
    "a larger deposit and balance": (
        "balances",
        "joint_close",
        3,
        both(details(2, deposit=10_001), step(2, balance_a=10_001)),
    ),
    "a larger deposit and balances": (
        "transfer_signature",
        "joint_close",
        4,
        both(details(2, deposit=10_001), step(2, balance_a=10_001), step(3, balance_a=10_001)),
    ),
    "a deposit of nothing": ("shape", "joint_close", 2, details(2, deposit=0)),
    "a deposit of the other": ("balances", "joint_close", 3, details(3, deposit=1)),
    "a deposit beyond all numbers": ("sum", "joint_close", 3, details(3, deposit=INTEGER_MAX)),
    "another amount": ("transfer_signature", "joint_close", 4, details(4, amount=251)),
    "another amount with its balances": (
        "transfer_signature",
        "joint_close",
        4,
        both(details(4, amount=251), step(4, balance_a=9_749, balance_b=251)),
    ),
    "an amount of nothing": ("shape", "joint_close", 4, details(4, amount=0)),
    "an amount that A does not have": ("balances", "joint_close", 4, details(4, amount=10_001)),
    "an amount that B does not have": ("balances", "joint_close", 5, details(5, amount=251)),
    "a nonce again": ("nonce", "joint_close", 5, details(5, nonce=1)),
    "a gap of nonces": ("nonce", "joint_close", 4, details(4, nonce=2)),
    "another last nonce": ("nonce", "joint_close", 4, step(4, last_nonce=2)),
    "another last nonce without a transfer": ("nonce", "joint_close", 3, step(3, last_nonce=1)),
    "other balances": ("balances", "joint_close", 4, step(4, balance_a=9_751, balance_b=249)),
    "another task": ("transfer_signature", "joint_close", 5, details(5, task_id=OTHER_ID)),
    "a task for none": ("transfer_signature", "joint_close", 4, details(4, task_id=TASK_ID)),
    "the other payer": (
        "balances",
        "joint_close",
        4,
        details(4, from_agent_id=BOB.agent_id, to_agent_id=ALICE.agent_id),
    ),
    "a payer from outside": ("identity", "joint_close", 4, details(4, from_agent_id=MALLORY.agent_id)),
    "a payee from outside": ("identity", "joint_close", 4, details(4, to_agent_id=MALLORY.agent_id)),
    "each other's signatures": ("transfer_signature", "joint_close", 4, swapped(4)),
    "a transfer voided": ("shape", "joint_close", 4, step(4, kind="voided")),
    "a transfer left out": ("nonce", "joint_close", 4, without(4)),
    "the last transfer left out": ("nonce", "joint_close", 5, without(5)),
    "an acceptance left out": ("order", "joint_close", 3, without(3)),
    "an opening left out": ("order", "joint_close", 2, without(2)),
    "a step by a stranger": ("identity", "joint_close", 4, step(4, agent_id=MALLORY.agent_id)),
    "an opening by the other": ("identity", "joint_close", 2, step(2, agent_id=BOB.agent_id)),
    "a transfer by nobody": ("identity", "joint_close", 4, step(4, agent_id=None)),
    "a kind that is none": ("shape", "joint_close", 4, step(4, kind="refunded")),
    "a number again": ("number", "joint_close", 4, step(4, number=2)),
    "a number left out": ("number", "joint_close", 4, step(4, number=4)),
    "a time that is none": ("shape", "joint_close", 4, step(4, at="today")),
    "a memo that is none": ("shape", "joint_close", 4, details(4, memo=1)),
    "a close request at another nonce": ("nonce", "joint_close", 6, details(6, nonce=1)),
    "a close request of other finals": (
        "close_signature",
        "joint_close",
        6,
        details(6, final_balance_a=9_801, final_balance_b=199),
    ),
    "a close request of another sum": ("sum", "joint_close", 6, details(6, final_balance_a=9_801)),
    "a close request by the other": ("close_signature", "joint_close", 6, step(6, agent_id=BOB.agent_id)),
    "other finals": ("close_signature", "joint_close", 7, details(7, final_balance_a=9_801, final_balance_b=199)),
    "other finals of another sum": ("sum", "joint_close", 7, details(7, final_balance_b=199)),
    "each other's signatures of the close": ("close_signature", "joint_close", 7, swapped(7)),
    "a close without signatures": ("shape", "joint_close", 7, details(7, signature_a=None, signature_b=None)),
    "a reason of nobody": ("payout", "joint_close", 7, details(7, reason="why not")),
    "a cause that is none": ("shape", "joint_close", 7, details(7, cause="declined")),
    "a force-close that nobody began": (
        "order",
        "joint_close",
        7,
        details(7, cause="force_close", signature_a=None, signature_b=None),
    ),
    "a dispute that nobody opened": (
        "order",
        "joint_close",
        7,
        details(7, cause="dispute_timeout", signature_a=None, signature_b=None),
    ),
    "a decision that nobody asked for": (
        "order",
        "joint_close",
        7,
        details(7, cause="operator", reason="x", signature_a=None, signature_b=None),
    ),
    # Lines of force_close: 2 opened, 3 accepted, 4 deposit, 5 voided, 6 transfer, 7 and 8 deposits, 9 to 11 voided,
    # 12 revoked, 13 force_close, 14 closed.
    "a later deposit by the other": ("balances", "force_close", 4, step(4, agent_id=ALICE.agent_id)),
    "a later deposit of nothing": ("shape", "force_close", 4, details(4, amount=0)),
    "a later deposit beyond all numbers": ("sum", "force_close", 4, details(4, amount=INTEGER_MAX)),
    "a voided transfer of another amount": ("transfer_signature", "force_close", 5, details(5, amount=99)),
    "a voided transfer that was never possible": ("balances", "force_close", 5, details(5, amount=101)),
    "a voided transfer with the payee's signature": (
        "transfer_signature",
        "force_close",
        9,
        details(9, signature=STORIES["force_close"].steps[4]["details"]["signature_a"]),
    ),
    "a voided nonce again": ("nonce", "force_close", 9, details(9, nonce=2)),
    "a voided transfer carried out": ("balances", "force_close", 5, step(5, balance_a=0, balance_b=175)),
    "a void for no reason": ("shape", "force_close", 5, details(5, reason="whim")),
    "a void with a text that is none": ("shape", "force_close", 5, details(5, text=1)),
    "a voided transfer left out": ("nonce", "force_close", 5, without(5)),
    "a deposit left out": ("balances", "force_close", 7, without(7)),
    "a payout that is not the balances": (
        "payout",
        "force_close",
        14,
        details(14, final_balance_a=179, final_balance_b=8),
    ),
    "a payout with one signature": (
        "payout",
        "force_close",
        14,
        details(14, signature_a=STORIES["force_close"].steps[4]["details"]["signature_a"]),
    ),
    "a payout with another signature": (
        "payout",
        "force_close",
        14,
        details(14, signature_b=STORIES["force_close"].steps[4]["details"]["signature_a"]),
    ),
    "a force-close left out": ("order", "force_close", 13, without(13)),
    "a force-close without an end": ("shape", "force_close", 13, details(13, ends_at=None)),
    "a revocation by a party": ("identity", "force_close", 12, step(12, agent_id=BOB.agent_id)),
    "later deposits in offline mode": ("order", "force_close", 4, header(mode="offline")),
    "voided transfers in offline mode": (
        "order",
        "dispute_timeout",
        4,
        header(mode="offline"),
    ),
    # Lines of dispute_timeout: 4 voided, 5 dispute, 6 dispute_withdrawn, 7 voided, 8 force_close, 9 dispute, 10 closed.
    "a withdrawal by the other": ("order", "dispute_timeout", 6, step(6, agent_id=BOB.agent_id)),
    "a withdrawal left out": ("order", "dispute_timeout", 8, without(6)),
    "a withdrawal of nothing": ("order", "dispute_timeout", 5, without(5)),
    "a second dispute of one party": ("order", "dispute_timeout", 9, step(9, agent_id=ALICE.agent_id)),
    "a force-close in a dispute": ("order", "dispute_timeout", 10, details(10, cause="force_close")),
    "a dispute without a reason": ("shape", "dispute_timeout", 5, details(5, reason=None)),
    "a dispute without an end": ("shape", "dispute_timeout", 5, details(5, ends_at="")),
    "a dispute by nobody": ("identity", "dispute_timeout", 5, step(5, agent_id=None)),
    "evidence with a fraction": ("shape", "dispute_timeout", 5, details(5, evidence=[1.5])),
    "evidence too deep": ("shape", "dispute_timeout", 5, details(5, evidence=nested(71))),
    # Lines of operator: 2 opened, 3 accepted, 4 transfer, 5 dispute, 6 closed.
    "a decision without a reason": ("payout", "operator", 6, details(6, reason=None)),
    "a decision with a reason that is none": ("shape", "operator", 6, details(6, reason=1)),
    "a decision of another sum": ("sum", "operator", 6, details(6, final_balance_a=1)),
    # Lines of offline: 4 transfer, 5 force_close, 6 dispute, 7 transfer, 8 dispute_settled, 9 closed.
    "evidence in online mode": ("order", "offline", 8, header(mode="online")),
    "a settlement by the other": ("order", "offline", 8, step(8, agent_id=ALICE.agent_id)),
    # Lines of the others: 2 opened, then what ended it.
    "a refusal by the opener": ("identity", "declined", 3, step(3, agent_id=ALICE.agent_id)),
    "a refusal without a reason": ("shape", "declined", 3, details(3, reason=None)),
    "a cancellation by the other": ("identity", "cancelled", 3, step(3, agent_id=BOB.agent_id)),
    "an expiry by somebody": ("identity", "expired", 3, step(3, agent_id=BOB.agent_id)),
    "a refund of less": ("balances", "expired", 3, step(3, balance_a=9_999)),
    # Lines of lost closed by both: 2 opened, 3 state_lost, 4 close_request, 5 closed.
    "another lost amount": ("transfer_signature", "lost closed by both", 3, details(3, amount=31)),
    "other lost balances": ("transfer_signature", "lost closed by both", 3, details(3, balance_a=71, balance_b=29)),
    "another lost nonce": ("transfer_signature", "lost closed by both", 3, details(3, nonce=2)),
    "a lost nonce that is none": ("shape", "lost closed by both", 3, details(3, nonce=0)),
    "a lost transfer of a stranger": ("identity", "lost closed by both", 3, details(3, from_agent_id=MALLORY.agent_id)),
    "each other's signatures of the lost one": ("transfer_signature", "lost closed by both", 3, swapped(3)),
    "a lost state left out": ("order", "lost closed by both", 3, without(3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_not_even_with_the_platforms_help_can_mallory_put_in(change: str) -> None:
    check, name, line, alter = CHANGES[change]
    lines = copied(HONEST[name])

    alter(lines)
    try:
        platform_chains(lines)
    except BadDocument:
        assert change.startswith("evidence")  # The platform could not have signed that.

    assert check_of(lines, line=line) == check


@pytest.mark.parametrize("name", HISTORIES)
def test_only_the_platforms_own_words_can_be_others_with_its_signature(name: str) -> None:
    """Every number, id and signature one after the other, nearly right and signed by the platform.

    Where the parties have signed nothing yet, the header is the platform's word too, and so is the id of one that has
    neither paid nor done anything.
    """
    said = [member for step in HISTORIES[name].steps for member in step["details"].items()]
    is_signed = any("signature" in member and value is not None for member, value in said)
    idle = {BOB.agent_id} if name == "lost expired" else set[str]()
    for place in places(HONEST[name][:-1]):
        value = holder(HONEST[name], place)[place[-1]]
        is_word = place[-1] in WORDS or "evidence" in place or (place[0] == 0 and not is_signed)
        if isinstance(value, dict) or value is None or is_word or value in idle:
            continue
        lines = copied(HONEST[name])
        holder(lines, place)[place[-1]] = near(value)
        check_of(platform_chains(lines))


def near(value: Any) -> Any:
    """Another value of the same form, where that is easy."""
    if isinstance(value, int):
        return value + 1
    if value == DOMAIN:
        return "other.test"
    return value[:-1] + ("A" if value[-1] != "A" else "B") if len(value) != 36 else OTHER_ID


@pytest.mark.parametrize(
    "alter",
    [
        header(currency="EUR"),
        header(exponent=2),
        header(window_s=0),
        step(4, at="2030-01-01T00:00:00Z"),
        step(4, agent_id=ALICE.agent_id),
        details(4, memo="any\nlines"),
        step(7, agent_id=None),
    ],
    ids=["currency", "exponent", "window", "time", "messenger", "memo", "closer"],
)
def test_what_nobody_signs_rests_on_the_platforms_word(alter: Callable[[list[Json]], None]) -> None:
    lines = copied(JOINT)

    alter(lines)

    assert check_of(lines, line=len(lines)) == "digest"
    verify_history(platform_chains(lines))


def test_the_platforms_line_is_its_own() -> None:
    forged, unsigned, miscounted, other = (copied(JOINT) for _ in range(4))
    platform_chains(forged, key=MALLORY)[-1]["public_key"] = PLATFORM.public_key_text
    unsigned[-1]["signature"] = JOINT[4]["details"]["signature_a"]
    miscounted[-1]["steps"] += 1
    other[-1]["digest"] = chained(HONEST["open"])

    assert check_of(forged, line=8) == "platform_signature"
    assert check_of(unsigned, line=8) == "platform_signature"
    assert check_of(miscounted, line=8) == "digest"
    assert check_of(other, line=8) == "digest"


# ---------------------------------------------------------------------------------------- channels against the rules


@pytest.mark.parametrize("name", [*STORIES, "declined", "declined by a ban", "cancelled", "expired"])
def test_nothing_comes_after_the_end(name: str) -> None:
    lines = copied(HONEST[name])
    after = {**lines[-2], "number": lines[-2]["number"] + 1, "kind": "revoked", "agent_id": None, "details": {}}

    lines.insert(-1, after)

    assert check_of(platform_chains(lines), line=len(lines) - 1) == "order"


ILLEGAL: dict[str, tuple[int, Story]] = {
    "two openings": (3, Story().opened().opened()),
    "two acceptances": (4, Story().opened().accepted().accepted()),
    "an acceptance first": (2, Story().accepted()),
    "a refusal after the acceptance": (4, Story().opened().accepted().step("declined", BOB, reason="")),
    "a cancellation after the acceptance": (4, Story().opened().accepted().step("cancelled", ALICE)),
    "an expiry after the acceptance": (4, Story().opened().accepted().step("expired")),
    "a transfer before the acceptance": (3, Story().opened().transfer(ALICE, 1)),
    "a void before the acceptance": (3, Story().opened().voided(ALICE, 1, "rejected")),
    "a deposit before the acceptance": (3, Story().opened().deposit(ALICE, 1)),
    "a close request before the acceptance": (3, Story().opened().close_request(ALICE, 0, 10_000)),
    "a close before the acceptance": (3, Story().opened().closed("joint_close")),
    "a force-close before the acceptance": (3, Story().opened().force_close(ALICE)),
    "a dispute before the acceptance": (3, Story().opened().dispute(ALICE)),
    "a transfer of an acceptance that was lost": (
        4,
        Story().opened().state_lost(ALICE, nonce=1, amount=1, balances=[1, 1]).transfer(ALICE, 1),
    ),
    "two force-closes": (5, Story().opened().accepted().force_close(ALICE).force_close(BOB)),
    "two disputes at once": (5, Story().opened().accepted().dispute(ALICE).dispute(BOB)),
    "a decision after a withdrawal": (
        6,
        Story().opened().accepted().dispute(BOB).step("dispute_withdrawn", BOB).closed("operator"),
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_no_signature_makes_good(name: str) -> None:
    line, story = ILLEGAL[name]

    assert check_of(story.lines(), line=line) == "order"


def test_a_close_of_an_earlier_nonce_ends_nothing() -> None:
    """Both had signed it, and then transferred: whoever kept it cannot go back."""
    early = paid_story()
    finals = (10_000, 0)
    old = {f"signature_{side}": early.signed_close(who, finals, nonce=1) for side, who in (("a", ALICE), ("b", BOB))}
    lines = early.closed("joint_close", finals).lines()
    verify_history(copied(lines))

    lines[-2]["details"].update(old)

    assert check_of(platform_chains(lines), line=len(lines) - 1) == "close_signature"


def test_a_transfer_signed_before_a_deposit_is_not_one_after_it() -> None:
    before = Story().opened(100).accepted().transfer(ALICE, 10)
    after = Story().opened(100).accepted().deposit(BOB, 1).transfer(ALICE, 10)
    lines = after.lines()
    for side in "ab":
        lines[4]["details"][f"signature_{side}"] = before.steps[-1]["details"][f"signature_{side}"]

    assert check_of(platform_chains(lines), line=5) == "transfer_signature"


def test_all_that_a_number_holds_can_be_paid() -> None:
    story = Story().opened(INTEGER_MAX - 1).accepted(1).transfer(ALICE, INTEGER_MAX - 1).transfer(BOB, INTEGER_MAX)

    verify_history(story.closed("joint_close", (0, INTEGER_MAX)).lines(), **KEYS)


def test_mallory_cannot_pay_herself_under_a_second_name() -> None:
    twin = Role(BOB.agent_id, ALICE.secret_key)

    assert check_of(Story(counterparty=twin).opened().accepted().transfer(ALICE, 1).lines(), line=1) == "key"

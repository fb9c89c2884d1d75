"""Histories of payment channels: every step is proved, in bounded memory, and no change goes unnoticed."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import process_time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    BadDocument,
    BadSignature,
    HistoryDigest,
    ReceiptError,
    canonical_digest,
    did_from_public_key,
    verify_history,
    verify_signature,
)
from crypto.messages import INTEGER_MAX
from crypto.signing import _is_valid

from .bargains import copy_of
from .payments import (
    CHANNEL_ID,
    HISTORIES,
    OTHER_ID,
    STORIES,
    TASK_ID,
    Json,
    Story,
    chained,
    paid_story,
    platform_chains,
)
from .roles import ALICE, BOB, DOMAIN, MALLORY, PLATFORM, Role
from .spoiling import Place, alterations, holder, is_same, places
from .test_canonical import nested
from .test_receipts import JSON

KEYS = {
    "platform_key": PLATFORM.public_key,
    "opener_key": ALICE.public_key,
    "counterparty_key": BOB.public_key,
}
HONEST = {name: story.lines() for name, story in HISTORIES.items()}
JOINT = HONEST["joint_close"]
SPOILED = ("joint_close", "force_close", "offline", "lost closed by both")
WORDS = ("currency", "exponent", "window_s", "at", "memo", "text", "evidence", "ends_at", "reason", "agent_id")
"""What the platform may say as it likes, within its form. `agent_id`: who did a step that anybody may do."""


def check_of(lines: Any, *, line: int | None = None, **pins: bytes) -> str:
    """The check that refuses the history, in that line."""
    with pytest.raises(ReceiptError) as refusal:
        verify_history(lines, **pins)
    assert refusal.value.reason == "invalid_receipt"
    assert refusal.value.context == {"check": refusal.value.check}
    sentence = str(refusal.value)
    assert sentence.endswith(".")
    assert len(sentence) < 300
    assert "line " in sentence.lower()
    if line is not None:
        assert f"ine {line}" in sentence
    return refusal.value.check


def copied(lines: list[Json]) -> list[Json]:
    """A deep copy, as it comes out of a file."""
    copy: list[Json] = copy_of(lines)  # type: ignore[arg-type, assignment]  # any JSON has a copy
    return copy


# ------------------------------------------------------------------------------------------------------------ honesty


@pytest.mark.parametrize("name", HISTORIES)
def test_an_honest_history_is_proved_under_the_known_keys(name: str) -> None:
    report = verify_history(copied(HONEST[name]), **KEYS)

    assert (report.kind, report.id, report.unproven) == ("payment_history", CHANNEL_ID, ())
    assert report.checks[1].startswith(f"{len(HISTORIES[name].steps)} steps")
    assert ("has not ended in this history" in report.checks[3]) is (name in {"pending", "open", "lost"})


def test_a_history_says_what_it_has_proved() -> None:
    parties, order, signed, end, unsigned, platform = verify_history(copied(JOINT)).checks

    assert ALICE.agent_id in parties
    assert BOB.agent_id in parties
    assert "6 steps" in order
    assert "2 transfers are signed by both" in signed
    assert "0 more were voided" in signed
    assert "the last one is 2." in signed
    assert "(joint_close), signed by both: 9800 minor units for the opener, 200" in end
    assert "platform's word" in unsigned
    assert DOMAIN in platform


def test_a_history_that_goes_on_says_so() -> None:
    report = verify_history(copied(HONEST["open"]))

    assert "not ended in this history: the balances are 9800 and 200" in report.checks[3]


@pytest.mark.parametrize(("name", "word"), [("force_close", "neither"), ("operator", "neither")])
def test_a_payout_that_nobody_signed_is_told_to_be_none(name: str, word: str) -> None:
    assert f"({name}), signed by {word}" in verify_history(copied(HONEST[name])).checks[3]


def test_the_report_says_which_keys_it_had_to_take_from_the_history() -> None:
    nothing_known = verify_history(copied(JOINT))
    opener_known = verify_history(copied(JOINT), opener_key=ALICE.public_key)

    assert len(nothing_known.unproven) == 3
    assert all("taken from the history itself" in sentence for sentence in nothing_known.unproven)
    assert not any(ALICE.public_key_text in sentence for sentence in opener_known.unproven)
    assert len(opener_known.checks) == len(nothing_known.checks) + 1


@pytest.mark.parametrize(("role", "line"), [("opener", 1), ("counterparty", 1), ("platform", len(JOINT))])
def test_a_history_with_other_keys_than_the_known_ones_is_refused(role: str, line: int) -> None:
    assert check_of(copied(JOINT), line=line, **{f"{role}_key": MALLORY.public_key}) == "pinned_key"


def test_unknown_parties_are_refused_before_any_step_is_read() -> None:
    def lines() -> Iterator[object]:
        yield JOINT[0]
        raise AssertionError

    assert check_of(lines(), opener_key=MALLORY.public_key) == "pinned_key"


def test_a_history_may_hold_keys_as_did() -> None:
    lines = copied(JOINT)
    lines[0]["public_key_a"] = did_from_public_key(ALICE.public_key)

    verify_history(platform_chains(lines), **KEYS)


def test_the_digest_is_a_chain_over_the_lines() -> None:
    chain = HistoryDigest(JOINT[0])
    assert (chain.steps, chain.hexdigest) == (0, canonical_digest(JOINT[0]))

    for count, step in enumerate(JOINT[1:-1], start=1):
        chain.add(step)
        assert chain.hexdigest == chained([*JOINT[: count + 1], {}])

    assert (chain.steps, chain.hexdigest) == (JOINT[-1]["steps"], JOINT[-1]["digest"])


@pytest.mark.parametrize("value", [1.5, {"a": 2**53}, {"a": "\ud800"}])
def test_what_has_no_canonical_json_has_no_place_in_a_chain(value: Any) -> None:
    chain = HistoryDigest(JOINT[0])

    with pytest.raises(BadDocument):
        chain.add(value)
    with pytest.raises(BadDocument):
        HistoryDigest(value)
    assert (chain.steps, chain.hexdigest) == (0, canonical_digest(JOINT[0]))


MOVES = st.lists(
    st.tuples(st.sampled_from(["transfer", "voided", "deposit"]), st.booleans(), st.integers(1, 60)), max_size=8
)


@given(deposits=st.tuples(st.integers(1, 50), st.integers(0, 50)), moves=MOVES)
def test_every_honest_channel_has_a_history_that_verifies(
    deposits: tuple[int, int], moves: list[tuple[str, bool, int]]
) -> None:
    story = Story().opened(deposits[0]).accepted(deposits[1])
    for kind, is_by_alice, amount in moves:
        who = ALICE if is_by_alice else BOB
        if kind == "deposit":
            story.deposit(who, amount)
        elif amount <= story.balances[story.side(who)]:
            _ = story.transfer(who, amount) if kind == "transfer" else story.voided(who, amount, "rejected")

    report = verify_history(story.lines(), **KEYS)

    assert f"the balances are {story.balances[0]} and {story.balances[1]}," in report.checks[3]
    assert f"the last one is {story.nonce}." in report.checks[2]


# -------------------------------------------------------------------------------------------------- changes afterwards


@pytest.mark.parametrize("place", [(name, *place) for name in SPOILED for place in places(HONEST[name])])
def test_no_change_after_signing_goes_unnoticed_at(place: Place) -> None:
    honest, inside = HONEST[str(place[0])], place[1:]
    value = holder(honest, inside)[inside[-1]]

    for altered in alterations(value):
        lines = copied(honest)
        holder(lines, inside)[inside[-1]] = altered
        if not is_same(altered, value):
            check_of(lines)


@pytest.mark.parametrize("place", [(name, *place) for name in SPOILED for place in places(HONEST[name])])
def test_nothing_can_be_left_out_at(place: Place) -> None:
    lines, inside = copied(HONEST[str(place[0])]), place[1:]

    del holder(lines, inside)[inside[-1]]

    check_of(lines)


@pytest.mark.parametrize("name", HISTORIES)
def test_no_line_can_be_repeated_or_moved(name: str) -> None:
    honest = HONEST[name]
    for index in range(len(honest)):
        check_of(copied(honest[: index + 1] + honest[index:]))
        if index:
            check_of(copied([*honest[: index - 1], honest[index], honest[index - 1], *honest[index + 1 :]]))


@pytest.mark.parametrize("name", HISTORIES)
def test_no_line_can_be_left_out_by_anyone_but_the_platform_at_the_end(name: str) -> None:
    for index in range(1, len(HONEST[name]) - 2):
        lines = copied(HONEST[name])
        del lines[index]
        assert check_of(platform_chains(lines), line=index + 1) in {"number", "order"}


def test_a_history_of_another_channel_does_not_go_on_in_this_one() -> None:
    lines = copied(JOINT)
    lines[-1] = copied(HONEST["open"])[-1]

    assert check_of(lines, line=len(lines)) == "digest"


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
    "a revocation before the acceptance": (3, Story().opened().step("revoked")),
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


# ------------------------------------------------------------------------------------------------------ hostile shapes


@pytest.mark.parametrize(
    ("lines", "line", "check"),
    [
        ([], 1, "shape"),
        ([None], 1, "shape"),
        ([JOINT[-1]], 1, "shape"),
        (JOINT[:1], 2, "shape"),
        (JOINT[:-1], 8, "shape"),
        ([*JOINT, JOINT[-1]], 9, "order"),
        ([*JOINT, None], 9, "order"),
        ([JOINT[0], {"kind": "platform"}], 2, "order"),
        ([*JOINT[:-1], {"kind": "platform"}], 8, "shape"),
        (platform_chains([JOINT[0], {}]), 2, "order"),
        ([JOINT[0], []], 2, "shape"),
        ([JOINT[0], {"kind": ["platform"]}], 2, "shape"),
    ],
)
def test_what_is_no_history_is_refused(lines: list[Any], line: int, check: str) -> None:
    assert check_of(lines, line=line) == check


@given(value=JSON)
def test_anything_else_in_json_is_no_line_of_a_history(value: Any) -> None:
    for index in range(len(JOINT)):
        check_of([*JOINT[:index], value, *JOINT[index + 1 :]])


@given(place=st.sampled_from(list(places(HONEST["force_close"]))), value=JSON)
def test_anything_else_in_json_is_no_part_of_a_history(place: Place, value: Any) -> None:
    lines = copied(HONEST["force_close"])
    before = holder(lines, place)[place[-1]]
    holder(lines, place)[place[-1]] = value

    if is_same(value, before):
        verify_history(lines)
    else:
        check_of(lines)


def test_a_huge_history_is_refused_with_a_short_sentence() -> None:
    """Nothing that a stranger wrote is repeated."""
    huge = "x" * 10_000_000
    for place in (("kind",), ("agent_id",), ("details", "signature_a"), ("details", "from_agent_id"), ("at",)):
        lines = copied(JOINT)
        holder(lines, (3, *place))[place[-1]] = huge
        check_of(lines, line=4)


# ------------------------------------------------------------------------------------------------------------ long ones


def long_history(count: int) -> list[Json]:
    """Of so many transfers, most of them Alice's."""
    story = Story().opened(1_000_000).accepted()
    for index in range(count):
        story.transfer(BOB if index % 3 == 2 else ALICE, 1)
    return story.lines()


def test_memory_does_not_grow_with_the_number_of_steps() -> None:
    lines = long_history(2_000)
    verify_history(lines)  # The outcomes of its signatures are kept from now on, which is bounded elsewhere.

    tracemalloc.start()
    try:
        verify_history(iter(lines))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100_000


def test_a_long_history_costs_little_more_than_its_signatures() -> None:
    lines = long_history(1_000)
    signature = lines[-2]["details"]["signature_a"]
    _is_valid.cache_clear()

    began = process_time()
    verify_history(lines)
    whole = process_time() - began
    began = process_time()
    for index in range(2_000):
        with suppress(BadSignature):
            verify_signature(public_key=ALICE.public_key, message=b"%0170d" % index, signature=signature)
    bare = process_time() - began

    assert whole < 3 * bare

"""Histories of payment channels: every step is proved, in bounded memory, and no change goes unnoticed."""

import tracemalloc
from collections.abc import Iterator
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
from crypto.signing import _is_valid

from .bargains import copy_of
from .payments import (
    CHANNEL_ID,
    HISTORIES,
    Json,
    Story,
    chained,
    platform_chains,
)
from .roles import ALICE, BOB, DOMAIN, MALLORY, PLATFORM
from .spoiling import Place, alterations, holder, is_same, places
from .test_receipts import JSON

KEYS = {
    "platform_key": PLATFORM.public_key,
    "opener_key": ALICE.public_key,
    "counterparty_key": BOB.public_key,
}
HONEST = {name: story.lines() for name, story in HISTORIES.items()}
JOINT = HONEST["joint_close"]
SPOILED = ("joint_close", "force_close", "offline", "lost closed by both")


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

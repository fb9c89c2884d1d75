"""Canonical JSON: one form for each value, and a refusal that names the place for what has none."""

import hashlib
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import BadDocument, canonical_digest, canonical_json
from crypto.canonical import DOCUMENT_NESTING_MAX, NESTING_MAX
from crypto.messages import INTEGER_MAX

SCALARS = st.none() | st.booleans() | st.integers(-INTEGER_MAX, INTEGER_MAX) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5), max_leaves=20
)


def nested(levels: int) -> Any:
    """Lists and objects inside each other, alternately."""
    value: Any = "core"
    for level in range(levels):
        value = [value] if level % 2 else {"in": value}
    return value


def shuffled(value: Any, chance: Random) -> Any:
    """The same value with every object's members in another order."""
    if isinstance(value, dict):
        names = list(value)
        chance.shuffle(names)
        return {name: shuffled(value[name], chance) for name in names}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


def is_same(first: Any, second: Any) -> bool:
    """Equality of JSON values; Python alone takes true for 1."""
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


@given(VALUES)
def test_canonical_json_says_the_same_and_is_its_own_canonical_json(value: Any) -> None:
    canonical = canonical_json(value)

    assert is_same(json.loads(canonical), value)
    assert canonical_json(json.loads(canonical)) == canonical


@given(first=VALUES, second=VALUES)
def test_two_values_have_the_same_bytes_only_if_they_are_the_same(first: Any, second: Any) -> None:
    assert (canonical_json(first) == canonical_json(second)) is is_same(first, second)


@given(value=VALUES, chance=st.randoms(use_true_random=False))
def test_the_order_of_members_changes_nothing(value: Any, chance: Random) -> None:
    assert canonical_json(shuffled(value, chance)) == canonical_json(value)


@given(VALUES)
def test_a_digest_is_that_of_the_bytes(value: Any) -> None:
    assert canonical_digest(value) == hashlib.sha256(canonical_json(value)).hexdigest()


def test_members_are_sorted_by_utf_16_code_units() -> None:
    """The example of RFC 8785, section 3.2.3; by code points, the emoji would come last."""
    value = {"\u20ac": 1, "\r": 2, "\ufb33": 3, "1": 4, "\U0001f600": 5, "\u0080": 6, "\u00f6": 7}

    names = list(json.loads(canonical_json(value)))

    assert names == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_are_escaped_as_little_as_possible() -> None:
    value = '€$\u000f\nA\'B"\\"/\u0000\b\t\f\r\u001f\u007f\u2028é'

    assert canonical_json(value).decode("utf-8") == (
        '"€$\\u000f\\nA\'B\\"\\\\\\"/\\u0000\\b\\t\\f\\r\\u001f\u007f\u2028é"'
    )


@pytest.mark.parametrize(
    ("value", "canonical"),
    [
        (None, "null"),
        (True, "true"),
        (0, "0"),
        (-INTEGER_MAX, "-9007199254740991"),
        (INTEGER_MAX, "9007199254740991"),
        ("", '""'),
        ([], "[]"),
        ({}, "{}"),
        ((1, 2), "[1,2]"),
        ({"b": [True, {"d": None, "c": 1}], "a": "x y"}, '{"a":"x y","b":[true,{"c":1,"d":null}]}'),
    ],
)
def test_a_value_is_written_without_white_space(value: object, canonical: str) -> None:
    assert canonical_json(value).decode() == canonical


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        pytest.param(1.5, "", id="a fraction"),
        pytest.param({"price": 1.0}, "/price", id="a whole number written as a float"),
        pytest.param([0, float("nan")], "/1", id="not a number"),
        pytest.param({"a": {"b": [float("inf")]}}, "/a/b/0", id="infinity"),
        pytest.param({"n": INTEGER_MAX + 1}, "/n", id="an integer too large"),
        pytest.param({"n": -INTEGER_MAX - 1}, "/n", id="an integer too small"),
        pytest.param({"n": 10**5000}, "/n", id="an integer of thousands of digits"),
        pytest.param({"a": ["\ud800"]}, "/a/0", id="a lone surrogate"),
        pytest.param({"a": "\ud83d\ude00"}, "/a", id="two lone surrogates that look like a pair"),
        pytest.param({"a": {"\udfff": 1}}, "/a", id="a lone surrogate in a name"),
        pytest.param({"a": {1: 1}}, "/a", id="a name that is a number"),
        pytest.param({None: 1, "a": 1}, "", id="a name that is null"),
        pytest.param({"a/b": {"c~d": [b"bytes"]}}, "/a~1b/c~0d/0", id="bytes"),
        pytest.param([{1, 2}], "/0", id="a set"),
        pytest.param({"": object()}, "/", id="an object of Python"),
    ],
)
def test_a_value_has_no_canonical_form_that_holds(value: object, pointer: str) -> None:
    with pytest.raises(BadDocument) as refusal:
        canonical_json(value)

    assert refusal.value.reason == "invalid_document"
    assert refusal.value.context == {"pointer": pointer}
    assert (pointer or "At the top") in str(refusal.value)


def test_a_float_is_refused_as_a_number_that_is_no_integer() -> None:
    with pytest.raises(BadDocument, match=r"^At /price: numbers are integers, without fraction or exponent\.$"):
        canonical_json({"price": 1.0})


def test_the_deepest_nesting_is_taken_and_one_level_more_is_refused_where_it_is() -> None:
    canonical_json(nested(NESTING_MAX))

    with pytest.raises(BadDocument, match="nested too deeply") as refusal:
        canonical_json(nested(NESTING_MAX + 1))

    assert refusal.value.pointer.count("/") == NESTING_MAX


def test_what_is_taken_by_itself_still_fits_into_a_document() -> None:
    """Else an agreement on terms as deep as is allowed would have no receipt."""
    document = {"terms": nested(NESTING_MAX)}

    assert canonical_digest(document) == canonical_digest({"terms": nested(NESTING_MAX)})
    with pytest.raises(BadDocument, match="nested too deeply"):
        canonical_digest(nested(DOCUMENT_NESTING_MAX + 1))


@pytest.mark.parametrize("levels", [1_000, 100_000])
def test_an_abyss_is_refused_like_any_other_depth(levels: int) -> None:
    with pytest.raises(BadDocument, match="nested too deeply"):
        canonical_json(nested(levels))


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(BadDocument, match="nested too deeply"):
        canonical_json(endless)

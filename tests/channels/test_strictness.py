"""Payloads: what fits its event, and what is refused though some reader would take it."""

import json
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.wire import InvalidPayload, decode_payload
from tests.channels.spoiling import TOKENS, V2_TEXT, spoiled

INTEGER_MAX = 2**53 - 1
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


class Offer(msgspec.Struct):
    amount: int
    terms: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    side: Literal["north"] = "north"
    seats: dict[int, int] = {}


class Free(msgspec.Struct):
    terms: Any


class Twice:
    """JSON text whose objects may hold a key twice, and whether one does."""

    def __init__(self, text: str, *, is_in_it: bool) -> None:
        self.text = text
        self.is_in_it = is_in_it


def object_of(pairs: list[tuple[str, Twice]]) -> Twice:
    keys = [key for key, _ in pairs]
    return Twice(
        "{" + ",".join(f"{json.dumps(key)}:{inner.text}" for key, inner in pairs) + "}",
        is_in_it=len(set(keys)) < len(keys) or any(inner.is_in_it for _, inner in pairs),
    )


def array_of(inners: list[Twice]) -> Twice:
    text = ",".join(inner.text for inner in inners)
    return Twice(f"[{text}]", is_in_it=any(inner.is_in_it for inner in inners))


perhaps_twice = st.recursive(
    scalars.map(lambda value: Twice(json.dumps(value), is_in_it=False)),
    lambda inner: (
        st.lists(inner, max_size=3).map(array_of)
        | st.lists(st.tuples(st.sampled_from(["a", "b", "ü", '"']), inner), max_size=3).map(object_of)
    ),
)


def test_a_payload_becomes_the_struct_of_its_event_and_unknown_fields_are_ignored() -> None:
    offer = decode_payload(msgspec.Raw(b'{"amount":5,"more":[1.5],"terms":{"a":0.5}}'), Offer)

    assert offer == Offer(5, {"a": 0.5})


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (b"{}", "amount"),
        (b'{"amount":"5"}', "amount"),
        (b'{"amount":5.5}', "amount"),
        (b'{"amount":true}', "amount"),
        (b'{"amount":5,"tags":["a",1]}', "tags[1]"),
        (b'{"amount":1,"amount":2}', "amount"),
        (b'{"amount":1,"terms":{"x":{"y":1,"y":1}}}', "terms.x.y"),
        (b'{"amount":1,"terms":{"a":[0,{"\\u0062":1,"b":2}]}}', "terms.a[1].b"),
        (b'{"amount":1,"ignored":{"y":1,"y":1}}', "ignored.y"),
        (b'{"amount":9007199254740992}', "amount"),
        (b'{"amount":-9007199254740992}', "amount"),
        (b'{"amount":1,"terms":{"n":[1,9007199254740992]}}', "terms.n[1]"),
        (b'{"amount":1,"terms":{"n":' + b"9" * 5_000 + b"}}", "terms.n"),
        (b'{"amount":1,"terms":{"n":NaN}}', "terms.n"),
        (b'{"amount":1,"terms":{"n":-Infinity}}', "terms.n"),
        (b'{"amount":1,"terms":{"n":1e999}}', "terms.n"),
        (b'{"amount":1,"ignored":-1e999}', "ignored"),
        (b'{"amount":1,"terms":' + b'{"a":' * 70 + b"1" + b"}" * 71, "payload"),
        (b'{"amount":1,"terms":' + b"[" * 5_000 + b"]" * 5_000 + b"}", "payload"),
        (b"[" * 200 + b"NaN" + b"]" * 200, "[0]" * 66 + "[0…"),
        (b'{"amount":1,"terms":{"a":"\\ud800"}}', "terms.a"),
        (b'{"amount":1,"terms":{"\\udfff":1}}', "terms.\N{REPLACEMENT CHARACTER}"),
        (b'{"amount":1,"terms":{"a":"\xff"}}', "payload"),
        (b'{"amount":1,"side":"south"}', "side"),
        (b'{"amount":1,"side":"x - at `$.spoof`"}', "side"),
        (b'{"amount":1,"side":"Object missing required field `spoof`"}', "side"),
        (b'{"amount":1,"seats":{"one":2}}', "seats"),
        (b'{"amount":1,"seats":{"1":"2"}}', "seats[...]"),
        (b'{"amount":1', "payload"),
        (b'{"amount":1}}', "payload"),
        (b'\xef\xbb\xbf{"amount":1}', "payload"),
        (b"", "payload"),
        (b"[]", "payload"),
        (b"null", "payload"),
        (b'"text"', "payload"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_with_the_field(payload: bytes, field: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        decode_payload(msgspec.Raw(payload), Offer)

    assert refused.value.field == field
    assert refused.value.reason == "invalid_payload"


def test_bytes_where_json_is_expected_are_refused() -> None:
    with pytest.raises(InvalidPayload) as refused:
        decode_payload(b'{"amount":1}', Offer)

    assert refused.value.field == "payload"


def test_a_field_missing_inside_is_named_with_its_path() -> None:
    class Outer(msgspec.Struct):
        inner: Offer

    with pytest.raises(InvalidPayload) as refused:
        decode_payload(msgspec.Raw(b'{"inner":{}}'), Outer)

    assert refused.value.field == "inner.amount"


@pytest.mark.parametrize("amount", [INTEGER_MAX, -INTEGER_MAX, 0])
def test_the_largest_integers_of_every_client_are_taken(amount: int) -> None:
    assert decode_payload(msgspec.Raw(b'{"amount":%d,"terms":{"n":%d}}' % (amount, amount)), Offer).amount == amount


@pytest.mark.parametrize("inner", ["[]", '["[[{{"]', '{"a":"{["}'])
def test_sixty_four_levels_are_taken_and_sixty_five_are_not(inner: str) -> None:
    def nested(levels: int) -> msgspec.Raw:
        arrays = levels - 2  # The payload itself and the innermost are the others.
        return msgspec.Raw('{"terms":' + "[" * arrays + inner + "]" * arrays + "}")

    decode_payload(nested(64), Free)
    with pytest.raises(InvalidPayload, match="64 levels"):
        decode_payload(nested(65), Free)


def test_brackets_in_text_are_no_levels() -> None:
    text = json.dumps({"amount": 1, "terms": {"a": '[{"\\' * 100}, "tags": ["{"] * 100}).encode()

    assert decode_payload(msgspec.Raw(text), Offer).amount == 1


def test_many_objects_side_by_side_are_not_deep() -> None:
    text = json.dumps({"amount": 1, "terms": {"a": [{} for _ in range(200)]}}).encode()

    assert decode_payload(msgspec.Raw(text), Offer).amount == 1


@pytest.mark.parametrize("start", [b"[" * 65, b"[" * 5_000, b'{"terms":'])
def test_a_text_that_never_ends_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(InvalidPayload):  # Looking for its end from each of its quotes would take hours.
        decode_payload(msgspec.Raw(start + b'"' + b'\\"' * 500_000), Free)


@pytest.mark.parametrize(
    "payload",
    [b'{"amount":1,"side":"%s"}', b'{"amount":1,"%s":NaN}', b'{"amount":1,"terms":{"%s":1e999}}'],
)
def test_a_refusal_does_not_repeat_all_that_was_sent(payload: bytes) -> None:
    with pytest.raises(InvalidPayload) as refused:
        decode_payload(msgspec.Raw(payload % (b"x" * 100_000)), Offer)

    assert len(str(refused.value)) < 500


@given(trees, st.booleans(), st.sampled_from([None, (",", ":")]), st.sampled_from([None, 2]))
def test_a_payload_is_read_as_it_was_meant_however_it_is_written(
    tree: Any,
    is_ascii: bool,  # noqa: FBT001 - drawn
    separators: tuple[str, str] | None,
    indent: int | None,
) -> None:
    text = json.dumps({"terms": tree}, ensure_ascii=is_ascii, separators=separators, indent=indent)

    assert decode_payload(msgspec.Raw(text), Free).terms == tree


@given(perhaps_twice)
def test_a_key_that_stands_twice_is_refused_however_deep(json_text: Twice) -> None:
    payload = msgspec.Raw(f'{{"terms":{json_text.text}}}')

    if json_text.is_in_it:
        with pytest.raises(InvalidPayload, match="twice"):
            decode_payload(payload, Free)
    else:
        assert decode_payload(payload, Free).terms == json.loads(json_text.text)


@given(
    st.binary(max_size=200)
    | (spoiled('{"amount":1,"terms":{"a":[1,"b",{"c":null}]},"tags":["x"]}') | spoiled(V2_TEXT)).map(
        lambda text: text.encode(errors="surrogatepass")
    )
    | st.lists(st.sampled_from(TOKENS), max_size=20).map(lambda tokens: "".join(tokens).encode(errors="surrogatepass"))
)
def test_no_payload_ever_raises_anything_else(payload: bytes) -> None:
    try:
        told: Any = decode_payload(msgspec.Raw(payload), Offer)
    except InvalidPayload as refusal:
        told = {"field": refusal.field, "message": str(refusal)}

    assert msgspec.json.encode(told)

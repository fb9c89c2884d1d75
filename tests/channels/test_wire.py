"""Frames: what Phoenix's clients send and take, and what is refused."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.wire import (
    BadFrame,
    Frame,
    InvalidPayload,
    Outgoing,
    UnsupportedVersion,
    Vsn,
    decode_frame,
    decode_payload,
    encode_lifecycle,
    encode_reply,
    parse_vsn,
)

V1, V2 = Vsn.V1, Vsn.V2

refs = st.none() | st.text(max_size=20) | st.integers(0, 2**31)
names = st.text(min_size=1, max_size=30)
objects = st.dictionaries(st.text(max_size=10), st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=20))


class Offer(msgspec.Struct):
    amount: int
    terms: dict[str, Any] = {}
    tags: tuple[str, ...] = ()


def raw(frame: Frame) -> Any:
    return json.loads(bytes(memoryview(frame.payload)))


@pytest.mark.parametrize(
    ("text", "vsn"),
    [(None, V1), ("1.0.0", V1), ("1.0.7", V1), ("2.0.0", V2), ("2.0.12", V2)],
)
def test_full_versions_of_both_lines_are_spoken(text: str | None, vsn: Vsn) -> None:
    assert parse_vsn(text) is vsn


@pytest.mark.parametrize(
    "text", ["1.1.0", "2.1.3", "3.0.0", "2", "2.0", "", "2.0.0-rc.1", "2.0.01", "٢.0.0", "2.0.0\n"]
)
def test_other_versions_are_refused(text: str) -> None:
    with pytest.raises(UnsupportedVersion):
        parse_vsn(text)


@given(refs, refs, names, names, objects)
def test_a_v2_array_is_a_frame(join_ref: Any, ref: Any, topic: str, event: str, payload: dict[str, Any]) -> None:
    frame = decode_frame(V2, json.dumps([join_ref, ref, topic, event, payload, "more", 1]))

    assert (frame.join_ref, frame.ref, frame.topic, frame.event, raw(frame)) == (join_ref, ref, topic, event, payload)
    assert not frame.binary


@given(refs, names, names, objects)
def test_a_v1_object_is_a_frame_as_text_and_as_binary(
    ref: Any, topic: str, event: str, payload: dict[str, Any]
) -> None:
    text = json.dumps({"topic": topic, "event": event, "payload": payload, "ref": ref})

    for message in (text, text.encode()):
        frame = decode_frame(V1, message)
        assert (frame.join_ref, frame.ref, frame.topic, raw(frame)) == (None, ref, topic, payload)


def test_a_join_ref_of_a_v1_client_is_honoured() -> None:
    frame = decode_frame(V1, '{"topic":"t","event":"e","payload":{},"ref":"2","join_ref":"1"}')

    assert frame.join_ref == "1"


@given(st.text(max_size=20), st.text(max_size=20), names, names, st.binary(max_size=100))
def test_a_binary_push_is_a_frame(join_ref: str, ref: str, topic: str, event: str, data: bytes) -> None:
    parts = [part.encode() for part in (join_ref, ref, topic, event)]

    frame = decode_frame(V2, bytes([0, *map(len, parts)]) + b"".join(parts) + data)

    assert frame == Frame(join_ref, ref, topic, event, data, binary=True)


@pytest.mark.parametrize(
    ("vsn", "message"),
    [
        (V2, ""),
        (V2, "{"),
        (V2, '["1","2","t","e"]'),
        (V2, '{"topic":"t","event":"e","payload":{},"ref":null}'),
        (V1, '["1","2","t","e",{}]'),
        (V1, '{"topic":"t","event":"e","payload":{}}'),
        (V1, '{"topic":"t","event":"e","ref":null}'),
        (V1, '{"topic":"t","topic":"u","event":"e","payload":{},"ref":null}'),
        (V1, b"\xff"),
        (V2, '["1","2",3,"e",{}]'),
        (V2, '["1","2","t",null,{}]'),
        (V2, json.dumps(["1", "2", "t" * 256, "e", {}])),
        (V2, json.dumps(["1", "2", "t", "ü" * 128, {}])),
        (V2, json.dumps(["1", "r" * 256, "t", "e", {}])),
        (V2, json.dumps([["deep"] * 100, "2", "t", "e", {}])),
        (V2, '["1","2","t","e",' + "[" * 100_000 + "]" * 100_000 + "]"),
        (V2, b""),
        (V2, b"\x01\x00\x00\x00\x00"),
        (V2, b"\x00"),
        (V2, b"\x00\x00\x00"),
        (V2, b"\x00\x05\x00\x00\x00ab"),
        (V2, b"\x00\x01\x00\x00\x00\xff"),
        (V2, b'["1","2","t","e",{}]'),
        (V2, '["1","2","t","e",{}'),
        (V2, '["1","2","t\ud800","e",{}]'),
    ],
)
def test_what_is_no_frame_is_a_bad_frame(vsn: Vsn, message: str | bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(vsn, message)


@given(st.sampled_from(Vsn), st.text(max_size=200) | st.binary(max_size=200))
def test_no_message_ever_raises_anything_else(vsn: Vsn, message: str | bytes) -> None:
    try:
        frame = decode_frame(vsn, message)
    except BadFrame:
        return
    assert isinstance(frame.topic, str)


def test_a_long_ref_of_another_kind_than_text_is_measured_as_json() -> None:
    assert decode_frame(V2, json.dumps([[1, 2], 10**30, "t", "e", {}])).ref == 10**30
    assert decode_frame(V2, json.dumps(["1", "r" * 255, "t" * 255, "e", {}])).ref == "r" * 255


def test_a_reply_is_an_array_in_v2_and_an_object_in_v1() -> None:
    reply: dict[str, Any] = {"join_ref": "1", "ref": 2, "topic": "t", "status": "ok", "response": {"a": None}}
    payload = {"status": "ok", "response": {"a": None}}

    assert json.loads(encode_reply(V2, **reply)) == ["1", 2, "t", "phx_reply", payload]
    assert json.loads(encode_reply(V1, **reply)) == {"topic": "t", "event": "phx_reply", "payload": payload, "ref": 2}


def test_bytes_are_a_binary_reply_in_v2_and_base64_in_v1() -> None:
    reply: dict[str, Any] = {"join_ref": None, "ref": 7, "topic": "t", "status": "ok", "response": b"\x00\xff"}

    assert encode_reply(V2, **reply) == b"\x01\x00\x01\x01\x02" + b"7" + b"t" + b"ok" + b"\x00\xff"
    assert json.loads(encode_reply(V1, **reply))["payload"]["response"] == {"encoding": "base64", "data": "AP8="}


def test_the_end_of_a_topic_has_the_ref_of_its_join() -> None:
    end: dict[str, Any] = {"join_ref": "3", "topic": "t", "event": "phx_close", "payload": {}}

    assert json.loads(encode_lifecycle(V2, **end)) == ["3", "3", "t", "phx_close", {}]
    assert json.loads(encode_lifecycle(V1, **end)) == {"topic": "t", "event": "phx_close", "payload": {}, "ref": "3"}


def test_each_subscriber_gets_its_own_join_ref() -> None:
    outgoing = Outgoing("t", "e", {"a": 1})

    assert [json.loads(outgoing.frame_for(V2, join_ref))[0] for join_ref in ("1", None, 5)] == ["1", None, 5]
    assert json.loads(outgoing.frame_for(V2, "1")) == ["1", None, "t", "e", {"a": 1}]
    expected = {"topic": "t", "event": "e", "payload": {"a": 1}, "ref": None}
    assert json.loads(outgoing.frame_for(V1, "1")) == json.loads(outgoing.frame_for(V1, "2")) == expected


def test_pushed_bytes_are_binary_in_v2_and_base64_in_v1() -> None:
    outgoing = Outgoing("t", "e", b"\x01")

    assert outgoing.frame_for(V2, "12") == b"\x00\x02\x01\x01" + b"12te" + b"\x01"
    assert json.loads(outgoing.frame_for(V1, None))["payload"] == {"encoding": "base64", "data": "AQ=="}


def test_raw_json_is_handed_on_as_it_came() -> None:
    assert '{"b":1,  "a":2}' in str(Outgoing("t", "e", msgspec.Raw(b'{"b":1,  "a":2}')).frame_for(V2, "1"))


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
        (b"[" * 800 + b"NaN" + b"]" * 800, "[0]" * 66 + "[0…"),
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
    with pytest.raises(InvalidPayload):
        decode_payload(b'{"amount":1}', Offer)


def test_a_field_missing_inside_is_named_with_its_path() -> None:
    class Outer(msgspec.Struct):
        inner: Offer

    with pytest.raises(InvalidPayload) as refused:
        decode_payload(msgspec.Raw(b'{"inner":{}}'), Outer)

    assert refused.value.field == "inner.amount"


def test_brackets_in_text_are_no_levels() -> None:
    text = json.dumps({"amount": 1, "terms": {"a": '[{"\\' * 100}, "tags": ["{"] * 100}).encode()

    assert decode_payload(msgspec.Raw(text), Offer).amount == 1


def test_many_objects_side_by_side_are_not_deep() -> None:
    text = json.dumps({"amount": 1, "terms": {"a": [{} for _ in range(200)]}}).encode()

    assert decode_payload(msgspec.Raw(text), Offer).amount == 1


@given(st.binary(max_size=200))
def test_no_payload_ever_raises_anything_else(payload: bytes) -> None:
    try:
        decode_payload(msgspec.Raw(payload), Offer)
    except InvalidPayload:
        return

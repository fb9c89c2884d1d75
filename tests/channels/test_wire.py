"""Frames: what Phoenix's clients send and take, and what is refused."""

import base64
import json
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.wire import (
    PHX_CLOSE,
    PHX_REPLY,
    BadFrame,
    Frame,
    Outgoing,
    UnsupportedVersion,
    Vsn,
    decode_frame,
    encode_lifecycle,
    encode_reply,
    parse_vsn,
)
from tests.channels.spoiling import TOKENS, V1_TEXT, V2_TEXT, spoiled

V1, V2 = Vsn.V1, Vsn.V2

refs = st.none() | st.text(max_size=20) | st.integers(0, 2**31)
names = st.text(min_size=1, max_size=30)
objects = st.dictionaries(st.text(max_size=10), st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=20))


class Free(msgspec.Struct):
    terms: Any


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


@pytest.mark.parametrize("ref", [None, "", "7", 7, -1, 1.5, True, [1, "2"], {"a": 1}, 10**30])
def test_refs_go_back_as_they_came(ref: Any) -> None:
    frame = decode_frame(V2, json.dumps([ref, ref, "t", "e", {}]))

    reply = encode_reply(V2, join_ref=frame.join_ref, ref=frame.ref, topic="t", status="ok", response={})

    assert json.loads(reply)[:2] == [ref, ref]


@pytest.mark.parametrize(
    "payload", ["null", '"text"', "[1]", "5", "1e999", "9" * 5_000, '{"a":1,"a":2}', "[" * 300 + "]" * 300]
)
@pytest.mark.parametrize("vsn", Vsn)
def test_a_payload_is_passed_over_whatever_it_is(vsn: Vsn, payload: str) -> None:
    text = f'[null,"1","t","e",{payload}]'
    if vsn is V1:
        text = f'{{"topic":"t","event":"e","payload":{payload},"ref":"1"}}'

    assert bytes(decode_frame(vsn, text).payload) == payload.encode()


def test_a_topic_and_an_event_may_be_empty() -> None:
    frame = decode_frame(V2, '[null,null,"","",{}]')

    assert (frame.topic, frame.event) == ("", "")


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
        (V1, '{"topic":"t","event":"e","payload":{},"ref":null,"ref":null}'),
        (V1, '{"topic":"t","event":"e","payload":{},"ref":null,"x":1,"\\u0078":1}'),
        (V1, '{"topic":"t","event":"e","payload":{"a":"' + "\\ud800" + '"},"ref":null}'),
        (V1, b'{"topic":"t","event":"e","payload":"\xff","ref":null}'),
        (V1, '{"topic":"t","event":"e","payload":' + "[" * 100_000 + "]" * 100_000 + ',"ref":null}'),
        (V1, '{"topic":"t","event":5,"payload":{},"ref":null}'),
        (V1, b"\x00\x00\x00\x01\x01te"),
        (V2, json.dumps(["1", "2", "t" * 256, "e", {}])),
        (V2, json.dumps(["1", "2", "t", "e" * 256, {}])),
        (V2, json.dumps(["r" * 256, "2", "t", "e", {}])),
        (V2, json.dumps(["1", "ü" * 128, "t", "e", {}])),
        (V2, json.dumps(["1", 10**255, "t", "e", {}])),
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


@given(
    st.sampled_from(Vsn),
    st.text(max_size=200)
    | st.binary(max_size=200)
    | spoiled(V1_TEXT)
    | spoiled(V2_TEXT)
    | spoiled(V1_TEXT).map(lambda text: text.encode(errors="replace"))
    | st.binary(max_size=60).map(lambda rest: b"\x00\x01\x01\x06\x03" + rest)
    | st.lists(st.sampled_from(TOKENS), max_size=20).map("".join),
)
def test_no_message_ever_raises_anything_else(vsn: Vsn, message: str | bytes) -> None:
    try:
        frame = decode_frame(vsn, message)
    except BadFrame:
        return
    assert len(frame.topic.encode()) <= 255
    assert frame.binary == (not isinstance(frame.payload, msgspec.Raw))


def test_a_bad_frame_does_not_repeat_all_that_was_sent() -> None:
    key = json.dumps("k" * 100_000)

    with pytest.raises(BadFrame) as refused:
        decode_frame(V1, f'{{"topic":"t","event":"e","payload":{{}},"ref":null,{key}:1,{key}:1}}')

    assert len(str(refused.value)) < 300


def test_a_long_ref_of_another_kind_than_text_is_measured_as_json() -> None:
    assert decode_frame(V2, json.dumps([[1, 2], 10**30, "t", "e", {}])).ref == 10**30
    assert decode_frame(V2, json.dumps(["1", "r" * 255, "t" * 255, "e" * 255, {}])).ref == "r" * 255


def test_a_reply_is_an_array_in_v2_and_an_object_in_v1() -> None:
    reply: dict[str, Any] = {"join_ref": "1", "ref": 2, "topic": "t", "status": "ok", "response": {"a": None}}
    payload = {"status": "ok", "response": {"a": None}}

    assert json.loads(encode_reply(V2, **reply)) == ["1", 2, "t", "phx_reply", payload]
    assert json.loads(encode_reply(V1, **reply)) == {"topic": "t", "event": "phx_reply", "payload": payload, "ref": 2}


def test_bytes_are_a_binary_reply_in_v2_and_base64_in_v1() -> None:
    reply: dict[str, Any] = {"join_ref": None, "ref": 7, "topic": "t", "status": "ok", "response": b"\x00\xff"}

    assert encode_reply(V2, **reply) == b"\x01\x00\x01\x01\x02" + b"7" + b"t" + b"ok" + b"\x00\xff"
    assert json.loads(encode_reply(V1, **reply))["payload"]["response"] == {"encoding": "base64", "data": "AP8="}


def test_a_header_part_that_a_binary_frame_cannot_hold_is_an_error() -> None:
    with pytest.raises(ValueError, match="range"):
        encode_reply(V2, join_ref="1", ref="r" * 256, topic="t", status="ok", response=b"")
    with pytest.raises(ValueError, match="range"):
        Outgoing("t", "e" * 256, b"").frame_for(V2, "1")


@pytest.mark.parametrize("response", [{}, None, [], "text", 5, msgspec.Raw(b'{"a":1}'), Free(terms=1)])
def test_a_reply_carries_any_json_value(response: Any) -> None:
    reply: dict[str, Any] = {"join_ref": None, "ref": "1", "topic": "t", "status": "ok", "response": response}
    expected = json.loads(msgspec.json.encode(response))

    assert json.loads(encode_reply(V2, **reply))[4]["response"] == expected
    assert json.loads(encode_reply(V1, **reply))["payload"]["response"] == expected


@given(st.sampled_from(Vsn), refs, names, objects)
def test_what_is_encoded_is_decoded_as_it_was(vsn: Vsn, ref: Any, topic: str, payload: dict[str, Any]) -> None:
    reply = decode_frame(vsn, encode_reply(vsn, join_ref=ref, ref=ref, topic=topic, status="ok", response=payload))
    end = decode_frame(vsn, encode_lifecycle(vsn, join_ref=ref, topic=topic, event=PHX_CLOSE, payload=payload))
    pushed = decode_frame(vsn, Outgoing(topic, "say", payload).frame_for(vsn, ref))

    join_ref = ref if vsn is V2 else None
    told = {"status": "ok", "response": payload}
    assert (reply.join_ref, reply.ref, reply.topic, reply.event, raw(reply)) == (join_ref, ref, topic, PHX_REPLY, told)
    assert (end.join_ref, end.ref, end.topic, end.event, raw(end)) == (join_ref, ref, topic, PHX_CLOSE, payload)
    assert (pushed.join_ref, pushed.ref, pushed.topic, raw(pushed)) == (join_ref, None, topic, payload)


def parts_of(message: str | bytes, kind: int, count: int) -> list[bytes]:
    """A binary frame of the server's, taken apart: the header's parts and the bytes."""
    assert isinstance(message, bytes)
    assert message[0] == kind
    ends = [1 + count]
    for size in message[1 : 1 + count]:
        ends.append(ends[-1] + size)
    return [*(message[start:end] for start, end in pairwise(ends)), message[ends[-1] :]]


@given(refs, refs, names, st.binary(max_size=50))
def test_bytes_come_out_of_a_binary_frame_as_they_went_in(join_ref: Any, ref: Any, topic: str, payload: bytes) -> None:
    def part(value: Any) -> bytes:
        return b"" if value is None else str(value).encode()

    reply = encode_reply(V2, join_ref=join_ref, ref=ref, topic=topic, status="ok", response=payload)
    pushed = Outgoing(topic, "say", payload)

    assert parts_of(reply, 1, 4) == [part(join_ref), part(ref), topic.encode(), b"ok", payload]
    for _ in range(2):
        assert parts_of(pushed.frame_for(V2, join_ref), 0, 3) == [part(join_ref), topic.encode(), b"say", payload]
    told = json.loads(pushed.frame_for(V1, join_ref))["payload"]
    assert base64.b64decode(told["data"]) == payload


def test_the_end_of_a_topic_has_the_ref_of_its_join() -> None:
    end: dict[str, Any] = {"join_ref": "3", "topic": "t", "event": "phx_close", "payload": {}}

    assert json.loads(encode_lifecycle(V2, **end)) == ["3", "3", "t", "phx_close", {}]
    assert json.loads(encode_lifecycle(V1, **end)) == {"topic": "t", "event": "phx_close", "payload": {}, "ref": "3"}


def test_each_subscriber_gets_its_own_join_ref() -> None:
    outgoing = Outgoing("t", "e", {"a": 1})

    join_refs = ["1", None, 5, "", 'a"\\', "ü", ["x"]]
    assert [json.loads(outgoing.frame_for(V2, join_ref))[0] for join_ref in join_refs] == join_refs
    assert json.loads(outgoing.frame_for(V2, "1")) == ["1", None, "t", "e", {"a": 1}]
    expected = {"topic": "t", "event": "e", "payload": {"a": 1}, "ref": None}
    assert json.loads(outgoing.frame_for(V1, "1")) == json.loads(outgoing.frame_for(V1, "2")) == expected


def test_pushed_bytes_are_binary_in_v2_and_base64_in_v1() -> None:
    outgoing = Outgoing("t", "e", b"\x01")

    assert outgoing.frame_for(V2, "12") == b"\x00\x02\x01\x01" + b"12te" + b"\x01"
    assert json.loads(outgoing.frame_for(V1, None))["payload"] == {"encoding": "base64", "data": "AQ=="}


def test_raw_json_is_handed_on_as_it_came() -> None:
    assert '{"b":1,  "a":2}' in str(Outgoing("t", "e", msgspec.Raw(b'{"b":1,  "a":2}')).frame_for(V2, "1"))

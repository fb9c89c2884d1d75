"""The client's frames are the server's: what one writes, the other reads."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting.client.frames import BadFrame, decode_frame, encode_frame, exceeds
from channels.wire import Outgoing, Vsn, encode_reply
from channels.wire import decode_frame as decode_of_server

WORDS = st.text(max_size=60)
"""At most 240 bytes."""


@given(WORDS, WORDS, WORDS, WORDS, st.binary())
def test_a_push_of_bytes_is_read_by_the_server_as_it_was_meant(
    join_ref: str, ref: str, topic: str, event: str, payload: bytes
) -> None:
    frame = decode_of_server(Vsn.V2, encode_frame((join_ref, ref, topic, event, payload)))

    assert (frame.join_ref, frame.ref, frame.topic, frame.event) == (join_ref, ref, topic, event)
    assert frame.payload == payload
    assert frame.binary


def test_the_example_of_the_protocol_is_written_byte_by_byte() -> None:
    frame = encode_frame(("1", "2", "room:1", "echo", b"hi"))

    assert frame == bytes.fromhex("00 01 01 06 04 31 32 72 6f 6f 6d 3a 31 65 63 68 6f 68 69")


def test_fields_go_as_text() -> None:
    assert encode_frame(("1", "2", "room:1", "echo", {"n": 1})) == '["1","2","room:1","echo",{"n":1}]'


@given(WORDS, WORDS, WORDS, st.binary())
def test_a_push_and_a_reply_of_bytes_are_read_as_the_server_meant_them(
    join_ref: str, topic: str, event: str, payload: bytes
) -> None:
    pushed = Outgoing(topic, event, payload).frame_for(Vsn.V2, join_ref)
    replied = encode_reply(Vsn.V2, join_ref=join_ref, ref="7", topic=topic, status="ok", response=payload)

    assert decode_frame(pushed) == (join_ref, None, topic, event, payload)
    assert decode_frame(replied) == (join_ref, "7", topic, "phx_reply", {"status": "ok", "response": payload})


def test_a_kind_of_frame_that_is_not_known_is_passed_over() -> None:
    assert decode_frame(b"\x02\x06\x05room:1shout\x00") is None
    assert decode_frame(b"") is None


@pytest.mark.parametrize("cut", range(1, 18))
def test_a_binary_frame_that_ends_within_its_header_is_none(cut: int) -> None:
    whole = bytes((0, 2, 6, 5)) + b"12room:1shout" + b"payload"

    with pytest.raises(BadFrame):
        decode_frame(whole[: cut if cut < 17 else 16])


@pytest.mark.parametrize("message", ["", "{}", "[1]", '[null,"1","room:1",7,{}]', b"\x00\x01\x00\x00\xff"])
def test_what_is_no_frame_is_told_as_such(message: str | bytes) -> None:
    with pytest.raises(BadFrame):
        decode_frame(message)


def test_a_frame_that_is_shown_can_be_written_as_json() -> None:
    frame = decode_frame(b"\x00\x01\x06\x051room:1shout\xff")

    assert msgspec.json.encode(frame) == b'["1",null,"room:1","shout","/w=="]'


@pytest.mark.parametrize("encoded", ["€" * 4, b"1" * 12, "1" * 12])
def test_a_frame_is_measured_in_bytes(encoded: str | bytes) -> None:
    assert exceeds(encoded, 11)
    assert not exceeds(encoded, 12)

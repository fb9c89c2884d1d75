import base64
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.chunks import (
    SEQ_MAX,
    BinaryChunk,
    Encoding,
    SendChunk,
    binary_chunk,
    data_of,
    read_binary_chunk,
    replayed,
)
from channels.wire import InvalidPayload
from tests.channels.roles import as_told, refused
from tests.channels.streaming import in_base64

ANY_SEQ = st.integers(min_value=0, max_value=SEQ_MAX)
ANY_DATA = st.binary(min_size=1, max_size=70)
LIKE_BASE64 = st.text(alphabet="AEQBw/+=-_ \n", max_size=14)
STANDARD_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?\Z")
"""Whole groups of four letters, then at most one with padding, whose last letter has no bits beyond the last byte."""


def bytes_of(chunk: str, encoding: str) -> bytes:
    """What a chunk in JSON stands for."""
    request = msgspec.json.decode(msgspec.json.encode({"chunk": chunk, "seq": 0, "encoding": encoding}), type=SendChunk)
    return data_of(request)


def taken_back(payload: dict[str, Any]) -> bytes:
    """The bytes of a chunk as a receiver reads it from JSON."""
    told = as_told(payload)
    data: bytes = told["chunk"].encode() if told["encoding"] == "utf8" else base64.b64decode(told["chunk"])
    return data


class TestAChunkInJson:
    @pytest.mark.parametrize("text", ["a", "é€😀", "\x00", "\ufeff", "\n", " ", "e\u0301"], ids=ascii)
    def test_of_text_is_its_bytes_in_utf_8_and_nothing_is_made_of_them(self, text: str) -> None:
        assert bytes_of(text, "utf8") == text.encode()

    def test_is_text_unless_it_says_otherwise(self) -> None:
        request = msgspec.json.decode(b'{"chunk": "AAAA", "seq": 7}', type=SendChunk)

        assert (request.data, request.seq, request.encoding) == (b"AAAA", 7, "utf8")

    @pytest.mark.parametrize(
        ("chunk", "data"),
        [
            ("AA==", b"\x00"),
            ("AAA=", b"\x00\x00"),
            ("AAAA", b"\x00\x00\x00"),
            ("AP/+", b"\x00\xff\xfe"),
            ("/w==", b"\xff"),
            ("//8=", b"\xff\xff"),
            ("AAAAAA==", b"\x00" * 4),
        ],
    )
    def test_in_base64_is_what_that_encodes(self, chunk: str, data: bytes) -> None:
        assert bytes_of(chunk, "base64") == data

    @pytest.mark.parametrize(
        "chunk",
        [
            *("A", "AA", "AAA", "AA=", "AAAAA", "AAAAAA", "AAAAAAA"),  # Without its padding, or a part of it.
            *("AAA==", "AAAA=", "AAAA==", "AAAA====", "AA===", "=", "==", "====", "=AAA", "A==="),  # With too much.
            *("AA==AA==", "AA=A", "AA==AAAA", "AAA=AAAA"),  # With some in the middle.
            *("AB==", "AP==", "AAB=", "AAD=", "//9=", "AAAAAB==", "AAAAAAB="),  # With bits beyond the last byte.
            *("AA==\n", "\nAA==", " AA==", "AA== ", "AAAA\nAAAA", "AA AA", "AA\t==", "AAAA\r\n"),  # With white space.
            *("AA-_", "-w==", "__8="),  # For URLs.
            *("é===", "AAA€", "AAAA\x00", "AA.=", "\uff21===", "AAAA,AAAA"),  # With what is none of its letters.
        ],
        ids=ascii,
    )
    def test_in_another_base64_than_the_standard_padded_one_is_refused(self, chunk: str) -> None:
        refusal = refused(bytes_of, chunk, "base64")

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "chunk"})
        assert refusal.message == "The chunk is not standard padded base64."

    def test_of_half_a_surrogate_pair_is_refused(self) -> None:
        with pytest.raises(msgspec.DecodeError):
            msgspec.json.decode(b'{"chunk": "\\ud800", "seq": 0}', type=SendChunk)
        refusal = refused(data_of, SendChunk(chunk="a\ud800", seq=0))

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "chunk"})
        assert refusal.message == "The chunk is not text that UTF-8 can hold."

    @pytest.mark.parametrize("encoding", ["utf8", "base64"])
    def test_that_is_empty_is_refused(self, encoding: str) -> None:
        refusal = refused(bytes_of, "", encoding)

        assert (refusal.kind, refusal.reason, refusal.context) == ("invalid", "invalid_payload", {"field": "chunk"})
        assert "empty" in refusal.message

    @pytest.mark.parametrize(
        "wrong",
        [
            *({"seq": seq} for seq in (-1, 2**53, 2**64, "0", True, 0.5, None)),
            *({"chunk": chunk} for chunk in (7, None, ["a"], True)),
            *({"encoding": encoding} for encoding in ("hex", "binary", "UTF8", "utf-8", "", None)),
        ],
        ids=repr,
    )
    def test_of_another_type_or_range_is_refused(self, wrong: dict[str, Any]) -> None:
        payload = {"chunk": "AAAA", "seq": 0} | wrong

        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(payload), type=SendChunk)

    @pytest.mark.parametrize("missing", ["chunk", "seq"])
    def test_needs_its_bytes_and_its_place(self, missing: str) -> None:
        payload: dict[str, Any] = {"chunk": "AAAA", "seq": 0}
        del payload[missing]

        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(payload), type=SendChunk)

    @pytest.mark.parametrize("seq", [0, SEQ_MAX])
    def test_has_any_place_that_a_number_of_every_client_holds(self, seq: int) -> None:
        assert SendChunk(chunk="a", seq=seq) == msgspec.convert({"chunk": "a", "seq": seq}, SendChunk)

    def test_is_told_as_it_was_sent_and_never_in_binary(self) -> None:
        chunk = SendChunk(chunk="AAA=", seq=3, encoding="base64")

        assert (chunk.shown, chunk.binary) == ({"chunk": "AAA=", "encoding": "base64"}, None)

    def test_is_decoded_once(self) -> None:
        chunk = SendChunk(chunk="AAA=", seq=3, encoding="base64")

        assert chunk.data is chunk.data

    @given(text=LIKE_BASE64)
    def test_in_base64_has_one_form_for_the_same_bytes(self, text: str) -> None:
        """Taken is exactly what the bytes that it stands for are encoded as."""
        chunk = SendChunk(chunk=text, seq=0, encoding="base64")

        if text and STANDARD_BASE64.fullmatch(text):
            assert in_base64(data_of(chunk)) == text
        else:
            assert refused(data_of, chunk).reason == "invalid_payload"

    @given(data=ANY_DATA)
    def test_in_base64_carries_any_bytes(self, data: bytes) -> None:
        assert bytes_of(in_base64(data), "base64") == data

    @given(text=st.text(min_size=1, max_size=70))
    def test_of_text_carries_any_text(self, text: str) -> None:
        assert bytes_of(text, "utf8").decode() == text


class TestAChunkInABinaryFrame:
    def test_is_its_seq_in_8_bytes_and_then_its_bytes(self) -> None:
        chunk = read_binary_chunk(b"\x00\x00\x00\x00\x00\x00\x01\x02\xff\x00")

        assert chunk == BinaryChunk(seq=258, data=b"\xff\x00")
        assert chunk.encoding == "binary"

    @pytest.mark.parametrize("payload", [b"", b"\x00", b"\x00" * 7, b"\x00" * 8, b"\xff" * 8])
    def test_without_a_seq_or_without_a_byte_is_refused(self, payload: bytes) -> None:
        with pytest.raises(InvalidPayload) as caught:
            read_binary_chunk(payload)

        assert caught.value.field == "payload"

    @pytest.mark.parametrize("seq", [2**53, 2**63, 2**64 - 1])
    def test_with_a_seq_that_not_every_client_can_hold_is_refused(self, seq: int) -> None:
        with pytest.raises(InvalidPayload) as caught:
            read_binary_chunk(binary_chunk(seq, b"a"))

        assert caught.value.field == "seq"
        assert str(SEQ_MAX) in caught.value.problem

    def test_with_the_last_seq_of_all_is_read(self) -> None:
        assert read_binary_chunk(binary_chunk(2**53 - 1, b"a")).seq == SEQ_MAX == 2**53 - 1

    def test_becomes_base64_for_those_who_take_json(self) -> None:
        shown = BinaryChunk(seq=1, data=b"\x00\xff\xfe").shown

        assert as_told(shown) == {"chunk": "AP/+", "encoding": "base64"}

    @given(seq=ANY_SEQ, data=ANY_DATA)
    def test_goes_on_as_it_came(self, seq: int, data: bytes) -> None:
        payload = binary_chunk(seq, data)
        chunk = read_binary_chunk(payload)

        assert (chunk.seq, data_of(chunk), chunk.binary) == (seq, data, payload)
        assert taken_back(chunk.shown) == data


class TestAStoredChunk:
    def test_is_text_where_it_was_sent_as_text(self) -> None:
        assert as_told(replayed(7, "é".encode(), "utf8")) == {
            "seq": 7,
            "chunk": "é",
            "encoding": "utf8",
            "replay": True,
        }

    @pytest.mark.parametrize("encoding", ["base64", "binary"])
    def test_is_base64_where_it_was_sent_as_bytes(self, encoding: Encoding) -> None:
        """Also where they happen to be text: a receiver finds the form in which it would have come live."""
        assert as_told(replayed(7, b"abc", encoding)) == {
            "seq": 7,
            "chunk": "YWJj",
            "encoding": "base64",
            "replay": True,
        }

    @given(seq=ANY_SEQ, text=st.text(min_size=1, max_size=40), encoding=st.sampled_from(["utf8", "base64", "binary"]))
    def test_is_the_bytes_that_were_sent(self, seq: int, text: str, encoding: Encoding) -> None:
        told = as_told(replayed(seq, text.encode(), encoding))

        assert (told["seq"], taken_back(told)) == (seq, text.encode())
        assert bytes_of(told["chunk"], told["encoding"]) == text.encode()

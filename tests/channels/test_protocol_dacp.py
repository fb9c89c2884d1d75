"""PROTOCOL.md's chapter on FDC3's messages is true: its tables are compared with the code, both ways."""

import json
from typing import Final

import msgspec
import pytest

from agrenting import dacp_connection, dacp_frames
from agrenting.dacp_connection import STRIKES_MAX, DacpConnection
from channels import private
from channels.private_listeners import LISTENERS_MAX
from tests.channels.protocol_text import chapter, code, codes, section, table

CHAPTER: Final = chapter("FDC3 over `/socket/dacp`")
REQUESTS: Final = {code(row["request"]): row for row in table("request", section("Requests", CHAPTER))}
SHAPES: Final[dict[str, tuple[type[msgspec.Struct], ...]]] = {
    "createPrivateChannelRequest": (),
    "createPrivateChannel": (),
    "joinPrivateChannel": (dacp_frames.JoinChannel,),
    "addContextListenerRequest": (dacp_frames.Listen,),
    "contextListenerUnsubscribeRequest": (dacp_frames.Unlisten,),
    "privateChannelAddEventListenerRequest": (dacp_frames.Watch,),
    "privateChannelUnsubscribeEventListenerRequest": (dacp_frames.Unlisten,),
    "eventListenerUnsubscribeRequest": (dacp_frames.Unlisten,),
    "getInfoRequest": (),
    **{event: (dacp_frames.OfChannel, handler.request) for event, handler in private.HANDLERS.items()},
}
"""What a request's payload is decoded into."""

NOT_LOOKED_AT: Final = {"type", "heartbeatEventUuid"}


def fields_of(shapes: tuple[type[msgspec.Struct], ...]) -> set[str]:
    """The fields of a payload as the table writes them: `?` behind those that may be missing."""
    return {
        field.encode_name + ("" if field.required or field.encode_name == "context" else "?")
        for shape in shapes
        for field in msgspec.structs.fields(shape)
    }


def names(cell: str) -> set[str]:
    """The names of a cell without their question marks."""
    return {name.removesuffix("?") for name in codes(cell)}


def test_every_request_is_listed_and_no_other() -> None:
    assert set(REQUESTS) == {*DacpConnection.ACTS, dacp_frames.HEARTBEAT_ACKNOWLEDGEMENT}


@pytest.mark.parametrize("request_type", sorted(SHAPES))
def test_the_fields_of_a_request_are_those_of_the_code(request_type: str) -> None:
    assert set(codes(REQUESTS[request_type]["payload"])) == fields_of(SHAPES[request_type])


def test_every_field_has_a_meaning() -> None:
    asked = {name for row in REQUESTS.values() for name in names(row["payload"])}
    told = {name for row in REQUESTS.values() for name in names(row["payload of the response"])}
    requests = section("Requests", CHAPTER)
    assert {code(row["request field"]) for row in table("request field", requests)} == asked
    assert {code(row["response field"]) for row in table("response field", requests)} == told | {"error"}
    step = {code(row["step field"]) for row in table("step field", section("Coming back", CHAPTER))}
    assert step >= {one.encode_name for one in msgspec.structs.fields(dacp_frames.ValidateAppIdentity)}


def test_what_a_rule_decides_is_decided_by_its_event() -> None:
    assert {type_: codes(row["decided as"]) for type_, row in REQUESTS.items() if type_ in private.HANDLERS} == {
        event: [event] for event in private.HANDLERS
    }


def test_what_is_elsewhere_is_answered_as_the_table_says() -> None:
    rows = table("other request", section("Requests", CHAPTER))
    listed = {code(row["other request"]): json.loads(code(row["payload of the response"])) for row in rows}
    assert listed == dacp_frames.ELSEWHERE


def test_the_words_are_those_of_the_code() -> None:
    words = {code(row["word"]) for row in table("word", section("Words of refusals", CHAPTER))}
    assert words == {*dacp_frames.CHANNEL_ERRORS, dacp_frames.MALFORMED_MESSAGE, dacp_frames.API_TIMEOUT}


def test_the_close_codes_are_those_of_the_code() -> None:
    listed = {int(row["code"]) for row in table("code", section("Close codes of `/socket/dacp`", CHAPTER))}
    assert listed == {value for name, value in vars(dacp_connection).items() if name.startswith("CLOSE_")}


def test_the_numbers_of_the_chapter_are_those_of_the_code() -> None:
    assert f"at most {LISTENERS_MAX} listeners" in CHAPTER
    assert f"at most {LISTENERS_MAX} a socket" in CHAPTER
    assert f"1-{dacp_frames.UUID_CHARS_MAX} characters" in CHAPTER
    assert STRIKES_MAX == 3, "the third message, says the table of close codes"


def test_the_example_is_a_request() -> None:
    text = section("Messages", CHAPTER).partition("```json\n")[2].partition("\n```")[0]
    message = dacp_frames.decode_message(text)
    assert (message.type, message.reply_to) == ("broadcastRequest", "7")

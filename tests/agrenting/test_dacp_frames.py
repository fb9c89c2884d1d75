"""FDC3's messages as data: whatever comes is a message or a BadMessage, and what goes out has just the schema's keys.

The tables say what the JSON schemas of FDC3 2.2 allow; no key beside those of a table may stand in a message.
"""

import json
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agrenting import dacp_frames as dacp
from agrenting.dacp_connection import DacpConnection
from agrenting.dacp_frames import BadMessage, Message
from agrenting.db.commit import StorageUnavailable
from agrenting.rates import too_often
from channels import private
from channels.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized
from channels.wire import InvalidPayload, decode_payload

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)

CHANNEL: Final = {"AccessDenied", "CreationFailed", "MalformedContext", "NoChannelFound", "ApiTimeout"}
OPEN: Final = {
    *("AppNotFound", "AppTimeout", "DesktopAgentNotFound", "ErrorOnLaunch", "MalformedContext", "ResolverUnavailable"),
    "ApiTimeout",
}
RESOLVE: Final = {
    *("DesktopAgentNotFound", "IntentDeliveryFailed", "MalformedContext", "NoAppsFound", "ResolverTimeout"),
    *("ResolverUnavailable", "TargetAppUnavailable", "TargetInstanceUnavailable", "UserCancelledResolution"),
    "ApiTimeout",
}
RESULT: Final = {"IntentHandlerRejected", "NoResultReturned", "ApiTimeout"}
BRIDGING: Final = {"AgentDisconnected", "NotConnectedToBridge", "ResponseToBridgeTimedOut", "MalformedMessage"}
ANY: Final = CHANNEL | OPEN | RESOLVE | RESULT | BRIDGING

RESPONSES: Final[dict[str, tuple[set[str], set[str]]]] = {
    "addContextListener": ({"listenerUUID"}, CHANNEL),
    "addEventListener": ({"listenerUUID"}, ANY),
    "addIntentListener": ({"listenerUUID"}, RESOLVE),
    "broadcast": (set(), ANY),
    "contextListenerUnsubscribe": (set(), ANY),
    "createPrivateChannel": ({"privateChannel"}, CHANNEL),
    "eventListenerUnsubscribe": (set(), ANY),
    "findInstances": ({"appIdentifiers"}, RESOLVE | BRIDGING),
    "findIntent": ({"appIntent"}, RESOLVE | BRIDGING),
    "findIntentsByContext": ({"appIntents"}, RESOLVE | BRIDGING),
    "getAppMetadata": ({"appMetadata"}, RESOLVE | BRIDGING),
    "getCurrentChannel": ({"channel"}, ANY),
    "getCurrentContext": ({"context"}, CHANNEL),
    "getInfo": ({"implementationMetadata"}, ANY),
    "getOrCreateChannel": ({"channel"}, CHANNEL),
    "getUserChannels": ({"userChannels"}, CHANNEL),
    "intentListenerUnsubscribe": (set(), ANY),
    "intentResult": (set(), ANY),
    "joinUserChannel": (set(), CHANNEL),
    "leaveCurrentChannel": (set(), CHANNEL),
    "open": ({"appIdentifier"}, OPEN | BRIDGING),
    "privateChannelAddEventListener": ({"listenerUUID"}, CHANNEL),
    "privateChannelDisconnect": (set(), CHANNEL),
    "privateChannelUnsubscribeEventListener": (set(), ANY),
    "raiseIntentForContext": ({"appIntents"}, RESOLVE | BRIDGING),
    "raiseIntent": ({"intentResolution"}, RESOLVE | BRIDGING),
}
"""Request, without its `Request` → the keys of the payload that answers it, and the words that may refuse it."""

KNOWN: Final = {*DacpConnection.ACTS, *dacp.ELSEWHERE}
REFUSALS: Final = (
    Forbidden("AccessDenied", "-"),
    NotFound("NoChannelFound", "-"),
    Conflict("CreationFailed", "-"),
    Invalid("MalformedContext", "-"),
    Invalid("invalid_payload", "-", field="instanceId"),
    Unauthorized("invalid_credential", "-"),
    InvalidPayload("context.a", "-"),
    InvalidPayload("context", "-"),
    InvalidPayload("channelId", "-"),
    too_often(1.0),
    StorageUnavailable("full"),
    RuntimeError("a bug"),
)


def request(type_: str, payload: Any = None, **meta: Any) -> str:
    """A frame of a client."""
    return json.dumps({"type": type_, "payload": payload or {}, "meta": {"requestUuid": "r-1", **meta}})


def answered(type_: str, payload: Any) -> dict[str, Any]:
    """A response as its client reads it."""
    told: dict[str, Any] = json.loads(dacp.encode_response(dacp.decode_message(request(type_)), payload, now=NOW))
    return told


# What comes in.


@pytest.mark.parametrize("more", [{}, {"timestamp": "x", "source": {"appId": "mallory"}}, {"timestamp": None}])
def test_what_a_client_says_of_time_and_source_is_not_needed_and_not_believed(more: dict[str, Any]) -> None:
    message = dacp.decode_message(request("getInfoRequest", **more))
    assert message.type == "getInfoRequest"
    assert message.reply_to == "r-1"
    assert "mallory" not in msgspec.json.encode(message).decode()


@pytest.mark.parametrize("name", sorted(dacp.EXTENSIONS))
def test_an_extension_may_be_named_as_a_request(name: str) -> None:
    plain, named = (dacp.decode_message(request(form)) for form in (name, f"{name}Request"))
    assert plain.type == named.type == name
    assert dacp.response_type(named.type) == f"{name}Response"


@pytest.mark.parametrize("type_", ["WCP6Goodbye", "heartbeatAcknowledgementRequest"])
def test_what_gets_no_response_needs_no_uuid(type_: str) -> None:
    assert dacp.decode_message(json.dumps({"type": type_})).reply_to == ""


def test_a_step_of_wcp_is_answered_by_its_attempt() -> None:
    frame = {"type": "WCP4ValidateAppIdentity", "payload": {}, "meta": {"connectionAttemptUuid": "c-1"}}
    assert dacp.decode_message(json.dumps(frame)).reply_to == "c-1"


def test_a_long_payload_is_only_passed_over() -> None:
    twice = '{"a": 1, "a": 2, "text": "' + "x" * 2_000 + '"}'
    frame = f'{{"meta": {{"requestUuid": "1", "note": {twice}}}, "payload": {twice}, "type": "foo"}}'
    assert bytes(dacp.decode_message(frame).payload).decode() == twice


def test_a_payload_that_is_missing_is_empty() -> None:
    message = dacp.decode_message('{"type": "createPrivateChannelRequest", "meta": {"requestUuid": "1"}}')
    assert bytes(message.payload) == b"{}"


@pytest.mark.parametrize(
    ("frame", "is_json"),
    [
        ("", False),
        ("{", False),
        ("nonsense", False),
        ("[" * 2_000, True),
        ('{"type": "a", "type": "b", "meta": {"requestUuid": "1"}}', False),
        (f'{{"type": "a", "payload": "{"x" * 2_000}", "type": "b", "meta": {{"requestUuid": "1"}}}}', False),
        (f'{{"type": "a", "payload": 1, "payload": "{"x" * 2_000}", "meta": {{"requestUuid": "1"}}}}', False),
        (f'{{"payload": "{"x" * 2_000}", "payload": 1, "type": "a", "meta": {{"requestUuid": "1"}}}}', False),
        (b'{"type": "getInfoRequest"}', False),
        ("null", True),
        ("[]", True),
        ('"getInfoRequest"', True),
        ("{}", True),
        ('{"type": null}', True),
        ('{"type": 7, "meta": {"requestUuid": "1"}}', True),
        ('{"type": "", "meta": {"requestUuid": "1"}}', True),
        (f'{{"type": "{"a" * 257}", "meta": {{"requestUuid": "1"}}}}', True),
        ('{"type": "getInfoRequest"}', True),
        ('{"type": "getInfoRequest", "meta": null}', True),
        ('{"type": "getInfoRequest", "meta": []}', True),
        ('{"type": "getInfoRequest", "meta": {"requestUuid": 7}}', True),
        ('{"type": "getInfoRequest", "meta": {"requestUuid": ""}}', True),
        (f'{{"type": "getInfoRequest", "meta": {{"requestUuid": "{"a" * 257}"}}}}', True),
        ('{"type": "WCP4ValidateAppIdentity", "meta": {"requestUuid": "1"}}', True),
    ],
)
def test_what_no_response_could_be_addressed_to_is_no_message(
    frame: str | bytes,
    *,
    is_json: bool,
) -> None:
    with pytest.raises(BadMessage) as bad:
        dacp.decode_message(frame)
    assert bad.value.is_json is is_json
    assert 0 < len(str(bad.value).encode()) <= 123, "it fits into a close frame"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary() | st.text() | JSON.map(json.dumps))
def test_whatever_comes_is_a_message_or_is_said_to_be_none(frame: str | bytes) -> None:
    try:
        message = dacp.decode_message(frame)
    except BadMessage:
        return
    assert message.type


@given(
    type_=st.sampled_from([*sorted(KNOWN), "fooRequest", "foo", "Request"]),
    payload=JSON,
    uuid=st.text(min_size=1, max_size=256).filter(lambda text: text.isprintable()),
)
def test_whatever_a_payload_holds_the_request_can_be_answered(type_: str, payload: Any, uuid: str) -> None:
    frame = json.dumps({"type": type_, "payload": payload, "meta": {"requestUuid": uuid}})
    message = dacp.decode_message(frame)
    for shape in (dacp.OfChannel, dacp.JoinChannel, dacp.Listen, dacp.Watch, dacp.Unlisten, dacp.ValidateAppIdentity):
        try:
            decode_payload(message.payload, shape)
        except InvalidPayload as error:
            refused = dacp.encode_response(message, {"error": dacp.error_of(message.type, error)}, now=NOW)
            told = json.loads(refused)
            assert told["meta"]["requestUuid"] == uuid
            assert told["type"].endswith("Response")


# What goes out.


@pytest.mark.parametrize("type_", [*sorted(KNOWN), "fooRequest", "foo"])
def test_a_response_has_just_the_keys_of_the_schema(type_: str) -> None:
    told = answered(type_, {})
    assert set(told) == {"type", "payload", "meta"}
    assert set(told["meta"]) == {"requestUuid", "responseUuid", "timestamp"}
    assert told["type"] == type_.removesuffix("Request") + "Response"
    assert told["meta"]["requestUuid"] == "r-1"
    assert told["meta"]["timestamp"] == "2026-01-02T03:04:05.678000Z"
    assert told["meta"]["responseUuid"] != answered(type_, {})["meta"]["responseUuid"]


def test_every_request_of_fdc3_is_known() -> None:
    assert KNOWN - dacp.EXTENSIONS - {dacp.CREATE_ALIAS} == {f"{name}Request" for name in RESPONSES}


@pytest.mark.parametrize(("type_", "payload"), sorted(dacp.ELSEWHERE.items()))
def test_what_is_elsewhere_in_fdc3_is_answered_as_its_schema_says(type_: str, payload: dict[str, Any]) -> None:
    keys, errors = RESPONSES[type_.removesuffix("Request")]
    if "error" in payload:
        assert set(payload) == {"error"}
        assert payload["error"] in errors
    else:
        assert set(payload) == keys


@pytest.mark.parametrize("error", REFUSALS, ids=repr)
@pytest.mark.parametrize("type_", sorted(DacpConnection.ACTS))
def test_a_refusal_is_a_word_that_the_schema_allows(type_: str, error: Exception) -> None:
    word = dacp.error_of(type_, error)
    if type_ in dacp.EXTENSIONS:
        assert word in ANY
    else:
        assert word in RESPONSES[type_.removesuffix("Request")][1]


@pytest.mark.parametrize(
    ("type_", "error", "word"),
    [
        ("broadcastRequest", InvalidPayload("context.price", "-"), "MalformedContext"),
        ("broadcastRequest", InvalidPayload("context[0]", "-"), "MalformedContext"),
        ("broadcastRequest", InvalidPayload("payload", "too deep"), "MalformedContext"),
        ("broadcastRequest", InvalidPayload("channelId", "-"), "AccessDenied"),
        ("addContextListenerRequest", InvalidPayload("contextType", "-"), "AccessDenied"),
        ("createPrivateChannelRequest", InvalidPayload("payload", "-"), "CreationFailed"),
        ("createPrivateChannel", InvalidPayload("payload", "-"), "CreationFailed"),
        ("joinPrivateChannel", InvalidPayload("channelId", "-"), "MalformedMessage"),
        ("createPrivateChannelInvitation", Invalid("invalid_payload", "-", field="expiresIn"), "MalformedMessage"),
        ("joinPrivateChannel", NotFound("NoChannelFound", "-"), "NoChannelFound"),
        ("joinPrivateChannel", Forbidden("missing_scope", "-"), "AccessDenied"),
        ("joinPrivateChannel", Unauthorized("invalid_credential", "-"), "AccessDenied"),
        ("createPrivateChannelRequest", Conflict("CreationFailed", "-"), "CreationFailed"),
        ("broadcastRequest", too_often(2.0), "ApiTimeout"),
        ("broadcastRequest", StorageUnavailable("full"), "ApiTimeout"),
        ("broadcastRequest", KeyError("a bug"), "ApiTimeout"),
    ],
)
def test_each_refusal_has_its_word(type_: str, error: Exception, word: str) -> None:
    assert dacp.error_of(type_, error) == word


def test_an_event_has_just_the_keys_of_the_schema() -> None:
    payload = {"privateChannelId": "private:1", "contextType": None}
    told = json.loads(dacp.encode_event("privateChannelOnUnsubscribeEvent", payload, now=NOW))
    assert told["payload"] == payload, "null is there, and not absent"
    assert set(told) == {"type", "payload", "meta"}
    assert set(told["meta"]) == {"eventUuid", "timestamp"}


def test_a_step_has_just_the_keys_of_the_schema() -> None:
    message = Message("WCP4ValidateAppIdentity", msgspec.Raw(b"{}"), "c-1", 2)
    told = json.loads(dacp.encode_step(message, "WCP5ValidateAppIdentityResponse", {}, now=NOW))
    assert told["meta"] == {"connectionAttemptUuid": "c-1", "timestamp": "2026-01-02T03:04:05.678000Z"}
    assert set(told) == {"type", "payload", "meta"}


def test_the_metadata_have_just_the_keys_of_the_schema() -> None:
    told = dacp.implementation_metadata(app_id="john/bot", instance_id="i-1")
    assert set(told) == {"fdc3Version", "provider", "providerVersion", "optionalFeatures", "appMetadata"}
    assert set(told["optionalFeatures"]) == {
        *("OriginatingAppMetadata", "UserChannelMembershipAPIs", "DesktopAgentBridging")
    }
    assert told["appMetadata"] == {"appId": "john/bot", "instanceId": "i-1"}
    assert told["fdc3Version"] == "2.2"


def test_the_rules_know_every_request_that_they_decide() -> None:
    assert {*private.HANDLERS} <= {*DacpConnection.ACTS}

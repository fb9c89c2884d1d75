"""FDC3's messages as data: one JSON object a text frame, decoded once and encoded once.

    request    {type, payload, meta: {requestUuid, timestamp?, source?}}
    response   {type, payload, meta: {requestUuid, responseUuid, timestamp}}      payload of a refusal: {error}
    event      {type, payload, meta: {eventUuid, timestamp}}

A client takes a response by its type and its requestUuid, and nothing else: each request gets exactly one, unknown
requests too. What a message says of when it was sent, and by whom, is neither needed nor believed. FDC3's schemas allow
no key beside those that they name, so a message that we send has just these; a key that may be null is always there.

Source: FDC3 2.2, Desktop Agent Communication Protocol; Web Connection Protocol, steps 4 to 6.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, cast

import msgspec

from agrenting import __version__
from agrenting.ids import new_id
from channels.errors import Refusal
from channels.private_listeners import ListenerKind
from channels.strictness import require_distinct_keys
from channels.wire import InvalidPayload

FDC3_VERSION: Final = "2.2"
PROVIDER: Final = "agrenting"

UUID_CHARS_MAX: Final = 256
TYPE_CHARS_MAX: Final = 256
LONG_CHARS: Final = 1_024

HEARTBEAT_EVENT: Final = "heartbeatEvent"
HEARTBEAT_ACKNOWLEDGEMENT: Final = "heartbeatAcknowledgementRequest"
"""Spelt with the e, though the name of its schema's file lacks it. It gets no response."""

VALIDATE: Final = "WCP4ValidateAppIdentity"
VALIDATED: Final = "WCP5ValidateAppIdentityResponse"
NOT_VALIDATED: Final = "WCP5ValidateAppIdentityFailedResponse"
GOODBYE: Final = "WCP6Goodbye"

ACCESS_DENIED, NO_CHANNEL, CREATION_FAILED = "AccessDenied", "NoChannelFound", "CreationFailed"
MALFORMED_CONTEXT, MALFORMED_MESSAGE, API_TIMEOUT = "MalformedContext", "MalformedMessage", "ApiTimeout"
CHANNEL_ERRORS: Final = frozenset((ACCESS_DENIED, NO_CHANNEL, CREATION_FAILED, MALFORMED_CONTEXT))
"""What a rule of private channels refuses with; the other words are said here alone."""

CREATE, CREATE_ALIAS = "createPrivateChannelRequest", "createPrivateChannel"
INVITE, REVOKE = "createPrivateChannelInvitation", "revokePrivateChannelInvitation"
JOIN, LEAVE, REMOVE = "joinPrivateChannel", "leavePrivateChannel", "removePrivateChannelMember"
DISCONNECT, BROADCAST = "privateChannelDisconnectRequest", "broadcastRequest"
GET_CONTEXT, GET_INFO = "getCurrentContextRequest", "getInfoRequest"
LISTEN, UNLISTEN = "addContextListenerRequest", "contextListenerUnsubscribeRequest"
WATCH, UNWATCH = "privateChannelAddEventListenerRequest", "privateChannelUnsubscribeEventListenerRequest"
ADD_EVENT_LISTENER, REMOVE_EVENT_LISTENER = "addEventListenerRequest", "eventListenerUnsubscribeRequest"

EXTENSIONS: Final = frozenset((INVITE, REVOKE, JOIN, LEAVE, REMOVE))
"""Requests that FDC3 does not have. Each is understood with `Request` behind its name, too, and answered the same."""

ELSEWHERE: Final[Mapping[str, dict[str, Any]]] = {
    "getOrCreateChannelRequest": {"error": ACCESS_DENIED},
    "getUserChannelsRequest": {"userChannels": []},
    "getCurrentChannelRequest": {"channel": None},
    "joinUserChannelRequest": {"error": NO_CHANNEL},
    "leaveCurrentChannelRequest": {},
    "openRequest": {"error": "AppNotFound"},
    "findInstancesRequest": {"appIdentifiers": []},
    "getAppMetadataRequest": {"error": "TargetAppUnavailable"},
    "findIntentRequest": {"error": "NoAppsFound"},
    "findIntentsByContextRequest": {"error": "NoAppsFound"},
    "raiseIntentRequest": {"error": "NoAppsFound"},
    "raiseIntentForContextRequest": {"error": "NoAppsFound"},
    "addIntentListenerRequest": {"error": "IntentDeliveryFailed"},
    "intentListenerUnsubscribeRequest": {"error": "IntentDeliveryFailed"},
    "intentResultRequest": {"error": "IntentDeliveryFailed"},
}
"""Requests of FDC3 for what is not here, apps, intents, user and app channels, and what each is always answered."""


class BadMessage(Exception):
    """What came is no message that could be answered; a few of them close the connection.

    Args:
        problem: What is wrong, short enough for a close frame.
        is_json: It is JSON at least.
    """

    def __init__(self, problem: str, *, is_json: bool) -> None:
        super().__init__(problem)
        self.is_json = is_json


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message of a client. `payload` stays raw until its type says what it holds.

    Args:
        type: As it was sent, but for the extensions, which lose their `Request`.
        payload: A JSON value.
        reply_to: The requestUuid, or of a step of WCP the connectionAttemptUuid; empty where it needs none.
        size: Of the whole message.
    """

    type: str
    payload: msgspec.Raw
    reply_to: str
    size: int


class _Envelope(msgspec.Struct, gc=False):
    type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    meta: Any = None


# What requests hold. The events that the rules of private channels decide are decoded by those (channels/private.py).


class OfChannel(msgspec.Struct, frozen=True, rename="camel"):
    """Any request about one channel."""

    channel_id: str


class JoinChannel(msgspec.Struct, frozen=True, rename="camel"):
    """`joinPrivateChannel`; the owner, and who sits there already, need no token."""

    channel_id: str
    invitation_token: str | None = None


class Listen(msgspec.Struct, frozen=True, rename="camel"):
    """`addContextListenerRequest`. `channel_id` null: the user channel that one is on, and here nobody ever is."""

    channel_id: str | None = None
    context_type: Annotated[str, msgspec.Meta(max_length=TYPE_CHARS_MAX)] | None = None


class Watch(msgspec.Struct, frozen=True, rename="camel"):
    """`privateChannelAddEventListenerRequest`; null: all kinds."""

    private_channel_id: str
    listener_type: ListenerKind | None = None


class Unlisten(msgspec.Struct, frozen=True):
    """Every request that removes a listener."""

    listener_uuid: str = msgspec.field(name="listenerUUID")


class ValidateAppIdentity(msgspec.Struct, frozen=True, rename="camel"):
    """`WCP4ValidateAppIdentity`. Its URLs are not needed: who it is the credential has proven."""

    instance_id: str | None = None
    instance_uuid: str | None = None


def decode_message(message: str | bytes) -> Message:
    """A client's frame as a message.

    Raises:
        BadMessage: It is none, or a request that no response could be addressed to.
    """
    if isinstance(message, bytes):
        raise BadMessage("messages are JSON in text frames", is_json=False)
    try:
        envelope = _decode(message)
        require_distinct_keys(_without_payload(message, envelope.payload))
    except msgspec.ValidationError as error:
        raise BadMessage("a message is an object with a type", is_json=True) from error
    except (RecursionError, ValueError) as error:
        raise BadMessage("this is no JSON, or a key stands in it twice", is_json=False) from error
    type_ = envelope.type
    if not 1 <= len(type_) <= TYPE_CHARS_MAX:
        raise BadMessage(f"a type has 1-{TYPE_CHARS_MAX} characters", is_json=True)
    if type_ in {HEARTBEAT_ACKNOWLEDGEMENT, GOODBYE}:
        return Message(type_, envelope.payload, "", len(message))
    named = "connectionAttemptUuid" if type_ == VALIDATE else "requestUuid"
    meta = envelope.meta
    reply_to = cast("dict[str, Any]", meta).get(named) if isinstance(meta, dict) else None
    if not isinstance(reply_to, str) or not 1 <= len(reply_to) <= UUID_CHARS_MAX:
        raise BadMessage(f"meta.{named} has 1-{UUID_CHARS_MAX} characters", is_json=True)
    plain = type_.removesuffix("Request")
    return Message(plain if plain in EXTENSIONS else type_, envelope.payload, reply_to, len(message))


def _without_payload(message: str, payload: msgspec.Raw) -> str:
    """A message with an empty payload instead of a long one, whose inside is read when its type is known."""
    text = bytes(payload).decode()
    return message if len(text) < LONG_CHARS else message.replace(text, "{}", 1)


def response_type(request_type: str) -> str:
    """What a request's response is called, whether it is known or not."""
    return request_type.removesuffix("Request") + "Response"


def error_of(request_type: str, error: Exception) -> str:
    """The word of FDC3 for a refusal, out of those that the response's schema allows.

    What a later try could change is `ApiTimeout`, which every list of words has.
    """
    if isinstance(error, InvalidPayload) or (isinstance(error, Refusal) and error.reason == "invalid_payload"):
        return _malformed(request_type, error)
    if not isinstance(error, Refusal) or error.kind == "rate_limited":
        return API_TIMEOUT
    return error.reason if error.reason in CHANNEL_ERRORS else ACCESS_DENIED


def _malformed(request_type: str, error: Exception) -> str:
    if request_type in EXTENSIONS:
        return MALFORMED_MESSAGE
    if request_type in {CREATE, CREATE_ALIAS}:
        return CREATION_FAILED
    is_of_channel = isinstance(error, InvalidPayload) and error.field == "channelId"
    return MALFORMED_CONTEXT if request_type == BROADCAST and not is_of_channel else ACCESS_DENIED


def encode_response(request: Message, payload: Any, *, now: datetime) -> str:
    """The response to a request; of a refusal the payload is `{"error": …}`."""
    meta = {"requestUuid": request.reply_to, "responseUuid": new_id(), "timestamp": now}
    return _write(response_type(request.type), payload, meta)


def encode_event(type_: str, payload: Any, *, now: datetime) -> str:
    """An event."""
    return _write(type_, payload, {"eventUuid": new_id(), "timestamp": now})


def encode_step(request: Message, type_: str, payload: Any, *, now: datetime) -> str:
    """The answer to a step of WCP."""
    return _write(type_, payload, {"connectionAttemptUuid": request.reply_to, "timestamp": now})


def implementation_metadata(*, app_id: str, instance_id: str) -> dict[str, Any]:
    """What a client is told of us, and of itself.

    Args:
        app_id: The agent's handle.
        instance_id: What an invitation may be bound to.
    """
    return {
        "fdc3Version": FDC3_VERSION,
        "provider": PROVIDER,
        "providerVersion": __version__,
        "optionalFeatures": {
            "OriginatingAppMetadata": True,
            "UserChannelMembershipAPIs": False,
            "DesktopAgentBridging": False,
        },
        "appMetadata": {"appId": app_id, "instanceId": instance_id},
    }


def _write(type_: str, payload: Any, meta: dict[str, Any]) -> str:
    return _encode({"type": type_, "payload": payload, "meta": meta}).decode()


_decode = msgspec.json.Decoder(_Envelope).decode
_encode = msgspec.json.Encoder().encode

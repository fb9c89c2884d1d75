"""FDC3's own JSON schemas, out of its npm package, held against every frame; and small ones for what it does not have.

`faults_of` judges a whole connection: each frame against its schema, and the frames against each other (one response to
each request, of its type; ids that are never used again).
"""

import functools
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource

from tests.system.harness import ROOT

PACKAGES: Final = ROOT / "tests/system/js/node_modules/@finos"
BASE: Final = "https://fdc3.finos.org/schemas/next/api/"
EXTENSIONS: Final = (
    "createPrivateChannelInvitation",
    "revokePrivateChannelInvitation",
    "joinPrivateChannel",
    "leavePrivateChannel",
    "removePrivateChannelMember",
)
"""Requests that FDC3 does not have."""

ALIAS: Final = "createPrivateChannel"
"""FDC3's request without its suffix: another shape of the same response."""

UNANSWERED: Final = frozenset({"heartbeatAcknowledgementRequest", "WCP4ValidateAppIdentity", "WCP6Goodbye"})
"""What gets no response of its name."""

NEVER_ANSWERED: Final = "never answered"
"""How a fault of a request without a response begins."""

_TEXT: Final = {"type": "string", "minLength": 1}
_DATE: Final = {"$ref": BASE + "common.schema.json#/$defs/Timestamp"}
_NOTHING: Final[dict[str, Any]] = {"type": "object", "additionalProperties": False}


def _exactly(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": [*fields], "additionalProperties": False}


_CHANNEL: Final = _exactly(id={"type": "string", "pattern": "^private:[^:]+$"}, type={"const": "private"})
_MEMBER: Final = _exactly(agentId=_TEXT, instanceId=_TEXT, role={"enum": ["owner", "member"]})
_PAYLOADS: Final[dict[str, dict[str, Any]]] = {
    ALIAS: _exactly(privateChannel=_CHANNEL, channel=_CHANNEL),
    "createPrivateChannelInvitation": {
        "type": "object",
        "properties": {"invitationToken": _TEXT, "invitationId": _TEXT, "expiresAt": _DATE},
        "required": ["invitationToken"],
        "additionalProperties": False,
    },
    "revokePrivateChannelInvitation": _NOTHING,
    "joinPrivateChannel": {
        "type": "object",
        "properties": {"channel": _CHANNEL, "owner": _TEXT, "members": {"type": "array", "items": _MEMBER}},
        "required": ["channel"],
        "additionalProperties": False,
    },
    "leavePrivateChannel": _NOTHING,
    "removePrivateChannelMember": _NOTHING,
}
"""Request → the payload of its response, where it is no error."""


class Frame(NamedTuple):
    """A frame of one connection, as the client sent or got it."""

    body: dict[str, Any]
    is_sent: bool


def _responded(type_: str, payload: dict[str, Any], errors: str = "common.schema.json#/$defs/ErrorMessages") -> Any:
    meta = {"$ref": BASE + "agentResponse.schema.json#/properties/meta"}
    error = {"$ref": BASE + errors}
    return _exactly(type={"const": type_}, payload={"anyOf": [payload, _exactly(error=error)]}, meta=meta)


def _asked(type_: str) -> Any:
    meta = {"$ref": BASE + "appRequest.schema.json#/properties/meta"}
    return _exactly(type={"const": type_}, payload={"type": "object"}, meta=meta)


def _is_date(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@functools.cache
def _registry() -> Registry[Any]:
    files = [*(PACKAGES / "fdc3-schema/dist/schemas/api").glob("*.json")]
    files.append(PACKAGES / "fdc3-context/dist/schemas/context/context.schema.json")
    contents = [json.loads(Path(one).read_text(encoding="utf-8")) for one in files]
    for one in contents:
        if one["$id"] == BASE + "agentResponse.schema.json":
            # As published, the payload is one of any object and an error, and so every error would be both and fail.
            payload = one["properties"]["payload"]
            payload["anyOf"] = payload.pop("oneOf")
    return Registry[Any]().with_resources([(one["$id"], Resource[Any].from_contents(one)) for one in contents])


def request_types() -> list[str]:
    """Every request that FDC3 has."""
    types: list[str] = _registry().contents(BASE + "appRequest.schema.json")["properties"]["type"]["enum"]
    return types


@functools.cache
def _validator(type_: str, request: str) -> Draft7Validator:
    """The schema of a message; of a response, by the type of the request."""
    checker = FormatChecker(formats=())
    checker.checks("date-time", raises=ValueError)(_is_date)
    registry = _registry()
    if request in _PAYLOADS:
        schema = _responded(type_, _PAYLOADS[request])
    elif request and f"{BASE}{type_}.schema.json" not in registry:
        schema = _responded(type_, {"not": {}})
    elif type_ in {*EXTENSIONS, ALIAS} or f"{BASE}{type_}.schema.json" not in registry:
        schema = _asked(type_)
    else:
        schema = registry.contents(f"{BASE}{type_}.schema.json")
    return Draft7Validator(schema, registry=registry, format_checker=checker)


def _base(request: str) -> str:
    """A request's name without the suffix, where it is one of ours, whose suffix may be left out."""
    bare = request.removesuffix("Request")
    return bare if bare in EXTENSIONS else request


def complaints(frame: dict[str, Any], *, request: str = "") -> list[str]:
    """What its schema has against a frame.

    Args:
        frame: The frame.
        request: For a response: the type of what it answers.
    """
    errors = _validator(frame["type"], _base(request)).iter_errors(frame)
    return [f"{frame['type']}{error.json_path[1:]}: {error.message[:300]}" for error in errors]


def faults_of(frames: list[Frame], *, meant: frozenset[str] = frozenset()) -> list[str]:
    """What is wrong with all that went over one connection.

    Args:
        frames: In their order, both ways.
        meant: Request ids of those that break their schema on purpose; they must.
    """
    faults: list[str] = []
    asked: dict[str, str] = {}
    used: set[str] = set()
    for body, is_sent in frames:
        meta = body["meta"]
        if is_sent:
            found = complaints(body)
            if bool(found) is not (meta.get("requestUuid") in meant):
                faults.append(f"sent: {body}: {found}")
            if body["type"] not in UNANSWERED:
                asked[meta["requestUuid"]] = body["type"]
            continue
        request = ""
        if "requestUuid" in meta:
            request = asked.pop(meta["requestUuid"], "")
            expected = f"{request.removesuffix('Request')}Response"
            if body["type"] != expected:
                faults.append(f"answers {request or 'nothing'}: {body}")
        faults += [f"came: {one} in {body}" for one in complaints(body, request=request)]
        fresh = meta.get("responseUuid") or meta.get("eventUuid") or meta.get("connectionAttemptUuid", "")
        if fresh in used:
            faults.append(f"used again: {fresh}")
        used.add(fresh)
    return faults + [f"{NEVER_ANSWERED}: {type_}" for type_ in asked.values()]

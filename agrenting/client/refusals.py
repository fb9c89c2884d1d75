"""Refusals as sockets and REST tell them, into the one error that both doors raise."""

from typing import Any

import msgspec

from .errors import RefusedByServer


class ErrorFields(msgspec.Struct, frozen=True):
    """What stands in an error body.

    Args:
        details: What the refusal knows beside its code; with status 422, JSON pointers to lists of sentences.
        context: With status 422, what the refusal knows beside its code.
    """

    code: str
    message: str = ""
    details: dict[str, Any] = {}
    context: dict[str, Any] = {}


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every HTTP answer that is no success."""

    error: ErrorFields


def refusal_of_body(status: int, phrase: str, body: bytes, *, retry_after: str | None = None) -> RefusedByServer:
    """An HTTP answer that is no success. One without our error body, such as a proxy's, has its status as reason.

    Args:
        status: The answer's.
        phrase: What stands behind it.
        body: All of it.
        retry_after: The header, if it is there; whole seconds go into the refusal's context, a date is passed over.
    """
    told = {"retry_after": int(retry_after)} if retry_after is not None and retry_after.isdecimal() else {}
    try:
        error = msgspec.json.decode(body, type=ErrorBody).error
    except msgspec.DecodeError:
        return RefusedByServer(str(status), phrase, told)
    return RefusedByServer(error.code, error.message, {**told, **error.details, **error.context})


def refusal_of_reply(response: Any) -> RefusedByServer:
    """The response of a reply whose status is not ok."""
    try:
        fields = msgspec.convert(response, dict[str, Any])
    except msgspec.ValidationError:
        return RefusedByServer("refused", "", {"response": response})
    context = {name: value for name, value in fields.items() if name not in {"reason", "message"}}
    return RefusedByServer(str(fields.get("reason", "refused")), str(fields.get("message", "")), context)

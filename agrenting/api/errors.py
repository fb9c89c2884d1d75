"""Refusals into HTTP: the only place that knows both.

Every error body is `{"error": {"code", "message", "request_id", "details"?, "context"?}}`. `code` is the refusal's
reason, the same word as on the wire. `details` is what the refusal knows beside it (`expected_amount`, `available`);
for 422 it maps JSON pointers into what was sent to lists of sentences, and what the refusal knows stands in `context`.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec
from litestar.exceptions import HTTPException
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from agrenting.db.commit import StorageUnavailable
from agrenting.ids import new_id
from channels.errors import Invalid, NotFound, RateLimited, Refusal, TooLarge, Unauthorized
from channels.wire import InvalidPayload

JSON: Final = "application/json"
THE_WHOLE: Final = "payload"
"""What `InvalidPayload` calls the whole of what was sent."""

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, METHOD_NOT_ALLOWED, CONFLICT = 401, 403, 404, 405, 409
MALFORMED, GONE, TOO_LARGE, UNSUPPORTED, INVALID, LOCKED, TOO_MANY = 400, 410, 413, 415, 422, 423, 429
CRASHED, UNAVAILABLE = 500, 503

STATUSES: Final[Mapping[str, int]] = {
    "malformed": MALFORMED,
    "unauthorized": UNAUTHORIZED,
    "forbidden": FORBIDDEN,
    "not_found": NOT_FOUND,
    "method_not_allowed": METHOD_NOT_ALLOWED,
    "conflict": CONFLICT,
    "expired": GONE,
    "too_large": TOO_LARGE,
    "unsupported_media_type": UNSUPPORTED,
    "invalid": INVALID,
    "rate_limited": TOO_MANY,
    "unavailable": UNAVAILABLE,
}
"""Kind of refusal → status."""

STATUSES_OF_REASONS: Final[Mapping[str, int]] = {"escrow_locked": LOCKED, "draining": UNAVAILABLE}
"""The reasons whose status is not that of their kind."""


class Malformed(Refusal):
    """What came is not what HTTP or JSON can be read from, whatever it was meant to say."""

    kind: ClassVar[str] = "malformed"


class UnsupportedMediaType(Refusal):
    """The body is of a type that is not read here."""

    kind: ClassVar[str] = "unsupported_media_type"


class MethodNotAllowed(Refusal):
    """The address exists, and does not answer this method. `allow` lists those that it answers."""

    kind: ClassVar[str] = "method_not_allowed"


class Unavailable(Refusal):
    """The server cannot do it now; nothing has happened, and a later try may work."""

    kind: ClassVar[str] = "unavailable"


def status_of(refusal: Refusal) -> int:
    """The status of a refusal."""
    return STATUSES_OF_REASONS.get(refusal.reason) or STATUSES[refusal.kind]


def status_before_upgrade(refusal: Refusal) -> int:
    """The status of a socket that is refused before its upgrade: 403, but for a few that a client has to tell apart."""
    is_told_apart = isinstance(refusal, RateLimited) or refusal.reason in {"connection_conflict", "draining"}
    return status_of(refusal) if is_told_apart else FORBIDDEN


def headers_of(refusal: Refusal) -> dict[str, str]:
    """The headers that go with a refusal's status."""
    if isinstance(refusal, RateLimited):
        return {"Retry-After": str(refusal.context["retry_after"])}
    if isinstance(refusal, Unauthorized):
        return {"WWW-Authenticate": 'Bearer realm="agrenting"'}
    if isinstance(refusal, MethodNotAllowed):
        return {"Allow": ", ".join(refusal.context["allow"])}
    return {}


def error_body(refusal: Refusal, request_id: str | None = None, *, status: int = 0) -> bytes:
    """The error body of every HTTP answer, also of those that refuse a socket.

    Args:
        refusal: What was refused.
        request_id: Names the request in the logs; a new one if there is none yet.
        status: The status that it goes with, where that is not the refusal's own.
    """
    error: dict[str, Any] = {
        "code": refusal.reason,
        "message": refusal.message,
        "request_id": request_id or new_id(),
    }
    if (status or status_of(refusal)) == INVALID:
        error["details"] = {pointer_of(refusal): [refusal.message]}
        context = {name: value for name, value in refusal.context.items() if name != "field"}
        if context:
            error["context"] = context
    elif refusal.context:
        error["details"] = refusal.context
    return msgspec.json.encode({"error": error})


def pointer_of(refusal: Refusal) -> str:
    """The JSON pointer to what is wrong in the body or query; empty, the whole, where the refusal names no field."""
    field = refusal.context.get("field")
    return as_pointer(field) if isinstance(field, str) else ""


def as_pointer(path: str) -> str:
    """A path such as `capabilities.0.price` as a JSON pointer; a pointer stays one. Source: RFC 6901."""
    if not path or path.startswith("/"):
        return path
    steps = re.split(r"[.\[\]]+", path.removeprefix("$").strip(".[]"))
    return "".join(f"/{step.replace('~', '~0').replace('/', '~1')}" for step in steps if step)


def as_refusal(error: Exception, *, allow: tuple[str, ...], body_bytes_max: int) -> Refusal | None:
    """An error as what is told of it; None for a bug.

    Args:
        error: What was raised while the request was served.
        allow: The methods that the address answers.
        body_bytes_max: Named where a body was larger.
    """
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InvalidPayload):
        return _invalid_payload(error)
    if isinstance(error, StorageUnavailable | OperationalError | PoolTimeout):
        return Unavailable("unavailable", "The database does not answer, nothing has happened; try again.")
    if not isinstance(error, HTTPException) or error.status_code >= CRASHED:
        return None
    match error.status_code:
        case 404:
            refusal: Refusal = NotFound("not_found", "There is nothing at this address.")
        case 405:
            message = "This address does not answer this method."
            refusal = MethodNotAllowed("method_not_allowed", message, allow=allow)
        case 413:
            message = f"A body has at most {body_bytes_max} bytes."
            refusal = TooLarge("body_too_large", message, body_bytes_max=body_bytes_max)
        case _:
            refusal = Malformed("malformed", error.detail)
    return refusal


def _invalid_payload(error: InvalidPayload) -> Invalid:
    """A body or query that does not fit its type, as every other refusal."""
    if error.field == THE_WHOLE:
        return Invalid(error.reason, error.problem)
    return Invalid(error.reason, str(error), field=error.field)

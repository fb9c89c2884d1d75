"""What every HTTP answer has around it: a request id, safe headers, one line in the log, a place in the metrics.

It stands outside of Litestar's own walk, so that unknown addresses and methods have all of that too. Neither query
strings nor headers are ever logged: there are credentials in them.
"""

import re
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from agrenting.api.absent import absent
from agrenting.api.errors import CRASHED, JSON, UNAVAILABLE, as_refusal, error_body, headers_of, status_of
from agrenting.ids import new_id
from channels.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from agrenting.server import Server

log = structlog.get_logger(__name__)

REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
INVITATION: Final = re.compile(r"(/invitations/).*", re.DOTALL)
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Methods that are counted by their name; the others are one, so that nobody can make the counters grow."""

SAFE_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
NOT_STORED: Final = (b"cache-control", b"no-store")
"""Answers are about one caller, and some hold keys."""


class Observed:
    """An ASGI application with all that around its answers.

    Args:
        app: The application.
        server: Whose metrics count.
    """

    def __init__(self, app: ASGIApp, server: "Server") -> None:
        self._app = app
        self._server = server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request; sockets pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_of(scope)
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = CRASHED

        async def observe(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers_around(message, request_id)]
            await send(message)

        method, path = scope["method"], masked(scope["path"])
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, observe)
            finally:
                seconds = time.perf_counter() - started
                self._server.metrics.count_request(method if method in METHODS else "OTHER", status, seconds)
                log.info(
                    "request",
                    method=method,
                    path=path,
                    status=status,
                    ms=round(seconds * 1_000, 2),
                    caller=state.get("caller"),
                )


def masked(path: str) -> str:
    """A path as it is logged: an invitation to a private channel may be named by its token there."""
    return INVITATION.sub(r"\1…", path)


def request_id_of(scope: Any) -> str:
    """The request id that the client chose, if it is a sane one; else a new one."""
    offered = [value for name, value in scope["headers"] if name == b"x-request-id"]
    text = offered[0].decode("latin-1") if len(offered) == 1 else ""
    return text if REQUEST_ID.fullmatch(text) else new_id()


def headers_around(message: Any, request_id: str) -> list[tuple[bytes, bytes]]:
    """The headers that an answer gets here, beside its own."""
    own = {name.lower() for name, _ in message.get("headers", ())}
    added = [(b"x-request-id", request_id.encode()), *SAFE_HEADERS]
    return added if b"cache-control" in own else [*added, NOT_STORED]


def observe_with(server: "Server") -> "Callable[[Litestar], None]":
    """A start-up hook that puts an application behind `Observed`."""

    def install(app: Litestar) -> None:
        app.asgi_handler = Observed(app.asgi_handler, server)

    return install


def refuse_with(
    server: "Server", allowed: "Callable[[str], tuple[str, ...]]"
) -> "Callable[[Request[Any, Any, Any], Exception], Response[bytes]]":
    """The one exception handler: refusals become their status, and what is no refusal is a bug, logged, and 500.

    Args:
        server: Whose limits are named.
        allowed: The methods that a path answers.
    """

    def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        request_id = request.scope["state"].get("request_id")
        body_bytes_max = server.settings.body_bytes_max
        path = request.scope["path"]
        refusal = as_refusal(error, allow=allowed(path), body_bytes_max=body_bytes_max)
        if isinstance(error, HTTPException):
            refusal = absent(path) or refusal
        if refusal is None:
            log.error("request_crashed", method=request.method, path=masked(request.scope["path"]), exc_info=error)
            crashed = Refusal("internal_error", "This is a bug of the server; its log has the request_id.")
            return Response(error_body(crashed, request_id, status=CRASHED), media_type=JSON, status_code=CRASHED)
        if status_of(refusal) == UNAVAILABLE:
            log.warning(
                "request_unavailable", method=request.method, path=masked(request.scope["path"]), exc_info=error
            )
        return Response(
            error_body(refusal, request_id),
            media_type=JSON,
            status_code=status_of(refusal),
            headers=headers_of(refusal),
        )

    return refuse

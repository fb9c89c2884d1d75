"""The walk of a request: who asks → how often → may they → the body → the key → the handler → the answer.

One function walks it for every operation; the first thing that does not fit ends it with that refusal.
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import parse_qs

import msgspec
from litestar import Request, Response
from litestar.exceptions import InternalServerException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.utils import normalize_path

from agrenting.api import credentials
from agrenting.api.call import NOTHING, Call, Raw, Streamed
from agrenting.api.credentials import Headers, read_headers
from agrenting.api.errors import JSON, Malformed, UnsupportedMediaType
from agrenting.api.idempotency import HEADERS, InFlight, KeyedRequest, Replay, fingerprint_of, parse_key
from agrenting.api.operation import NO_CONTENT, OK, Callers, Operation, as_pattern, as_route
from agrenting.api.paging import Page
from channels.errors import Forbidden, Invalid
from channels.handlers import RATES_IN_BYTES, bytes_cost, event_class
from channels.identity import Identity
from channels.wire import decode_payload

if TYPE_CHECKING:
    from agrenting.server import Server

QUERY_FIELDS_MAX: Final = 64
INTEGER: Final = re.compile(r"-?[0-9]{1,16}")
DECIMAL: Final = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,16})?")
REPLAYED: Final = "Idempotency-Replayed"
AnyRequest = Request[Any, Any, Any]


class Door:
    """Serves operations on one server.

    Args:
        server: It need not have started yet.
    """

    def __init__(self, server: "Server") -> None:
        self._server = server
        self._in_flight = InFlight()

    def handler(self, operation: Operation) -> HTTPRouteHandler:
        """An operation as Litestar routes to it."""

        async def serve(request: AnyRequest) -> Response[Any]:
            return await self._serve(operation, request)

        route = HTTPRouteHandler(
            as_route(operation.full_path),
            http_method=operation.method,  # type: ignore[arg-type] # The five that Noun declares.
            status_code=OK,  # Each response has its own; the framework takes this one for the type of the body.
            name=f"{operation.method} {operation.full_path}",
            include_in_schema=False,
        )
        return route(serve)

    async def _serve(self, operation: Operation, request: AnyRequest) -> Response[Any]:
        headers = read_headers(request.scope)
        caller = await self._admit(operation, request, headers)
        raw = b"" if operation.body is None else await _read_body(request, headers)
        if caller is not None and operation.rate in RATES_IN_BYTES:
            self._server.hub.agent_buckets[operation.rate].take(caller.id, float(bytes_cost(operation.rate, len(raw))))
        given: dict[str, Any] = {}
        if operation.query is not None:
            given["query"] = parse_query(request.scope["query_string"], operation.query)
        if operation.body is not None:
            raw = raw or _empty_body(operation)
            given["body"] = parse_body(raw, operation.body)
        keyed = _keyed(operation, request, headers, caller, raw)
        call = Call(
            self._server,
            operation,
            caller=caller,
            parts={name: str(request.path_params[name]).removeprefix("/") for name in operation.parameters},
            accept=",".join(headers.get("accept", [])).lower(),
            keyed=keyed,
        )
        with self._in_flight.claim(keyed):
            return as_response(await operation.run(call, **given), operation)

    async def _admit(self, operation: Operation, request: AnyRequest, headers: Headers) -> Identity | None:
        """Who asks, once that is known to be somebody who may.

        Raises:
            Unauthorized, Forbidden, RateLimited: Who asks may not, or not now.
        """
        if operation.callers is Callers.ANYBODY:
            return None
        address = request.client.host if request.client else ""
        caller = await credentials.authenticate(self._server, headers, address=address)
        request.scope["state"]["caller"] = caller.handle
        counted = event_class(operation.rate)
        if counted is not None:
            self._server.hub.agent_buckets[counted].take(caller.id)
        require_caller(operation, caller)
        return caller


class Addresses:
    """Which path answers which methods."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._methods: dict[str, set[str]] = {}
        for operation in operations:
            self._methods.setdefault(operation.full_path, set()).add(operation.method)
        self._patterns = [(as_pattern(path), tuple(sorted(methods))) for path, methods in self._methods.items()]

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods that a path answers, in order; none for an unknown one."""
        normal = normalize_path(path)
        # A plain path goes before one with an id in its place, as in routing.
        found = [methods for pattern, methods in self._patterns if pattern.fullmatch(normal)]
        plain = self._methods.get(normal)
        return tuple(sorted(plain)) if plain else next(iter(found), ())

    def options_handlers(self) -> list[HTTPRouteHandler]:
        """Answers to OPTIONS, as to every other method that a path does not have; CORS has its own, before these."""
        return [
            HTTPRouteHandler(as_route(path), http_method="OPTIONS", include_in_schema=False)(_refuse)
            for path in self._methods
        ]


async def _refuse() -> Response[bytes]:
    raise MethodNotAllowedException


def require_caller(operation: Operation, caller: Identity) -> None:
    """Refuse who may not call an operation.

    Raises:
        Forbidden: `agent_required`, `user_required`, `operator_required`, `missing_scope`.
    """
    if operation.callers is Callers.AGENT:
        caller.require_agent()
    if operation.callers in {Callers.USER, Callers.OPERATOR} and caller.kind != "user":
        raise Forbidden("user_required", "This is for people: use a user's key, without X-Agent-Id.")
    if operation.callers is Callers.OPERATOR and not caller.is_operator:
        raise Forbidden("operator_required", "This is for operators: use an operator's key with the scope admin.")
    for scope in operation.scopes:
        caller.require_scope(scope)


async def _read_body(request: AnyRequest, headers: Headers) -> bytes:
    """A JSON body.

    Raises:
        UnsupportedMediaType: `unsupported_media_type`.
        Malformed: `malformed`: the client is gone before it was whole.
    """
    for value in headers.get("content-type", []):
        media_type = value.partition(";")[0].strip().lower()
        if media_type != JSON and not (media_type.startswith("application/") and media_type.endswith("+json")):
            raise UnsupportedMediaType("unsupported_media_type", f"Bodies are JSON: send Content-Type: {JSON}.")
    try:
        return await request.body()
    except InternalServerException as error:
        raise Malformed("malformed", "The connection ended before the body did.") from error


def _empty_body(operation: Operation) -> bytes:
    if operation.needs_body:
        raise Malformed("malformed", "This needs a JSON body.")
    return b"{}"


def parse_body(raw: bytes, type_: Any) -> Any:
    """A JSON body as its type.

    Raises:
        Malformed: `malformed`: it is no JSON.
        InvalidPayload: It does not fit the type, or is JSON that two readers could take for two things.
    """
    try:
        msgspec.json.decode(raw)
    except RecursionError:
        pass  # It is JSON as far as it was read; how deep it may nest is said below.
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed("malformed", f"The body is no JSON: {error}") from error
    return decode_payload(msgspec.Raw(raw), type_)


def parse_query(raw: bytes, type_: Any) -> Any:
    """A query as its type; parameters that it does not have are ignored.

    Raises:
        Malformed: `malformed`: it cannot be read.
        Invalid: `invalid_payload`, with the parameter.
    """
    try:
        given = parse_qs(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        raise Malformed("malformed", "The address's query cannot be read.") from error
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(type_):
        values = given.get(field.encode_name)
        if values is None:
            continue
        if field.type == tuple[str, ...]:
            fields[field.encode_name] = values
        elif len(values) > 1:
            raise Invalid("invalid_payload", "A parameter stands once.", field=field.encode_name)
        else:
            fields[field.encode_name] = _number_in(values[0], field.type)
    try:
        return msgspec.convert(fields, type_)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at `$.")
        raise Invalid("invalid_payload", problem, field=path.rstrip("`")) from error


def _number_in(text: str, type_: Any) -> Any:
    """A number where one is meant, else the text as it is: msgspec's own lax mode would also take `null` and more."""
    kinds = {type_, *get_args(type_), *(kind for part in get_args(type_) for kind in get_args(part))}
    if int in kinds and INTEGER.fullmatch(text):
        return int(text)
    if float in kinds and DECIMAL.fullmatch(text):
        return float(text)
    return text


def _keyed(
    operation: Operation, request: AnyRequest, headers: Headers, caller: Identity | None, raw: bytes
) -> KeyedRequest | None:
    if not operation.takes_key or caller is None:
        return None
    offered = [value for name in HEADERS for value in headers.get(name, [])]
    key = parse_key(offered, is_required=operation.needs_key)
    if key is None:
        return None
    return KeyedRequest(caller=caller.id, path=request.scope["path"], key=key, fingerprint=fingerprint_of(raw))


def as_response(answer: Any, operation: Operation) -> Response[Any]:
    """What a handler answered, in the envelope."""
    if isinstance(answer, Raw):
        return Response(answer.content, media_type=answer.media_type, headers=answer.headers)
    if isinstance(answer, Streamed):
        return Stream(answer.pieces, media_type=answer.media_type, headers=answer.headers)
    if isinstance(answer, Replay):
        return Response(answer.body, media_type=JSON, status_code=answer.status, headers={REPLAYED: "true"})
    if answer is NOTHING:
        return Response(b"", status_code=NO_CONTENT)
    body = {"data": answer.items, "metadata": answer.metadata} if isinstance(answer, Page) else {"data": answer}
    return Response(msgspec.json.encode(body), media_type=JSON, status_code=operation.status)

"""The doors of the hub: credentials and limits before the upgrade, then frames until the socket is gone.

What is spoken behind them the path says: Phoenix's protocol, or at `/socket/dacp` FDC3's messages, to agents alone.

Every refusal is HTTP 403 (429 for too many tries) with the usual error body, before any upgrade. Credentials come in a
header (`x-api-key`, `x-auth-token`, `Authorization: Bearer`), for browsers as Phoenix's `authToken` or in the query
(`api_key`, `session_token`, `token`); two that disagree are refused. `agent_id` names the agent to act as where a
credential can stand for several; `instance_id`, which of the agent's programs this is.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
import structlog

from agrenting import auth
from agrenting.api.errors import (
    JSON,
    MALFORMED,
    TOO_MANY,
    Malformed,
    error_body,
    headers_of,
    status_before_upgrade,
)
from agrenting.auth import Credential
from agrenting.connection import Connection
from agrenting.dacp_connection import DacpConnection
from agrenting.db.transaction import ReaderTx
from agrenting.hub import Hub
from agrenting.ids import new_id
from agrenting.open_socket import OpenSocket
from agrenting.rates import Buckets
from agrenting.transport import EXTENSION, HubProtocol
from channels.errors import Conflict, Forbidden, Refusal, Unauthorized
from channels.identity import Identity
from channels.private_state import INSTANCE_ID
from channels.wire import UnsupportedVersion, Vsn, parse_vsn

log = structlog.get_logger(__name__)

AGENT_PATHS: Final = ("/socket/websocket", "/socket", "/api/v1/socket/websocket")
USER_PATHS: Final = ("/user_socket/websocket", "/user_socket")
DACP_PATHS: Final = ("/socket/dacp",)
QUERY_CREDENTIALS: Final = ("api_key", "session_token", "token")
AUTH_TOKEN_PREFIX: Final = "base64url.bearer.phx."  # noqa: S105 - the prefix, not a token
SUBPROTOCOL: Final = "phoenix"
QUERY_FIELDS_MAX: Final = 32

Scope = Mapping[str, Any]


class Handshake(msgspec.Struct, frozen=True, kw_only=True):
    """What a client says of itself before the upgrade."""

    secrets: tuple[str, ...]
    agent_id: str | None
    instance_id: str | None
    vsn: str | None
    is_rejecting: bool
    is_watching: bool
    origin: str | None
    address: str


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """Who may open a socket, and what is spoken there.

    Args:
        vsn: Phoenix's version; None where FDC3's messages are spoken.
        instance_id: Which of the agent's programs it is, a fresh one if it did not say.
        is_watching: It is somebody who looks on, and not the agent at work.
    """

    credential: Credential
    vsn: Vsn | None
    instance_id: str
    is_watching: bool


class SocketDoor:
    """The ASGI application of the socket paths.

    Args:
        hub: Where opened sockets go.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        settings = hub.settings
        self._connects = Buckets(per_s=settings.connects_per_s, burst=settings.connects_burst, monotonic=hub.monotonic)
        self.bad_credentials = Buckets(
            per_s=settings.bad_credentials_per_s, burst=settings.bad_credentials_burst, monotonic=hub.monotonic
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one handshake, and the socket that comes of it."""
        if scope["type"] != "websocket":
            await _answer_http(scope, send, "This address speaks WebSocket; connect with a client of it.")
            return
        await receive()  # websocket.connect
        try:
            handshake = read_handshake(scope)
            admitted = await self._admit(scope, handshake)
        except Refusal as refusal:
            await self._refuse(send, refusal, scope)
            return
        protocol: HubProtocol | None = scope["extensions"].get(EXTENSION)
        assert protocol is not None, "sockets are served by `agrenting serve`, whose transport this is"
        subprotocol = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        connection = self._open(protocol, admitted)
        identity = connection.identity
        log.info("socket_opened", agent=identity.handle, path=scope["path"], instance_id=connection.instance_id)
        event = await receive()
        while event["type"] != "websocket.disconnect":
            event = await receive()
        connection.closed()
        log.info("socket_closed", agent=identity.handle, code=event.get("code"))

    def _open(self, protocol: HubProtocol, admitted: Admitted) -> OpenSocket:
        hub, credential = self._hub, admitted.credential
        identity, vsn = credential.identity, admitted.vsn
        if vsn is None:
            connection: Connection | DacpConnection = DacpConnection(hub, protocol, identity, admitted.instance_id)
        else:
            connection = Connection(hub, protocol, identity, vsn, admitted.instance_id)
        connection.is_watching = admitted.is_watching
        if credential.expires_at is not None:
            left_s = (credential.expires_at - hub.engine.clock()).total_seconds()
            connection.expires_at = hub.monotonic() + left_s
        hub.add(connection)
        protocol.serve(connection.receive, connection.heard)
        return connection

    async def _admit(self, scope: Scope, handshake: Handshake) -> Admitted:
        """Everything that is checked before the upgrade.

        Raises:
            Refusal: What did not fit.
        """
        hub = self._hub
        if hub.is_draining:
            raise Conflict("draining", "The server is stopping; connect again in a moment.")
        self._connects.take(handshake.address)
        require_origin(handshake.origin, scope, hub.settings.allowed_origins)
        is_dacp = scope["path"] in DACP_PATHS
        vsn = None if is_dacp else _require_vsn(handshake.vsn)
        credential = await self._authenticate(handshake, is_user_socket=scope["path"].startswith("/user_socket"))
        identity = credential.identity
        if handshake.is_rejecting and identity.agent_id and hub.is_connected(identity.socket_id):
            raise Conflict("connection_conflict", "This agent is connected already.")
        if is_dacp and identity.agent_id is None:
            raise Forbidden("agent_required", "Only agents speak here: use an agent's key, or name your agent_id.")
        return Admitted(
            credential=credential,
            vsn=vsn,
            instance_id=handshake.instance_id or new_id(),
            is_watching=handshake.is_watching,
        )

    async def _authenticate(self, handshake: Handshake, *, is_user_socket: bool) -> Credential:
        if not handshake.secrets:
            raise Unauthorized("missing_credential", "Send an API key in the x-api-key header, or a session token.")
        now = self._hub.engine.clock()

        # On the user socket a token is of just that agent; elsewhere an owner's key may stand for it.
        acting_as = None if is_user_socket else handshake.agent_id

        def ask(tx: ReaderTx) -> list[Credential]:
            return [auth.resolve(tx, secret, agent_id=acting_as, now=now) for secret in handshake.secrets]

        try:
            found = await self._hub.engine.read(ask)
        except Unauthorized:
            self.bad_credentials.take(handshake.address)
            raise
        first = found[0]
        if any(_who(other.identity) != _who(first.identity) for other in found[1:]):
            raise Forbidden("credentials_disagree", "Two credentials were sent that stand for different identities.")
        if is_user_socket and handshake.agent_id not in {None, first.identity.agent_id}:
            raise Forbidden("wrong_agent", "This token is not that agent's.")
        return min(found, key=_expiry)

    async def _refuse(self, send: Any, refusal: Refusal, scope: Scope) -> None:
        self._hub.metrics.refused_sockets.labels(refusal.reason).inc()
        log.info("socket_refused", reason=refusal.reason, path=scope["path"])
        await refuse_upgrade(send, refusal)


def _require_vsn(text: str | None) -> Vsn:
    """The version that is asked for.

    Raises:
        Forbidden: `unsupported_version`.
    """
    try:
        return parse_vsn(text)
    except UnsupportedVersion as error:
        raise Forbidden("unsupported_version", str(error)) from error


def _who(identity: Identity) -> tuple[str | None, str]:
    return identity.agent_id, identity.user_id


def _expiry(credential: Credential) -> float:
    return float("inf") if credential.expires_at is None else credential.expires_at.timestamp()


async def refuse_upgrade(send: Any, refusal: Refusal) -> None:
    """Answer a handshake with an error body instead of an upgrade."""
    status = status_before_upgrade(refusal)
    headers = [(b"content-type", JSON.encode())]
    if status == TOO_MANY:
        headers += [(name.lower().encode(), value.encode()) for name, value in headers_of(refusal).items()]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": error_body(refusal, status=status)})


def read_handshake(scope: Scope) -> Handshake:
    """What the client says of itself, in headers and query.

    Raises:
        Unauthorized: `invalid_credential`: a query or header that cannot be read.
        Forbidden: `credentials_disagree`; `invalid_instance_id`.
    """
    headers = _headers(scope)
    try:
        query = parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
    except ValueError as error:
        raise Unauthorized("invalid_credential", "The address's query cannot be read.") from error
    secrets = [values[0] for name in QUERY_CREDENTIALS if (values := query.get(name))]
    if any(len(values) > 1 for name, values in query.items() if name in {*QUERY_CREDENTIALS, "agent_id"}):
        raise Forbidden("credentials_disagree", "The same credential was named twice.")
    instances = query.get("instance_id", [])
    if len(instances) > 1 or not all(INSTANCE_ID.fullmatch(one) for one in instances):
        raise Forbidden("invalid_instance_id", "An instance_id, named once, has 1-128 of A-Z, a-z, 0-9, ., _, : and -.")
    key = headers.get("x-api-key")
    if key is not None:
        secrets.append(key)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        secrets.append(token.strip())
    if headers.get("x-auth-token"):
        secrets.append(headers["x-auth-token"])
    secrets += [_auth_token(offered) for offered in scope["subprotocols"] if offered.startswith(AUTH_TOKEN_PREFIX)]
    # `vsn[]=…` is not a version.
    vsn = query.get("vsn", [""])[0] if "vsn" in query or "vsn[]" in query else None
    client = scope.get("client")
    return Handshake(
        secrets=tuple(dict.fromkeys(secrets)),
        agent_id=(query.get("agent_id") or [None])[0],
        instance_id=instances[0] if instances else None,
        vsn=vsn,
        is_rejecting=query.get("on_conflict") == ["reject"],
        is_watching=query.get("watch") == ["true"],
        origin=headers.get("origin"),
        address=client[0] if client else "",
    )


def _auth_token(offered: str) -> str:
    """The token of Phoenix's `authToken` option, which travels as a subprotocol, in base64 without padding.

    Raises:
        Unauthorized: `invalid_credential`.
    """
    encoded = offered.removeprefix(AUTH_TOKEN_PREFIX).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except ValueError as error:
        raise Unauthorized("invalid_credential", "The auth token cannot be read.") from error


def require_origin(origin: str | None, scope: Scope, allowed: tuple[str, ...]) -> None:
    """Refuse a page of another site; programs send no Origin.

    Raises:
        Forbidden: `origin_not_allowed`.
    """
    if origin is None or origin in allowed:
        return
    host = _headers(scope).get("host", "")
    if origin.partition("://")[2] == host:
        return
    raise Forbidden("origin_not_allowed", "Pages of this origin may not connect; see the setting allowed_origins.")


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def _answer_http(scope: Scope, send: Any, message: str) -> None:
    body = error_body(Malformed("upgrade_required", message), scope.get("state", {}).get("request_id"))
    headers = [(b"content-type", JSON.encode())]
    await send({"type": "http.response.start", "status": MALFORMED, "headers": headers})
    await send({"type": "http.response.body", "body": body})

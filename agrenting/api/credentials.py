"""Who asks: `X-API-Key`, or `Authorization: Bearer` with a key or a session token. In headers only, never in a query.

An owner's key acts as one of its agents with the header `X-Agent-Id`.
"""

from typing import TYPE_CHECKING, Any, Final

from agrenting import auth
from agrenting.auth import Credential
from agrenting.db.transaction import ReaderTx
from channels.errors import Forbidden, Unauthorized
from channels.identity import Identity

if TYPE_CHECKING:
    from agrenting.server import Server

API_KEY: Final = "x-api-key"
AUTHORIZATION: Final = "authorization"
AGENT_ID: Final = "x-agent-id"

Headers = dict[str, list[str]]
"""Lower-case name → values."""


def read_headers(scope: Any) -> Headers:
    """A request's headers."""
    headers: Headers = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return headers


async def authenticate(server: "Server", headers: Headers, *, address: str) -> Identity:
    """Who a request's credentials stand for.

    Args:
        server: Whose database knows the keys.
        headers: The request's.
        address: The client's: too many bad credentials from one are refused.

    Raises:
        Unauthorized: `missing_credential`, `invalid_credential`.
        Forbidden: `credentials_disagree`, `wrong_agent`, `agent_banned`.
        RateLimited: `rate_limited`: too many bad credentials.
    """
    secrets = _secrets(headers)
    agent_id = _agent_id(headers)
    now = server.engine.clock()

    def ask(tx: ReaderTx) -> list[Credential]:
        return [auth.resolve(tx, secret, agent_id=agent_id, now=now) for secret in secrets]

    try:
        found = [credential.identity for credential in await server.engine.read(ask)]
    except Unauthorized:
        server.sockets.bad_credentials.take(address)
        raise
    first = found[0]
    if any((other.agent_id, other.user_id) != (first.agent_id, first.user_id) for other in found):
        raise _disagree()
    return first


def _secrets(headers: Headers) -> list[str]:
    secrets = [value for value in headers.get(API_KEY, []) if value]
    for value in headers.get(AUTHORIZATION, []):
        scheme, _, token = value.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized("invalid_credential", "Authorization is read as `Bearer`, a space, and a key or token.")
        secrets.append(token.strip())
    if not secrets:
        raise Unauthorized(
            "missing_credential", "Send an API key in the X-API-Key header, or a session token as Bearer."
        )
    return list(dict.fromkeys(secrets))


def _agent_id(headers: Headers) -> str | None:
    named = {value for value in headers.get(AGENT_ID, []) if value}
    if len(named) > 1:
        raise _disagree()
    return next(iter(named), None)


def _disagree() -> Forbidden:
    return Forbidden("credentials_disagree", "Two credentials were sent that stand for different identities.")

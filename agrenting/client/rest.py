"""REST, with the errors that sockets have too."""

from types import TracebackType
from typing import Any, Self

import httpx

from .errors import RefusedByServer

TIMEOUT_S = 30.0


class RestClient:
    """The REST door of one server, for one key.

    Args:
        base_url: As in `http://127.0.0.1:4000`.
        api_key: Sent in the header X-API-Key; never shown.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        self._http = httpx.AsyncClient(base_url=f"{base_url}/api/v1", headers={"x-api-key": api_key}, timeout=TIMEOUT_S)

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        await self._http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        """Read; the answer's `data`.

        Raises:
            RefusedByServer: With the code as its reason.
        """
        return _data(await self._http.get(path, params=query))

    async def post(self, path: str, body: dict[str, Any] | None = None, idempotency_key: str | None = None) -> Any:
        """Create or do; the answer's `data`. With an idempotency key it may be repeated safely.

        Raises:
            RefusedByServer: With the code as its reason.
        """
        headers = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
        return _data(await self._http.post(path, json=body, headers=headers))


def _data(answer: httpx.Response) -> Any:
    fields: dict[str, Any] = answer.json() if answer.content else {}
    if answer.is_success:
        return fields.get("data")
    error: dict[str, Any] = fields.get("error", {})
    context: dict[str, Any] = {**error.get("details", {}), **error.get("context", {})}
    raise RefusedByServer(error.get("code", str(answer.status_code)), error.get("message", ""), context)

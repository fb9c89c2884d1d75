"""REST, with the errors that sockets have too."""

from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from .errors import Disconnected, NoAnswer
from .refusals import refusal_of_body

TIMEOUT_S = 30.0


class RestClient:
    """The REST door of one server, for one key. Use it as an asynchronous context.

    Args:
        base_url: As in `http://127.0.0.1:4000`.
        api_key: Sent in the header x-api-key; never shown nor logged.
    """

    def __init__(self, base_url: str, api_key: str) -> None:
        address = f"{base_url.rstrip('/')}/api/v1"
        self._http = httpx.AsyncClient(base_url=address, headers={"x-api-key": api_key}, timeout=TIMEOUT_S)

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        await self._http.__aexit__(kind, error, traceback)

    async def get(self, path: str, **query: Any) -> Any:
        """Read; the answer's `data`.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time.
            Disconnected: The server cannot be reached.
        """
        return await self._ask("GET", path, params=query)

    async def file(self, path: str, media_type: str) -> bytes:
        """Read something that is a file, such as a receipt or a history, as it is.

        Args:
            path: Where it is.
            media_type: As what it is asked for.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time.
            Disconnected: The server cannot be reached.
        """
        return (await self._answer("GET", path, headers={"accept": media_type})).content

    async def post(self, path: str, body: dict[str, Any] | None = None, idempotency_key: str | None = None) -> Any:
        """Create or do; the answer's `data`. With an idempotency key it may be repeated safely.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time; it may have taken effect all the same.
            Disconnected: The server cannot be reached, or is gone; it may have taken effect all the same.
        """
        headers = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
        return await self._ask("POST", path, json=body, headers=headers)

    async def delete(self, path: str) -> Any:
        """Take away; the answer's `data`, None where there is none.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time; it may have taken effect all the same.
            Disconnected: The server cannot be reached, or is gone; it may have taken effect all the same.
        """
        return await self._ask("DELETE", path)

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise NoAnswer(f"no answer to {method} {path} within {TIMEOUT_S} s") from None
        except httpx.HTTPError as error:
            raise Disconnected(f"{method} {path}: {str(error) or type(error).__name__}") from error
        if not answer.is_success:
            raise refusal_of_body(answer.status_code, answer.reason_phrase, answer.content)
        return answer

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        answer = await self._answer(method, path, **options)
        if not answer.content:
            return None
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any]).get("data")
        except msgspec.DecodeError:
            raise Disconnected(f"{method} {path} was answered by something else: no JSON object came") from None

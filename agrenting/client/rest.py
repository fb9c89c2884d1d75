"""REST, with the errors that sockets have too, and with the patience that a program should have.

What may be repeated is: reading always, and a POST where it has an idempotency key, which makes the server answer its
repetition with the first answer. What was refused because it was too much, or could not be done just then, has changed
nothing: it is asked again for a while, whatever it is.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx
import msgspec

from .backoff import BACKOFF, PATIENCE_S, Backoff, patiently
from .errors import Disconnected, MalformedAnswer, NoAnswer, RefusedByServer
from .refusals import refusal_of_body
from .socket import Secret, key_text

TIMEOUT_S = 30.0

REPEATS_MAX: Final = 4
"""How often reading is repeated over lost connections."""

LOST_BEHIND: Final = frozenset(("502", "504"))
"""A proxy's statuses where the server behind it is lost, or has not answered."""

T = TypeVar("T")


class Envelope(msgspec.Struct, frozen=True):
    """A good answer. What has only a status has no `data`."""

    data: Any = None
    metadata: dict[str, Any] = {}


class RestClient:
    """The REST door of one server, for one key. Use it as an asynchronous context.

    Args:
        base_url: As in `http://127.0.0.1:4000`.
        api_key: Sent in the header x-api-key; never shown nor logged.
        agent_id: The agent to act as, where the key is its owner's.
        patience_s: How long to wait, in seconds, for what may be repeated, and for refusals that say "not now".
        backoff: How long to wait before asking again.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | Secret,
        *,
        agent_id: str | None = None,
        patience_s: float = PATIENCE_S,
        backoff: Backoff = BACKOFF,
    ) -> None:
        headers = {"x-api-key": key_text(api_key), **({} if agent_id is None else {"x-agent-id": agent_id})}
        self._patience_s = patience_s
        self._backoff = backoff
        self._address = base_url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=f"{self._address}/api/v1", headers=headers, timeout=TIMEOUT_S)

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
        """Read, a few times over lost connections; the answer's `data`.

        Args:
            path: Behind `/api/v1`.
            query: What is None is left out.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time.
            Disconnected: The server cannot be reached.
        """
        return (await self._get(path, query)).data

    async def items(self, path: str, *, by: str = "cursor", **query: Any) -> AsyncIterator[Any]:
        """Every item of a list, page by page.

        Args:
            path: The list's.
            by: The query field that takes a page's `next_cursor`: of chunks it is `from`, of transfers `after`.
            query: What else to ask for, with `limit` as the size of a page.

        Raises:
            RefusedByServer, NoAnswer, Disconnected: As for `get`.
            MalformedAnswer: It is no list, or does not go on.
        """
        while True:
            items, metadata = await self.page(path, **query)
            for item in items:
                yield item
            if not metadata.get("has_more"):
                return
            cursor = metadata.get("next_cursor")
            if cursor is None or cursor == query.get(by):
                raise MalformedAnswer(f"GET {path} has more, and does not say where")
            query[by] = cursor

    async def page(self, path: str, **query: Any) -> tuple[list[Any], dict[str, Any]]:
        """A page of a list, and its `metadata`: `has_more`, `limit`, `next_cursor`.

        Raises:
            RefusedByServer, NoAnswer, Disconnected: As for `get`.
            MalformedAnswer: It is no list.
        """
        answer = await self._get(path, query)
        try:
            return msgspec.convert(answer.data, list[Any]), answer.metadata
        except msgspec.ValidationError:
            raise MalformedAnswer(f"GET {path} was answered with no list") from None

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
        return (await self._repeat(lambda: self._answer("GET", path, headers={"accept": media_type}))).content

    async def post(self, path: str, body: dict[str, Any] | None = None, idempotency_key: str | None = None) -> Any:
        """Create or do; the answer's `data`.

        Args:
            path: Behind `/api/v1`.
            body: What is sent.
            idempotency_key: 1-255 printable ASCII characters, one for each thing to do. With it, losses are made good:
                it is asked again, for as long as the patience lasts, and happens once.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time; it may have taken effect all the same.
            Disconnected: The server cannot be reached, or is gone; it may have taken effect all the same.
        """
        if idempotency_key is None:
            return (await self._ask("POST", path, json=body)).data
        headers = {"idempotency-key": idempotency_key}
        return (await self._until_done(lambda: self._ask("POST", path, json=body, headers=headers))).data

    async def put(self, path: str, body: dict[str, Any]) -> Any:
        """Replace; the answer's `data`.

        Raises:
            RefusedByServer, NoAnswer, Disconnected: As for `delete`.
        """
        return (await self._ask("PUT", path, json=body)).data

    async def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change; the answer's `data`.

        Raises:
            RefusedByServer, NoAnswer, Disconnected: As for `delete`.
        """
        return (await self._ask("PATCH", path, json=body)).data

    async def delete(self, path: str) -> Any:
        """Take away; the answer's `data`, None where there is none.

        Raises:
            RefusedByServer: With the code as its reason.
            NoAnswer: No answer came in time; it may have taken effect all the same.
            Disconnected: The server cannot be reached, or is gone; it may have taken effect all the same.
        """
        return (await self._ask("DELETE", path)).data

    async def _get(self, path: str, query: dict[str, Any]) -> Envelope:
        asked = {name: value for name, value in query.items() if value is not None}
        return await self._repeat(lambda: self._ask("GET", path, params=asked))

    async def _repeat(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Read, and again where the connection is lost, a few times."""
        for attempt in range(REPEATS_MAX):
            try:
                return await ask()
            except (Disconnected, RefusedByServer) as error:
                if not _is_loss(error) or self._http.is_closed:
                    raise
            await asyncio.sleep(self._backoff.delay(attempt))
        return await ask()

    async def _until_done(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Do what has an idempotency key, and again until it is answered, or the patience is at its end."""
        until = time.monotonic() + self._patience_s
        attempt = 0
        while True:
            try:
                return await ask()
            except (Disconnected, NoAnswer, RefusedByServer) as error:
                if not _is_loss(error) and getattr(error, "reason", None) != "idempotency_pending":
                    raise
                if self._http.is_closed:
                    raise
                delay = self._backoff.delay(attempt)
                if time.monotonic() + delay > until:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _ask(self, method: str, path: str, **options: Any) -> Envelope:
        answer = await self._answer(method, path, **options)
        if not answer.content:
            return Envelope()
        try:
            return msgspec.json.decode(answer.content, type=Envelope)
        except msgspec.DecodeError:
            raise Disconnected(f"{method} {path} was answered by something else: no JSON object came") from None

    async def _answer(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await patiently(
            lambda: self._answer_now(method, path, **options), patience_s=self._patience_s, backoff=self._backoff
        )

    async def _answer_now(self, method: str, path: str, **options: Any) -> httpx.Response:
        if self._http.is_closed:
            raise Disconnected(f"{method} {path}: this client was closed")
        try:
            answer = await self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise NoAnswer(f"no answer to {method} {path} within {TIMEOUT_S} s") from None
        except httpx.HTTPError as error:
            what = f"{method} {path} at {self._address}"
            raise Disconnected(f"{what}: {str(error) or type(error).__name__}") from error
        if not answer.is_success:
            raise refusal_of_body(
                answer.status_code,
                answer.reason_phrase,
                answer.content,
                retry_after=answer.headers.get("retry-after"),
            )
        return answer


def _is_loss(error: Exception) -> bool:
    """Whether an error says that the server, or the connection to it, is gone for now."""
    if isinstance(error, RefusedByServer):
        return error.reason in LOST_BEHIND
    return isinstance(error, Disconnected | NoAnswer)

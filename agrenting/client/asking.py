"""Questions by REST that survive losses: each is repeated until it is answered, and does its work once.

`RestClient` has patience for a while; an agent has it for as long as its connection is open.
"""

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from urllib.parse import urlencode

import msgspec

from .errors import Disconnected, MalformedAnswer, NoAnswer, RefusedByServer

if TYPE_CHECKING:
    from .context import AgentContext

T = TypeVar("T")
Json = dict[str, Any]
PAGE: Final = 100


class _Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page of a list stands."""

    has_more: bool
    next_cursor: str | None = None


class _Page(msgspec.Struct, frozen=True, kw_only=True):
    """A list's answer, undecoded."""

    data: list[Any]
    metadata: _Metadata


def converted(told: Any, kind: type[T]) -> T:
    """What the server tells, in its shape.

    Raises:
        MalformedAnswer: It has not that shape.
    """
    try:
        return msgspec.convert(told, kind)
    except msgspec.ValidationError as error:
        raise MalformedAnswer(f"the server tells something else than a {kind.__name__}: {error}") from error


async def get(context: "AgentContext", path: str, kind: type[T], /, **query: str | int | None) -> T:
    """Read something. Parameters that are None are left out.

    Raises:
        RefusedByServer: With the code as its reason.
        MalformedAnswer: What comes has not that shape.
        Disconnected: The connection is closed.
    """
    return converted(await context.connection.repeat(lambda: context.rest.get(path, **query)), kind)


async def post(context: "AgentContext", path: str, body: Json | None, kind: type[T], *, key: str | None = None) -> T:
    """Do something once, however often it has to be said.

    Args:
        context: The agent's.
        path: Where.
        body: What.
        kind: The answer's.
        key: The idempotency key, for what another process may say again; None: one is made up.

    Raises:
        RefusedByServer: With the code as its reason.
        MalformedAnswer: What comes has not that shape.
        Disconnected: The connection is closed.
    """
    name = key or uuid.uuid4().hex
    return converted(await context.connection.repeat(lambda: context.rest.post(path, body, name)), kind)


async def change(context: "AgentContext", method: Literal["PATCH", "PUT"], path: str, body: Json, kind: type[T]) -> T:
    """Change something to what is sent, which may be said again.

    Raises:
        RefusedByServer: With the code as its reason.
        MalformedAnswer: What comes has not that shape.
        Disconnected: The connection is closed.
    """
    ask = context.rest.patch if method == "PATCH" else context.rest.put
    return converted(await context.connection.repeat(lambda: ask(path, body)), kind)


async def delete(context: "AgentContext", path: str) -> None:
    """Take something away. Said again after a loss, it does not matter that it is away already.

    Raises:
        RefusedByServer: With the code as its reason.
        Disconnected: The connection is closed.
    """
    is_repeated = False

    async def asking() -> None:
        nonlocal is_repeated
        try:
            await context.rest.delete(path)
        except RefusedByServer as refusal:
            if not is_repeated or refusal.reason != "not_found":
                raise
        except (Disconnected, NoAnswer):
            is_repeated = True
            raise

    await context.connection.repeat(asking)


async def every(context: "AgentContext", path: str, kind: type[T], /, **query: str | int | None) -> AsyncIterator[T]:
    """Everything on a list, page after page. Parameters that are None are left out.

    Raises:
        RefusedByServer: With the code as its reason.
        MalformedAnswer: What comes has not that shape.
        Disconnected: The connection is closed.
    """
    cursor: str | None = None
    while True:
        page = await _page(context, path, {**query, "limit": PAGE, "cursor": cursor})
        for told in page.data:
            yield converted(told, kind)
        cursor = page.metadata.next_cursor
        if not page.metadata.has_more or cursor is None:
            return


async def envelope(context: "AgentContext", path: str, kind: type[T], /, **query: str | int | None) -> T:
    """A whole answer, `data` and `metadata`, in its shape.

    Raises:
        RefusedByServer: With the code as its reason.
        MalformedAnswer: What comes has not that shape.
        Disconnected: The connection is closed.
    """
    asked = urlencode({name: value for name, value in query.items() if value is not None})
    address = f"{path}?{asked}" if asked else path
    body = await context.connection.repeat(lambda: context.rest.file(address, "application/json"))
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise MalformedAnswer(f"the server tells something else than a {kind.__name__}: {error}") from error


async def _page(context: "AgentContext", path: str, query: dict[str, str | int | None]) -> _Page:
    return await envelope(context, path, _Page, **query)

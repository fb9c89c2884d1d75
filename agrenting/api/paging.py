"""Lists, page by page: with keyset cursors page 1,000 costs what page 1 costs, and nothing is skipped or repeated."""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import msgspec

from channels.errors import Invalid

LIMIT_DEFAULT: Final = 20
LIMIT_MAX: Final = 100
FIRST: Final = ""
"""Before every id, for lists that begin with the oldest."""

LAST: Final = "~"
"""After every id, for lists that begin with the newest."""

Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of a list.

    Args:
        cursor: `next_cursor` of the page before; without it, the first page.
        limit: Items on a page, 1-100.
    """

    cursor: str | None = None
    limit: Limit = LIMIT_DEFAULT


class PageMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page stands.

    Args:
        has_more: Whether there is a page after this one.
        limit: Items on a page, as asked.
        next_cursor: Asks for the page after this one; null on the last.
    """

    has_more: bool
    limit: int
    next_cursor: str | None


class Page(msgspec.Struct, frozen=True):
    """What is answered as `data` and `metadata`: one page of a list, or of several."""

    items: Any
    metadata: Any


def page_of(
    rows: Sequence[Any],
    *,
    query: PageQuery,
    key: Callable[[Any], str],
    name: str,
    show: Callable[[Any], Any] = lambda row: row,
) -> Page:
    """A page out of the rows that were found for it.

    Args:
        rows: One more than the page holds, where there is another page: `query.limit + 1`.
        query: What was asked.
        key: A row's place in the order.
        name: The list's; a cursor of another list is refused.
        show: A row as it is answered.
    """
    shown = rows[: query.limit]
    has_more = len(rows) > query.limit
    next_cursor = encode_cursor(name, key(shown[-1])) if has_more else None
    return page([show(row) for row in shown], limit=query.limit, next_cursor=next_cursor)


def page(items: Sequence[Any], *, limit: int, next_cursor: str | None) -> Page:
    """A page whose cursor is known."""
    return Page(items, PageMetadata(has_more=next_cursor is not None, limit=limit, next_cursor=next_cursor))


def encode_cursor(name: str, key: str) -> str:
    """A cursor as clients carry it: opaque, and safe in a URL. It grants nothing, so it is not signed."""
    return base64.urlsafe_b64encode(msgspec.json.encode((name, key))).decode().rstrip("=")


def decode_cursor(text: str | None, *, name: str, start: str) -> str:
    """The place that a cursor names; `start` without one. Only what `encode_cursor` writes for this list is taken.

    Raises:
        Invalid: `invalid_cursor`.
    """
    if text is None:
        return start
    try:
        written = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        _, key = _decode_place(written)
    except (ValueError, msgspec.DecodeError) as error:
        raise _invalid_cursor() from error
    if encode_cursor(name, key) != text:
        raise _invalid_cursor()
    return key


def _invalid_cursor() -> Invalid:
    return Invalid("invalid_cursor", "This cursor is not one of this list; start again without one.", field="cursor")


_decode_place = msgspec.json.Decoder(tuple[str, str]).decode

"""Lists as Band's clients read them: by number and size of a page; or like every other list, by cursor and limit.

A page by number is counted from the first item, so its cost grows with its number; cursors do not have that.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from agrenting.api.paging import FIRST, LIMIT_MAX, Page, decode_cursor, encode_cursor
from agrenting.db.pages import Part, Slice

PAGE_SIZE_DEFAULT: Final = 20
PAGE_MAX: Final = 1_000_000


class OffsetQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of a list.

    Args:
        page: Its number, from 1; without a cursor.
        page_size: Items on a page, 1-100.
        cursor: `next_cursor` of the page before.
        limit: The same as page_size.
    """

    page: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 1
    page_size: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = PAGE_SIZE_DEFAULT
    cursor: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] | None = None

    @property
    def size(self) -> int:
        """Items on a page."""
        return self.page_size if self.limit is None else self.limit

    def slice(self, name: str) -> Slice:
        """Which rows of the list the page needs: one more than it holds, to know whether there is another page.

        Raises:
            Invalid: `invalid_cursor`.
        """
        after = decode_cursor(self.cursor, name=name, start=FIRST)
        offset = 0 if self.cursor is not None else (self.page - 1) * self.size
        return Slice(after=after, offset=offset, limit=self.size + 1)


class OffsetMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a page stands.

    Args:
        page, page_size: As asked.
        total_count: Items on all pages.
        total_pages: Pages of that size.
        has_more: Whether there is a page after this one.
        limit: Items on a page.
        next_cursor: Asks for the page after this one; null on the last.
    """

    page: int
    page_size: int
    total_count: int
    total_pages: int
    has_more: bool
    limit: int
    next_cursor: str | None


def offset_page(
    part: Part, *, query: OffsetQuery, key: Callable[[Any], str], name: str, show: Callable[[Any], Any]
) -> Page:
    """A page out of the rows that were found for it.

    Args:
        part: What was found for `query.slice`.
        query: What was asked.
        key: A row's place in the order.
        name: The list's; a cursor of another list is refused.
        show: A row as it is answered.
    """
    size = query.size
    shown = part.rows[:size]
    has_more = len(part.rows) > size
    metadata = OffsetMetadata(
        page=query.page,
        page_size=size,
        total_count=part.total_count,
        total_pages=total_pages(part.total_count, size),
        has_more=has_more,
        limit=size,
        next_cursor=encode_cursor(name, key(shown[-1])) if has_more else None,
    )
    return Page([show(row) for row in shown], metadata)


def total_pages(total_count: int, page_size: int) -> int:
    """How many pages so many items fill."""
    return -(-total_count // page_size)  # Rounds up: the last page need not be full.

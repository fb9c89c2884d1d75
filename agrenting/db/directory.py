"""The directory: listed agents in their order, page by page, behind one function.

Without words the order is `place`: reputation down, then the older first. With words there are three ranks before it:
agents whose name has them all, those whose name, tags and capabilities have them, and those that need their description
for it; and where nobody has them all, the same again with the last word as the beginning of one. A rank rests on the
agent's own text alone. A score that weighs words by how rare they are in the whole market moves with every agent that
registers, and a page that begins after such a score repeats some agents and skips others.

Full text comes out of its index in the order of `place`, so a page begins there at a key as well.

Source: SQLite FTS5, column filters and `rowid` ranges. Another database's full text would stand behind `find` too.
"""

from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import msgspec

from agrenting.clock import to_ms
from agrenting.db import agents
from agrenting.db.search import match_words
from agrenting.db.transaction import Row, Tx
from channels.agents import Agent
from channels.contacts import Party, Tie
from channels.discovery import Search

BEGINNINGS: Final = 3
"""The first rank of those in whom the last word is the beginning of one. The index gathers all that begins so before
it answers the first, so they are asked for only where nobody has all the words whole.
"""

PLACE_MAX: Final = 2**63 - 1
"""What a database's integer holds."""

_LISTED: Final = """
LEFT JOIN contact_sides s ON s.entity_id = :viewer_id AND s.other_id = a.id
                         AND (s.expires_at IS NULL OR s.expires_at > :now)
WHERE a.is_findable = TRUE AND a.id != :viewer_id
AND NOT EXISTS (
    SELECT 1 FROM blocks b WHERE b.status = 'active' AND (b.expires_at IS NULL OR b.expires_at > :now)
    AND b.blocker_id = a.id AND b.blocked_id = :viewer_id
    UNION ALL
    SELECT 1 FROM blocks b WHERE b.status = 'active' AND (b.expires_at IS NULL OR b.expires_at > :now)
    AND b.blocker_id = :viewer_id AND b.blocked_id = a.id)
"""
"""The rule is channels/contacts.py's `is_discoverable_by`, of agents that strangers find; a test compares the two.
An owner and its agent cannot block each other."""

_ALL: Final = f"SELECT a.state, a.place, s.other_id FROM agents a {_LISTED} AND a.place > :after"
_MATCHING: Final = (
    "SELECT a.state, a.place, s.other_id FROM agents_text"
    f" CROSS JOIN agents a ON a.is_findable = TRUE AND a.place = agents_text.rowid + 0 {_LISTED}"
    " AND agents_text MATCH :expression AND agents_text.rowid > :after"
)
"""The full text comes first: `CROSS JOIN` keeps the order in which it is written. `+ 0` keeps the bound of the
text's rowid from being taken over for the place, which would then be walked and not looked up.

Source: SQLite, query planner.
"""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Where an agent stands among the agents found. The default is before all.

    Args:
        rank: 0 for the best.
        place: Among those of one rank; less is better.
    """

    rank: int = 0
    place: int = -1


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that was found; `tie` is that of who asked towards it."""

    agent: Agent
    tie: Tie
    mark: Mark


def find(tx: Tx, search: Search, *, viewer: Party, after: Mark, limit: int, now: datetime) -> list[Found]:
    """Listed agents with a tag, best first: all but the viewer itself, and those between whom and it is a block.

    An agent whose text and reputation did not change appears exactly once on the pages of one search.

    Args:
        tx: Any transaction.
        search: `query` and `tags` of it. Every tag must be there, and every word.
        viewer: Who asks.
        after: Where the page begins.
        limit: At most so many.
        now: The server's clock, UTC.
    """
    asked = {"viewer_id": viewer.id, "now": to_ms(now)}
    found: list[Found] = []
    for rank, (sql, named) in enumerate(_statements(search)):
        if rank == BEGINNINGS and after.rank < BEGINNINGS and (found or after != Mark()):
            break  # Somebody has all the words whole.
        if rank < after.rank or len(found) == limit:
            continue
        place = after.place if rank == after.rank else -1
        rows = tx.all(sql, **asked, **named, after=place, limit=limit - len(found))
        found += [_found(row, rank) for row in rows]
    return found


def _statements(search: Search) -> list[tuple[str, dict[str, Any]]]:
    """One statement for each rank, with its values."""
    if search.query is None and not search.tags:
        return [(f"{_ALL} ORDER BY a.place LIMIT :limit", {})]
    # The index finds the words of a tag; that they are one tag, and all of it, is asked besides.
    exactly = "".join(
        f" AND EXISTS (SELECT 1 FROM agent_tags t WHERE t.agent_id = a.id AND t.tag = :tag{number})"
        for number in range(len(search.tags))
    )
    tags = {f"tag{number}": tag for number, tag in enumerate(search.tags)}
    sql = f"{_MATCHING} {exactly} ORDER BY agents_text.rowid LIMIT :limit"
    return [(sql, {**tags, "expression": expression}) for expression in _expressions(search)]


def _expressions(search: Search) -> list[str]:
    tagged = [f'({{tags}} : "{tag}")' for tag in search.tags]
    if search.query is None:
        return [" AND ".join(tagged)]
    begun = match_words(search.query)
    if begun is None:
        return []
    return [" AND ".join([*tagged, rank]) for words in (begun.removesuffix("*"), begun) for rank in _ranks(words)]


def _ranks(words: str) -> list[str]:
    """Who has the words, from the best place for them to the least: each rank without those of the one before."""
    all_ = (f"({{name}} : ({words}))", f"({{name tags capabilities}} : ({words}))", f"({words})")
    return [all_[0], *(f"({rank} NOT {better})" for better, rank in pairwise(all_))]


def _found(row: Row, rank: int) -> Found:
    # Nobody is found between whom and the viewer there is a block.
    return Found(agent=agents.decode(row), tie=Tie(is_contact=row[2] is not None), mark=Mark(rank=rank, place=row[1]))

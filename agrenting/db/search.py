"""`discover`: the listings in their order, page by page, behind one function.

The order is an index, and a page begins at a key, so page 1,000 costs what page 1 costs. What the asker may not see is
left out by the same statement: the rule is channels/contacts.py's `is_discoverable_by`, and a test compares the two.
"""

import re
from typing import Any, Final

from agrenting.clock import to_ms
from agrenting.db import agents, people
from agrenting.db.transaction import Row, Tx
from channels.agents import Agent
from channels.contacts import Tie
from channels.discovery import Cursor, Discover, Found, Hit, Search, parse_search
from channels.errors import not_found
from channels.handlers import Context

_WORD: Final = re.compile(r"\w+")

_SEARCH: Final = """
SELECT a.state, l.presence, l.price, l.is_online, l.reputation_centi, l.agent_id, s.other_id
FROM listings l JOIN agents a ON a.id = l.agent_id
LEFT JOIN contact_sides s ON s.entity_id = :viewer_id AND s.other_id = a.id
                         AND (s.expires_at IS NULL OR s.expires_at > :now)
WHERE l.capability = :capability AND a.id != :viewer_id
AND (a.is_findable OR a.is_global OR a.owner_id = :user_id
     OR (a.organisation_id IS NOT NULL AND a.organisation_id IN (:organisation_id, :agent_organisation_id))
     OR s.other_id IS NOT NULL)
AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker_id = a.id AND b.blocked_id = :viewer_id
                AND b.status = 'active' AND (b.expires_at IS NULL OR b.expires_at > :now))
AND NOT EXISTS (SELECT 1 FROM blocks b WHERE b.blocker_id = :viewer_id AND b.blocked_id = a.id
                AND b.status = 'active' AND (b.expires_at IS NULL OR b.expires_at > :now))
"""
_AFTER: Final = """
AND (l.is_online < :after_online
     OR (l.is_online = :after_online AND (l.reputation_centi < :after_reputation
         OR (l.reputation_centi = :after_reputation AND (l.price > :after_price
             OR (l.price = :after_price AND l.agent_id > :after_id))))))
"""
_ORDER: Final = " ORDER BY l.capability, l.is_online DESC, l.reputation_centi DESC, l.price, l.agent_id LIMIT :limit"


def discover(tx: Tx, _topic_id: str, request: Discover, context: Context) -> Found:
    """The page of agents that a `discover` asks for.

    Raises:
        Invalid: What `parse_search` refuses.
    """
    search = parse_search(request, context)
    sql, values = _SEARCH, _viewer(context)
    for clause, named in _filters(tx, search):
        sql += clause
        values |= named
    if search.cursor is not None:
        sql += _AFTER
        values |= {
            "after_online": search.cursor.online,
            "after_reputation": search.cursor.reputation_centi,
            "after_price": search.cursor.price,
            "after_id": search.cursor.id,
        }
    rows = tx.all(sql + _ORDER, **values, capability=search.capability or "", limit=search.limit + 1)
    page = rows[: search.limit]
    has_more = len(rows) > search.limit
    last = page[-1] if has_more else None
    return Found(
        hits=tuple(_hit(row) for row in page),
        next_cursor=None
        if last is None
        else Cursor(online=last[3], reputation_centi=last[4], price=last[2], id=last[5]),
        viewer=_viewing_agent(tx, context).party,
    )


def _hit(row: Row) -> Hit:
    # Nobody is found between whom and the viewer there is a block.
    tie = Tie(is_contact=row[6] is not None)
    return Hit(agent=agents.decode(row), status=row[1], price=_price(row[2]), tie=tie)


def _viewing_agent(tx: Tx, context: Context) -> Agent:
    row = tx.one("SELECT state FROM agents WHERE id = :id", id=context.sender.agent_id)
    if row is None:
        raise not_found("agent")
    return agents.decode(row)


def _viewer(context: Context) -> dict[str, Any]:
    sender = context.sender
    return {
        "viewer_id": sender.agent_id,
        "user_id": sender.user_id,
        "organisation_id": sender.organisation_id,
        "agent_organisation_id": sender.agent_organisation_id,
        "now": to_ms(context.now),
    }


def _price(stored: int) -> int | None:
    return None if stored == agents.NO_PRICE else stored


def _filters(tx: Tx, search: Search) -> list[tuple[str, dict[str, Any]]]:
    """Each filter that was given, as a clause and its values."""
    filters: list[tuple[str, dict[str, Any]]] = []
    if search.status is not None:
        filters.append((" AND l.presence = :presence", {"presence": search.status}))
    if search.min_reputation_centi is not None:
        filters.append((" AND l.reputation_centi >= :min_reputation", {"min_reputation": search.min_reputation_centi}))
    if search.max_price is not None:
        filters.append((" AND l.price <= :max_price", {"max_price": search.max_price}))
    for number, tag in enumerate(search.tags):
        clause = f" AND EXISTS (SELECT 1 FROM agent_tags t WHERE t.agent_id = a.id AND t.tag = :tag{number})"
        filters.append((clause, {f"tag{number}": tag}))
    if search.owner is not None:
        owner = people.user_by_handle(tx, search.owner)
        filters.append((" AND a.owner_id = :owner_id", {"owner_id": owner.id if owner else ""}))
    if search.query is not None:
        filters.append(_text_filter(search.query))
    return filters


def match_words(query: str) -> str | None:
    """What full text is asked for: every word, in any order, the last one perhaps the beginning of one. None for none.

    Each word is quoted, so that no character of it means anything to the search itself.
    """
    words = _WORD.findall(query)
    return " ".join(f'"{word}"' for word in words) + "*" if words else None


def _text_filter(query: str) -> tuple[str, dict[str, Any]]:
    expression = match_words(query)
    if expression is None:
        return " AND 0", {}
    clause = " AND a.place IN (SELECT rowid FROM agents_text WHERE agents_text MATCH :words)"
    return clause, {"words": expression}

"""`discover`: the listings in their order, page by page, behind one function.

The order is an index, and a page begins at a key, so page 1,000 costs what page 1 costs. What the asker may not see is
left out by the same statement: the rule is channels/contacts.py's `is_discoverable_by`, and a test compares the two.
"""

import re
from typing import Any, Final

from agrenting.db import agents, people
from agrenting.db.transaction import Tx
from channels.agents import Agent
from channels.discovery import Cursor, Discover, Found, Hit, Search, parse_search
from channels.errors import not_found
from channels.handlers import Context

_WORD: Final = re.compile(r"\w+")

_SEARCH: Final = """
SELECT a.state, l.presence, l.price, l.is_online, l.reputation_centi, l.agent_id
FROM listings l JOIN agents a ON a.id = l.agent_id
WHERE l.capability = :capability AND a.id != :viewer_id
AND (a.is_findable OR a.is_global OR a.owner_id = :user_id
     OR (a.organisation_id IS NOT NULL AND a.organisation_id IN (:organisation_id, :agent_organisation_id)))
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
        hits=tuple(Hit(agent=agents.decode(row), status=row[1], price=_price(row[2])) for row in page),
        next_cursor=None
        if last is None
        else Cursor(online=last[3], reputation_centi=last[4], price=last[2], id=last[5]),
        viewer=_viewing_agent(tx, context).party,
    )


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


def _text_filter(query: str) -> tuple[str, dict[str, Any]]:
    """Full text: every word must occur, the last one may be the beginning of one."""
    words = _WORD.findall(query)
    if not words:
        return " AND 0", {}
    expression = " ".join(f'"{word}"' for word in words) + "*"
    clause = " AND a.id IN (SELECT agent_id FROM agents_text WHERE agents_text MATCH :words)"
    return clause, {"words": expression}

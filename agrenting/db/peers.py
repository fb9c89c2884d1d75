"""Peers: whom an entity may open things with, without being found first: its house, those for all, and its contacts.

The rule is channels/contacts.py's `is_present_to`; a test compares the two. A user's teammates are its peers; those of
an agent's owner are not the agent's, though what they share with the organisation is.
"""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from agrenting.clock import to_ms
from agrenting.db import contacts
from agrenting.db.pages import Part, Slice
from agrenting.db.transaction import Tx
from channels.contact_book import Entity
from channels.identity import EntityType, Identity

Source = Literal["registry", "contact"]

OF_CONTACT: Final = 5
"""The last rank: those who are peers by a contact alone."""

_PEERS: Final = """
FROM (
    SELECT :user_id AS id, 'User' AS type, 0 AS rank
    UNION ALL SELECT id, 'Agent', 1 FROM agents WHERE owner_id = :user_id AND status = 'active'
    UNION ALL SELECT id, 'Agent', 2 FROM agents WHERE is_global = TRUE AND status = 'active'
    UNION ALL SELECT id, 'Agent', 3 FROM agents
              WHERE organisation_id IN (:organisation_id, :own_organisation_id) AND status = 'active'
    UNION ALL SELECT id, 'User', 4 FROM users WHERE organisation_id = :organisation_id AND :id = :user_id
    UNION ALL SELECT a.id, 'Agent', 5 FROM contact_sides s JOIN agents a ON a.id = s.other_id
              WHERE s.entity_id = :id AND (s.expires_at IS NULL OR s.expires_at > :now) AND a.status = 'active'
    UNION ALL SELECT u.id, 'User', 5 FROM contact_sides s JOIN users u ON u.id = s.other_id
              WHERE s.entity_id = :id AND (s.expires_at IS NULL OR s.expires_at > :now)
) p
WHERE p.id != :id AND (:type IS NULL OR p.type = :type)
AND (:room IS NULL OR NOT EXISTS (SELECT 1 FROM room_sides r WHERE r.entity_id = p.id AND r.room_id = :room))
AND NOT EXISTS (
    SELECT 1 FROM blocks b WHERE b.status = 'active' AND (b.expires_at IS NULL OR b.expires_at > :now)
    AND b.blocker_id = p.id AND b.blocked_id = :id
    UNION ALL
    SELECT 1 FROM blocks b WHERE b.status = 'active' AND (b.expires_at IS NULL OR b.expires_at > :now)
    AND b.blocker_id = :id AND b.blocked_id = p.id)
GROUP BY p.id, p.type
"""
"""Ranks: owner, siblings or own agents, agents for all, agents that are shared with the organisation, teammates,
contacts. An owner and its agent cannot block each other."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One peer.

    Args:
        place: Its place in the order.
        source: `contact` for those who are peers by a contact alone.
        is_contact: Whether it is a contact, besides or alone.
    """

    entity: Entity
    place: str
    source: Source
    is_contact: bool


def peers_of(
    tx: Tx,
    viewer: Identity,
    part: Slice,
    *,
    type_: EntityType | None,
    now: datetime,
    not_in_room: str | None = None,
) -> Part:
    """The peers of an agent or a user: the house and those for all first, then contacts; never itself.

    Args:
        tx: Any transaction.
        viewer: Whose they are.
        part: Which of them.
        type_: Only users, or only agents; None for both.
        now: The server's clock, UTC.
        not_in_room: A room whose participants are left out; None for none.
    """
    values: dict[str, Any] = {
        "id": viewer.id,
        "user_id": viewer.user_id,
        "organisation_id": viewer.organisation_id,
        "own_organisation_id": viewer.agent_organisation_id,
        "type": type_,
        "room": not_in_room,
        "now": to_ms(now),
    }
    rows = tx.all(
        "SELECT id, place, place >= :of_contact, EXISTS (SELECT 1 FROM contact_sides s WHERE s.entity_id = :id"
        " AND s.other_id = listed.id AND (s.expires_at IS NULL OR s.expires_at > :now))"
        f" FROM (SELECT p.id AS id, min(p.rank) || ':' || p.id AS place {_PEERS}) listed"
        " WHERE place > :after ORDER BY place LIMIT :limit OFFSET :offset",
        **values,
        of_contact=f"{OF_CONTACT}:",
        **msgspec.structs.asdict(part),
    )
    count = tx.one(f"SELECT count(*) FROM (SELECT p.id {_PEERS})", **values)
    assert count is not None, "a count always answers"
    found = [(contacts.entity(tx, id_), place, by_contact, is_contact) for id_, place, by_contact, is_contact in rows]
    return Part(
        rows=[
            Peer(
                entity=entity,
                place=place,
                source="contact" if by_contact else "registry",
                is_contact=bool(is_contact),
            )
            for entity, place, by_contact, is_contact in found
            if entity is not None
        ],
        total_count=count[0],
    )

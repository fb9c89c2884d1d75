"""Lists of contacts, requests and blocks, page by page, as their two sides see them."""

from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from agrenting.clock import to_ms
from agrenting.db import contacts, states
from agrenting.db.pages import Part, Slice
from agrenting.db.transaction import Tx
from channels.contact_book import Block, Contact, ContactRequest, Entity, RequestPhase

Direction = Literal["received", "sent"]
Whose = Literal["me", "agents", "all"]

OWN_SIDE: Final = {"received": "recipient_id", "sent": "requester_id"}
WHOSE: Final[dict[Whose, str]] = {
    "me": "= :id",
    "agents": "IN (SELECT id FROM agents WHERE owner_id = :id)",
    "all": "IN (SELECT :id UNION ALL SELECT id FROM agents WHERE owner_id = :id)",
}
"""Which entities' requests are listed: the one that asks, its agents, or both."""


class ContactRow(msgspec.Struct, frozen=True, kw_only=True):
    """A contact, and the other side of it."""

    contact: Contact
    other: Entity


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its two sides; None for one that has been deleted since."""

    request: ContactRequest
    requester: Entity | None
    recipient: Entity | None


class BlockRow(msgspec.Struct, frozen=True, kw_only=True):
    """A block, and whom it keeps away; None for one that has been deleted since."""

    block: Block
    blocked: Entity | None


def contacts_of(tx: Tx, entity_id: str, part: Slice, *, now: datetime) -> Part:
    """An entity's contacts, oldest first."""
    where = "FROM contact_sides WHERE entity_id = :id AND (expires_at IS NULL OR expires_at > :now)"
    values = {"id": entity_id, "now": to_ms(now)}
    rows = tx.all(
        f"SELECT contact_id, other_id {where} AND contact_id > :after ORDER BY contact_id LIMIT :limit OFFSET :offset",
        **values,
        **msgspec.structs.asdict(part),
    )
    found = [(states.load(tx, "contact", contact_id), contacts.entity(tx, other_id)) for contact_id, other_id in rows]
    return Part(
        rows=[ContactRow(contact=contact, other=other) for contact, other in found if contact and other],
        total_count=_count(tx, where, values),
    )


def requests_of(
    tx: Tx,
    entity_id: str,
    direction: Direction,
    part: Slice,
    *,
    status: RequestPhase | None,
    now: datetime,
    whose: Whose = "me",
) -> Part:
    """The requests that an entity, or its agents, have received or sent, oldest first.

    Args:
        tx: Any transaction.
        entity_id: The user or agent.
        direction: Which side they are on.
        part: Which of them.
        status: By the clock; None for all.
        now: The server's clock, UTC.
        whose: Its own, those of its agents, or both.
    """
    where = f"FROM contact_requests WHERE {OWN_SIDE[direction]} {WHOSE[whose]}"
    if status is RequestPhase.PENDING:
        where += " AND status = 'pending' AND expires_at > :now"
    elif status is RequestPhase.EXPIRED:
        where += " AND (status = 'expired' OR (status = 'pending' AND expires_at <= :now))"
    elif status is not None:
        where += " AND status = :status"
    values = {"id": entity_id, "now": to_ms(now), "status": None if status is None else str(status)}
    rows = tx.all(
        f"SELECT state {where} AND id > :after ORDER BY id LIMIT :limit OFFSET :offset",
        **values,
        **msgspec.structs.asdict(part),
    )
    return Part(
        rows=[request_row(tx, states.decode("contact_request", row)) for row in rows],
        total_count=_count(tx, where, values),
    )


def request_row(tx: Tx, request: ContactRequest) -> RequestRow:
    """A request with its two sides as they are now."""
    return RequestRow(
        request=request,
        requester=contacts.entity(tx, request.requester_id),
        recipient=contacts.entity(tx, request.recipient_id),
    )


def blocks_of(tx: Tx, entity_id: str, part: Slice, *, now: datetime) -> Part:
    """Whom an entity has blocked, oldest first."""
    where = "FROM blocks WHERE blocker_id = :id AND status = 'active' AND (expires_at IS NULL OR expires_at > :now)"
    values = {"id": entity_id, "now": to_ms(now)}
    rows = tx.all(
        f"SELECT state {where} AND id > :after ORDER BY id LIMIT :limit OFFSET :offset",
        **values,
        **msgspec.structs.asdict(part),
    )
    blocks: list[Block] = [states.decode("block", row) for row in rows]
    return Part(
        rows=[BlockRow(block=block, blocked=contacts.entity(tx, block.blocked_id)) for block in blocks],
        total_count=_count(tx, where, values),
    )


def _count(tx: Tx, where: str, values: dict[str, Any]) -> int:
    row = tx.one(f"SELECT count(*) {where}", **values)
    return 0 if row is None else int(row[0])

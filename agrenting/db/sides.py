"""Each contact that holds, as a row for each of its two sides: what visibility and the gate ask."""

from typing import Final

from agrenting.clock import to_ms
from agrenting.db.transaction import Tx, WriterTx
from channels.contact_book import Contact, Standing
from channels.errors import Conflict

_ONE_SIDED: Final = """
SELECT s.entity_id, s.other_id FROM contact_sides s
WHERE NOT EXISTS (SELECT 1 FROM contact_sides o
                  WHERE o.entity_id = s.other_id AND o.other_id = s.entity_id AND o.contact_id = s.contact_id)
   OR NOT EXISTS (SELECT 1 FROM contacts c WHERE c.id = s.contact_id AND c.status = 'active'
                  AND s.entity_id IN (c.requester_id, c.recipient_id)
                  AND s.other_id IN (c.requester_id, c.recipient_id))
"""
_WITHOUT_SIDES: Final = """
SELECT c.id FROM contacts c WHERE c.status = 'active'
AND NOT EXISTS (SELECT 1 FROM contact_sides s WHERE s.contact_id = c.id AND s.entity_id = c.requester_id)
"""


def doctor(tx: Tx) -> list[str]:
    """Every difference between contacts and what their two sides say of them; none is good."""
    return [
        *(f"{a} has {b} as a contact, but not the other way round" for a, b in tx.all(_ONE_SIDED)),
        *(f"contact {row[0]} holds, but for neither of its sides" for row in tx.all(_WITHOUT_SIDES)),
    ]


def index(tx: WriterTx, contact: Contact) -> None:
    """Bring the two rows up to what the contact now is.

    Raises:
        Conflict: `already_contacts`: the two have another one.
    """
    one, other = contact.requester_id, contact.recipient_id
    if contact.status is Standing.ENDED:
        tx.run("DELETE FROM contact_sides WHERE entity_id = :one AND other_id = :other", one=one, other=other)
        tx.run("DELETE FROM contact_sides WHERE entity_id = :other AND other_id = :one", one=one, other=other)
        return
    for entity_id, other_id in ((one, other), (other, one)):
        added = tx.run(
            "INSERT INTO contact_sides (entity_id, other_id, contact_id, expires_at)"
            " VALUES (:entity_id, :other_id, :contact_id, :expires_at) ON CONFLICT (entity_id, other_id)"
            " DO UPDATE SET expires_at = excluded.expires_at WHERE contact_sides.contact_id = excluded.contact_id",
            entity_id=entity_id,
            other_id=other_id,
            contact_id=contact.id,
            expires_at=None if contact.expires_at is None else to_ms(contact.expires_at),
        )
        if added != 1:
            raise Conflict("already_contacts", "The two of you are contacts already.")

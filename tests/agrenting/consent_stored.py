"""What is stored of consent, read out of the database beside the server, and what may not be at odds in it."""

from datetime import datetime
from typing import Any

import msgspec

from agrenting.clock import from_ms
from agrenting.db import ledger, sides, states
from agrenting.db.transaction import Tx
from channels.contact_book import Contact

Two = frozenset[str]
ROWS = (
    *("users", "contact_requests", "contacts", "contact_sides", "blocks", "negotiations", "tasks"),
    *("timers", "messages", "ledger_entries", "postings", "accounts", "spending", "announcements"),
)


class View(msgspec.Struct, frozen=True):
    """What is stored of consent, or has to be."""

    contacts: dict[Two, tuple[str, str, str | None, dict[str, Any] | None]]
    blocks: dict[tuple[str, str], datetime | None]
    requests: dict[str, tuple[str, str, str]]
    sessions: dict[str, tuple[str, str, str, str, int]]
    money: dict[str, int]


def unlike(stored: View, foreseen: View) -> dict[str, Any]:
    """Where two views differ: what stands in each."""
    return {
        f"{field} {key}": (one.get(key), other.get(key))
        for field in View.__struct_fields__
        for one, other in [(getattr(stored, field), getattr(foreseen, field))]
        for key in one.keys() | other.keys()
        if one.get(key, "nothing") != other.get(key, "nothing")
    }


class Seen(msgspec.Struct, frozen=True):
    """What is stored: all of it, what of it is consent, and the ids of the contacts."""

    rows: int
    view: View
    ids: dict[Two, str]


def seen(tx: Tx) -> Seen:
    """What is stored, as one transaction sees it."""
    of_agents = tx.all("SELECT id, version, state FROM agents")  # Not their presence, which comes and goes beside this.
    rows = hash((*of_agents, *(tuple(tx.all(f"SELECT * FROM {table}")) for table in ROWS)))  # noqa: S608 - Our names.
    sides_seen = {
        frozenset(row[:2]): row[2] for row in tx.all("SELECT entity_id, other_id, contact_id FROM contact_sides")
    }
    return Seen(rows, _view(tx), sides_seen)


def differences(tx: Tx) -> list[str]:
    """What is at odds within the database, in the contact book and in the ledger; nothing may be."""
    return [*sides.doctor(tx), *ledger.doctor(tx), *_one_sided(tx)]


def _one_sided(tx: Tx) -> list[str]:
    """Each active contact has two rows in `contact_sides` that mirror each other, and there are no others."""
    stored = {
        (one, other, id_)
        for id_, requester, recipient in tx.all(
            "SELECT id, requester_id, recipient_id FROM contacts WHERE status = 'active'"
        )
        for one, other in ((requester, recipient), (recipient, requester))
    }
    kept = tx.all("SELECT entity_id, other_id, contact_id FROM contact_sides")
    return [f"{one} and {other} disagree on contact {id_}" for one, other, id_ in stored ^ set(kept)]


def _view(tx: Tx) -> View:
    contacts: list[Contact] = [
        states.decode("contact", row)
        for row in tx.all("SELECT state FROM contacts WHERE status = 'active' ORDER BY id")
    ]
    return View(
        contacts={
            frozenset((one.requester_id, one.recipient_id)): (one.id, str(one.origin), one.requester_id, _scope(one))
            for one in contacts
        },
        blocks={
            (row[0], row[1]): None if row[2] is None else from_ms(row[2])
            for row in tx.all("SELECT blocker_id, blocked_id, expires_at FROM blocks WHERE status = 'active'")
        },
        requests={
            row[0]: (row[1], row[2], row[3])
            for row in tx.all("SELECT id, requester_id, recipient_id, status FROM contact_requests")
        },
        sessions={
            row[1]: (row[0], *row[2:])
            for row in tx.all(
                "SELECT 'negotiation', id, client_agent_id, provider_agent_id, status, 0 FROM negotiations UNION ALL"
                " SELECT 'task', id, client_agent_id, provider_agent_id, status, json_extract(state, '$.price')"
                " FROM tasks"
            )
        },
        money={
            row[0].split(":")[1]: row[1]
            for row in tx.all("SELECT name, balance FROM accounts WHERE name LIKE 'agent:%:available' AND balance != 0")
        },
    )


def _scope(contact: Contact) -> dict[str, Any] | None:
    if contact.scope is None:
        return None
    fields = {**msgspec.structs.asdict(contact.scope)}
    if fields["kinds"] is not None:
        fields["kinds"] = [str(kind) for kind in fields["kinds"]]
    return {name: value for name, value in fields.items() if value is not None}

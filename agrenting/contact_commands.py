"""What `agrenting contact …` and the membership commands do: the same decisions as REST's, on a data folder.

The command line is the operator: it acts for whichever user or agent it names first.
"""

import argparse
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import msgspec

from agrenting import registry
from agrenting.announcements import Announcement
from agrenting.clock import system_clock
from agrenting.commands import Answer, CommandError
from agrenting.config import Settings
from agrenting.db import contact_lists, contacts
from agrenting.db.pages import Part, Slice
from agrenting.db.transaction import WriterTx
from agrenting.deciding import THE_HOUSE, Command, decide
from agrenting.folder import Folder
from agrenting.membership import house_context, join_organisation, leave_organisation
from channels.contact_book import ContactRequest, Entity, RequestPhase
from channels.contact_requests import ADD, RESPOND, AddContact, Respond, ScopeDraft
from channels.errors import not_found
from channels.fields import parse_money
from channels.handlers import Handler
from channels.identity import Identity
from channels.limits import Market
from channels.revocation import BLOCK, REMOVE, UNBLOCK, BlockEntity, RemoveContact, UnblockEntity

Run = Callable[[argparse.Namespace, Settings], Answer]
LISTED_MAX = 1_000_000


def request(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Ask for contact."""
    fields = _decided(settings, chosen.who, ADD, lambda _: AddContact(handle=chosen.other, message=chosen.message))
    return Answer(f"The request of {chosen.who} to {chosen.other} is {fields['status']} ({fields['id']}).", fields)


def approve(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Approve a request."""

    def answer(market: Market) -> Respond:
        return Respond(action="approve", handle=chosen.other, scope=_scope(chosen, market))

    fields = _decided(settings, chosen.who, RESPOND, answer)
    return Answer(f"{chosen.who} and {chosen.other} are contacts.", fields)


def reject(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Reject a request."""
    fields = _decided(settings, chosen.who, RESPOND, lambda _: Respond(action="reject", handle=chosen.other))
    return Answer(f"{chosen.who} has rejected the request of {chosen.other}.", fields)


def cancel(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Cancel a request."""
    fields = _decided(settings, chosen.who, RESPOND, lambda _: Respond(action="cancel", handle=chosen.other))
    return Answer(f"{chosen.who} has cancelled its request to {chosen.other}.", fields)


def revoke(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """End a contact."""
    fields = _decided(settings, chosen.who, REMOVE, lambda _: RemoveContact(handle=chosen.other))
    return Answer(f"{chosen.who} and {chosen.other} are contacts no more.", fields)


def block(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Keep another away."""

    def ask(_market: Market) -> BlockEntity:
        return BlockEntity(handle=chosen.other, reason=chosen.reason, expires_at=_parse_time(chosen.until))

    fields = _decided(settings, chosen.who, BLOCK, ask)
    return Answer(f"{chosen.other} neither finds nor reaches {chosen.who} any more.", msgspec.to_builtins(fields))


def unblock(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """End a block."""
    fields = _decided(settings, chosen.who, UNBLOCK, lambda _: UnblockEntity(handle=chosen.other))
    return Answer(f"{chosen.who} has unblocked {chosen.other}.", fields)


def list_all(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """An entity's contacts, its requests in both directions, and whom it has blocked."""

    def look(tx: WriterTx, _market: Market) -> tuple[dict[str, Any], Announcement]:
        own = _entity(tx, chosen.who)
        now, rows = system_clock(), Slice(limit=LISTED_MAX)
        received = contact_lists.requests_of(tx, own.id, "received", rows, status=RequestPhase.PENDING, now=now)
        sent = contact_lists.requests_of(tx, own.id, "sent", rows, status=None, now=now)
        fields = {
            "contacts": _contacts(contact_lists.contacts_of(tx, own.id, rows, now=now)),
            "received": [_request(row.request, row.requester, now) for row in received.rows],
            "sent": [_request(row.request, row.recipient, now) for row in sent.rows],
            "blocks": [
                {"id": row.block.id, "handle": _handle(row.blocked), "reason": row.block.reason}
                for row in contact_lists.blocks_of(tx, own.id, rows, now=now).rows
            ],
        }
        return fields, Announcement()

    fields = Folder(settings).change(look)
    return Answer("\n".join(_lines(fields)), msgspec.to_builtins(fields))


def join(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """Make a user a member of an organisation."""

    def change(tx: WriterTx, market: Market) -> tuple[dict[str, Any], Announcement]:
        user = registry.require_user(tx, chosen.handle)
        organisation = registry.require_organisation(tx, chosen.organisation)
        after, moved = join_organisation(tx, user, organisation, now=system_clock(), market=market)
        fields = {"id": after.id, "handle": after.handle, "organisation": organisation.name}
        return fields, Announcement(moved.told, moved.disconnects)

    fields = Folder(settings).change(change)
    return Answer(f"{fields['handle']} is a member of {fields['organisation']}.", fields)


def leave(chosen: argparse.Namespace, settings: Settings) -> Answer:
    """End a user's membership."""

    def change(tx: WriterTx, market: Market) -> tuple[dict[str, Any], Announcement]:
        user = registry.require_user(tx, chosen.handle)
        after, moved = leave_organisation(tx, user, now=system_clock(), market=market)
        fields = {"id": after.id, "handle": after.handle, "organisation": None}
        return fields, Announcement(moved.told, moved.disconnects)

    fields = Folder(settings).change(change)
    return Answer(f"{fields['handle']} is in no organisation.", fields)


def _decided(settings: Settings, who: str, handler: Handler, asked: Callable[[Market], Any]) -> dict[str, Any]:
    """Decide an event of the contact book for a user or an agent; its reply."""

    def change(tx: WriterTx, market: Market) -> tuple[dict[str, Any], Announcement]:
        own = _entity(tx, who)
        sender = Identity(
            kind="agent" if own.side.type == "Agent" else "user",
            user_id=own.side.user_id,
            agent_id=own.id if own.side.type == "Agent" else None,
            handle=own.handle,
            key_id="",
        )
        command = Command(handler=handler, topic=own.side.topic, request=asked(market), sender=sender)
        context = house_context(now=system_clock(), market=market, sender=sender, topic=own.side.topic)
        done = decide(tx, command, context)
        reply: dict[str, Any] = done.decision.reply
        return reply, Announcement(done.broadcasts)

    return Folder(settings).change(change)


def _entity(tx: WriterTx, handle: str) -> Entity:
    found = contacts.entity_by_handle(tx, handle, asker=THE_HOUSE)
    if found is None:
        raise not_found("user or agent")
    return found


def _scope(chosen: argparse.Namespace, market: Market) -> ScopeDraft | None:
    """What the requester may open; None where nothing narrows it."""
    price: str | None = chosen.max_price
    fields = {
        "kinds": chosen.kind or None,
        "max_price": None if price is None else _parse_price(price, market),
        "max_open": chosen.max_open,
        "expires_at": chosen.until,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return msgspec.convert(given, ScopeDraft) if given else None
    except msgspec.ValidationError as error:
        raise CommandError(f"this contact cannot be narrowed so: {error}") from error


def _parse_price(text: str, market: Market) -> int:
    return parse_money(int(text) if text.isascii() and text.isdigit() else text, exponent=market.exponent)


def _parse_time(text: str | None) -> datetime | None:
    try:
        return None if text is None else msgspec.convert(text, Annotated[datetime, msgspec.Meta(tz=True)])
    except msgspec.ValidationError as error:
        raise CommandError(f"{text} is no time such as 2030-01-31T12:00:00Z") from error


def _contacts(part: Part) -> list[dict[str, Any]]:
    return [
        {
            "id": row.contact.id,
            "handle": row.other.handle,
            "type": row.other.side.type,
            "origin": row.contact.origin,
            "scope": row.contact.scope,
            "inserted_at": row.contact.inserted_at,
        }
        for row in part.rows
    ]


def _request(request: ContactRequest, other: Entity | None, now: datetime) -> dict[str, Any]:
    return {
        "id": request.id,
        "handle": _handle(other),
        "status": request.status_at(now),
        "message": request.message,
        "inserted_at": request.inserted_at,
        "expires_at": request.expires_at,
    }


def _handle(entity: Entity | None) -> str | None:
    return None if entity is None else entity.handle


def _lines(fields: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for title in ("contacts", "received", "sent", "blocks"):
        rows = fields[title]
        lines.append(f"{title}: {len(rows) or 'none'}")
        for row in rows:
            more = row.get("status") or row.get("origin") or ""
            said = row.get("message") or row.get("reason") or ""
            lines.append(f"  {row['handle'] or '(deleted)':<40} {more:<12} {said}".rstrip())
    return lines

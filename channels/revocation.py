"""The end of a contact, by either party, by the clock, or by a block: what it cuts, in the same transaction.

    contact       ACTIVE ───────────────────► ENDED
    negotiation   OPEN ─────────────────────► CANCELLED   contact_revoked
    task          PENDING ──────────────────► CANCELLED   contact_revoked, refunded
                  IN_PROGRESS                 goes on: money is held for it; but what is paid as it streams ends
    channel       PENDING ──────────────────► DECLINED    contact_revoked, refunded
                  the others                  go on restricted: a proposal is voided, none is made
    request       PENDING ── a block ───────► CANCELLED, or REJECTED

A block keeps the other one away: it neither finds nor reaches who has blocked it, and every answer that it gets is that
of an entity that does not exist.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from channels.changes import Insert, Save, Timer
from channels.contact_book import (
    BLOCK_EXPIRES,
    CONTACT_EXPIRES,
    Block,
    ContactRequest,
    Pair,
    RequestPhase,
    Side,
    Standing,
    removed,
    resolved,
)
from channels.contacts import Relation, Tie, relation
from channels.ending import CONTACT_REVOKED, cancel_negotiation, cancel_task
from channels.errors import Conflict, Forbidden, not_found
from channels.fields import invalid_payload, parse_text
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.payment_moves import revoked
from channels.payment_state import Cause
from channels.told import Retied


class RemoveContact(msgspec.Struct, frozen=True, kw_only=True):
    """End a contact: by the other one's handle, or by the contact's id."""

    handle: str | None = None
    contact_id: str | None = None


class BlockEntity(msgspec.Struct, frozen=True, kw_only=True):
    """Keep another away. `reason` is for one's own record; without `expires_at` the block has no end."""

    handle: str
    reason: str | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class UnblockEntity(msgspec.Struct, frozen=True, kw_only=True):
    """End a block."""

    handle: str


def remove_contact(pair: Pair | None, request: RemoveContact, context: Context) -> Decision:
    """End a contact at once; either party may, or its owner. Both are told.

    Raises:
        NotFound: `not_found`: the two are no contacts, or the sender is not one of them.
    """
    del request
    if pair is None or pair.contact is None or not pair.contact.holds_at(context.now):
        raise not_found("contact")
    if not acts_for(pair.a.side, context):
        raise not_found("contact")
    return combined(severed(pair, context, by=context.sender.id), Decision(reply={"status": "removed"}))


def contact_expired(pair: Pair | None, _nothing: Any, context: Context) -> Decision:
    """The clock has ended a contact, as if one of the two had."""
    return Decision() if pair is None else ended_by_clock(pair, context)


def ended_by_clock(pair: Pair, context: Context) -> Decision:
    """What the end of a contact does that is over by the clock; nothing where there is none such."""
    if pair.contact is None or pair.contact.holds_at(context.now):
        return Decision()
    return severed(pair, context, by=None)


def severed(pair: Pair, context: Context, *, by: str | None) -> Decision:
    """The end of what two have with each other: their contact, if they have one, and what rests on it.

    Args:
        pair: The two, with what they have open.
        context: The clock.
        by: The agent or user who ends it; None for the clock.
    """
    ended = [cancel_negotiation(session, context, reason=CONTACT_REVOKED) for session in pair.negotiations]
    saved = [Save("negotiation", one.id, one, end.state) for one, end in zip(pair.negotiations, ended, strict=True)]
    cancelled = [cancel_task(task, context, reason=CONTACT_REVOKED) for task in pair.tasks]
    saved += [Save("task", one.id, one, end.state) for one, end in zip(pair.tasks, cancelled, strict=True)]
    restricted = [revoked(channel, context, cause=Cause.CONTACT_REVOKED) for channel in pair.channels]
    saved += [
        Save("payment", one.id, one, end.state)
        for one, end in zip(pair.channels, restricted, strict=True)
        if end.state is not None
    ]
    return combined(
        _without_contact(pair, context, by=by), Decision(changes=tuple(saved)), *ended, *cancelled, *restricted
    )


def block_entity(pair: Pair | None, request: BlockEntity, context: Context) -> Decision:
    """Keep another away: as a revocation, and pending requests between the two end.

    Raises:
        Invalid: `invalid_payload`: the reason is too long, or the block would be over already.
        NotFound: `not_found`: nobody has that handle, or who has it has blocked the sender.
        Forbidden: `forbidden_role`: an owner and its agent cannot block each other.
        Conflict: `self_contact`, `already_blocked`.
    """
    reason, expires_at = _parse_reason(request.reason, context), parse_end(request.expires_at, context)
    if pair is None:
        raise not_found("handle")
    stands = relation(pair.a.party, pair.b.party, pair.tie_at(context.now))
    if stands is Relation.SELF:
        raise Conflict("self_contact", "Nobody blocks itself; name somebody else.")
    if stands is Relation.OWNER:
        raise Forbidden("forbidden_role", "An owner and its agent cannot block each other.", role="owner")
    if stands is Relation.BLOCKED:
        raise not_found("handle")
    if pair.block is not None and pair.block.holds_at(context.now):
        raise Conflict("already_blocked", "You have blocked it already.", id=pair.block.id)
    made = Block(
        id=context.new_id(),
        blocker=pair.a.side,
        blocked=pair.b.side,
        reason=reason,
        expires_at=expires_at,
        inserted_at=context.now,
    )
    timers = () if expires_at is None else (Timer(BLOCK_EXPIRES, f"block:{made.id}", expires_at),)
    blocked = Decision(
        reply=shown(made, pair.b.handle),
        changes=(Insert("block", made.id, made), *timers),
        broadcasts=(Retied(pair.a.id, pair.b.id, Tie(has_blocked=True)),),
    )
    return combined(
        unblocked(pair, context),
        severed(pair, context, by=context.sender.id),
        _resolved(pair.sent, RequestPhase.CANCELLED, context),
        _resolved(pair.received, RequestPhase.REJECTED, context),
        blocked,
    )


def unblock_entity(pair: Pair | None, request: UnblockEntity, context: Context) -> Decision:
    """End a block. The two are strangers then, as far as they have nothing else in common.

    Raises:
        NotFound: `not_found`: there is no such block.
    """
    del request
    if pair is None or pair.block is None or not pair.block.holds_at(context.now):
        raise not_found("block")
    return combined(unblocked(pair, context), Decision(reply={"status": "unblocked"}))


def unblocked(pair: Pair, context: Context) -> Decision:
    """The end of a's block of b, if there is one, by the clock or by its hand."""
    block = pair.block
    if block is None:
        return Decision()
    after = msgspec.structs.replace(block, status=Standing.ENDED, ended_at=context.now)
    tie = msgspec.structs.replace(pair.tie_at(context.now), has_blocked=False)
    return Decision(
        changes=(Save("block", block.id, block, after), Timer(BLOCK_EXPIRES, f"block:{block.id}", None)),
        broadcasts=(Retied(pair.a.id, pair.b.id, tie),),
    )


def block_expired(pair: Pair | None, _nothing: Any, context: Context) -> Decision:
    """The clock has ended a block."""
    if pair is None or pair.block is None or pair.block.holds_at(context.now):
        return Decision()
    return unblocked(pair, context)


def acts_for(side: Side, context: Context) -> bool:
    """Whether the sender is this entity, or the user who owns it."""
    sender = context.sender
    return sender.id == side.id or (sender.kind == "user" and sender.user_id == side.user_id)


def combined(*decisions: Decision) -> Decision:
    """Several decisions as one, in order; the last one's reply is the reply. States are saved by changes alone."""
    return Decision(
        reply=decisions[-1].reply,
        changes=tuple(change for decision in decisions for change in decision.changes),
        broadcasts=tuple(told for decision in decisions for told in decision.broadcasts),
    )


def parse_end(end: datetime | None, context: Context, *, field: str = "expires_at") -> datetime | None:
    """When a contact or a block ends by the clock, in UTC and whole milliseconds, which timers are kept in.

    Raises:
        Invalid: `invalid_payload`: that is past already.
    """
    if end is None:
        return None
    utc = end.astimezone(UTC)
    utc = utc.replace(microsecond=utc.microsecond // 1_000 * 1_000)  # Rounds down.
    if utc <= context.now:
        raise invalid_payload(field, "It would be over before it has begun; name a later time.")
    return utc


def shown(block: Block, handle: str | None) -> dict[str, Any]:
    """A block as its blocker sees it."""
    return {
        "id": block.id,
        "handle": handle,
        "type": block.blocked.type,
        "reason": block.reason,
        "expires_at": block.expires_at,
        "inserted_at": block.inserted_at,
    }


def _without_contact(pair: Pair, context: Context, *, by: str | None) -> Decision:
    contact = pair.contact
    if contact is None:
        return Decision()
    after = msgspec.structs.replace(contact, status=Standing.ENDED, ended_at=context.now, ended_by=by)
    tie = msgspec.structs.replace(pair.tie_at(context.now), is_contact=False, scope=None)
    return Decision(
        changes=(Save("contact", contact.id, contact, after), Timer(CONTACT_EXPIRES, f"contact:{contact.id}", None)),
        broadcasts=(*removed(contact), Retied(pair.a.id, pair.b.id, tie)),
    )


def _resolved(request: ContactRequest | None, status: RequestPhase, context: Context) -> Decision:
    """The end of a pending request, by a block; one that is over by the clock has expired."""
    if request is None:
        return Decision()
    is_over = request.status_at(context.now) is RequestPhase.EXPIRED
    if is_over:
        return resolved(request, RequestPhase.EXPIRED, context, by=None)
    return resolved(request, status, context, by=context.sender.id)


def _parse_reason(text: str | None, context: Context) -> str | None:
    if text is None or not text.strip():
        return None
    return parse_text(text, field="reason", chars_max=context.market.limits.block_reason_chars_max)


REMOVE: Handler = Handler(
    RemoveContact, remove_contact, loads="contact_removing", access=Access.WRITE, scope="contacts"
)
BLOCK: Handler = Handler(BlockEntity, block_entity, loads="blocking", access=Access.WRITE, scope="contacts")
UNBLOCK: Handler = Handler(UnblockEntity, unblock_entity, loads="blocking", access=Access.WRITE, scope="contacts")
CONTACT_CLOCK: Handler = Handler(Empty, contact_expired, loads="contact_pair")
BLOCK_CLOCK: Handler = Handler(Empty, block_expired, loads="block_pair")

"""Asking for contact, and what becomes of it.

              request_contact
                    │
                    ▼            approve, by the recipient or its owner; or the recipient asks the requester
                 PENDING ──────────────────────────────────────────────────────────► APPROVED   the two are contacts
                    ├──── reject, by the recipient or its owner; a block of the requester ──► REJECTED
                    ├──── cancel, by the requester or its owner; its block of the recipient ► CANCELLED
                    └──── the clock ───────────────────────────────────────────────► EXPIRED

All but PENDING are final; afterwards, and after a contact has ended, one may ask again. A pending request grants
nothing. A refusal changes nothing, so a client that repeats one does no harm.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from channels.changes import Insert, Save, Timer
from channels.contact_book import (
    CONTACT_EXPIRES,
    REQUEST_EXPIRES,
    Contact,
    ContactRequest,
    Origin,
    Pair,
    RequestPhase,
    befriended,
    received,
    resolved,
)
from channels.contacts import Relation, Scope, relation, require_reachable
from channels.errors import Conflict, Forbidden, RateLimited, not_found
from channels.fields import invalid_payload, parse_text
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.ledger import MONEY_MAX
from channels.revocation import acts_for, combined, ended_by_clock, parse_end

HOUR = timedelta(hours=1)
OPEN_MAX = 10_000

Action = Literal["approve", "reject", "cancel"]


class AddContact(msgspec.Struct, frozen=True, kw_only=True):
    """Ask for contact. `handle`: of a user or an agent, with or without `@`; `message`: at most 500 characters."""

    handle: str
    message: str | None = None


class ScopeDraft(Scope, frozen=True, kw_only=True):
    """What the requester may open from now on; what is left out is not narrowed."""

    max_price: Annotated[int, msgspec.Meta(ge=0, le=MONEY_MAX)] | None = None
    max_open: Annotated[int, msgspec.Meta(ge=1, le=OPEN_MAX)] | None = None
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Respond(msgspec.Struct, frozen=True, kw_only=True):
    """Approve, reject or cancel a pending request, by the other one's handle or by the request's id."""

    action: Action
    handle: str | None = None
    request_id: str | None = None
    scope: ScopeDraft | None = None


class Asking(msgspec.Struct, frozen=True, kw_only=True):
    """What asking for contact rests on.

    Args:
        pair: Asker and asked; None where there is nobody of that handle that the asker may know of.
        pending_count: Requests of the asker to strangers that are pending.
        recent_count: Requests that the asker has made within the last hour.
        oldest_recent_at: When the oldest of those was made.
    """

    pair: Pair | None
    pending_count: int = 0
    recent_count: int = 0
    oldest_recent_at: datetime | None = None


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its two sides, a the requester; None where the sender knows of no such request."""

    request: ContactRequest
    pair: Pair


def request_contact(facts: Asking, request: AddContact, context: Context) -> Decision:
    """Ask for contact. Where the other one has asked already, this approves its request.

    Raises:
        Invalid: `invalid_payload`: the message is too long.
        NotFound: `not_found`: nobody has that handle, or who has it has blocked the asker.
        Conflict: `self_contact`, `blocked_by_you`, `agent_unavailable`, `already_contacts`, `request_pending`,
            `too_many_pending`.
        RateLimited: `rate_limited`, with retry_after in seconds.
    """
    message = _parse_message(request.message, context)
    pair = facts.pair
    if pair is None:
        raise not_found("handle")
    if pair.a.id == pair.b.id:
        raise Conflict("self_contact", "You are your own contact always; name somebody else.")
    tie = pair.tie_at(context.now)
    require_reachable(pair.a.party, pair.b.party, tie, what="handle")
    if not pair.a.is_active:
        raise Conflict("agent_unavailable", "Only an active agent asks for contact.", agent_id=pair.a.id)
    if tie.is_contact:
        raise Conflict("already_contacts", "The two of you are contacts already.")
    over = ended_by_clock(pair, context)
    if pair.received is not None and pair.received.status_at(context.now) is RequestPhase.PENDING:
        return combined(over, _approve(pair.mirrored, pair.received, None, context))
    if pair.sent is not None and pair.sent.status_at(context.now) is RequestPhase.PENDING:
        raise Conflict(
            "request_pending", "You have asked already; wait for the answer, or cancel.", request_id=pair.sent.id
        )
    is_to_stranger = relation(pair.a.party, pair.b.party, tie) is Relation.STRANGER
    _require_allowance(facts, context, is_to_stranger=is_to_stranger)
    made = ContactRequest(
        id=context.new_id(),
        requester=pair.a.side,
        recipient=pair.b.side,
        message=message,
        is_to_stranger=is_to_stranger,
        inserted_at=context.now,
        expires_at=context.now + timedelta(seconds=context.market.limits.contact_request_ttl_s),
    )
    asked = Decision(
        reply={"id": made.id, "status": made.status},
        changes=(
            Insert("contact_request", made.id, made),
            Timer(REQUEST_EXPIRES, f"contact_request:{made.id}", made.expires_at),
        ),
        broadcasts=(received(made, pair.a),),
    )
    stale = Decision() if pair.sent is None else resolved(pair.sent, RequestPhase.EXPIRED, context, by=None)
    return combined(over, stale, asked)


def respond(facts: Answering | None, request: Respond, context: Context) -> Decision:
    """Approve, reject or cancel a pending request. An approval may narrow what the requester may open.

    Raises:
        NotFound: `not_found`: there is no such request, or the sender is not of it.
        Forbidden: `forbidden_role`: the requester approves or rejects, or the recipient cancels.
        Invalid: `invalid_payload`: a scope that is over already, or with another action than approve.
        Conflict: `request_resolved`, with its status.
    """
    if facts is None:
        raise not_found("contact request")
    asked, pair = facts.request, facts.pair
    is_requester = acts_for(pair.a.side, context)
    if not is_requester and not acts_for(pair.b.side, context):
        raise not_found("contact request")
    _require_role(asked, request.action, context)
    scope = _parse_scope(request, context)
    status = asked.status_at(context.now)
    if status is not RequestPhase.PENDING:
        raise Conflict("request_resolved", f"This request is {status} already, which is final.", status=status)
    if request.action == "approve":
        return combined(ended_by_clock(pair, context), _approve(pair, asked, scope, context))
    final = RequestPhase.REJECTED if request.action == "reject" else RequestPhase.CANCELLED
    return resolved(asked, final, context, by=context.sender.id)


def request_expired(request: ContactRequest | None, _nothing: Any, context: Context) -> Decision:
    """The clock has ended a pending request; both are told."""
    is_over = request is not None and request.status_at(context.now) is RequestPhase.EXPIRED
    if request is None or not is_over or request.status is not RequestPhase.PENDING:
        return Decision()
    return resolved(request, RequestPhase.EXPIRED, context, by=None)


def _approve(pair: Pair, asked: ContactRequest, scope: Scope | None, context: Context) -> Decision:
    """The recipient's yes: the requester is a of the pair."""
    approved = resolved(asked, RequestPhase.APPROVED, context, by=context.sender.id)
    tie = pair.tie_at(context.now)
    if pair.contact is not None and tie.is_contact:
        return combined(approved, _asked_for(pair.contact, asked, scope), Decision(reply=approved.reply))
    changes, told = befriended(pair.a, pair.b, origin=Origin.REQUEST, scope=scope, tie=tie, context=context)
    return combined(approved, Decision(reply=approved.reply, changes=changes, broadcasts=told))


def _asked_for(contact: Contact, asked: ContactRequest, scope: Scope | None) -> Decision:
    """The contact that the two have as members of one organisation, as one that was asked for: it outlives that.

    Its scope binds as soon as they need a contact.
    """
    after = msgspec.structs.replace(
        contact, requester=asked.requester, recipient=asked.recipient, origin=Origin.REQUEST, scope=scope
    )
    timers = () if after.expires_at is None else (Timer(CONTACT_EXPIRES, f"contact:{after.id}", after.expires_at),)
    return Decision(changes=(Save("contact", contact.id, contact, after), *timers))


def _require_role(asked: ContactRequest, action: Action, context: Context) -> None:
    side, who = (asked.requester, "requester") if action == "cancel" else (asked.recipient, "recipient")
    if not acts_for(side, context):
        raise Forbidden("forbidden_role", f"Only the {who} of a request, or its owner, may {action} it.", role=who)


def _require_allowance(facts: Asking, context: Context, *, is_to_stranger: bool) -> None:
    """Refuse more requests than one entity may make.

    Raises:
        RateLimited: `rate_limited`.
        Conflict: `too_many_pending`.
    """
    limits = context.market.limits
    if facts.recent_count >= limits.contact_requests_per_hour_max:
        assert facts.oldest_recent_at is not None, "there are some within the hour"
        left_s = (facts.oldest_recent_at + HOUR - context.now).total_seconds()
        raise RateLimited(
            "rate_limited",
            f"At most {limits.contact_requests_per_hour_max} contact requests an hour; try again later.",
            retry_after=max(1, -int(-left_s // 1)),  # Rounds up: a second too early would be refused again.
        )
    if is_to_stranger and facts.pending_count >= limits.contact_requests_pending_max:
        raise Conflict(
            "too_many_pending",
            "So many requests to strangers may be pending at once; wait for an answer, or cancel one.",
            max=limits.contact_requests_pending_max,
        )


def _parse_message(text: str | None, context: Context) -> str | None:
    if text is None or not text.strip():
        return None
    return parse_text(text, field="message", chars_max=context.market.limits.contact_message_chars_max)


def _parse_scope(request: Respond, context: Context) -> Scope | None:
    draft = request.scope
    if draft is None:
        return None
    if request.action != "approve":
        raise invalid_payload("scope", "Only an approval has a scope.")
    return Scope(
        kinds=None if draft.kinds is None else tuple(dict.fromkeys(draft.kinds)),
        max_price=draft.max_price,
        max_open=draft.max_open,
        expires_at=parse_end(draft.expires_at, context, field="scope.expires_at"),
    )


ADD: Handler = Handler(AddContact, request_contact, loads="contact_asking", access=Access.WRITE, scope="contacts")
RESPOND: Handler = Handler(Respond, respond, loads="contact_answering", access=Access.WRITE, scope="contacts")
REQUEST_CLOCK: Handler = Handler(Empty, request_expired, loads="contact_request")

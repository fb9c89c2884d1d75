"""messages:{agent_id}: an agent's mailbox, which keeps what it is told until it says that it has it.

Who may join: the agent itself.

    stored ─► QUEUED ── first pushed to a socket ──► DELIVERED
                 │                                      │
                 └──────────────────┬───────────────────┘
                                    ├── acknowledge ──► ACKNOWLEDGED
                                    ├── reject ───────► REJECTED
                                    └── the clock ────► EXPIRED

After a join every undelivered message is pushed, oldest first, then what comes. What is pushed and not answered is
pushed again a few times, so a message may come more than once, and a receiver tells them apart by id. What was stored
survives a crash. How messages come here: mail_sending.py, and what the marketplace itself announces.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from channels.changes import DropMessages, Mail, Save, Timer
from channels.errors import Conflict, Expired, not_found
from channels.fields import parse_text
from channels.handlers import Access, Context, Decision, Empty, FollowMail, Handler
from channels.limits import Limits
from channels.own_topics import own_agent
from channels.told import Broadcast

TOPIC = "messages:*"
MAILBOX: Final = "mailbox"
"""The timer of a mailbox: due when the first of its messages expires, or can be forgotten."""

FORGOTTEN_EVERY: Final = timedelta(minutes=5)
"""What has ended is forgotten in batches, no earlier than so long after the last look: nobody waits for that."""

DUE_AT_ONCE: Final = 32
"""Messages that one run of the timer ends or forgets: everybody waits for it meanwhile."""


class Phase(StrEnum):
    """Where a message stands."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    REJECTED = "rejected"
    EXPIRED = "expired"


UNDELIVERED: Final = frozenset({Phase.QUEUED, Phase.DELIVERED})
"""Neither answered nor over."""


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message in a mailbox.

    Args:
        type: What it is about: `negotiation`, `task_handoff`, …; `payload` follows from it.
        payload: Any JSON.
        from_agent_id: Who wrote it, or whose doing the marketplace announces; None: the marketplace itself.
        from_owner_id: The owner of the agent that wrote it; None for what the marketplace wrote.
        protocol_version: Of the payload.
        dedup_key: The sender's own name for it.
        is_from_market: The marketplace wrote it: no agent can make a message look like that.
        expires_at: Unanswered, it is over then.
        reason: Of its rejection.
        delivered_at: When it was first pushed to a socket.
        ended_at: When it was acknowledged, rejected, or over.
    """

    id: str
    to_agent_id: str
    type: str
    payload: Any
    from_agent_id: str | None = None
    from_owner_id: str | None = None
    protocol_version: str = "1.0"
    dedup_key: str | None = None
    is_from_market: bool = True
    inserted_at: datetime
    expires_at: datetime
    status: Phase = Phase.QUEUED
    reason: str | None = None
    delivered_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def updated_at(self) -> datetime:
        """When its status changed last."""
        return self.ended_at or self.delivered_at or self.inserted_at

    def at(self, now: datetime) -> "StoredMessage":
        """The message as it stands by the clock, also before the timer has run."""
        if self.status not in UNDELIVERED or now < self.expires_at:
            return self
        return msgspec.structs.replace(self, status=Phase.EXPIRED, ended_at=self.expires_at)


class Mailbox(msgspec.Struct, frozen=True, kw_only=True):
    """What a join and the clock look at.

    Args:
        undelivered: How many messages wait, without those that are over by the clock.
        due: The oldest of those that are over by the clock and have not ended: DUE_AT_ONCE at most.
        next_expires_at: When the first undelivered one after these is over; None where there is none.
        ended_expired_at: When the times of the oldest ones that have ended were over, DUE_AT_ONCE and one at most.
    """

    undelivered: int
    due: tuple[StoredMessage, ...] = ()
    next_expires_at: datetime | None = None
    ended_expired_at: tuple[datetime, ...] = ()


class Acknowledge(msgspec.Struct, frozen=True, kw_only=True):
    """The agent has the message; it is not delivered again."""

    message_id: str


class Reject(msgspec.Struct, frozen=True, kw_only=True):
    """The agent does not take the message; the sender is told the reason, 1-500 characters."""

    message_id: str
    reason: str


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """These messages have been pushed to a socket of the agent."""

    message_ids: tuple[str, ...]


def stored(mail: Mail, context: Context) -> StoredMessage:
    """A message as it is stored now."""
    return StoredMessage(
        id=mail.id or context.new_id(),
        to_agent_id=mail.to_agent_id,
        type=mail.type,
        payload=mail.payload,
        from_agent_id=mail.from_agent_id,
        from_owner_id=None if mail.is_from_market else context.sender.user_id,
        protocol_version=mail.protocol_version,
        dedup_key=mail.dedup_key,
        is_from_market=mail.is_from_market,
        inserted_at=context.now,
        expires_at=context.now + timedelta(seconds=context.market.limits.message_ttl_s),
    )


def delivery(message: StoredMessage) -> dict[str, Any]:
    """A message as its receiver gets it, with `new_message`."""
    return {
        "id": message.id,
        "type": message.type,
        "payload": message.payload,
        "from_agent_id": message.from_agent_id,
        "protocol_version": message.protocol_version,
        "inserted_at": message.inserted_at,
        "from_market": message.is_from_market,
    }


def announced(message: StoredMessage) -> Broadcast:
    """What the sockets of its receiver are told of a message that has just been stored."""
    return Broadcast(f"messages:{message.to_agent_id}", "new_message", delivery(message))


def join(mailbox: Mailbox, request: Empty, context: Context) -> Decision:
    """How many messages are undelivered; each follows as `new_message`, oldest first.

    Raises:
        Forbidden: `unauthorized`.
    """
    del request
    agent_id = _require_own(context)
    return Decision(reply={"undelivered": mailbox.undelivered}, follow=FollowMail(agent_id))


def acknowledge(message: StoredMessage | None, request: Acknowledge, context: Context) -> Decision:
    """Take a message as delivered. A second time is a duplicate.

    Raises:
        Forbidden: `unauthorized`.
        NotFound: `not_found`: there is no such message, or it is another agent's.
        Conflict: `already_rejected`, with what was given as its reason.
        Expired: `expired`.
    """
    del request
    found = _require_received(message, context)
    if found.status is Phase.REJECTED:
        raise Conflict("already_rejected", "You have rejected this message; that stands.", rejection=found.reason)
    reply = {"message_id": found.id, "status": Phase.ACKNOWLEDGED}
    if found.status is Phase.ACKNOWLEDGED:
        return Decision(reply={**reply, "duplicate": True})
    _require_in_time(found, context)
    after = msgspec.structs.replace(found, status=Phase.ACKNOWLEDGED, ended_at=context.now)
    return Decision(state=after, reply=reply, broadcasts=updated(after))


def reject(message: StoredMessage | None, request: Reject, context: Context) -> Decision:
    """Refuse a message, with a reason that its sender is told. A second time is a duplicate: the first reason stands.

    Raises:
        Invalid: `invalid_payload`: the reason is empty or too long.
        Forbidden: `unauthorized`.
        NotFound: `not_found`: there is no such message, or it is another agent's.
        Conflict: `already_acknowledged`.
        Expired: `expired`.
    """
    reason = parse_text(request.reason, field="reason", chars_max=context.market.limits.reject_reason_chars_max)
    found = _require_received(message, context)
    if found.status is Phase.ACKNOWLEDGED:
        raise Conflict("already_acknowledged", "You have acknowledged this message; that stands.")
    if found.status is Phase.REJECTED:
        return Decision(reply={**_rejected(found), "duplicate": True})
    _require_in_time(found, context)
    after = msgspec.structs.replace(found, status=Phase.REJECTED, reason=reason, ended_at=context.now)
    return Decision(state=after, reply=_rejected(after), broadcasts=updated(after))


def mark_delivered(messages: tuple[StoredMessage, ...], request: Pushed, context: Context) -> Decision:
    """Those of these messages that were queued are delivered now; the others have been, or have ended."""
    del request
    queued = [message for message in messages if message.at(context.now).status is Phase.QUEUED]
    pairs = [
        (before, msgspec.structs.replace(before, status=Phase.DELIVERED, delivered_at=context.now)) for before in queued
    ]
    return Decision(
        changes=tuple(Save("message", before.id, before, after) for before, after in pairs),
        broadcasts=tuple(told for _, after in pairs for told in updated(after)),
    )


def look_through(mailbox: Mailbox, context: Context) -> Decision:
    """End what is over, forget what ended long ago, and come again for the next. What is left over is done at once.

    Messages end at their time. They are forgotten as the timer comes anyway, or FORGOTTEN_EVERY later.
    """
    after = [message.at(context.now) for message in mailbox.due]
    forgotten_before = context.now - kept_for(context.market.limits)
    forgotten = sum(expired_at <= forgotten_before for expired_at in mailbox.ended_expired_at[:DUE_AT_ONCE])
    left = (*mailbox.ended_expired_at[forgotten:], *(message.expires_at for message in after))
    comes_again = filter(None, (mailbox.next_expires_at, _forgets_again_at(left, context)))
    _, _, agent_id = context.topic.partition(":")
    return Decision(
        changes=(
            *(Save("message", old.id, old, new) for old, new in zip(mailbox.due, after, strict=True)),
            *((DropMessages(agent_id, forgotten_before),) if forgotten else ()),
            Timer(MAILBOX, context.topic, min(comes_again, default=None)),
        ),
        broadcasts=tuple(told for message in after for told in updated(message)),
    )


def kept_for(limits: Limits) -> timedelta:
    """How long a message that has ended is kept after its time is over: no less than its dedup_key counts."""
    return timedelta(seconds=max(limits.message_retention_s, limits.dedup_ttl_s - limits.message_ttl_s))


def updated(message: StoredMessage) -> tuple[Broadcast, ...]:
    """What the sender is told of a message whose status has changed; nothing where nobody sent it."""
    if message.from_agent_id is None:
        return ()
    told = {
        "id": message.id,
        "to_agent_id": message.to_agent_id,
        "type": message.type,
        "status": message.status,
        "reason": message.reason,
        "updated_at": message.updated_at,
    }
    return (Broadcast(f"messages:{message.from_agent_id}", "message_updated", told),)


def _forgets_again_at(expired_at: tuple[datetime, ...], context: Context) -> datetime | None:
    """When messages are to be forgotten whose times were over then: at once if one could be now."""
    if not expired_at:
        return None
    first = min(expired_at) + kept_for(context.market.limits)
    return first if first <= context.now else max(first, context.now + FORGOTTEN_EVERY)


def _rejected(message: StoredMessage) -> dict[str, Any]:
    return {"message_id": message.id, "status": Phase.REJECTED, "reason": message.reason}


def _require_received(message: StoredMessage | None, context: Context) -> StoredMessage:
    agent_id = _require_own(context)
    if message is None or message.to_agent_id != agent_id:
        raise not_found("message")
    return message


def _require_in_time(message: StoredMessage, context: Context) -> None:
    if message.at(context.now).status is Phase.EXPIRED:
        raise Expired("expired", "This message was over before it was answered.", expired_at=message.expires_at)


def _require_own(context: Context) -> str:
    _, _, agent_id = context.topic.partition(":")
    own_agent(context.sender, agent_id)
    return agent_id


ACCESS = own_agent
JOIN = Handler(Empty, join, loads="mailbox", access=Access.WRITE, scope="messages")
HANDLERS = {
    "acknowledge": Handler(Acknowledge, acknowledge, loads="message", access=Access.WRITE, scope="messages"),
    "reject": Handler(Reject, reject, loads="message", access=Access.WRITE, scope="messages"),
}
TIMERS = {MAILBOX: look_through}
PUSHED = Handler(Pushed, mark_delivered, loads="mail_pushed", access=Access.WRITE)
"""What the server itself does, once it has pushed messages."""

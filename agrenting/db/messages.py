"""Stored messages: an agent's mailbox, page by page, and what sending and the mailbox's clock are decided on."""

from datetime import datetime
from typing import Any, Final, NamedTuple

from agrenting.clock import from_ms, to_ms
from agrenting.db import agents, contacts, states
from agrenting.db.transaction import Tx, WriterTx
from channels.agents import Agent
from channels.changes import DropMessages, Mail
from channels.contacts import NO_TIE
from channels.handlers import Context
from channels.identity import normalise_handle
from channels.mail_sending import Sending, require_pair_room
from channels.messages import DUE_AT_ONCE, MAILBOX, UNDELIVERED, Mailbox, Phase, StoredMessage, announced, stored
from channels.told import Broadcast

_WAITING: Final = "('queued', 'delivered')"
_ENDED: Final = frozenset(Phase) - UNDELIVERED

_MISMATCHED: Final = """
SELECT id FROM messages
WHERE status IS NOT json_extract(state, '$.status')
   OR to_agent_id IS NOT json_extract(state, '$.to_agent_id')
   OR from_agent_id IS NOT json_extract(state, '$.from_agent_id')
   OR from_owner_id IS NOT json_extract(state, '$.from_owner_id')
   OR dedup_key IS NOT json_extract(state, '$.dedup_key')
ORDER BY id
"""
_UNTIMED: Final = """
SELECT DISTINCT to_agent_id FROM messages m
WHERE NOT EXISTS (SELECT 1 FROM timers t WHERE t.topic = 'messages:' || m.to_agent_id AND t.kind = :kind)
ORDER BY to_agent_id
"""


def _newest(condition: str) -> str:
    """Ids of the newest messages of a sender before `before`: the last in an index, where nothing is sorted."""
    return (
        f"SELECT id FROM (SELECT id FROM messages WHERE from_agent_id = :agent_id {condition}"
        " ORDER BY id DESC LIMIT :limit)"
    )


def _over(phase: Phase) -> str:
    """Those of this status that are over by the clock: all that are older than the oldest one that is not."""
    return (
        f"AND status = '{phase}' AND id < min(:before, coalesce((SELECT id FROM messages"
        f" WHERE from_agent_id = :agent_id AND status = '{phase}' AND expires_at > :now ORDER BY id LIMIT 1), :before))"
    )


def _sent_that(phase: Phase) -> str:
    if phase in UNDELIVERED:
        return _newest(f"AND status = '{phase}' AND id < :before AND expires_at > :now")
    stored_so = _newest(f"AND status = '{phase}' AND id < :before")
    if phase is not Phase.EXPIRED:
        return stored_so
    parts = (stored_so, *(_newest(_over(waiting)) for waiting in sorted(UNDELIVERED)))
    return f"SELECT id FROM ({' UNION ALL '.join(parts)}) ORDER BY id DESC LIMIT :limit"


_SENT: Final = {None: _newest("AND id < :before")} | {phase: _sent_that(phase) for phase in Phase}
"""Status by the clock, None for all → ids of what an agent has sent."""


class MailPage(NamedTuple):
    """Some messages in order, and how far was looked for them.

    Args:
        messages: Those that wait.
        looked_at: Ids of the messages that were looked at, in order; what comes behind them is for the next page.
    """

    messages: list[StoredMessage]
    looked_at: list[str]


# Changes.


def deliver(tx: WriterTx, mail: Mail, context: Context) -> Broadcast:
    """Store a message, and what its mailbox's sockets are told once it is durable.

    What an agent has the marketplace announce counts as one of its own; what it writes itself is decided on before.

    Raises:
        Conflict: `mailbox_full`: what the sender has the marketplace announce.
    """
    sender_id = mail.from_agent_id
    if mail.is_from_market and sender_id is not None and sender_id == context.sender.agent_id:
        require_pair_room(_pair_count(tx, sender_id, mail.to_agent_id), context.market.limits)
    message = stored(mail, context)
    states.insert(tx, "message", message.id, message)
    # What waits there already is due before this one, and so is its timer; where nothing waits, it comes to forget.
    tx.run(
        "INSERT INTO timers (topic, kind, due_at) VALUES (:topic, :kind, :due_at)"
        " ON CONFLICT (topic, kind) DO UPDATE SET due_at = excluded.due_at WHERE excluded.due_at < due_at",
        topic=f"messages:{message.to_agent_id}",
        kind=MAILBOX,
        due_at=to_ms(message.expires_at),
    )
    return announced(message)


def drop(tx: WriterTx, change: DropMessages) -> None:
    """Delete some messages that ended long ago: a long list goes in parts, so that nobody waits for all of it."""
    tx.run(
        f"DELETE FROM messages WHERE id IN (SELECT id FROM ({_oldest(_ENDED)}) WHERE expires_at <= :before"
        " ORDER BY id LIMIT :limit)",
        agent_id=change.agent_id,
        before=to_ms(change.before),
        limit=DUE_AT_ONCE,
    )


# What is decided on.


def mailbox(tx: Tx, topic_id: str, _request: Any, context: Context) -> Mailbox:
    """What a join of a mailbox and its clock look at."""
    count = _count(tx, topic_id)
    oldest = _next_expiry(tx, topic_id, skip=0)
    due: list[StoredMessage] = []
    if oldest is not None and oldest <= context.now:
        due = [
            one
            for id_ in _waiting_ids(tx, topic_id, after="", limit=DUE_AT_ONCE)
            if (one := states.load(tx, "message", id_)).at(context.now).status is Phase.EXPIRED
        ]
        count = _count(tx, topic_id, "AND expires_at > :now", now=to_ms(context.now))
        oldest = _next_expiry(tx, topic_id, skip=len(due))
    return Mailbox(
        undelivered=count,
        due=tuple(due),
        next_expires_at=oldest,
        ended_expired_at=tuple(_expiries(tx, topic_id, _ENDED, limit=DUE_AT_ONCE + 1)),
    )


def message(tx: Tx, topic_id: str, request: Any, _context: Context) -> StoredMessage | None:
    """The message that a request names, in its mailbox."""
    found: StoredMessage | None = states.load(tx, "message", request.message_id)
    return found if found is not None and found.to_agent_id == topic_id else None


def pushed(tx: Tx, topic_id: str, request: Any, _context: Context) -> tuple[StoredMessage, ...]:
    """The messages that have been pushed to a socket of the mailbox, as far as they are still there."""
    found = (states.load(tx, "message", id_) for id_ in request.message_ids)
    return tuple(one for one in found if one is not None and one.to_agent_id == topic_id)


def sending(tx: Tx, _topic_id: str, request: Any, context: Context) -> Sending:
    """What sending a message rests on."""
    sender_id = context.sender.agent_id
    sender: Agent | None = None if sender_id is None else states.load(tx, "agent", sender_id)
    receiver = _receiver(tx, request)
    before = None if request.dedup_key is None else _sent_before(tx, sender_id, request.dedup_key)
    if receiver is None:
        return Sending(sender=sender, receiver=None, before=before)
    return Sending(
        sender=sender,
        receiver=receiver,
        tie=NO_TIE if sender_id is None else contacts.tie(tx, sender_id, receiver.id, now=context.now),
        before=before,
        pair_count=0 if sender_id is None else _pair_count(tx, sender_id, receiver.id),
        house_count=0 if sender is None else _house_count(tx, sender.owner_id, receiver.id),
        mailbox_count=_count(tx, receiver.id),
    )


def _receiver(tx: Tx, request: Any) -> Agent | None:
    if request.to_agent_id is None:
        return None if request.to_handle is None else agents.by_handle(tx, normalise_handle(request.to_handle))
    found: Agent | None = states.load(tx, "agent", request.to_agent_id)
    return found


def _sent_before(tx: Tx, sender_id: str | None, dedup_key: str) -> StoredMessage | None:
    # Operators speak with one voice, and have one set of keys.
    sender, named = ("IS NULL", {}) if sender_id is None else ("= :sender_id", {"sender_id": sender_id})
    # By created_at, of which there is no index: by id, SQLite would rather look through all that the sender has sent.
    row = tx.one(
        f"SELECT state FROM messages WHERE from_agent_id {sender} AND dedup_key = :key"
        " ORDER BY created_at DESC LIMIT 1",
        key=dedup_key,
        **named,
    )
    return None if row is None else states.decode("message", row)


def _pair_count(tx: Tx, sender_id: str, receiver_id: str) -> int:
    row = tx.one(
        "SELECT count(*) FROM messages WHERE to_agent_id = :receiver_id AND from_agent_id = :sender_id"
        f" AND status IN {_WAITING}",
        receiver_id=receiver_id,
        sender_id=sender_id,
    )
    return 0 if row is None else int(row[0])


def _house_count(tx: Tx, owner_id: str, receiver_id: str) -> int:
    row = tx.one(
        "SELECT count(*) FROM messages WHERE to_agent_id = :receiver_id AND from_owner_id = :owner_id"
        f" AND status IN {_WAITING}",
        receiver_id=receiver_id,
        owner_id=owner_id,
    )
    return 0 if row is None else int(row[0])


def _count(tx: Tx, agent_id: str, which: str = "", **named: Any) -> int:
    row = tx.one(
        f"SELECT count(*) FROM messages WHERE to_agent_id = :agent_id AND status IN {_WAITING} {which}",
        agent_id=agent_id,
        **named,
    )
    return 0 if row is None else int(row[0])


def _next_expiry(tx: Tx, agent_id: str, *, skip: int) -> datetime | None:
    """When the oldest undelivered message is over, but for the first few."""
    return next(iter(_expiries(tx, agent_id, UNDELIVERED, limit=skip + 1)[skip:]), None)


def _expiries(tx: Tx, agent_id: str, phases: frozenset[Phase], *, limit: int) -> list[datetime]:
    """When the oldest messages are over that stand so: whoever is older is over earlier."""
    rows = tx.all(
        f"SELECT expires_at FROM ({_oldest(phases)}) ORDER BY id LIMIT :limit", agent_id=agent_id, limit=limit
    )
    return [from_ms(row[0]) for row in rows]


def _oldest(phases: frozenset[Phase], behind: str = "") -> str:
    """The oldest messages of each of these statuses, ids and ends: the first in an index, where nothing is sorted."""
    return " UNION ALL ".join(
        "SELECT id, expires_at FROM (SELECT id, expires_at FROM messages"
        f" WHERE to_agent_id = :agent_id AND status = '{phase}' {behind} ORDER BY id LIMIT :limit)"
        for phase in sorted(phases)
    )


# What is read.


def waiting_page(tx: Tx, agent_id: str, *, after: str, rows_max: int, bytes_max: int, now: datetime) -> MailPage:
    """An agent's undelivered messages behind the id `after`, oldest first: not more than these bounds, one at least."""
    ids = _waiting_ids(tx, agent_id, after=after, limit=rows_max)
    return still_waiting(tx, ids, bytes_max=bytes_max, now=now)


def still_waiting(tx: Tx, ids: list[str], *, bytes_max: int, now: datetime) -> MailPage:
    """Those of some messages that are still undelivered, in their order: as many as fit, one at least."""
    found: list[StoredMessage] = []
    for number, id_ in enumerate(ids):
        row = tx.one(f"SELECT state FROM messages WHERE id = :id AND status IN {_WAITING}", id=id_)
        if row is None:
            continue
        bytes_max -= len(row[0].encode())
        if bytes_max < 0 and found:
            return MailPage(found, ids[:number])
        one: StoredMessage = states.decode("message", row)
        if one.at(now).status is not Phase.EXPIRED:
            found.append(one)
    return MailPage(found, ids)


def undelivered(tx: Tx, agent_id: str, *, after: str, limit: int, now: datetime) -> list[StoredMessage]:
    """An agent's undelivered messages, oldest first, behind the id `after`."""
    found: list[StoredMessage] = []
    while len(found) < limit:
        ids = _waiting_ids(tx, agent_id, after=after, limit=limit - len(found))
        if not ids:
            break
        found += (one for id_ in ids if (one := states.load(tx, "message", id_)).at(now).status in UNDELIVERED)
        after = ids[-1]
    return found


def sent(tx: Tx, agent_id: str, *, status: Phase | None, before: str, limit: int, now: datetime) -> list[StoredMessage]:
    """What an agent has sent, and what was announced of its doing, newest first.

    Args:
        tx: Any transaction.
        agent_id: The sender.
        status: Only those that stand so by the clock; None for all.
        before: Only those whose id is less.
        limit: At most so many.
        now: The clock.
    """
    # Ids come from indexes that hold nothing else; a state can have pages of its own, so only those listed are read.
    rows = tx.all(
        f"SELECT state FROM messages WHERE id IN ({_SENT[status]}) ORDER BY id DESC",
        agent_id=agent_id,
        before=before,
        limit=limit,
        now=to_ms(now),
    )
    return [states.decode("message", row) for row in rows]


def _waiting_ids(tx: Tx, agent_id: str, *, after: str, limit: int) -> list[str]:
    waiting = _oldest(UNDELIVERED, "AND id > :after")
    rows = tx.all(f"SELECT id FROM ({waiting}) ORDER BY id LIMIT :limit", agent_id=agent_id, after=after, limit=limit)
    return [row[0] for row in rows]


def doctor(tx: Tx) -> list[str]:
    """Every difference between messages and the columns by which they are found, and mailboxes without a timer."""
    return [
        *(f"message {row[0]} is not what its columns say" for row in tx.all(_MISMATCHED)),
        *(f"the mailbox of {row[0]} has messages and no timer" for row in tx.all(_UNTIMED, kind=MAILBOX)),
    ]

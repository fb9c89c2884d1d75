"""The mail of the marketplace in memory: what the server's loaders answer of mailboxes, and what stores and forgets."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from channels.changes import DropMessages, Mail
from channels.contacts import NO_TIE
from channels.identity import Identity, normalise_handle
from channels.mail_sending import Sending, require_pair_room
from channels.messages import DUE_AT_ONCE, UNDELIVERED, Mailbox, Phase, StoredMessage, stored
from tests.channels.roles import as_told

if TYPE_CHECKING:
    from tests.channels.world import World


def require_room(world: "World", changes: Iterable[Any], sender: Identity) -> None:
    """What a sender has the marketplace announce counts as one of its own messages."""
    for mail in changes:
        if isinstance(mail, Mail) and mail.is_from_market and mail.from_agent_id in {sender.agent_id} - {None}:
            require_pair_room(_pair_count(world, sender.id, mail.to_agent_id), world.market.limits)


def deliver(world: "World", mail: Mail, sender: Identity) -> StoredMessage:
    """A message as it is stored."""
    return stored(msgspec.structs.replace(mail, payload=as_told(mail.payload)), world.context(sender, ""))


def drop(world: "World", change: DropMessages) -> None:
    """Forget what ended long ago."""
    ended = [one for one in world.mail_to(change.agent_id) if one.status not in UNDELIVERED]
    long_over = [one.id for one in ended if one.expires_at <= change.before]
    assert long_over, "what is forgotten is there"
    for id_ in long_over[:DUE_AT_ONCE]:
        del world.states["message"][id_]


def _waiting(world: "World", agent_id: str) -> list[StoredMessage]:
    return [one for one in world.mail_to(agent_id) if one.status in UNDELIVERED]


def _pair_count(world: "World", sender_id: str, receiver_id: str) -> int:
    return sum(one.from_agent_id == sender_id for one in _waiting(world, receiver_id))


def _house_count(world: "World", owner_id: str, receiver_id: str) -> int:
    return sum(one.from_owner_id == owner_id for one in _waiting(world, receiver_id))


def _mailbox(world: "World", topic_id: str, _request: Any, _sender: Identity) -> Mailbox:
    waiting = _waiting(world, topic_id)
    over = [one for one in waiting if one.at(world.now).status is Phase.EXPIRED]
    due = over[:DUE_AT_ONCE]
    left = [one.expires_at for one in waiting if one not in due]
    ended = [one.expires_at for one in world.mail_to(topic_id) if one.status not in UNDELIVERED]
    return Mailbox(
        undelivered=len(waiting) - len(over),
        due=tuple(due),
        next_expires_at=min(left, default=None),
        ended_expired_at=tuple(ended[: DUE_AT_ONCE + 1]),
    )


def _message(world: "World", topic_id: str, request: Any, _sender: Identity) -> StoredMessage | None:
    message: StoredMessage | None = world.states["message"].get(request.message_id)
    return message if message is not None and message.to_agent_id == topic_id else None


def _pushed(world: "World", topic_id: str, request: Any, _sender: Identity) -> tuple[StoredMessage, ...]:
    return tuple(one for one in world.mail_to(topic_id) if one.id in request.message_ids)


def _sending(world: "World", _topic_id: str, request: Any, sender: Identity) -> Sending:
    named: dict[str, Any] = {"id": request.to_agent_id, "handle": normalise_handle(request.to_handle or "")}
    receiver = next(
        (one for one in world.states["agent"].values() if named["id"] == one.id or named["handle"] == one.handle), None
    )
    mine = [one for one in world.states["message"].values() if one.from_agent_id == sender.agent_id]
    before = [one for one in mine if request.dedup_key is not None and one.dedup_key == request.dedup_key]
    found = Sending(
        sender=None if sender.agent_id is None else world.agent(sender.agent_id),
        receiver=receiver,
        before=before[-1] if before else None,
    )
    if receiver is None:
        return found
    return msgspec.structs.replace(
        found,
        tie=NO_TIE if sender.agent_id is None else world.book.tie(sender.id, receiver.id),
        pair_count=_pair_count(world, sender.id, receiver.id),
        house_count=_house_count(world, sender.user_id, receiver.id),
        mailbox_count=len(_waiting(world, receiver.id)),
    )


LOADERS: dict[str, Any] = {
    "mailbox": _mailbox,
    "message": _message,
    "mail_pushed": _pushed,
    "mail_sending": _sending,
}

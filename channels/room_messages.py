"""What is written in a chat room: texts, which are for those whom they mention, and events, which are for the record.

A text is pushed to the participants that it mentions, who find it as their work (room_deliveries.py), and to nobody
else. Its sender names them by id or by handle. In what is kept, the first `@handle` of each stands as the marker
`@[[id]]`; where the text does not name one, its marker stands in front. A marker that was typed by hand counts for one
who is mentioned; for anybody else it is taken apart, so that there are never other markers than mentions.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from channels.changes import Insert, StoreRoomMessage
from channels.documents import require_document
from channels.errors import Invalid
from channels.fields import invalid_payload
from channels.handlers import Access, Context, Decision, Handler
from channels.identity import EntityType, normalise_handle
from channels.room_markers import marked
from channels.room_rules import require_inside
from channels.room_state import Delivery, Mention, Participant, Room, RoomMessage
from channels.told import Broadcast
from channels.visible_text import is_visible

EventType = Literal["tool_call", "tool_result", "thought", "error", "task", "attention"]

ByName = Mapping[tuple[str, str], Participant]
"""The participants of a room by `id` and by `handle`, without `@`."""

NOT_IN_ROOM: Final = "mentioned_participant_not_in_room"
"""The reason and the sentence: Band's clients compare the sentence, and know this one."""


class MentionDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody whom a text names.

    Args:
        id: Of the participant, in any case of letters.
        handle: With or without `@`, in any case of letters; where there is an id, that alone counts.
        name: Means nothing.
        kind: `mention`; a `reference` is only spoken of, and gets nothing.
    """

    id: str | None = None
    handle: str | None = None
    name: str | None = None
    kind: str | None = "mention"


class TextDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A text. `attachment_ids` must be empty: there are no files."""

    content: str
    mentions: tuple[MentionDraft, ...] = ()
    attachment_ids: tuple[str, ...] | None = None


class SendText(msgspec.Struct, frozen=True):
    """Send a text to those whom it mentions."""

    message: TextDraft


class EventDraft(msgspec.Struct, frozen=True, kw_only=True):
    """An event: what its sender does or thinks; `metadata` is kept as it comes."""

    content: str
    message_type: EventType
    metadata: dict[str, Any] | None = None


class PostEvent(msgspec.Struct, frozen=True):
    """Put an event on record."""

    event: EventDraft


class RoomSending(msgspec.Struct, frozen=True, kw_only=True):
    """What sending rests on: the room, and by id the names of the sender and of those whom it mentions."""

    room: Room | None
    names: Mapping[str, str] = {}


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """Who gets a text."""

    id: str
    handle: str
    name: str | None


class MessageSent(msgspec.Struct, frozen=True, kw_only=True):
    """A text is stored for those whom it mentions."""

    id: str
    success: bool
    recipients: tuple[Recipient, ...]


class EventPosted(msgspec.Struct, frozen=True, kw_only=True):
    """An event is on record."""

    id: str
    message_type: str
    success: bool


class ShownMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A text or an event as it is told.

    Args:
        metadata: Of a text `mentions` and `delivery_status`; of an event what its sender has added.
        attachments: Empty.
    """

    id: str
    chat_room_id: str
    content: str
    message_type: str
    sender_id: str
    sender_type: EntityType
    sender_name: str | None
    metadata: dict[str, Any] | None
    attachments: tuple[str, ...]
    inserted_at: datetime
    updated_at: datetime


def send_text(facts: RoomSending, request: SendText, context: Context) -> Decision:
    """Send a text to those whom it mentions.

    Raises:
        NotFound: `not_found`: there is no such room, or the sender does not take part in it.
        Invalid: `invalid_payload`: nothing to see in it, or too much; `unknown_attachment`; `invalid_mention_kind`,
            `mention_missing_identifier`, `mentioned_participant_not_in_room`, `handle_not_found`,
            `cannot_mention_self`, `duplicate_mentions`, `mentions_required`.
    """
    room, own = require_inside(facts.room, context.sender)
    draft, limits = request.message, context.market.limits
    _require_content(draft.content, field="message.content")
    if len(draft.content.encode()) > limits.room_content_bytes_max:
        raise invalid_payload("message.content", f"A text has at most {limits.room_content_bytes_max} bytes.")
    if draft.attachment_ids:
        raise Invalid(
            "unknown_attachment", "There are no files here: send the text alone.", field="message.attachment_ids"
        )
    mentioned = _parse_mentions(room, own, draft.mentions, context)
    message = RoomMessage(
        id=context.new_id(),
        room_id=room.id,
        content=marked(draft.content, mentioned, room),
        message_type="text",
        sender_id=own.id,
        sender_type=own.type,
        sender_name=facts.names.get(own.id),
        mentions=tuple(Mention(id=one.id, handle=one.handle, name=facts.names.get(one.id)) for one in mentioned),
        inserted_at=context.now,
    )
    told = Broadcast(
        f"chat_room:{room.id}",
        "message_created",
        shown_message(message),
        to=frozenset(one.id for one in mentioned),
        is_spare=True,
    )
    return Decision(
        reply=MessageSent(
            id=message.id,
            success=True,
            recipients=tuple(Recipient(id=one.id, handle=one.handle, name=one.name) for one in message.mentions),
        ),
        changes=(StoreRoomMessage(message), *(_delivery(message, one) for one in mentioned)),
        broadcasts=(told,),
    )


def post_event(facts: RoomSending, request: PostEvent, context: Context) -> Decision:
    """Put an event on record. Nobody is pushed it.

    Raises:
        NotFound: `not_found`: there is no such room, or the sender does not take part in it.
        Invalid: `invalid_payload`: nothing to see in it, or too much.
    """
    room, own = require_inside(facts.room, context.sender)
    draft, limits = request.event, context.market.limits
    _require_content(draft.content, field="event.content")
    if len(draft.content) > limits.room_event_chars_max:
        raise invalid_payload("event.content", f"An event has at most {limits.room_event_chars_max} characters.")
    require_document("event.metadata", draft.metadata, bytes_max=limits.room_metadata_bytes_max)
    message = RoomMessage(
        id=context.new_id(),
        room_id=room.id,
        content=draft.content,
        message_type=draft.message_type,
        sender_id=own.id,
        sender_type=own.type,
        sender_name=facts.names.get(own.id),
        metadata=draft.metadata,
        inserted_at=context.now,
    )
    return Decision(
        reply=EventPosted(id=message.id, message_type=message.message_type, success=True),
        changes=(StoreRoomMessage(message),),
    )


def shown_message(message: RoomMessage, deliveries: tuple[Delivery, ...] = ()) -> ShownMessage:
    """A text or an event as it is told.

    Args:
        message: What was written.
        deliveries: How far those readers are whom the one who is told may know about.
    """
    status = {"delivery_status": {one.recipient_id: _status(one) for one in deliveries}} if deliveries else {}
    return ShownMessage(
        id=message.id,
        chat_room_id=message.room_id,
        content=message.content,
        message_type=message.message_type,
        sender_id=message.sender_id,
        sender_type=message.sender_type,
        sender_name=message.sender_name,
        metadata={"mentions": message.mentions, **status} if message.is_text else message.metadata,
        attachments=(),
        inserted_at=message.inserted_at,
        updated_at=message.inserted_at,
    )


def named_in(room: Room, mentions: tuple[MentionDraft, ...]) -> tuple[Participant, ...]:
    """The participants that mentions name, as far as they name one: whose names a text needs."""
    by_name = _by_name(room)
    found = (_find(by_name, one) for one in mentions)
    return tuple(one for one in found if one is not None)


# Mentions.


def _parse_mentions(
    room: Room, own: Participant, drafts: tuple[MentionDraft, ...], context: Context
) -> tuple[Participant, ...]:
    """Whom a text is for, each once, in the order given.

    Raises:
        Invalid: `invalid_payload`, `invalid_mention_kind`, `mention_missing_identifier`,
            `mentioned_participant_not_in_room`, `handle_not_found`, `cannot_mention_self`, `duplicate_mentions`,
            `mentions_required`.
    """
    mentions_max = context.market.limits.room_mentions_max
    if len(drafts) > mentions_max:
        raise invalid_payload("message.mentions", f"A text mentions at most {mentions_max}.")
    by_name = _by_name(room)
    mentioned: dict[str, Participant] = {}
    for draft in drafts:
        if draft.kind not in {"mention", "reference"}:
            raise Invalid(
                "invalid_mention_kind", "The kind of a mention is `mention` or `reference`.", field="message.mentions"
            )
        if not draft.id and not draft.handle:
            raise Invalid(
                "mention_missing_identifier", "Name a participant by its id or its handle.", field="message.mentions"
            )
        if draft.kind == "reference":
            continue
        one = _require_participant(by_name, draft)
        if one.id == own.id:
            raise Invalid("cannot_mention_self", "You cannot mention yourself.", field="message.mentions")
        if one.id in mentioned:
            raise Invalid("duplicate_mentions", "Mention each participant once.", field="message.mentions")
        mentioned[one.id] = one
    if not mentioned:
        raise Invalid(
            "mentions_required", "Mention whom the text is for; nobody else gets it.", field="message.mentions"
        )
    return tuple(mentioned.values())


def _require_participant(by_name: ByName, draft: MentionDraft) -> Participant:
    """The participant that a mention names.

    Raises:
        Invalid: `mentioned_participant_not_in_room`, `handle_not_found`.
    """
    one = _find(by_name, draft)
    if one is None and draft.id:
        raise Invalid("mentioned_participant_not_in_room", NOT_IN_ROOM, field="message.mentions")
    if one is None:
        raise Invalid("handle_not_found", "Nobody in this room has that handle.", field="message.mentions")
    return one


def _find(by_name: ByName, draft: MentionDraft) -> Participant | None:
    if draft.id:
        return by_name.get(("id", draft.id.lower()))
    return by_name.get(("handle", normalise_handle(draft.handle or "")))


def _by_name(room: Room) -> dict[tuple[str, str], Participant]:
    ids = {("id", one.id): one for one in room.participants}
    return ids | {("handle", one.handle): one for one in room.participants}


# What is kept and told.


def _require_content(content: str, *, field: str) -> None:
    if not is_visible(content):
        raise invalid_payload(field, "There is nothing to see in it.")


def _delivery(message: RoomMessage, recipient: Participant) -> Insert:
    delivery = Delivery(
        id=f"{message.id}:{recipient.id}",
        message_id=message.id,
        room_id=message.room_id,
        recipient_id=recipient.id,
        inserted_at=message.inserted_at,
        updated_at=message.inserted_at,
    )
    return Insert("room_delivery", delivery.id, delivery)


def _status(delivery: Delivery) -> dict[str, Any]:
    """How far a reader is, as it stands in `delivery_status`."""
    return {
        "status": delivery.status,
        "attempt_number": delivery.attempt_number,
        "attempts": delivery.attempts,
        "updated_at": delivery.updated_at,
    }


SEND: Handler = Handler(SendText, send_text, loads="room_sending", access=Access.WRITE, scope="rooms", rate="message")
POST_EVENT: Handler = Handler(
    PostEvent, post_event, loads="room_sending", access=Access.WRITE, scope="rooms", rate="message"
)

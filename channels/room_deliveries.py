"""How far a reader is with a text that mentions it: what it works on is offered to it again until it is processed.

                   mark processing              mark processed
    DELIVERED ──────────────────────► PROCESSING ─────────────► PROCESSED
                                       ▲  │  ▲                      │
                     mark processing   │  │  └── mark processing ───┘   attempt n+1
                     attempt n+1       │  ▼ mark failed
                                      FAILED

At least once: a reader that has crashed finds what it was at as PROCESSING, and takes it up again; it keeps apart by
the message's id what it has done already.
"""

from typing import Final

import msgspec

from channels.errors import Invalid, not_found
from channels.fields import invalid_payload
from channels.handlers import Access, Context, Decision, Handler
from channels.room_messages import shown_message
from channels.room_rules import require_inside
from channels.room_state import Attempt, Delivery, DeliveryStatus, Room, RoomMessage
from channels.told import Broadcast

ATTEMPTS_KEPT: Final = 5
"""The newest ones; the number goes on."""

ATTEMPTS_TOLD: Final = 3
"""Of more nobody is pushed anything: each push holds the whole text, and a reader may begin as often as it likes."""

UNPROCESSED: Final = (DeliveryStatus.DELIVERED, DeliveryStatus.PROCESSING, DeliveryStatus.FAILED)
"""What is still to be done."""

PENDING: Final = (DeliveryStatus.DELIVERED, DeliveryStatus.FAILED)
"""What nobody works on at present."""


class MarkMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A reader begins to work on a message, or has finished."""

    message_id: str


class FailMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A reader's try has failed; `error` says why."""

    message_id: str
    error: str


class Marking(msgspec.Struct, frozen=True, kw_only=True):
    """What marking rests on: the message and its delivery to the sender, None where the sender has none of that id."""

    room: Room | None
    message: RoomMessage | None = None
    delivery: Delivery | None = None


class MessageMarked(msgspec.Struct, frozen=True, kw_only=True):
    """How far the reader is now."""

    id: str
    status: DeliveryStatus
    attempt_number: int
    success: bool


def mark_processing(facts: Marking, _request: MarkMessage, context: Context) -> Decision:
    """Begin an attempt. While one is under way nothing changes; after its end, whatever it was, another one begins.

    Raises:
        NotFound: `not_found`: there is no such room or no such message for the sender.
    """
    room, message, delivery = _require_own(facts, context)
    if delivery.status is DeliveryStatus.PROCESSING:
        return Decision(reply=_marked(delivery))
    number = delivery.attempt_number + 1
    attempt = Attempt(number=number, status=DeliveryStatus.PROCESSING, started_at=context.now)
    after = msgspec.structs.replace(
        delivery,
        status=DeliveryStatus.PROCESSING,
        attempt_number=number,
        attempts=(*delivery.attempts, attempt)[-ATTEMPTS_KEPT:],
        updated_at=context.now,
    )
    return _changed(room, message, after)


def mark_processed(facts: Marking, _request: MarkMessage, context: Context) -> Decision:
    """End the attempt: the message is done.

    Raises:
        NotFound: `not_found`: there is no such room or no such message for the sender.
        Invalid: `validation_error`, for `/processing_attempt`: no attempt is under way.
    """
    room, message, delivery = _require_own(facts, context)
    return _changed(room, message, _ended(delivery, DeliveryStatus.PROCESSED, None, context))


def mark_failed(facts: Marking, request: FailMessage, context: Context) -> Decision:
    """End the attempt: it has failed, and the message is offered again.

    Raises:
        NotFound: `not_found`: there is no such room or no such message for the sender.
        Invalid: `validation_error`, for `/processing_attempt`: no attempt is under way; `invalid_payload`.
    """
    room, message, delivery = _require_own(facts, context)
    chars_max = context.market.limits.room_event_chars_max
    if len(request.error) > chars_max:
        raise invalid_payload("error", f"An error has at most {chars_max} characters.")
    return _changed(room, message, _ended(delivery, DeliveryStatus.FAILED, request.error, context))


def _require_own(facts: Marking, context: Context) -> tuple[Room, RoomMessage, Delivery]:
    room, _ = require_inside(facts.room, context.sender)
    if facts.message is None or facts.delivery is None:
        raise not_found("message")
    return room, facts.message, facts.delivery


def _ended(delivery: Delivery, status: DeliveryStatus, error: str | None, context: Context) -> Delivery:
    """The delivery, once its attempt has ended so.

    Raises:
        Invalid: `validation_error`.
    """
    if delivery.status is not DeliveryStatus.PROCESSING:
        raise Invalid(
            "validation_error",
            "You are not at work on this message: mark it as processing first.",
            field="/processing_attempt",
        )
    *before, attempt = delivery.attempts
    if error is not None:  # One error at a time is kept, because an error may be long and there are many deliveries.
        before = [msgspec.structs.replace(one, error=None) for one in before]
    ended = msgspec.structs.replace(attempt, status=status, ended_at=context.now, error=error)
    return msgspec.structs.replace(delivery, status=status, attempts=(*before, ended), updated_at=context.now)


def _changed(room: Room, message: RoomMessage, after: Delivery) -> Decision:
    """The new state; told are the people among the sender and those whom the message mentions."""
    return Decision(state=after, reply=_marked(after), broadcasts=_told(room, message, after))


def _told(room: Room, message: RoomMessage, after: Delivery) -> tuple[Broadcast, ...]:
    concerned = {message.sender_id, *(one.id for one in message.mentions)}
    people = frozenset(one.id for one in room.participants if one.type == "User" and one.id in concerned)
    if not people or after.attempt_number > ATTEMPTS_TOLD:
        return ()
    shown = shown_message(message, (after,))
    return (Broadcast(f"chat_room:{room.id}", "message_updated", shown, to=people, is_spare=True),)


def _marked(delivery: Delivery) -> MessageMarked:
    return MessageMarked(
        id=delivery.message_id, status=delivery.status, attempt_number=delivery.attempt_number, success=True
    )


PROCESSING: Handler = Handler(MarkMessage, mark_processing, loads="room_marking", access=Access.WRITE, scope="rooms")
PROCESSED: Handler = Handler(MarkMessage, mark_processed, loads="room_marking", access=Access.WRITE, scope="rooms")
FAILED: Handler = Handler(
    FailMessage, mark_failed, loads="room_marking", access=Access.WRITE, scope="rooms", rate="message"
)

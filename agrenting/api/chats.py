"""What the doors of agents and of users to chat rooms have in common."""

from collections.abc import Callable
from typing import Any, Final

from msgspec import UNSET, UnsetType

from agrenting.api.call import Call
from agrenting.api.chat_answers import ChatPageMetadata, ChatPageQuery, chat_message
from agrenting.api.offsets import total_pages
from agrenting.api.paging import FIRST, Page, decode_cursor, encode_cursor
from agrenting.db import room_messages, rooms
from agrenting.db.room_messages import COUNTED_MAX, Found
from agrenting.db.transaction import ReaderTx
from channels.errors import Conflict, Invalid, not_found
from channels.handlers import Handler
from channels.room_messages import SEND, SendText
from channels.room_rules import require_inside
from channels.room_seats import ADD, AddParticipant, RemoveParticipant
from channels.room_seats import REMOVE as REMOVE_PARTICIPANT
from channels.room_state import Room

SCOPE: Final = ("rooms",)
UNKNOWN: Final = {404: "not_found"}
RENAMES: Final = {**UNKNOWN, 403: "forbidden_role"}
NOT_ADDABLE: Final = ("already_participant", "blocked_by_you", "agent_unavailable", "room_full", "room_limit")
"""Why somebody is not added who may be: 422 here, because Band's clients repeat conflicts."""

ADDS: Final = {
    **UNKNOWN,
    403: "forbidden_role contact_required contact_scope_exceeded",
    422: " ".join(NOT_ADDABLE),
}
REMOVES: Final = {
    **UNKNOWN,
    403: "cannot_remove_sole_owner cannot_remove_owner forbidden_role cannot_remove_user",
}
SENDS: Final = {
    **UNKNOWN,
    422: "unknown_attachment invalid_mention_kind mention_missing_identifier mentioned_participant_not_in_room"
    " handle_not_found cannot_mention_self duplicate_mentions mentions_required",
}

PAGE_BYTES_MAX: Final = 2_097_152
"""A page that was asked for by a cursor ends with the text that goes beyond so many bytes, its deliveries counted."""

COUNTED_PAGE_BYTES_MAX: Final = 8_388_608
"""So does one that was asked for by its number: more, because its rest is not on the page of the next number."""

MENTION_BYTES: Final = 4_096
"""What a mention costs of the rate of messages: it is stored by itself, whatever the text is."""

Find = Callable[[ReaderTx, str, int], Found]
"""(transaction, the id behind which a list goes on, how many) → what is there."""


async def decide(call: Call, handler: Handler, request: Any) -> Any:
    """Decide an event of the room in the path; its reply.

    Raises:
        Refusal: What the handler refused.
    """
    return await call.decide(handler, f"chat_room:{call.id}", request)


async def send(call: Call, body: SendText) -> Any:
    """Send a text in the room in the path; each mention costs as much as so many bytes more.

    Raises:
        Refusal: What the handler refused; `rate_limited`.
    """
    # More than are allowed are refused for that reason, not for being too dear for any bucket.
    mentions = min(len(body.message.mentions), call.market.limits.room_mentions_max)
    call.server.hub.agent_buckets["message"].take(call.caller.id, float(mentions * MENTION_BYTES))
    return await decide(call, SEND, body)


async def add(call: Call, body: AddParticipant) -> Any:
    """Add somebody to the room in the path.

    Raises:
        Refusal: What the handler refused; conflicts as Invalid.
    """
    try:
        return await decide(call, ADD, body)
    except Conflict as refusal:
        if refusal.reason not in NOT_ADDABLE:
            raise
        context = {**refusal.context, "field": "participant.participant_id"}
        raise Invalid(refusal.reason, refusal.message, **context) from refusal


async def remove(call: Call) -> Any:
    """Remove the participant in the path from the room in it."""
    return await decide(call, REMOVE_PARTICIPANT, RemoveParticipant(participant_id=call.part("participant")))


def room_inside(call: Call, tx: ReaderTx) -> Room:
    """The room in the path, if the caller takes part in it.

    Raises:
        NotFound: `not_found`.
    """
    return require_inside(rooms.load(tx, call.id), call.caller)[0]


def require_taking_part(call: Call, tx: ReaderTx) -> None:
    """Refuse who does not take part in the room in the path.

    Raises:
        NotFound: `not_found`.
    """
    if not rooms.takes_part(tx, call.id, call.caller.id):
        raise not_found("room")


async def messages_page(
    call: Call,
    query: ChatPageQuery,
    *,
    name: str,
    find: Find,
    reader_id: str | None,
    status_filter: str | UnsetType | None = UNSET,
) -> Page:
    """A page of what was written in the room in the path.

    Args:
        call: Who asks, in which room.
        query: Which page.
        name: The list's; a cursor of another list is refused.
        find: Finds what is listed, or refuses the caller.
        reader_id: How far this reader is is told; None: how far each is.
        status_filter: As asked.

    Raises:
        Invalid: `invalid_cursor`.
    """
    size, number = query.size, None if query.cursor is not None else query.page
    beyond = decode_cursor(query.cursor, name=name, start=FIRST)

    def ask(tx: ReaderTx) -> Page:
        found = find(tx, beyond, size + 1 if number is None else COUNTED_MAX)
        first = 0 if number is None else (number - 1) * size
        ids = found.ids[first : first + size]
        bytes_max = PAGE_BYTES_MAX if number is None else COUNTED_PAGE_BYTES_MAX
        shown = room_messages.written(tx, ids, reader_id=reader_id, bytes_max=bytes_max)
        follows = first + len(shown) < len(found.ids) and bool(shown)
        last = ids[len(shown) - 1] if follows else found.rest
        metadata = ChatPageMetadata(
            has_more=last is not None,
            limit=size,
            next_cursor=None if last is None else encode_cursor(name, last),
            status_filter=status_filter,
            page=UNSET if number is None else number,
            page_size=UNSET if number is None else size,
            total_count=UNSET if number is None else len(found.ids),
            total_pages=UNSET if number is None else total_pages(len(found.ids), size),
        )
        return Page([chat_message(one) for one in shown], metadata)

    return await call.read(ask)

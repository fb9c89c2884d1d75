"""chat_room:{room_id}: who takes part in a room is told of the texts that mention it.

Who may join: participants only. Nothing is sent here: what is written is sent by REST.

    message_created   a text, to those whom it mentions
    message_updated   how far a reader is with it, to the people among its sender and those whom it mentions

What stands in each: room_messages.py.
"""

from channels.errors import Forbidden
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.room_state import Room, RoomStatus

TOPIC = "chat_room:*"
HANDLERS: dict[str, Handler] = {}


def anybody(sender: Identity, topic_id: str) -> None:
    """Who takes part in a room, the join itself knows."""
    del sender, topic_id


def join_room(room: Room | None, _request: Empty, context: Context) -> Decision:
    """Hear what is told from now on; what was before is read by REST.

    Raises:
        Forbidden: `unauthorized`: there is no such room, or the sender does not take part in it.
    """
    if room is None or room.status is RoomStatus.DELETED or room.participant(context.sender.id) is None:
        raise Forbidden("unauthorized", "This topic is that of a room's participants.")
    return Decision()


ACCESS = anybody
JOIN = Handler(Empty, join_room, loads="room", access=Access.WRITE, scope="rooms")

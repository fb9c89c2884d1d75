"""room_participants:{room_id}: who takes part in a room is told who else comes and goes.

Who may join: participants only. Nothing is sent here: participants are added and removed by REST.

    participant_added     somebody takes part from now on
    participant_removed   somebody has left, or was removed
    room_deleted          the room is there no more

What stands in each: rooms.py.
"""

from channels.chat_room import anybody, join_room
from channels.handlers import Access, Empty, Handler

TOPIC = "room_participants:*"
ACCESS = anybody
JOIN = Handler(Empty, join_room, loads="room", access=Access.WRITE, scope="rooms")
HANDLERS: dict[str, Handler] = {}

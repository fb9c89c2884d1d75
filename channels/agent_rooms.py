"""agent_rooms:{agent_id}: an agent is told of the rooms that it makes, and is added to and removed from.

Who may join: only the agent's own connection. Nothing is sent here.

    room_added     it takes part in a room from now on
    room_removed   it does no more, or the room is deleted

What stands in each: rooms.py.
"""

from channels.handlers import Empty, Handler
from channels.own_topics import listen, own_agent

TOPIC = "agent_rooms:*"
ACCESS = own_agent
JOIN = Handler(Empty, listen, scope="rooms")
HANDLERS: dict[str, Handler] = {}

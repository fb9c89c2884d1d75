"""agent_rooms:{agent_id}: an agent is told of the rooms that it is added to and removed from.

Who may join: only the agent's own connection. There are no rooms yet, so nothing is told.
"""

from channels.handlers import Empty, Handler
from channels.own_topics import listen, own_agent

TOPIC = "agent_rooms:*"
ACCESS = own_agent
JOIN = Handler(Empty, listen, scope="rooms")
HANDLERS: dict[str, Handler] = {}

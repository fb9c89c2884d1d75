"""agent_control:{agent_id}: what the platform tells an agent's connection about that connection.

Who may join: only the agent's own connection. Clients of Band's SDK join it before all else, and listen.
"""

from channels.handlers import Empty, Handler
from channels.own_topics import listen, own_agent

TOPIC = "agent_control:*"
ACCESS = own_agent
JOIN = Handler(Empty, listen)
HANDLERS: dict[str, Handler] = {}

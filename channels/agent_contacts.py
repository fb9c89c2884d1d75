"""agent_contacts:{agent_id}: an agent is told of contact requests from and to it, and of its contacts.

Who may join: only the agent's own connection. Nothing is sent here: requests are made and answered by REST.

    contact_request_received   somebody asks it for contact
    contact_request_updated    a request from or to it is approved, rejected or cancelled, or has expired
    contact_added              it has a new contact
    contact_removed            one of its contacts has ended

What stands in each: contact_book.py.
"""

from channels.handlers import Empty, Handler
from channels.own_topics import listen, own_agent

TOPIC = "agent_contacts:*"
ACCESS = own_agent
JOIN = Handler(Empty, listen, scope="contacts")
HANDLERS: dict[str, Handler] = {}

"""The mailbox: what an agent is told and has not acknowledged yet."""

from agrenting.api.answers import MessageAcknowledged, MessageAnswer
from agrenting.api.call import Call
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import FIRST, PageQuery, decode_cursor, page_of
from agrenting.db import pages
from channels import messages
from channels.messages import Acknowledge, delivery

NOUN = Noun("messages", "Stored messages, kept until they are acknowledged.")
NAME = "messages"


@NOUN.get("/messages", answer=MessageAnswer, callers=Callers.AGENT, scopes=("messages",))
async def list_messages(call: Call, query: PageQuery) -> object:
    """List the messages that the caller has not acknowledged, oldest first."""
    after = decode_cursor(query.cursor, name=NAME, start=FIRST)
    rows = await call.read(lambda tx: pages.undelivered(tx, call.agent_id, after=after, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=delivery)


@NOUN.post(
    "/messages/{id}/acknowledge",
    answer=MessageAcknowledged,
    callers=Callers.AGENT,
    scopes=("messages",),
    errors={404: "not_found"},
)
async def acknowledge_message(call: Call) -> object:
    """Take a message as delivered. A second time is a duplicate."""
    topic = f"messages:{call.agent_id}"
    return await call.decide(messages.HANDLERS["acknowledge"], topic, Acknowledge(message_id=call.id))

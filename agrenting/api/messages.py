"""The mailbox, and messages to other agents."""

import msgspec

from agrenting.api.answers import MessageAcknowledged, MessageAnswer, MessageRejected, SentMessage, WholeMessage
from agrenting.api.call import Call
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import FIRST, LAST, PageQuery, decode_cursor, page_of
from agrenting.db import messages as stored
from agrenting.db import states
from channels import messages
from channels.handlers import Context
from channels.mail_sending import SEND, SendMessage, require_reader, sent
from channels.messages import Acknowledge, Phase, Reject, StoredMessage, delivery

NOUN = Noun("messages", "Stored messages between agents, kept until they are answered, at most seven days.")
NAME = "messages"
NAME_SENT = "messages/sent"
SCOPES = ("messages",)


class SentQuery(PageQuery, frozen=True, kw_only=True):
    """Which of the messages that the caller has sent, newest first; `status`: only those that stand so."""

    status: Phase | None = None


class RejectBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why a message is not taken: 1-500 characters, which its sender is told."""

    reason: str


@NOUN.post(
    "/messages",
    answer=SentMessage,
    status=CREATED,
    scopes=SCOPES,
    rate="message",
    errors={
        403: "agent_required forbidden_role contact_required contact_scope_exceeded",
        404: "not_found",
        409: "dedup_mismatch blocked_by_you agent_unavailable mailbox_full",
        422: "invalid_payload same_agent no_common_version",
    },
)
async def send_message(call: Call, body: SendMessage) -> object:
    """Leave a message in another agent's mailbox; it is delivered at once, or as soon as that agent comes.

    What it takes is what opening a session with that agent takes. Only operators send `system` messages, which need
    nothing. Of one sender to one receiver messages arrive in the order in which they were sent. With a `dedup_key`,
    who repeats a call is answered with the first message, as it stands now.
    """
    return await call.decide(SEND, f"messages:{call.caller.id}", body)


@NOUN.get("/messages", answer=MessageAnswer, callers=Callers.AGENT, scopes=SCOPES)
async def list_messages(call: Call, query: PageQuery) -> object:
    """List the messages that the caller has not answered, oldest first."""
    after = decode_cursor(query.cursor, name=NAME, start=FIRST)
    rows = await call.read(
        lambda tx: stored.undelivered(tx, call.agent_id, after=after, limit=query.limit + 1, now=call.now)
    )
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=delivery)


@NOUN.get("/messages/sent", answer=WholeMessage, callers=Callers.AGENT, scopes=SCOPES)
async def list_sent_messages(call: Call, query: SentQuery) -> object:
    """List the messages that the caller has sent, newest first, and what was announced of what it did.

    They can be read until 14 days after they were sent.
    """
    before = decode_cursor(query.cursor, name=NAME_SENT, start=LAST)
    context = _context(call)

    rows = await call.read(
        lambda tx: stored.sent(
            tx, call.agent_id, status=query.status, before=before, limit=query.limit + 1, now=context.now
        )
    )
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME_SENT, show=lambda row: sent(row, context))


@NOUN.get(
    "/messages/{id}",
    answer=WholeMessage,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found"},
)
async def read_message(call: Call) -> object:
    """Read a message that the caller has sent or been sent, and what has become of it."""
    context = _context(call)
    found: StoredMessage | None = await call.read(lambda tx: states.load(tx, "message", call.id))
    return sent(require_reader(found, context), context)


@NOUN.post(
    "/messages/{id}/acknowledge",
    answer=MessageAcknowledged,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "already_rejected", 410: "expired"},
)
async def acknowledge_message(call: Call) -> object:
    """Take a message as delivered. A second time is a duplicate."""
    return await call.decide(messages.HANDLERS["acknowledge"], _topic(call), Acknowledge(message_id=call.id))


@NOUN.post(
    "/messages/{id}/reject",
    answer=MessageRejected,
    callers=Callers.AGENT,
    scopes=SCOPES,
    errors={404: "not_found", 409: "already_acknowledged", 410: "expired", 422: "invalid_payload"},
)
async def reject_message(call: Call, body: RejectBody) -> object:
    """Refuse a message, with a reason that its sender is told.

    A second time is a duplicate: the first reason stands.
    """
    return await call.decide(messages.HANDLERS["reject"], _topic(call), Reject(message_id=call.id, reason=body.reason))


def _topic(call: Call) -> str:
    return f"messages:{call.agent_id}"


def _context(call: Call) -> Context:
    return call.server.engine.context(call.caller, _topic(call))

"""Contacts of agents: asked for, answered, listed, ended; and blocks. As Band's clients call it."""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import msgspec

from agrenting.api.call import Call, Outcome
from agrenting.api.contact_answers import (
    AgentContact,
    BlockAnswer,
    NewRequest,
    Removed,
    RequestsMetadata,
    RequestsOfAgent,
    Total,
    agent_contact,
    block_answer,
    received_request,
    sent_request,
)
from agrenting.api.errors import Malformed
from agrenting.api.money import Money
from agrenting.api.offsets import PAGE_MAX, PAGE_SIZE_DEFAULT, OffsetQuery, offset_page, total_pages
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import LIMIT_MAX, Page
from agrenting.db import contact_lists
from agrenting.db.pages import Slice
from agrenting.db.transaction import ReaderTx, WriterTx
from agrenting.deciding import Command, Done
from channels.contact_book import ContactRequest, RequestPhase
from channels.contact_requests import ADD, RESPOND, AddContact, Respond, ScopeDraft
from channels.contacts import Kind
from channels.errors import Invalid
from channels.fields import parse_money
from channels.handlers import Handler
from channels.revocation import BLOCK, REMOVE, UNBLOCK, BlockEntity, RemoveContact, UnblockEntity

NOUN = Noun("contacts", "Who may open what with whom: requests, contacts and blocks of agents.")
SCOPE: Final = ("contacts",)
BAD_HANDLE: Final = {400: "invalid_handle", 404: "not_found"}
ASKS: Final = {
    **BAD_HANDLE,
    409: "self_contact blocked_by_you agent_unavailable already_contacts request_pending too_many_pending",
    422: "invalid_payload",
    429: "rate_limited",
}
ANSWERS: Final = {
    **BAD_HANDLE,
    403: "forbidden_role",
    409: "request_resolved already_contacts",
    422: "invalid_payload invalid_amount",
}
BLOCKS: Final = {
    **BAD_HANDLE,
    403: "forbidden_role",
    409: "self_contact already_blocked",
    422: "invalid_payload",
}
SentStatus = Literal["pending", "approved", "rejected", "cancelled", "expired", "all"]


class ScopeBody(msgspec.Struct, frozen=True, kw_only=True):
    """What the requester may open from now on; what is left out is not narrowed.

    Args:
        kinds: These alone.
        max_price: Of an offer, a task's held price, and a payment channel's deposit.
        max_open: Sessions open at once, of all kinds together.
        expires_at: The contact ends then, as if it had been revoked.
    """

    kinds: tuple[Kind, ...] | None = None
    max_price: Money | None = None
    max_open: int | None = None
    expires_at: str | None = None

    def draft(self, exponent: int) -> ScopeDraft:
        """As the rule takes it.

        Raises:
            Invalid: `invalid_amount`, `invalid_payload`.
        """
        price = self.max_price
        fields = {
            "kinds": self.kinds,
            "max_price": None if price is None else parse_money(price, exponent=exponent, field="scope.max_price"),
            "max_open": self.max_open,
            "expires_at": self.expires_at,
        }
        try:
            return msgspec.convert(fields, ScopeDraft)
        except msgspec.ValidationError as error:
            problem, _, path = str(error).partition(" - at `$.")
            raise Invalid("invalid_payload", problem, field=f"scope.{path.rstrip('`')}") from error


class RespondBody(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to a pending request, named by the other one's handle or by its id."""

    action: Literal["approve", "reject", "cancel"]
    handle: str | None = None
    request_id: str | None = None
    scope: ScopeBody | None = None


class RequestsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of both lists; `sent_status` narrows those that were sent."""

    page: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MAX)] = 1
    page_size: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] = PAGE_SIZE_DEFAULT
    sent_status: SentStatus = "pending"


@NOUN.get("/agent/contacts", answer=AgentContact, callers=Callers.AGENT, scopes=SCOPE)
async def list_agent_contacts(call: Call, query: OffsetQuery) -> object:
    """List the agent's contacts, oldest first."""

    def show(row: contact_lists.ContactRow) -> AgentContact:
        return agent_contact(row, own_id=call.agent_id, online=is_online(call, row))

    return await contacts_page(call, query, show)


@NOUN.post("/agent/contacts/add", answer=NewRequest, status=CREATED, callers=Callers.AGENT, scopes=SCOPE, errors=ASKS)
async def add_agent_contact(call: Call, body: AddContact) -> object:
    """Ask a user or an agent for contact. Where it has asked already, this approves its request.

    A conflict changes nothing, so the call may be repeated.
    """
    return await decide(call, ADD, body)


@NOUN.post("/agent/contacts/remove", answer=Removed, callers=Callers.AGENT, scopes=SCOPE, errors=BAD_HANDLE)
async def remove_agent_contact(call: Call, body: RemoveContact) -> object:
    """End a contact at once. Open negotiations and tasks that have not started end with it; running ones finish."""
    return await remove(call, body)


@NOUN.get("/agent/contacts/requests", answer=RequestsOfAgent, callers=Callers.AGENT, scopes=SCOPE)
async def list_agent_contact_requests(call: Call, query: RequestsQuery) -> object:
    """List the pending requests to the agent, and its own, oldest first."""

    def find(tx: ReaderTx) -> Page:
        rows = Slice(offset=(query.page - 1) * query.page_size, limit=query.page_size)
        own, now = call.agent_id, call.now
        status = None if query.sent_status == "all" else RequestPhase(query.sent_status)
        received = contact_lists.requests_of(tx, own, "received", rows, status=RequestPhase.PENDING, now=now)
        sent = contact_lists.requests_of(tx, own, "sent", rows, status=status, now=now)
        lists = RequestsOfAgent(
            received=[received_request(row, status=status_of(call, row)) for row in received.rows],
            sent=[sent_request(row, status=status_of(call, row)) for row in sent.rows],
        )
        totals = {
            name: Total(total=part.total_count, total_pages=total_pages(part.total_count, query.page_size))
            for name, part in (("received", received), ("sent", sent))
        }
        return Page(lists, RequestsMetadata(page=query.page, page_size=query.page_size, **totals))

    return await call.read(find)


@NOUN.post("/agent/contacts/requests/respond", answer=NewRequest, callers=Callers.AGENT, scopes=SCOPE, errors=ANSWERS)
async def respond_as_agent(call: Call, body: RespondBody) -> object:
    """Approve or reject a request to the agent, or cancel one of its own.

    An approval may narrow what the requester may open (`scope`); without one it may open everything.
    """
    require_named(body.handle, body.request_id, "request_id")
    scope = None if body.scope is None else body.scope.draft(call.market.exponent)
    answer = Respond(action=body.action, handle=body.handle, request_id=body.request_id, scope=scope)
    return await decide(call, RESPOND, answer)


@NOUN.get("/agent/contacts/blocks", answer=BlockAnswer, callers=Callers.AGENT, scopes=SCOPE)
async def list_agent_blocks(call: Call, query: OffsetQuery) -> object:
    """List whom the agent has blocked, oldest first."""
    return await blocks_page(call, query)


@NOUN.post(
    "/agent/contacts/block", answer=BlockAnswer, status=CREATED, callers=Callers.AGENT, scopes=SCOPE, errors=BLOCKS
)
async def block_as_agent(call: Call, body: BlockEntity) -> object:
    """Block a user or an agent: it neither finds nor reaches the caller any more, and is not told.

    What the two have open ends as with a revoked contact; pending requests between them end.
    """
    return await decide(call, BLOCK, body)


@NOUN.post("/agent/contacts/unblock", answer=Removed, callers=Callers.AGENT, scopes=SCOPE, errors=BAD_HANDLE)
async def unblock_as_agent(call: Call, body: UnblockEntity) -> object:
    """End a block. A contact that it has ended does not come back."""
    return await decide(call, UNBLOCK, body)


# What the doors of agents and of users have in common.


async def decide(call: Call, handler: Handler, request: Any) -> Any:
    """Decide an event of the contact book; its reply.

    Raises:
        Malformed: `invalid_handle`.
        Refusal: What the handler refused.
    """

    def run(tx: WriterTx) -> Outcome:
        done = deciding(call, tx, handler, request)
        return Outcome(answer=done.decision.reply, broadcasts=done.broadcasts)

    return await call.change(run)


def deciding(call: Call, tx: WriterTx, handler: Handler, request: Any) -> Done:
    """Decide an event of the contact book inside a change; a handle that is none is a bad request here.

    Raises:
        Malformed: `invalid_handle`.
        Refusal: What the handler refused.
    """
    caller = call.caller
    topic = f"{caller.kind}_contacts:{caller.id}"
    command = Command(handler=handler, topic=topic, request=request, sender=caller)
    try:
        return call.server.engine.decide(tx, command)
    except Invalid as refusal:
        if refusal.reason == "invalid_handle":
            raise Malformed(refusal.reason, refusal.message) from refusal
        raise


async def remove(call: Call, body: RemoveContact) -> Any:
    """End a contact, named in one of two ways."""
    require_named(body.handle, body.contact_id, "contact_id")
    return await decide(call, REMOVE, body)


async def contacts_page(call: Call, query: OffsetQuery, show: Callable[[Any], Any]) -> Page:
    """A page of the caller's contacts."""
    rows = query.slice("contacts")
    part = await call.read(lambda tx: contact_lists.contacts_of(tx, call.caller.id, rows, now=call.now))
    return offset_page(part, query=query, key=lambda row: row.contact.id, name="contacts", show=show)


async def blocks_page(call: Call, query: OffsetQuery) -> Page:
    """A page of those whom the caller has blocked."""
    rows = query.slice("blocks")
    part = await call.read(lambda tx: contact_lists.blocks_of(tx, call.caller.id, rows, now=call.now))
    return offset_page(part, query=query, key=lambda row: row.block.id, name="blocks", show=block_answer)


def require_named(handle: str | None, id_: str | None, field: str) -> None:
    """Refuse a body that names the other side in neither of two ways.

    Raises:
        Malformed: `malformed`.
    """
    if handle is None and id_ is None:
        raise Malformed("malformed", f"Name the other one by its handle, or name the {field}.")


def status_of(call: Call, row: contact_lists.RequestRow) -> RequestPhase:
    """Where a request stands by the clock."""
    request: ContactRequest = row.request
    return request.status_at(call.now)


def is_online(call: Call, row: contact_lists.ContactRow) -> bool:
    """Whether the other side of a contact has a connection open."""
    kind = row.other.side.type.lower()
    return call.server.hub.is_connected(f"{kind}_socket:{row.other.id}")

"""Contacts of users: asked for, answered, listed, ended; and blocks. As Band's clients call it.

A user answers for its agents too: every request to or from one of them may be named by its id.
"""

import msgspec

from agrenting.api.call import Call, Outcome
from agrenting.api.contact_answers import (
    BlockAnswer,
    NewRequest,
    Removed,
    RequestAnswer,
    UserContact,
    user_contact,
    whole_request,
)
from agrenting.api.contacts import (
    ANSWERS,
    ASKS,
    BAD_HANDLE,
    BLOCKS,
    SCOPE,
    ScopeBody,
    SentStatus,
    blocks_page,
    contacts_page,
    decide,
    deciding,
    is_online,
    remove,
    status_of,
)
from agrenting.api.offsets import OffsetQuery, offset_page
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import Page
from agrenting.db import contact_lists, states
from agrenting.db.contact_lists import Direction, Whose
from agrenting.db.transaction import ReaderTx, WriterTx
from channels.contact_book import RequestPhase
from channels.contact_requests import ADD, RESPOND, Action, AddContact, Respond
from channels.revocation import BLOCK, UNBLOCK, BlockEntity, RemoveContact, UnblockEntity

NOUN = Noun("own contacts", "Who may open what with whom: requests, contacts and blocks of users, and of their agents.")
OF_REQUEST = {**ANSWERS, 404: "not_found"}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Whom to ask: `recipient_handle`, with or without `@`; `message` has at most 500 characters."""

    recipient_handle: str
    message: str | None = None


class AskBody(msgspec.Struct, frozen=True, kw_only=True):
    """A new contact request."""

    contact_request: Asked


class ApproveBody(msgspec.Struct, frozen=True, kw_only=True):
    """An approval; `scope` narrows what the requester may open."""

    scope: ScopeBody | None = None


class ReceivedQuery(OffsetQuery, frozen=True, kw_only=True):
    """Which page. `whose`: requests to the user, to its agents, or to both."""

    whose: Whose = "me"


class SentQuery(OffsetQuery, frozen=True, kw_only=True):
    """Which page. `status` narrows; `whose`: requests of the user, of its agents, or of both."""

    status: SentStatus = "all"
    whose: Whose = "me"


@NOUN.get("/me/contacts", answer=UserContact, callers=Callers.USER, scopes=SCOPE)
async def list_own_contacts(call: Call, query: OffsetQuery) -> object:
    """List the user's contacts, oldest first."""

    def show(row: contact_lists.ContactRow) -> UserContact:
        return user_contact(row, own_id=call.caller.id, online=is_online(call, row))

    return await contacts_page(call, query, show)


@NOUN.post(
    "/me/contacts/requests", answer=RequestAnswer, status=CREATED, callers=Callers.USER, scopes=SCOPE, errors=ASKS
)
async def add_own_contact(call: Call, body: AskBody) -> object:
    """Ask a user or an agent for contact. Where it has asked already, this approves its request, which is answered.

    A conflict changes nothing, so the call may be repeated.
    """
    asked = body.contact_request
    command = AddContact(handle=asked.recipient_handle, message=asked.message)

    def ask(tx: WriterTx) -> Outcome:
        done = deciding(call, tx, ADD, command)
        request = states.load(tx, "contact_request", done.decision.reply["id"])
        answer = whole_request(contact_lists.request_row(tx, request), status=request.status)
        return Outcome(answer=answer, broadcasts=done.broadcasts)

    return await call.change(ask)


@NOUN.get("/me/contacts/requests", answer=RequestAnswer, callers=Callers.USER, scopes=SCOPE)
async def list_received_requests(call: Call, query: ReceivedQuery) -> object:
    """List the pending requests to the user, or to its agents, oldest first."""
    return await _requests(call, query, "received", whose=query.whose, status=RequestPhase.PENDING)


@NOUN.get("/me/contacts/requests/sent", answer=RequestAnswer, callers=Callers.USER, scopes=SCOPE)
async def list_sent_requests(call: Call, query: SentQuery) -> object:
    """List the requests that the user, or its agents, have made, oldest first."""
    status = None if query.status == "all" else RequestPhase(query.status)
    return await _requests(call, query, "sent", whose=query.whose, status=status)


@NOUN.post(
    "/me/contacts/requests/{id}/approve", answer=NewRequest, callers=Callers.USER, scopes=SCOPE, errors=OF_REQUEST
)
async def approve_request(call: Call, body: ApproveBody) -> object:
    """Approve a request to the user or to one of its agents; `scope` may narrow what the requester may open."""
    scope = None if body.scope is None else body.scope.draft(call.market.exponent)
    return await decide(call, RESPOND, Respond(action="approve", request_id=call.id, scope=scope))


@NOUN.post(
    "/me/contacts/requests/{id}/reject", answer=NewRequest, callers=Callers.USER, scopes=SCOPE, errors=OF_REQUEST
)
async def reject_request(call: Call) -> object:
    """Reject a request to the user or to one of its agents."""
    return await _respond(call, "reject")


@NOUN.delete("/me/contacts/requests/{id}", answer=NewRequest, callers=Callers.USER, scopes=SCOPE, errors=OF_REQUEST)
async def cancel_request(call: Call) -> object:
    """Cancel a request that the user or one of its agents has made."""
    return await _respond(call, "cancel")


@NOUN.post("/me/contacts/remove", answer=Removed, callers=Callers.USER, scopes=SCOPE, errors=BAD_HANDLE)
async def remove_own_contact(call: Call, body: RemoveContact) -> object:
    """End a contact of the user's at once; or, by its id, one of its agents'."""
    return await remove(call, body)


@NOUN.get("/me/contacts/blocks", answer=BlockAnswer, callers=Callers.USER, scopes=SCOPE)
async def list_own_blocks(call: Call, query: OffsetQuery) -> object:
    """List whom the user has blocked, oldest first."""
    return await blocks_page(call, query)


@NOUN.post("/me/contacts/block", answer=BlockAnswer, status=CREATED, callers=Callers.USER, scopes=SCOPE, errors=BLOCKS)
async def block_as_user(call: Call, body: BlockEntity) -> object:
    """Block a user or an agent: it neither finds nor reaches the caller any more, and is not told.

    It does not extend to the caller's agents: each of those blocks for itself.
    """
    return await decide(call, BLOCK, body)


@NOUN.post("/me/contacts/unblock", answer=Removed, callers=Callers.USER, scopes=SCOPE, errors=BAD_HANDLE)
async def unblock_as_user(call: Call, body: UnblockEntity) -> object:
    """End a block. A contact that it has ended does not come back."""
    return await decide(call, UNBLOCK, body)


async def _respond(call: Call, action: Action) -> object:
    return await decide(call, RESPOND, Respond(action=action, request_id=call.id))


async def _requests(
    call: Call, query: OffsetQuery, direction: Direction, *, whose: Whose, status: RequestPhase | None
) -> Page:
    name = f"requests-{direction}-{whose}-{status}"
    rows = query.slice(name)

    def find(tx: ReaderTx) -> Page:
        part = contact_lists.requests_of(tx, call.caller.id, direction, rows, status=status, now=call.now, whose=whose)
        return offset_page(
            part,
            query=query,
            key=lambda row: row.request.id,
            name=name,
            show=lambda row: whole_request(row, status=status_of(call, row)),
        )

    return await call.read(find)

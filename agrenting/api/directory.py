"""The directory: agents found by words and tags, and who has an exact handle."""

import re
from typing import Final

import msgspec

from agrenting.api.call import Call
from agrenting.api.discovery import flattened
from agrenting.api.entity_answers import DirectoryEntry, ResolvedHandle, directory_entry, resolved_handle
from agrenting.api.errors import Malformed
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import FIRST, Page, PageQuery, decode_cursor, page_of
from agrenting.db import contacts, directory
from agrenting.db.transaction import ReaderTx
from channels import discovery
from channels.contacts import exists_for
from channels.discovery import Discover, Filters, Search
from channels.errors import Invalid, not_found
from crypto import digest

NOUN = Noun("directory", "Agents that strangers find, and who has a handle.")
RESOLVES: Final = {400: "invalid_handle", 404: "not_found"}
MARK: Final = re.compile(r"([0-9])\.([0-9]{1,19})")


class DirectoryQuery(PageQuery, frozen=True, kw_only=True):
    """A search; all that is given must hold.

    Args:
        query: Full text over name, description, tags and capabilities; 1-200 characters. Every word must be there, in
            any order; where no agent has them all, the last one may be the beginning of a word.
        tags: Given several times, an agent must have them all.
    """

    query: str | None = None
    tags: tuple[str, ...] = ()


class ResolveBody(msgspec.Struct, frozen=True):
    """An exact handle, with or without `@`."""

    handle: str


@NOUN.get("/directory", answer=DirectoryEntry, scopes=("discover",), rate="discovery")
async def search_directory(call: Call, query: DirectoryQuery) -> object:
    """Search the agents that are listed with a tag.

    With words, first come those that have all of them in their name, then in name, tags and capabilities, then also in
    the description; in each of these, and without words, by reputation down. Left out are the caller itself, agents
    that are not active, and those that have blocked the caller or that it has blocked.
    """
    search = parse_search(call, query)
    name = list_name(search)
    after = parse_mark(decode_cursor(query.cursor, name=name, start=FIRST))
    viewer, hub = call.caller.party, call.server.hub

    def find(tx: ReaderTx) -> Page:
        rows = directory.find(tx, search, viewer=viewer, after=after, limit=query.limit + 1, now=call.now)
        return page_of(
            rows,
            query=query,
            key=lambda row: f"{row.mark.rank}.{row.mark.place}",
            name=name,
            show=lambda row: directory_entry(row, viewer=viewer, hub=hub),
        )

    return await call.read(find)


@NOUN.get("/handles/{handle}", answer=ResolvedHandle, scopes=("discover",), errors=RESOLVES)
async def read_handle(call: Call) -> object:
    """Say who has an exact handle: `john`, or `john/research-bot`, with or without `@`."""
    return await _resolve(call, call.id)


@NOUN.post("/me/contacts/resolve", answer=ResolvedHandle, callers=Callers.USER, scopes=("contacts",), errors=RESOLVES)
async def resolve_handle(call: Call, body: ResolveBody) -> object:
    """Say who has an exact handle, before asking for contact. It changes nothing."""
    return await _resolve(call, body.handle)


def parse_search(call: Call, query: DirectoryQuery) -> Search:
    """The search, checked as `discover` checks its own.

    Raises:
        Invalid: `invalid_payload`, with the parameter.
    """
    request = Discover(query=query.query, filters=Filters(tags=query.tags))
    try:
        return discovery.parse_search(request, call.server.engine.context(call.caller, discovery.TOPIC))
    except Invalid as refusal:
        raise flattened(refusal) from refusal


def list_name(search: Search) -> str:
    """What a cursor is good for: this very search alone."""
    return f"directory-{digest(msgspec.json.encode((search.query, search.tags)))}"


def parse_mark(place: str) -> directory.Mark:
    """The place in the order that a cursor names.

    Raises:
        Invalid: `invalid_cursor`.
    """
    if place == FIRST:
        return directory.Mark()
    match = MARK.fullmatch(place)
    if match is None or int(match[2]) > directory.PLACE_MAX:
        raise Invalid(
            "invalid_cursor", "This cursor is not one of this search; start again without one.", field="cursor"
        )
    return directory.Mark(rank=int(match[1]), place=int(match[2]))


async def _resolve(call: Call, handle: str) -> ResolvedHandle:
    """Who has a handle. Who has blocked the caller is as nobody.

    Raises:
        Malformed: `invalid_handle`.
        NotFound: `not_found`.
    """
    caller = call.caller

    def find(tx: ReaderTx) -> ResolvedHandle:
        try:
            entity = contacts.entity_by_handle(tx, handle, asker=caller)
        except Invalid as refusal:
            raise Malformed(refusal.reason, refusal.message) from refusal
        if entity is None or not exists_for(
            caller.party, entity.party, contacts.tie(tx, caller.id, entity.id, now=call.now)
        ):
            raise not_found("handle")
        return resolved_handle(entity)

    return await call.read(find)

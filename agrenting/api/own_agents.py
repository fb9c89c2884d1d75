"""The caller's own agents, registered, listed and deleted as Band's clients do it."""

from collections.abc import Sequence
from datetime import datetime
from operator import itemgetter
from typing import Final, Literal

import msgspec

from agrenting.api import agents as plain
from agrenting.api.bodies import NewAgentBody
from agrenting.api.call import Call, Outcome
from agrenting.api.entity_answers import (
    Credentials,
    DeletedAgent,
    Filter,
    OwnAgent,
    OwnAgentsMetadata,
    RegisteredAgent,
    SortableField,
    own_agent,
)
from agrenting.api.offsets import OffsetQuery, offset_page
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import Page
from agrenting.clock import to_ms
from agrenting.db import agents
from agrenting.db.pages import Part, Slice
from agrenting.db.transaction import WriterTx
from agrenting.membership import AGENTS_MAX
from channels.agents import Agent
from channels.errors import Conflict, Invalid
from channels.identity import AGENT_SCOPES
from channels.told import Told
from crypto import digest

NOUN = Noun("own agents", "The caller's own agents, as Band's clients register, list and delete them.")
NOT_A_NAME: Final = ("invalid_handle", "reserved_handle", "profane_handle", "handle_taken")
"""Why a name makes no handle. All of these are about the body here, because Band's clients repeat conflicts."""

REGISTERS: Final = {
    403: "operator_required not_a_member",
    404: "not_found",
    409: "public_key_taken",
    410: "challenge_expired",
    422: "invalid_handle reserved_handle profane_handle handle_taken invalid_capability invalid_price"
    " invalid_public_key proof_required invalid_signature",
}
FILTERS: Final = (
    Filter(label="Name", param="name", type="string"),
    Filter(label="External", param="is_external", type="boolean"),
    Filter(label="Listed in the directory", param="listed_in_directory", type="boolean"),
)
SORTABLE: Final = (
    SortableField(label="Name", param="name"),
    SortableField(label="Registered", param="inserted_at"),
    SortableField(label="Changed", param="updated_at"),
)
Flag = Literal["true", "false"]


class RegisterBody(msgspec.Struct, frozen=True):
    """A new agent; only `name` and `description` are needed."""

    agent: NewAgentBody


class OwnAgentsQuery(OffsetQuery, frozen=True, kw_only=True):
    """Which page of the caller's agents.

    Args:
        name: A part of the name, in upper or lower case.
        is_external: `false` finds none: every agent runs outside of this marketplace.
        listed_in_directory: Only those that strangers find, once they have a tag; or only the others.
    """

    name: str | None = None
    is_external: Flag | None = None
    listed_in_directory: Flag | None = None
    sort: Literal["name", "inserted_at", "updated_at"] = "inserted_at"
    order: Literal["asc", "desc"] = "desc"


class DeleteQuery(msgspec.Struct, frozen=True, kw_only=True):
    """How to delete.

    Args:
        force: Changes nothing: an agent with money or unfinished work is not deleted, and records are kept either way.
    """

    force: Flag | None = None


@NOUN.post(
    "/me/agents/register",
    answer=RegisteredAgent,
    status=CREATED,
    callers=Callers.USER,
    secrets=("credentials.api_key",),
    errors=REGISTERS,
)
async def register_own_agent(call: Call, body: RegisterBody) -> object:
    """Register an agent, as `POST /agents` does. Its API key is shown this once.

    A name that makes no handle is refused with 422, whatever the reason: Band's clients repeat what is refused with
    409.
    """

    def register(tx: WriterTx) -> Outcome:
        agent, api_key, told = _registered(call, tx, body)
        answer = RegisteredAgent(agent=own_agent(agent), credentials=Credentials(api_key=api_key))
        return Outcome(answer=answer, broadcasts=told)

    return await call.change(register)


@NOUN.get("/me/agents", answer=OwnAgent, callers=Callers.USER, scopes=("agents:read",))
async def list_own_agents(call: Call, query: OwnAgentsQuery) -> object:
    """List the caller's agents, newest first unless another order is asked for."""
    name = _list_name(query)
    rows, owner_id = query.slice(name), call.caller.user_id
    own = await call.read(lambda tx: agents.of_owner(tx, owner_id, after="", limit=AGENTS_MAX))
    part = part_of([agent for agent in own if _is_asked_for(agent, query)], query, rows)
    page = offset_page(part, query=query, key=lambda row: sort_key(row, query.sort), name=name, show=own_agent)
    metadata = OwnAgentsMetadata(
        **msgspec.structs.asdict(page.metadata), available_filters=FILTERS, sortable_fields=SORTABLE
    )
    return Page(page.items, metadata)


@NOUN.delete(
    "/me/agents/{id}",
    answer=DeletedAgent,
    callers=Callers.USER,
    scopes=AGENT_SCOPES,
    errors={404: "not_found", 409: "agent_in_use"},
)
async def delete_own_agent(call: Call, query: DeleteQuery) -> object:
    """Delete an agent that has no money, no open negotiation and no unfinished task, as `DELETE /agents/{id}` does.

    `force` changes nothing about that. What the agent did stays on record.
    """
    del query  # `force` is accepted, because Band's clients send it.

    def show(agent: Agent) -> DeletedAgent:
        return DeletedAgent(id=agent.id, name=agent.name, description=agent.description)

    return await call.change(lambda tx: plain.deleted(call, tx, show))


def sort_key(agent: Agent, sort: str) -> str:
    """An agent's place in an order, as a cursor carries it: equal ones by id."""
    # The separator is less than all that a name may have, so a name stands before those that it begins.
    value = agent.name.casefold() if sort == "name" else f"{to_ms(_time_of(agent, sort)):015d}"
    return f"{value}\0{agent.id}"


def part_of(own: Sequence[Agent], query: OwnAgentsQuery, rows: Slice) -> Part:
    """The part of the caller's agents that is asked for. An owner's are few, so they are sorted here."""
    is_descending = query.order == "desc"
    keyed = sorted(((sort_key(agent, query.sort), agent) for agent in own), key=itemgetter(0), reverse=is_descending)
    if rows.after:
        keyed = [(key, agent) for key, agent in keyed if key != rows.after and (key < rows.after) is is_descending]
    shown = keyed[rows.offset : rows.offset + rows.limit]
    return Part(rows=[agent for _, agent in shown], total_count=len(own))


def _time_of(agent: Agent, sort: str) -> datetime:
    return agent.created_at if sort == "inserted_at" else agent.updated_at


def _is_asked_for(agent: Agent, query: OwnAgentsQuery) -> bool:
    listed = query.listed_in_directory
    return (
        (query.name is None or query.name.casefold() in agent.name.casefold())
        and query.is_external != "false"
        and (listed is None or agent.is_listed is (listed == "true"))
    )


def _list_name(query: OwnAgentsQuery) -> str:
    asked = (query.name, query.is_external, query.listed_in_directory, query.sort, query.order)
    return f"own-agents-{digest(msgspec.json.encode(asked))}"


def _registered(call: Call, tx: WriterTx, body: RegisterBody) -> tuple[Agent, str, tuple[Told, ...]]:
    """A new agent, its key, and what is told; refusals name the field as this body has it.

    Raises:
        Refusal: What `registered` of the other door refuses.
    """
    try:
        return plain.registered(call, tx, body.agent)
    except (Invalid, Conflict) as refusal:
        if refusal.reason in NOT_A_NAME:
            field = "agent.name"
        elif isinstance(refusal, Invalid):
            field = f"agent.{refusal.context.get('field', '')}".rstrip(".")
        else:
            raise
        raise Invalid(refusal.reason, refusal.message, **{**refusal.context, "field": field}) from refusal

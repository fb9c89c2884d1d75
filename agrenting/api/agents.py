"""Agents: registered, changed and deleted by their owners, seen by others as `discover` shows them."""

from collections.abc import Callable
from typing import Any

import msgspec

from agrenting import registry
from agrenting.api.answers import AgentAnswer, AgentHit, ChallengeAnswer, Done, NewAgent, agent_answer
from agrenting.api.bodies import AgentPatchBody, NewAgentBody
from agrenting.api.call import Call, Outcome
from agrenting.api.operation import CREATED, Callers, Noun
from agrenting.api.paging import FIRST, PageQuery, decode_cursor, page_of
from agrenting.api.proofs import make_challenge, require_proof
from agrenting.db import agents, alerts, contacts, people, states
from agrenting.db.people import User
from agrenting.db.transaction import ReaderTx, Tx, WriterTx
from agrenting.membership import forget
from channels import discovery
from channels.agents import Agent
from channels.contacts import is_discoverable_by
from channels.errors import Conflict, Forbidden, not_found
from channels.handlers import UpdateMeta
from channels.identity import AGENT_SCOPES
from channels.registration import revise
from channels.told import Audience, Broadcast, Told

NOUN = Noun("agents", "Who can be hired, for what, at which price.")
NAME = "agents"
REGISTERS = {
    403: "operator_required not_a_member",
    404: "not_found",
    409: "handle_taken public_key_taken",
    410: "challenge_expired",
    422: "invalid_handle reserved_handle profane_handle invalid_capability invalid_price invalid_public_key"
    " proof_required invalid_signature",
}


@NOUN.post(
    "/key-challenges",
    answer=ChallengeAnswer,
    status=CREATED,
    callers=Callers.USER,
    secrets=("challenge",),
)
async def create_key_challenge(call: Call) -> object:
    """Ask for a challenge, which proves that one holds a public key's secret half. It is good once, for ten minutes."""
    return await call.change(lambda tx: make_challenge(call, tx))


@NOUN.post("/agents", answer=NewAgent, status=CREATED, callers=Callers.USER, secrets=("api_key",), errors=REGISTERS)
async def register_agent(call: Call, body: NewAgentBody) -> object:
    """Register an agent. Its API key is shown this once, and has no more scopes and no higher caps than the caller's.

    An operator may register it for another user (`owner`). A public key needs a proof: the bytes of kind `key.proof`
    over a challenge of the caller's, signed by that key.
    """

    def register(tx: WriterTx) -> Outcome:
        agent, api_key, told = registered(call, tx, body)
        return Outcome(answer={**msgspec.structs.asdict(agent_answer(agent)), "api_key": api_key}, broadcasts=told)

    return await call.change(register)


@NOUN.get("/agents", answer=AgentAnswer, callers=Callers.USER, scopes=("agents:read",))
async def list_agents(call: Call, query: PageQuery) -> object:
    """List the caller's agents, oldest first."""
    after = decode_cursor(query.cursor, name=NAME, start=FIRST)
    rows = await call.read(lambda tx: agents.of_owner(tx, call.caller.user_id, after=after, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name=NAME, show=agent_answer)


@NOUN.get("/agents/{id}", answer=AgentAnswer | AgentHit, scopes=("agents:read",), errors={404: "not_found"})
async def read_agent(call: Call) -> object:
    """Read an agent: whole for its owner, itself and operators; for others as `discover` shows it, if it does."""
    return await call.read(lambda tx: _shown(call, tx))


@NOUN.patch(
    "/agents/{id}",
    answer=AgentAnswer,
    callers=Callers.USER,
    scopes=AGENT_SCOPES,
    errors={
        403: "operator_required",
        404: "not_found",
        409: "key_in_use public_key_taken terminal_state invalid_transition",
        410: "challenge_expired",
        422: "invalid_capability invalid_price invalid_public_key proof_required invalid_signature",
    },
)
async def change_agent(call: Call, body: AgentPatchBody) -> object:
    """Change an agent of one's own; what is left out stays. Its handle never changes.

    The signing key cannot change while a negotiation or a payment channel is open. A change of status or visibility
    disconnects the agent's sockets, so that they come back as what it is now.
    """
    return await call.change(lambda tx: _change(call, tx, body))


@NOUN.delete(
    "/agents/{id}",
    answer=Done,
    callers=Callers.USER,
    scopes=AGENT_SCOPES,
    errors={404: "not_found", 409: "agent_in_use"},
)
async def delete_agent(call: Call) -> object:
    """Delete an agent that has no money, no open negotiation and no unfinished task. What it did stays on record."""
    return await call.change(lambda tx: deleted(call, tx, lambda _: Done("deleted")))


def deleted(call: Call, tx: WriterTx, show: Callable[[Agent], Any]) -> Outcome:
    """Delete the caller's agent of the id in the path.

    Args:
        call: By its owner.
        tx: Of the change.
        show: The agent that is gone, as it is answered.

    Raises:
        NotFound: `not_found`.
        Conflict: `agent_in_use`.
    """
    agent = _own_agent(call, tx)
    if agents.is_in_use(tx, agent.id):
        raise Conflict("agent_in_use", "This agent has money, a negotiation, a task or a payment channel.")
    told = forget(tx, agent, call.server.engine.context(call.caller, f"agent_contacts:{agent.id}"))
    told += alerts.forget_agent(tx, agent.id, now=call.now, market=call.market)
    people.delete_keys_of_agent(tx, agent.id, call.now)
    agents.delete(tx, agent.id)
    return Outcome(answer=show(agent), broadcasts=told, disconnects=(f"agent_socket:{agent.id}",))


def registered(call: Call, tx: WriterTx, body: NewAgentBody) -> tuple[Agent, str, tuple[Told, ...]]:
    """Register an agent of the caller's, or by an operator one of somebody else's: it, its key, and what is told.

    Raises:
        Refusal: What `registry.create_agent` and `require_proof` refuse; `operator_required`.
    """
    owner, caller = _owner(call, tx, body), call.caller
    agent, api_key, told = registry.create_agent(
        tx,
        owner,
        body,
        organisation=body.organisation,
        by_operator=caller.is_operator,
        maker=caller,
        now=call.now,
        market=call.market,
    )
    require_proof(call, tx, public_key=agent.public_key, proof=body.proof, owner_id=owner.id, agent_id=None)
    return agent, api_key, told


def _owner(call: Call, tx: Tx, body: NewAgentBody) -> User:
    if body.owner is not None:
        if not call.caller.is_operator:
            raise Forbidden("operator_required", "Only an operator registers agents for other users.")
        return registry.require_user(tx, body.owner)
    owner = people.user_by_id(tx, call.caller.user_id)
    assert owner is not None, "the caller's user exists"
    return owner


def _change(call: Call, tx: WriterTx, body: AgentPatchBody) -> Outcome:
    agent = _own_agent(call, tx)
    after = revise(agent, body, by_operator=call.caller.is_operator, now=call.now, market=call.market)
    if after.public_key != agent.public_key and agents.has_open_signatures(tx, agent.id):
        raise Conflict("key_in_use", "This agent's key signs in an open negotiation or channel; end it first.")
    new_key = after.public_key if after.public_key != agent.public_key else None
    require_proof(call, tx, public_key=new_key, proof=body.proof, owner_id=agent.owner_id, agent_id=agent.id)
    states.save(tx, "agent", agent.id, after)
    return Outcome(answer=agent_answer(after), **_told(agent, after))


def _told(before: Agent, after: Agent) -> dict[str, Any]:
    """Who is told of a change: who watches the market, as when the agent announces it itself."""
    if (before.status, before.is_global) != (after.status, after.is_global):
        return {"disconnects": (f"agent_socket:{after.id}",)}
    names = [own.name for own in after.capabilities]
    meta = {"name": after.name, "capabilities": names, "metadata": after.metadata}
    presence = (UpdateMeta(discovery.TOPIC, meta, agent_id=after.id, merge=True),)
    if not after.is_active or names == [own.name for own in before.capabilities]:
        return {"presence": presence}
    payload = {"agent_id": after.id, "capabilities": names, "updated_at": after.updated_at}
    updated = Broadcast(discovery.TOPIC, "agent_updated", payload, Audience.ALL, about=after.id)
    return {"presence": presence, "broadcasts": (updated,)}


def _own_agent(call: Call, tx: Tx) -> Agent:
    agent: Agent | None = states.load(tx, "agent", call.id)
    if agent is None or agent.owner_id != call.caller.user_id:
        raise not_found("agent")
    return agent


def _shown(call: Call, tx: ReaderTx) -> Any:
    agent: Agent | None = states.load(tx, "agent", call.id)
    if agent is None:
        raise not_found("agent")
    caller = call.caller
    is_owner = caller.agent_id is None and agent.owner_id == caller.user_id
    if is_owner or caller.agent_id == agent.id or caller.is_operator:
        return agent_answer(agent)
    viewer, tie = caller.party, contacts.tie(tx, caller.id, agent.id, now=call.now)
    if not agent.is_active or not is_discoverable_by(viewer, agent.party, tie):
        raise not_found("agent")
    hit = discovery.Hit(agent=agent, status=agents.presence_of(tx, agent.id), price=agent.base_price, tie=tie)
    return discovery.hit_payload(hit, viewer)

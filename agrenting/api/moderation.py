"""What operators decide about agents: suspend, reinstate, ban."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Protocol

from agrenting.api.answers import AgentAnswer, agent_answer
from agrenting.api.call import Call, Outcome
from agrenting.api.operation import Callers, Noun
from agrenting.db import pages, people, states
from agrenting.db.changes import carry_out
from agrenting.db.transaction import WriterTx
from agrenting.membership import forget
from channels.agents import Agent
from channels.ending import BANNED, ban_task, cancel_negotiation
from channels.errors import not_found
from channels.handlers import Context, Decision
from channels.payment_moves import revoked
from channels.payment_state import Cause
from channels.registration import ban, reinstate, suspend
from channels.told import Told

NOUN = Noun("moderation", "For operators: who may trade.")
ERRORS = {404: "not_found", 409: "terminal_state invalid_transition"}


def _ends(agent_id: str) -> tuple[tuple[str, Callable[[Any, Context], Decision]], ...]:
    """Store of what an agent may have open → what its ban makes of it."""
    return (
        ("negotiation", partial(cancel_negotiation, reason=BANNED)),
        ("task", partial(ban_task, agent_id=agent_id)),
        ("payment", partial(revoked, cause=Cause.BANNED)),
    )


class Move(Protocol):
    """An agent into another status."""

    def __call__(self, agent: Agent, *, now: datetime) -> Agent:
        """The agent in its new status."""
        ...


@NOUN.post("/admin/agents/{id}/suspend", answer=AgentAnswer, callers=Callers.OPERATOR, errors=ERRORS)
async def suspend_agent(call: Call) -> object:
    """Take an agent out of the market for a while; what runs, it finishes. Its sockets are disconnected."""
    return await call.change(lambda tx: _move(call, tx, suspend))


@NOUN.post("/admin/agents/{id}/reinstate", answer=AgentAnswer, callers=Callers.OPERATOR, errors=ERRORS)
async def reinstate_agent(call: Call) -> object:
    """End a suspension. The agent's sockets are disconnected, so that they come back as those of an active agent."""
    return await call.change(lambda tx: _move(call, tx, reinstate))


@NOUN.post("/admin/agents/{id}/ban", answer=AgentAnswer, callers=Callers.OPERATOR, errors={404: "not_found"})
async def ban_agent(call: Call) -> object:
    """Ban an agent for good.

    In the same transaction its open negotiations and unfinished tasks are cancelled, and money that is held for them
    goes back to the clients; but tasks whose output is verified become disputed, and so do those that it has completed
    and that money is still held for. Its payment channels are force-closed, its contacts and pending contact requests
    end, and its keys are revoked. Its sockets are disconnected.
    """

    def carry_out_ban(tx: WriterTx) -> Outcome:
        moved = _move(call, tx, ban)
        people.delete_keys_of_agent(tx, call.id, call.now)
        told = [one for store, end in _ends(call.id) for one in _end_all(call, tx, store, end)]
        told += forget(tx, states.load(tx, "agent", call.id), call.server.engine.context(call.caller, ""))
        return Outcome(answer=moved.answer, disconnects=moved.disconnects, broadcasts=tuple(told))

    return await call.change(carry_out_ban)


def _move(call: Call, tx: WriterTx, move: Move) -> Outcome:
    agent: Agent | None = states.load(tx, "agent", call.id)
    if agent is None:
        raise not_found("agent")
    after = move(agent, now=call.now)
    if after is agent:
        return Outcome(answer=agent_answer(agent))
    states.save(tx, "agent", agent.id, after)
    return Outcome(answer=agent_answer(after), disconnects=(f"agent_socket:{agent.id}",))


def _end_all(call: Call, tx: WriterTx, store: str, end: Callable[[Any, Context], Decision]) -> list[Told]:
    told: list[Told] = []
    for id_ in pages.open_of_agent(tx, store, call.id):
        context = call.server.engine.context(call.caller, f"{store}:{id_}")
        decision = end(states.load(tx, store, id_), context)
        told += carry_out(tx, decision, context, store=store, state_id=id_)
    return told

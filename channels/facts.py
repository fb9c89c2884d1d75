"""Facts: what a unit's changes add to the sums that analytics tells.

What a change adds is what its state counts now (counting.py), less what it counted before. So a dispute of a completed
task takes it out of the minute that it was completed in, and what a minute counts may be less than 0, while coarser
buckets hold what it takes away.

Every event of the market comes by here, in the writer, and most count nothing: a chunk of a stream is told from a start
or an end by three comparisons.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from channels.agents import Agent
from channels.changes import Changed, Happened, Posted
from channels.channel_steps import ChannelStep, StepKind
from channels.counting import (
    GLOBAL,
    SUMS,
    Facts,
    OwnerOf,
    Parts,
    TaskLife,
    count_earned,
    count_end,
    count_hired,
    count_message,
    count_opened,
    count_reputation,
    count_session,
    count_spent,
    count_started,
    count_transfer,
    scopes_of,
    scopes_of_both,
)
from channels.ledger import FEES, Entry, available
from channels.negotiation_state import NegotiationSession
from channels.negotiation_state import Phase as NegotiationPhase
from channels.task_state import FINAL, Phase, Task

__all__ = ["GLOBAL", "SUMS", "Facts", "OwnerOf", "facts_of"]

PAYING: Final = frozenset({"release", "split"})
"""The kinds of ledger entries by which a provider earns."""

Tasks = dict[str, tuple[Task | None, Task]]
"""The tasks that a unit has changed, by id: before and after."""


def facts_of(happened: Sequence[Happened], owner_of: OwnerOf) -> Facts:
    """What a unit adds to the sums.

    Args:
        happened: What the unit has done, in order. The ledger's entries and the transfers that pay a task stand beside
            the change of that task, as they do in every decision that pays one.
        owner_of: Whose an agent is, or was.
    """
    facts = Facts()
    tasks: Tasks = {}
    for one in happened:
        if isinstance(one, Changed) and one.store == "task":
            tasks[one.after.id] = (tasks[one.after.id][0] if one.after.id in tasks else one.before, one.after)
    for before, after in tasks.values():
        _count_task(facts, before, after, owner_of)
    for one in happened:
        if isinstance(one, Changed):
            _count_state(facts, one, tasks, owner_of)
        elif isinstance(one, Posted):
            _count_entry(facts, one.entry, one.at, tasks, owner_of)
        else:
            _count_step(facts, one.step, tasks, owner_of)
    return facts


def _count_task(facts: Facts, before: Task | None, after: Task, owner_of: OwnerOf) -> None:
    """A task is saved for every chunk of its streams: mostly nothing of it counts."""
    is_started = after.started_at is not None and (before is None or before.started_at is None)
    was, now = None if before is None else _end_of(before), _end_of(after)
    if before is not None and not is_started and was == now:
        return
    providers = scopes_of(after.provider_agent_id, owner_of)
    if before is None:
        count_opened(facts, after, providers)
        count_hired(facts, after.created_at, scopes_of(after.client_agent_id, owner_of))
    if is_started:
        count_started(facts, after, providers)
    if was != now:
        owner_id = owner_of(after.provider_agent_id)
        if before is not None:
            count_end(facts, before, providers, owner_id=owner_id, sign=-1)
        count_end(facts, after, providers, owner_id=owner_id)


def _end_of(task: TaskLife) -> tuple[Phase, datetime | None, datetime | None] | None:
    return (task.status, task.started_at, task.ended_at) if task.status in FINAL else None


def _count_state(facts: Facts, changed: Changed, tasks: Tasks, owner_of: OwnerOf) -> None:
    before, after = changed.before, changed.after
    if changed.store == "negotiation":
        _count_session(facts, before, after, owner_of)
    elif changed.store == "message" and before is None:
        count_message(facts, after.inserted_at, scopes_of(after.to_agent_id, owner_of))
    elif changed.store == "agent":
        _count_agent(facts, before, after, tasks)


def _count_session(
    facts: Facts, before: NegotiationSession | None, after: NegotiationSession, owner_of: OwnerOf
) -> None:
    is_agreed = after.status is NegotiationPhase.AGREED and (before is None or before.status is not after.status)
    if before is not None and not is_agreed:
        return
    scopes = scopes_of_both(after.client_agent_id, after.provider_agent_id, owner_of)
    count_session(facts, after.created_at if before is None else None, after.ended_at if is_agreed else None, scopes)


def _count_agent(facts: Facts, before: Agent | None, after: Agent, tasks: Tasks) -> None:
    """A reputation changes with the end of a task, or its settlement, whose time it bears."""
    if before is None:
        count_reputation(facts, f"agent:{after.id}", after.created_at, after.reputation_centi)
        return
    if _counted_of(before) == _counted_of(after):
        return
    times = [
        task.ended_at if task.settlement is None else task.settlement.settled_at
        for _, task in tasks.values()
        if task.provider_agent_id == after.id
    ]
    at = max(filter(None, times), default=None)
    if at is not None:
        count_reputation(facts, f"agent:{after.id}", at, after.reputation_centi)


def _counted_of(agent: Agent) -> tuple[int, int, int]:
    return agent.tasks_completed, agent.tasks_failed, agent.dispute_delta_centi


def _count_entry(facts: Facts, entry: Entry, at: datetime, tasks: Tasks, owner_of: OwnerOf) -> None:
    if entry.kind not in PAYING or entry.task_id not in tasks:
        return
    _, task = tasks[entry.task_id]
    parts = {posting.account: posting.amount for posting in entry.postings}
    fees = parts.get(FEES, 0)
    gross = parts.get(available(task.provider_agent_id), 0) + fees
    providers = scopes_of(task.provider_agent_id, owner_of)
    count_earned(facts, task, at, Parts(gross, fees), providers)
    count_spent(facts, at, gross, scopes_of(task.client_agent_id, owner_of))


def _count_step(facts: Facts, step: ChannelStep, tasks: Tasks, owner_of: OwnerOf) -> None:
    if step.kind is not StepKind.TRANSFER:
        return
    amount: int = step.details["amount"]
    payers = scopes_of(step.details["from_agent_id"], owner_of)
    payees = scopes_of(step.details["to_agent_id"], owner_of)
    count_transfer(facts, step.at, amount, payers=payers, payees=payees)
    before, task = tasks.get(step.details["task_id"], (None, None))
    if before is not None and task is not None and task.paid > before.paid:
        count_earned(facts, task, step.at, Parts(amount, 0), payees, is_streamed=True)
        count_spent(facts, step.at, amount, payers)

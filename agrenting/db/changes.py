"""Decisions into rows: the one place where what a handler decided is carried out, inside its transaction."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from agrenting.clock import day_of, to_ms
from agrenting.db import agents, alerts, channel_steps, ledger, messages, private, room_messages, states, streams
from agrenting.db.transaction import WriterTx
from channels.agents import Agent
from channels.changes import (
    DropAlert,
    DropContexts,
    DropMessages,
    DropStreams,
    Insert,
    Mail,
    NotePresence,
    NoteStep,
    Outcome,
    Save,
    SetThreshold,
    Spend,
    StoreCheckpoint,
    StoreChunk,
    StoreContext,
    StoreRoomMessage,
    Timer,
)
from channels.handlers import Context, Decision
from channels.ledger import Entry
from channels.private_ends import ended
from channels.task_state import RETENTION, without_documents
from channels.told import Broadcast, Saved, Told

DEALS: Final = frozenset({"negotiation", "task"})
"""The stores of what may have a private channel of its own."""


def carry_out(tx: WriterTx, decision: Decision, context: Context, *, store: str, state_id: str) -> tuple[Told, ...]:
    """Save what was decided; what is told of it, once durable.

    Args:
        tx: The transaction that the decision's state was loaded in.
        decision: What was decided.
        context: Who asked, and when.
        store: Where `decision.state` goes; empty where there is none.
        state_id: Its id.

    Raises:
        Conflict: `insufficient_balance`, `spend_cap_exceeded`.
        StaleState: Somebody has changed a state since it was loaded.
    """
    if decision.state is not None:
        assert store, "a handler that decides a state names its loader"
        states.save(tx, store, state_id, decision.state)
    told = carry_out_changes(tx, decision, context)
    return (*decision.broadcasts, *told, *_saved(tx, store, decision.state, context))


def carry_out_changes(tx: WriterTx, decision: Decision, context: Context) -> tuple[Told, ...]:
    """Carry out what a decision changes beside the state that it rests on; what is told of that.

    Raises:
        Conflict, StaleState: As `carry_out`.
    """
    told: list[Told] = []
    for change in decision.changes:
        mail = _carry_out(tx, change, context)
        if mail is not None:
            told.append(mail)
        if isinstance(change, Save):
            told += _saved(tx, change.store, change.state, context)
    return tuple(told)


def _saved(tx: WriterTx, store: str, state: Any, context: Context) -> tuple[Told, ...]:
    """What follows from a saved state: the end of a deal's private channel; and what goes ahead of the writer knows it.

    Why the channel ends here: a deal has many ways to end, and none of them may leave it.
    """
    if state is None or store not in DEALS:
        return ()
    told = (Saved(state.topic, without_documents(state)),) if store == "task" else ()
    if state.private_channel_id is None or not state.ends_channel:
        return told
    channel = states.load(tx, "private", state.private_channel_id)
    return told if channel is None else (*told, *carry_out(tx, ended(channel, context), context, store="", state_id=""))


def _carry_out(tx: WriterTx, change: Any, context: Context) -> Broadcast | None:
    if isinstance(change, Mail):
        return messages.deliver(tx, change, context)
    CARRIED[type(change)](tx, change, context)
    return None


def _drop_streams(tx: WriterTx, change: DropStreams, context: Context) -> None:
    if not streams.drop(tx, change.task_id):
        set_timer(tx, Timer(RETENTION, f"task:{change.task_id}", context.now))  # The rest goes at once, too.


def _spend(tx: WriterTx, change: Spend, context: Context) -> None:
    ledger.count_spending(tx, key_id=context.sender.key_id, amount=change.amount, now=context.now)


def _store_context(tx: WriterTx, change: StoreContext, context: Context) -> None:
    types_max = context.market.limits.private_context_types_max
    private.store_context(tx, change.channel_id, change.context, types_max=types_max)


def set_timer(tx: WriterTx, timer: Timer) -> None:
    """Arm a timer, or disarm it."""
    if timer.due_at is None:
        tx.run("DELETE FROM timers WHERE topic = :topic AND kind = :kind", topic=timer.topic, kind=timer.kind)
        return
    tx.run(
        "INSERT INTO timers (topic, kind, due_at) VALUES (:topic, :kind, :due_at)"
        " ON CONFLICT (topic, kind) DO UPDATE SET due_at = excluded.due_at",
        topic=timer.topic,
        kind=timer.kind,
        due_at=to_ms(timer.due_at),
    )


def count_outcome(tx: WriterTx, outcome: Outcome, *, now: datetime) -> None:
    """Count a task's end for the provider, if it is the first of that client's owner in this UTC day.

    What was counted of the same task before is corrected.
    """
    completed, failed = _counted(tx, outcome, now=now)
    if not (completed or failed or outcome.delta_centi):
        return
    provider: Agent | None = states.load(tx, "agent", outcome.provider_agent_id)
    if provider is None:
        return
    after = msgspec.structs.replace(
        provider,
        tasks_completed=provider.tasks_completed + completed,
        tasks_failed=provider.tasks_failed + failed,
        dispute_delta_centi=provider.dispute_delta_centi + outcome.delta_centi,
    )
    states.save(tx, "agent", provider.id, after)


def _counted(tx: WriterTx, outcome: Outcome, *, now: datetime) -> tuple[int, int]:
    """Note an outcome; by how much it changes the completed and the failed tasks that are counted."""
    is_completed = outcome.is_completed
    row = tx.one("SELECT is_completed FROM outcomes WHERE task_id = :task_id", task_id=outcome.task_id)
    if row is not None:
        tx.run(
            "UPDATE outcomes SET is_completed = :is_completed WHERE task_id = :task_id",
            task_id=outcome.task_id,
            is_completed=is_completed,
        )
        changed = int(is_completed) - int(row[0])
        return changed, -changed
    if outcome.is_correction:
        return 0, 0  # Another task of that day was counted in its place, and still is.
    counted = tx.run(
        "INSERT INTO outcomes (provider_agent_id, client_owner_id, day, task_id, is_completed)"
        " VALUES (:provider, :client_owner, :day, :task_id, :is_completed) ON CONFLICT DO NOTHING",
        provider=outcome.provider_agent_id,
        client_owner=outcome.client_owner_id,
        day=day_of(now),
        task_id=outcome.task_id,
        is_completed=is_completed,
    )
    return counted * is_completed, counted * (not is_completed)


CARRIED: Final[Mapping[type, Callable[[WriterTx, Any, Context], object]]] = {
    Entry: lambda tx, change, context: ledger.post(tx, change, now=context.now),
    Timer: lambda tx, change, _context: set_timer(tx, change),
    Spend: _spend,
    Insert: lambda tx, change, _context: states.insert(tx, change.store, change.id, change.state),
    Save: lambda tx, change, _context: states.save(tx, change.store, change.id, change.state),
    StoreChunk: lambda tx, change, _context: streams.append(tx, change),
    StoreCheckpoint: lambda tx, change, _context: streams.keep_checkpoint(tx, change),
    DropStreams: _drop_streams,
    NoteStep: lambda tx, change, _context: channel_steps.append(tx, change.channel_id, change.step),
    NotePresence: lambda tx, change, _context: agents.set_presence(tx, change.agent_id, change.presence),
    DropMessages: lambda tx, change, _context: messages.drop(tx, change),
    StoreRoomMessage: lambda tx, change, _context: room_messages.store(tx, change.message),
    StoreContext: _store_context,
    DropContexts: lambda tx, change, _context: private.drop_contexts(tx, change.channel_id),
    DropAlert: lambda tx, change, _context: alerts.drop(tx, change),
    SetThreshold: lambda tx, change, _context: alerts.set_threshold(tx, change),
    Outcome: lambda tx, change, context: count_outcome(tx, change, now=context.now),
}
"""How each kind of change is carried out; but for mail, of which something is told."""

"""How a task ends, and where its price goes then: to the provider, less the fee, or back to the client.

    IN_PROGRESS ── complete; the clock, if output is delivered ──► COMPLETED ── at once, or held for hold_seconds:
                                                                       ├── release, by the client ──► paid
                                                                       ├── the clock ───────────────► paid
                                                                       └── dispute ─────────────────► task_disputes.py

The end counts for the provider's reputation when the task ends, also while its price is held: whether the client takes
a look has no part in it. Once a task has ended and nothing is held for it, its streams are kept for a while.

Why the price is held after completion: so that the client can look at what it has got before the money is gone.
"""

import re
from datetime import timedelta
from typing import Any, Final

import msgspec

from channels.changes import Change, DropStreams, Outcome, Timer
from channels.documents import is_same_document, require_document
from channels.errors import Conflict, Invalid
from channels.handlers import Context, Decision, Empty
from channels.ledger import refund, release
from channels.negotiation import require_text
from channels.task_state import (
    DEADLINE,
    HOLD,
    RETENTION,
    RUNNING,
    Escrow,
    Phase,
    Task,
    TaskError,
    relayed,
    require_participant,
    require_role,
    require_running,
    require_unlocked,
    snapshot,
    started,
)
from channels.told import Broadcast

ERROR_TYPE: Final = re.compile(r"[a-z0-9_]{1,64}")
TOLD_AT_END: Final = {
    Phase.COMPLETED: "task_completed",
    Phase.FAILED: "task_failed",
    Phase.CANCELLED: "task_cancelled",
}

Moved = tuple[Task, tuple[Change, ...]]
"""A task after its price has moved, and what goes with that in the same transaction."""


class Complete(msgspec.Struct, frozen=True, kw_only=True):
    """The work is done. `result`: any JSON, at most 64 KiB."""

    result: Any = None


class ReportError(msgspec.Struct, frozen=True, kw_only=True):
    """The work has failed. `type`: 1-64 of a-z, 0-9 and _; `details`: any JSON, at most 64 KiB."""

    type: str
    details: Any = None


class Cancel(msgspec.Struct, frozen=True, kw_only=True):
    """End the task without work; `reason`, at most 2,000 characters, is told to the other side."""

    reason: str = ""


def complete(task: Task | None, request: Complete, context: Context) -> Decision:
    """Hand the work over; provider only. The held price is paid, less the fee: at once, or once the hold is over.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`; `terminal_state`; `stream_incomplete`: an output stream was started and is not
            closed; `nothing_delivered`: there is neither output nor a result.
        Expired: `expired`.
    """
    require_document("result", request.result, bytes_max=context.market.limits.result_bytes_max)
    task = require_role(task, context, "provider")
    is_ended_so = task.status is Phase.COMPLETED and task.ended_by == task.provider_agent_id
    if is_ended_so and is_same_document(task.result, request.result):
        return duplicate(task, context)
    require_running(task, context)
    output = task.output_stream
    if output.stored_count > 0 and not output.is_complete:
        raise Conflict(
            "stream_incomplete",
            "Close the output stream with output_complete before completing the task.",
            next_seq=output.next_seq,
        )
    if request.result is None and not output.is_delivered:
        raise Conflict("nothing_delivered", "Deliver output or a result before completing the task.")
    after = msgspec.structs.replace(started(task, context.now), result=request.result)
    return _end(after, Phase.COMPLETED, context, ended_by=task.provider_agent_id)


def release_price(task: Task | None, _request: Empty, context: Context) -> Decision:
    """Pay a completed task's price before its hold is over; client only.

    Raises:
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`; `not_completed`, with the status; `not_held`, with the escrow_status: it costs
            nothing, or the price went back.
    """
    task = require_role(task, context, "client")
    require_unlocked(task)
    if task.status in RUNNING:
        raise Conflict(
            "not_completed",
            f"This task is not completed, but {task.status}; there is nothing to pay yet.",
            status=task.status,
        )
    if task.escrow_status is Escrow.RELEASED:
        return duplicate(task, context)
    if task.escrow_status is not Escrow.HELD:
        raise Conflict("not_held", "No price is held for this task.", escrow_status=task.escrow_status)
    return _release(task, context)


def error(task: Task | None, request: ReportError, context: Context) -> Decision:
    """Give the work up; provider only. The client gets the whole price back.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`, `terminal_state`.
        Expired: `expired`.
    """
    if not ERROR_TYPE.fullmatch(request.type):
        raise Invalid("invalid_payload", "An error's type has 1-64 of a-z, 0-9 and _.", field="type")
    require_document("details", request.details, bytes_max=context.market.limits.result_bytes_max)
    task = require_role(task, context, "provider")
    made = TaskError(type=request.type, details=request.details)
    is_ended_so = task.status is Phase.FAILED and task.ended_by == task.provider_agent_id
    if is_ended_so and is_same_document(task.error, made):
        return duplicate(task, context)
    require_running(task, context)
    sent = {"task_id": task.id, "agent_id": task.provider_agent_id, **msgspec.structs.asdict(made)}
    after = msgspec.structs.replace(task, error=made)
    return _end(after, Phase.FAILED, context, ended_by=task.provider_agent_id, before=(relayed(task, "error", sent),))


def cancel(task: Task | None, request: Cancel, context: Context) -> Decision:
    """End the task without work: the client takes it back, or the provider declines. The client gets the price back.

    A provider that cancels what it has started has failed it.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Conflict: `escrow_locked`; `terminal_state`; `output_delivered`: to the client, once output has come that money
            is held for.
        Expired: `expired`.
    """
    require_text("reason", request.reason, context.market)
    task = require_participant(task, context)
    agent_id = context.sender.require_agent()
    if task.status is Phase.CANCELLED and (task.ended_by, task.reason) == (agent_id, request.reason):
        return duplicate(task, context)
    require_running(task, context)
    if agent_id == task.client_agent_id and task.price > 0 and task.output_stream.stored_count > 0:
        raise Conflict(
            "output_delivered",
            "The provider has delivered output, so the price cannot be taken back; dispute the task, or wait for its"
            " end or the deadline.",
            next_seq=task.output_stream.next_seq,
            deadline=task.deadline,
        )
    sent = {"task_id": task.id, "agent_id": agent_id, "reason": request.reason}
    after = msgspec.structs.replace(task, reason=request.reason)
    return _end(after, Phase.CANCELLED, context, ended_by=agent_id, before=(relayed(task, "cancel", sent),))


def deadline_passed(task: Task, context: Context) -> Decision:
    """The timer: a task whose output is delivered completes; any other fails and is refunded."""
    if task.status not in RUNNING:
        return Decision()
    if context.now < task.deadline:
        return Decision(changes=(Timer(DEADLINE, task.topic, task.deadline),))  # Too early: it must not be lost.
    if task.output_stream.is_delivered:
        return _end(task, Phase.COMPLETED, context)
    return _end(msgspec.structs.replace(task, error=TaskError(type="deadline")), Phase.FAILED, context)


def hold_passed(task: Task, context: Context) -> Decision:
    """The timer: a completed task that the client has not disputed in time is paid."""
    if task.status is not Phase.COMPLETED or task.escrow_status is not Escrow.HELD:
        return Decision()
    if task.hold_ends_at is not None and context.now < task.hold_ends_at:
        return Decision(changes=(Timer(HOLD, task.topic, task.hold_ends_at),))  # Too early: it must not be lost.
    return _release(task, context)


def retention_passed(task: Task, context: Context) -> Decision:
    """The timer: the chunks and the checkpoint of a task that has long ended are deleted; the task itself stays."""
    if task.kept_until is None:
        return Decision()
    if context.now < task.kept_until:
        return Decision(changes=(Timer(RETENTION, task.topic, task.kept_until),))  # Too early: it must not be lost.
    return Decision(changes=(DropStreams(task.id),))


def by_the_clock(task: Task, context: Context) -> Decision | None:
    """What the clock has made of a task though its timer has not run: it decides first; None where nothing is due."""
    if task.status in RUNNING and context.now >= task.deadline:
        return deadline_passed(task, context)
    is_held = task.status is Phase.COMPLETED and task.escrow_status is Escrow.HELD
    if is_held and task.hold_ends_at is not None and context.now >= task.hold_ends_at:
        return hold_passed(task, context)
    return None


def duplicate(task: Task, context: Context) -> Decision:
    """The answer to an event that has taken effect before."""
    return Decision(reply={**snapshot(task, context.market), "duplicate": True})


def released(task: Task, context: Context) -> Moved:
    """The task with its whole price paid to the provider, less the fee."""
    after = msgspec.structs.replace(task, escrow_status=Escrow.RELEASED if task.price else Escrow.NONE)
    entries = release(task_id=task.id, provider_agent_id=task.provider_agent_id, price=task.price, fee=task.fee)
    return kept(after, entries, context)


def refunded(task: Task, context: Context) -> Moved:
    """The task with its whole price back with the client."""
    after = msgspec.structs.replace(task, escrow_status=Escrow.REFUNDED if task.price else Escrow.NONE)
    return kept(after, refund(task_id=task.id, client_agent_id=task.client_agent_id, price=task.price), context)


def kept(task: Task, changes: tuple[Change, ...], context: Context) -> Moved:
    """A task that has ended and that nothing is held for: its streams are kept for a while from now on."""
    kept_until = context.now + timedelta(seconds=context.market.limits.stream_retention_s)
    after = msgspec.structs.replace(task, kept_until=kept_until)
    return after, (*changes, Timer(RETENTION, task.topic, kept_until))


def _held(task: Task, context: Context) -> Moved:
    """A completed task whose price waits for the client to look at the work."""
    ends_at = context.now + timedelta(seconds=task.hold_seconds)
    return msgspec.structs.replace(task, hold_ends_at=ends_at), (Timer(HOLD, task.topic, ends_at),)


def _release(task: Task, context: Context) -> Decision:
    after, changes = released(task, context)
    whole = snapshot(after, context.market)
    return Decision(
        state=after,
        reply=whole,
        broadcasts=(Broadcast(task.topic, "task_updated", {"task": whole}),),
        changes=(*changes, Timer(HOLD, task.topic, None)),
    )


def _end(
    task: Task, status: Phase, context: Context, *, ended_by: str | None = None, before: tuple[Broadcast, ...] = ()
) -> Decision:
    """End a task: the money moves or waits, the timer is disarmed, the end counts for the provider, both are told.

    Args:
        task: With what its end leaves in it: a result, an error or a reason.
        status: How it ends.
        context: When.
        ended_by: The agent that ends it; None for the clock.
        before: What is relayed before both are told.
    """
    after = msgspec.structs.replace(task, status=status, ended_at=context.now, ended_by=ended_by)
    if status is not Phase.COMPLETED:
        after, changes = refunded(after, context)
    elif task.price > 0 and task.hold_seconds > 0:
        after, changes = _held(after, context)
    else:
        after, changes = released(after, context)
    whole = snapshot(after, context.market)
    return Decision(
        state=after,
        reply=whole,
        broadcasts=(*before, Broadcast(task.topic, TOLD_AT_END[status], {"task": whole})),
        changes=(*changes, Timer(DEADLINE, task.topic, None), *_counted(after)),
    )


def _counted(task: Task) -> tuple[Change, ...]:
    """What a task's end counts for the provider: nothing where it had not started, or the client took the task back."""
    is_taken_back = task.status is Phase.CANCELLED and task.ended_by == task.client_agent_id
    if not task.is_countable or task.started_at is None or is_taken_back:
        return ()
    is_completed = task.status is Phase.COMPLETED
    return (Outcome(task.provider_agent_id, task.client_owner_id, task.id, is_completed),)

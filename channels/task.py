"""task:{task_id}: a hired agent works, bytes stream both ways, and the held price is paid or given back.

Who may join: the task's client and provider. Ended tasks may be joined to read.

    open_task ─► PENDING ── output_stream, output_complete or progress: the first ──► IN_PROGRESS
                    │                                                                     │
                    ├──── complete; the clock, if output is delivered ────────────────────┼──► COMPLETED  paid
                    ├──── error; the clock ───────────────────────────────────────────────┼──► FAILED     refunded
                    └──── cancel ─────────────────────────────────────────────────────────┴──► CANCELLED  refunded

The price leaves the client in the transaction that opens the task and rests in the task's escrow until its end. The
deadline ends every task that nobody else ends, so no money stays there.

Why a client cannot cancel once output has come: it could read the work and take the money back. Why nothing is paid
without verified output or a result: a provider could complete with nothing. An output stream that was closed without a
chunk is nothing.

What a task is stands in task_state.py, how it is opened in hiring.py, and how its streams flow in streams.py.
"""

import re
from typing import Annotated, Any, Final

import msgspec

from channels.documents import is_same_document, require_document
from channels.errors import Conflict, Invalid
from channels.handlers import Access, Broadcast, Change, Context, Decision, Empty, Handler, Outcome, Timer
from channels.hiring import OpenTask, TaskOpening, open_task
from channels.identity import Identity
from channels.ledger import refund, release
from channels.negotiation import require_text
from channels.streams import (
    CloseStream,
    SendChunk,
    StreamFacts,
    input_complete,
    input_stream,
    output_complete,
    output_stream,
)
from channels.task_state import (
    DEADLINE,
    Escrow,
    Phase,
    Progress,
    StreamState,
    Task,
    TaskError,
    relayed,
    require_participant,
    require_role,
    require_running,
    snapshot,
    started,
    told,
)

__all__ = [
    "ACCESS",
    "HANDLERS",
    "JOIN",
    "TIMERS",
    "TOPIC",
    "Cancel",
    "CloseStream",
    "Complete",
    "Escrow",
    "OpenTask",
    "Phase",
    "Progress",
    "ReportError",
    "ReportProgress",
    "SendChunk",
    "StreamFacts",
    "StreamState",
    "Task",
    "TaskError",
    "TaskOpening",
    "access",
    "cancel",
    "complete",
    "deadline_passed",
    "error",
    "input_complete",
    "input_stream",
    "join",
    "open_task",
    "output_complete",
    "output_stream",
    "progress",
    "require_participant",
    "snapshot",
]

TOPIC = "task:*"
ERROR_TYPE: Final = re.compile(r"[a-z0-9_]{1,64}")
TOLD_AT_END: Final = {
    Phase.COMPLETED: "task_completed",
    Phase.FAILED: "task_failed",
    Phase.CANCELLED: "task_cancelled",
}


class ReportProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the work is; `message` has at most 2,000 characters."""

    percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    message: str | None = None


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


def access(sender: Identity, topic_id: str) -> None:
    """Only agents join; whether this one takes part, the join decides."""
    del topic_id
    sender.require_agent()


def join(task: Task | None, request: Empty, context: Context) -> Decision:
    """The whole task, also once it has ended.

    Raises:
        NotFound: `not_found`: there is no such task, or the sender is not of it.
    """
    del request
    return Decision(reply=snapshot(require_participant(task, context), context.market))


def progress(task: Task | None, request: ReportProgress, context: Context) -> Decision:
    """Tell how far the work is; provider only, each time anew. Starts the task.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `terminal_state`.
        Expired: `expired`.
    """
    if request.message is not None:
        require_text("message", request.message, context.market)
    task = require_role(task, context, "provider")
    require_running(task, context)
    made = Progress(percent=request.percent, message=request.message)
    after = msgspec.structs.replace(started(task, context.now), progress=made)
    reply = told(after, **msgspec.structs.asdict(made))
    return Decision(state=after, reply=reply, broadcasts=(relayed(task, "progress", reply),))


def complete(task: Task | None, request: Complete, context: Context) -> Decision:
    """Hand the work over; provider only. The held price is paid at once, less the fee.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `terminal_state`; `stream_incomplete`: an output stream was started and is not closed;
            `nothing_delivered`: there is neither output nor a result.
        Expired: `expired`.
    """
    require_document("result", request.result, bytes_max=context.market.limits.result_bytes_max)
    task = require_role(task, context, "provider")
    is_ended_so = task.status is Phase.COMPLETED and task.ended_by == task.provider_agent_id
    if is_ended_so and is_same_document(task.result, request.result):
        return _duplicate(task, context)
    require_running(task, context)
    output = task.output_stream
    if output.next_seq > 0 and not output.is_complete:
        raise Conflict(
            "stream_incomplete",
            "Close the output stream with output_complete before completing the task.",
            next_seq=output.next_seq,
        )
    if request.result is None and not output.is_delivered:
        raise Conflict("nothing_delivered", "Deliver output or a result before completing the task.")
    after = msgspec.structs.replace(started(task, context.now), result=request.result)
    return _end(after, Phase.COMPLETED, context, ended_by=task.provider_agent_id)


def error(task: Task | None, request: ReportError, context: Context) -> Decision:
    """Give the work up; provider only. The client gets the whole price back.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `terminal_state`.
        Expired: `expired`.
    """
    if not ERROR_TYPE.fullmatch(request.type):
        raise Invalid("invalid_payload", "An error's type has 1-64 of a-z, 0-9 and _.", field="type")
    require_document("details", request.details, bytes_max=context.market.limits.result_bytes_max)
    task = require_role(task, context, "provider")
    made = TaskError(type=request.type, details=request.details)
    is_ended_so = task.status is Phase.FAILED and task.ended_by == task.provider_agent_id
    if is_ended_so and is_same_document(task.error, made):
        return _duplicate(task, context)
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
        Conflict: `terminal_state`; `output_delivered`: to the client, once output has come that money is held for.
        Expired: `expired`.
    """
    require_text("reason", request.reason, context.market)
    task = require_participant(task, context)
    agent_id = context.sender.require_agent()
    if task.status is Phase.CANCELLED and (task.ended_by, task.reason) == (agent_id, request.reason):
        return _duplicate(task, context)
    require_running(task, context)
    if agent_id == task.client_agent_id and task.price > 0 and task.output_stream.next_seq > 0:
        raise Conflict(
            "output_delivered",
            "The provider has delivered output, so the price cannot be taken back; wait for its end or the deadline.",
            next_seq=task.output_stream.next_seq,
            deadline=task.deadline,
        )
    sent = {"task_id": task.id, "agent_id": agent_id, "reason": request.reason}
    after = msgspec.structs.replace(task, reason=request.reason)
    return _end(after, Phase.CANCELLED, context, ended_by=agent_id, before=(relayed(task, "cancel", sent),))


def deadline_passed(task: Task, context: Context) -> Decision:
    """The timer: a task whose output is delivered completes and is paid; any other fails and is refunded."""
    if task.is_final:
        return Decision()
    if context.now < task.deadline:
        return Decision(changes=(Timer(DEADLINE, task.topic, task.deadline),))  # Too early: it must not be lost.
    if task.output_stream.is_delivered:
        return _end(task, Phase.COMPLETED, context)
    return _end(msgspec.structs.replace(task, error=TaskError(type="deadline")), Phase.FAILED, context)


def _duplicate(task: Task, context: Context) -> Decision:
    return Decision(reply={**snapshot(task, context.market), "duplicate": True})


def _end(
    task: Task, status: Phase, context: Context, *, ended_by: str | None = None, before: tuple[Broadcast, ...] = ()
) -> Decision:
    """End a task: the money moves, the timer is disarmed, the end counts for the provider, both are told.

    Args:
        task: With what its end leaves in it: a result, an error or a reason.
        status: How it ends.
        context: When.
        ended_by: The agent that ends it; None for the clock.
        before: What is relayed before both are told.
    """
    is_paid = status is Phase.COMPLETED
    if is_paid:
        entries = release(task_id=task.id, provider_agent_id=task.provider_agent_id, price=task.price, fee=task.fee)
    else:
        entries = refund(task_id=task.id, client_agent_id=task.client_agent_id, price=task.price)
    moved = Escrow.RELEASED if is_paid else Escrow.REFUNDED
    after = msgspec.structs.replace(
        task,
        status=status,
        escrow_status=moved if task.price else Escrow.NONE,
        ended_at=context.now,
        ended_by=ended_by,
    )
    whole = snapshot(after, context.market)
    return Decision(
        state=after,
        reply=whole,
        broadcasts=(*before, Broadcast(task.topic, TOLD_AT_END[status], {"task": whole})),
        changes=(*entries, Timer(DEADLINE, task.topic, None), *_counted(after)),
    )


def _counted(task: Task) -> tuple[Change, ...]:
    """What a task's end counts for the provider: nothing where it had not started, or the client took the task back."""
    is_taken_back = task.status is Phase.CANCELLED and task.ended_by == task.client_agent_id
    if not task.is_countable or task.started_at is None or is_taken_back:
        return ()
    is_completed = task.status is Phase.COMPLETED
    return (Outcome(task.provider_agent_id, task.client_owner_id, task.id, is_completed),)


ACCESS = access
JOIN = Handler(Empty, join, loads="task", access=Access.WRITE, scope="tasks")
HANDLERS = {
    "input_stream": Handler(
        SendChunk, input_stream, loads="task_input", access=Access.WRITE, scope="tasks", rate="stream"
    ),
    "input_complete": Handler(CloseStream, input_complete, loads="task_input", access=Access.WRITE, scope="tasks"),
    "output_stream": Handler(
        SendChunk, output_stream, loads="task_output", access=Access.WRITE, scope="tasks", rate="stream"
    ),
    "output_complete": Handler(CloseStream, output_complete, loads="task_output", access=Access.WRITE, scope="tasks"),
    "progress": Handler(ReportProgress, progress, loads="task", access=Access.WRITE, scope="tasks"),
    "complete": Handler(Complete, complete, loads="task", access=Access.WRITE, scope="tasks"),
    "error": Handler(ReportError, error, loads="task", access=Access.WRITE, scope="tasks"),
    "cancel": Handler(Cancel, cancel, loads="task", access=Access.WRITE, scope="tasks"),
}
TIMERS = {DEADLINE: deadline_passed}

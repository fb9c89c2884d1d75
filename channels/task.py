"""task:{task_id}: a hired agent works, bytes stream both ways, and the held price is paid or given back.

Who may join: the task's client and provider. Ended tasks may be joined to read.

    open_task ─► PENDING ── output_stream, output_complete, progress, checkpoint: the first ──► IN_PROGRESS
                    │                                                                     │
                    ├──── complete; the clock, if output is delivered ────────────────────┼──► COMPLETED  held, paid
                    ├──── error; the clock ───────────────────────────────────────────────┼──► FAILED     refunded
                    └──── cancel ─────────────────────────────────────────────────────────┴──► CANCELLED  refunded

    IN_PROGRESS ─────────────┬── dispute ──┬── nothing was delivered ─► FAILED     refunded
    COMPLETED, price held ───┘             └──► DISPUTED ──┬── client ────────────► FAILED     refunded
                                                           ├── provider ──────────► COMPLETED  paid
                                                           └── split ─────────────► COMPLETED  both

The price leaves the client in the transaction that opens the task and rests in the task's escrow until its end, and for
`hold_seconds` after it was completed. A clock ends every task that nobody else ends, every hold and every dispute, so
no money stays there. Output may also be paid as it streams (stream_price.py): then nothing is held.

Why a client cannot cancel once output has come: it could read the work and take the money back. Why nothing is paid
without verified output or a result: a provider could complete with nothing. An output stream that was closed without a
chunk is nothing.

What a task is stands in task_state.py, how it is opened in hiring.py, how its streams flow in streams.py, where they
are resumed in task_joining.py, how a task ends in task_ends.py, and how a dispute does in task_disputes.py.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from channels.chunks import SendChunk, read_binary_chunk
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.hiring import OpenTask, TaskOpening, open_task
from channels.identity import Identity
from channels.progress import (
    ReportProgress,
    SaveCheckpoint,
    checkpoint,
    foreseen_checkpoint,
    foreseen_progress,
    progress,
)
from channels.streams import (
    CloseStream,
    TaskFacts,
    foreseen_input,
    foreseen_output,
    input_complete,
    input_stream,
    output_complete,
    output_stream,
)
from channels.task_disputes import DecideTask, DisputeTask, decide_task, decision_due, dispute
from channels.task_ends import (
    Cancel,
    Complete,
    ReportError,
    cancel,
    complete,
    deadline_passed,
    error,
    hold_passed,
    release_price,
    retention_passed,
)
from channels.task_joining import JoinTask, join
from channels.task_state import (
    DEADLINE,
    DECISION,
    HOLD,
    RETENTION,
    Escrow,
    Phase,
    Progress,
    StreamState,
    Task,
    TaskError,
    require_participant,
    snapshot,
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
    "DecideTask",
    "DisputeTask",
    "Escrow",
    "JoinTask",
    "OpenTask",
    "Phase",
    "Progress",
    "ReportError",
    "ReportProgress",
    "SaveCheckpoint",
    "SendChunk",
    "StreamState",
    "Task",
    "TaskError",
    "TaskFacts",
    "TaskOpening",
    "access",
    "cancel",
    "checkpoint",
    "complete",
    "deadline_passed",
    "decide_task",
    "decision_due",
    "dispute",
    "error",
    "hold_passed",
    "input_complete",
    "input_stream",
    "join",
    "open_task",
    "output_complete",
    "output_stream",
    "progress",
    "release_price",
    "require_participant",
    "retention_passed",
    "snapshot",
]

TOPIC = "task:*"


def access(sender: Identity, topic_id: str) -> None:
    """Only agents join; whether this one takes part, the join decides."""
    del topic_id
    sender.require_agent()


def _event(request: Any, decide: Any, loads: str = "task") -> Handler:
    return Handler(request, decide, loads=loads, access=Access.WRITE, scope="tasks")


def _ahead(request: Any, decide: Any, foresees: Any, *, rate: str = "control", binary: Any = None) -> Handler:
    """An event that is relayed before it is durable."""
    return msgspec.structs.replace(_event(request, decide, "task_facts"), foresees=foresees, rate=rate, binary=binary)


ACCESS = access
JOIN = _event(JoinTask, join, "task_facts")
HANDLERS = {
    "input_stream": _ahead(SendChunk, input_stream, foreseen_input, rate="stream", binary=read_binary_chunk),
    "input_complete": _event(CloseStream, input_complete, "task_facts"),
    "output_stream": _ahead(SendChunk, output_stream, foreseen_output, rate="stream", binary=read_binary_chunk),
    "output_complete": _event(CloseStream, output_complete, "task_facts"),
    "progress": _ahead(ReportProgress, progress, foreseen_progress),
    "checkpoint": _ahead(SaveCheckpoint, checkpoint, foreseen_checkpoint),
    "complete": _event(Complete, complete),
    "release": _event(Empty, release_price),
    "error": _event(ReportError, error),
    "cancel": _event(Cancel, cancel),
    "dispute": _event(DisputeTask, dispute),
}


def _clock(decide: Callable[[Task, Context], Decision]) -> Callable[[TaskFacts, Context], Decision]:
    """A timer, which is given what a join is given; of a task that is gone there is nothing to decide."""

    def run(facts: TaskFacts, context: Context) -> Decision:
        return Decision() if facts.task is None else decide(facts.task, context)

    return run


TIMERS = {
    DEADLINE: _clock(deadline_passed),
    HOLD: _clock(hold_passed),
    DECISION: _clock(decision_due),
    RETENTION: _clock(retention_passed),
}

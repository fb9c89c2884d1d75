"""What a provider tells and notes on its way: progress for the client, and checkpoints for itself.

A checkpoint is what a provider needs to go on after it was cut off: any JSON, and a seq that grows, such as that of the
input chunk which it has worked up to. The newest one alone is kept. It is handed back when the provider joins, and is
never shown to the client.
"""

from typing import Annotated, Any

import msgspec

from channels.changes import StoreCheckpoint
from channels.chunks import SEQ_MAX
from channels.documents import is_same_document, require_document
from channels.errors import Conflict
from channels.handlers import Context, Decision
from channels.negotiation import require_text
from channels.streams import TaskFacts
from channels.task_state import Progress, Task, relayed, require_role, require_running, started, told
from channels.told import Broadcast


class ReportProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the work is; `message` has at most 2,000 characters."""

    percent: Annotated[int, msgspec.Meta(ge=0, le=100)]
    message: str | None = None


class SaveCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """How far the provider is, for itself. `state`: any JSON, at most 64 KiB; `seq` grows with each."""

    state: Any
    seq: Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


def progress(facts: TaskFacts, request: ReportProgress, context: Context) -> Decision:
    """Tell how far the work is; provider only, each time anew. Starts the task.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`, `terminal_state`.
        Expired: `expired`.
    """
    after, broadcast = _progressed(facts.task, request, context)
    return Decision(state=after, reply=broadcast.payload, broadcasts=(broadcast,))


def foreseen_progress(task: Task, request: ReportProgress, context: Context) -> tuple[Task, Broadcast | None]:
    """The task once its progress will have been stored, and what the client is told of it: not before chunks that wait.

    Raises:
        Refusal: It will not be, or it starts the task: when it started, the writer says.
    """
    _require_started(task)
    after, told = _progressed(task, request, context)
    return after, told if task.stream_price is None else None


def checkpoint(facts: TaskFacts, request: SaveCheckpoint, context: Context) -> Decision:
    """Note how far the provider is; provider only. Starts the task.

    Raises:
        Invalid: `invalid_payload`.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `escrow_locked`, `terminal_state`; `stale_checkpoint`, with the newest one's seq.
        Expired: `expired`.
    """
    require_document("state", request.state, bytes_max=context.market.limits.checkpoint_bytes_max)
    task = require_role(facts.task, context, "provider")
    if request.seq == task.checkpoint_seq:
        newest = facts.stored.checkpoint()
        if newest is not None and is_same_document(newest.state, request.state):
            return Decision(reply={**told(task, seq=request.seq), "duplicate": True})
    after = _noted(task, request, context)
    return Decision(
        state=after,
        reply=told(after, seq=request.seq),
        changes=(StoreCheckpoint(task.id, request.seq, request.state),),
    )


def foreseen_checkpoint(task: Task, request: SaveCheckpoint, context: Context) -> tuple[Task, None]:
    """The task once a checkpoint will have been stored, of which nobody is told.

    Raises:
        Refusal: It will not be, or it starts the task.
    """
    _require_started(task)
    require_document("state", request.state, bytes_max=context.market.limits.checkpoint_bytes_max)
    return _noted(require_role(task, context, "provider"), request, context), None


def _noted(task: Task, request: SaveCheckpoint, context: Context) -> Task:
    require_running(task, context)
    newest = task.checkpoint_seq
    if newest is not None and request.seq <= newest:
        raise Conflict(
            "stale_checkpoint",
            f"The newest checkpoint has seq {newest}; the next one's is greater.",
            seq=request.seq,
            checkpoint_seq=newest,
        )
    return msgspec.structs.replace(started(task, context.now), checkpoint_seq=request.seq)


def _progressed(task: Task | None, request: ReportProgress, context: Context) -> tuple[Task, Broadcast]:
    if request.message is not None:
        require_text("message", request.message, context.market)
    task = require_role(task, context, "provider")
    require_running(task, context)
    made = Progress(percent=request.percent, message=request.message)
    after = msgspec.structs.replace(started(task, context.now), progress=made)
    return after, relayed(task, "progress", told(after, **msgspec.structs.asdict(made)))


def _require_started(task: Task) -> None:
    if task.started_at is None:
        raise Conflict("not_started", "This starts the task.")

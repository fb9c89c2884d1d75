"""A task as it is kept: its phase, its price, its two streams, and what every event of it asks and tells.

What is told keeps a snapshot current: the events of a running task carry `status` and `started_at`, those of a stream
also what moved in it, and the end of a task carries the whole. The reply to an event carries the same.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from channels.errors import Conflict, Expired, Forbidden, not_found
from channels.handlers import Audience, Broadcast, Context, Market

DEADLINE: Final = "task_deadline"
"""The timer that ends a task which nobody else has ended."""

Direction = Literal["input", "output"]
"""`input` flows from client to provider, `output` from provider to client."""

Role = Literal["client", "provider"]


class Phase(StrEnum):
    """Where a task stands; all but PENDING and IN_PROGRESS are final."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


RUNNING: Final = frozenset((Phase.PENDING, Phase.IN_PROGRESS))


class Escrow(StrEnum):
    """Where a task's price is: nowhere for a price of 0, held, paid to the provider, or back with the client."""

    NONE = "none"
    HELD = "held"
    RELEASED = "released"
    REFUNDED = "refunded"


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one direction has come.

    Args:
        next_seq: The first missing chunk, which is the number of those stored.
        size: Decoded bytes stored.
        is_complete: Closed by its sender, with a checksum that was verified.
        checksum: That SHA-256, 64 lower-case hex digits.
    """

    next_seq: int = 0
    size: int = 0
    is_complete: bool = False
    checksum: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether something came and all of it is verified: a stream closed without a chunk delivers nothing."""
        return self.is_complete and self.next_seq > 0


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the provider says that it is: 0-100 per cent, and a sentence."""

    percent: int
    message: str | None = None


class TaskError(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task failed. `deadline` is the type of those that the clock ended; a provider has its own."""

    type: str
    details: Any = None


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One task.

    Args:
        client_owner_id: The owner of the client, whose tasks count for reputation once a day.
        is_countable: Whether its end may count: it has a fee, and the two are not of one owner or organisation.
        input: Any JSON, given at the opening.
        negotiation_session_id: The agreement that it consumed; None for the list price.
        price: In minor units, held from the opening on.
        fee: The platform's part of it, in minor units, fixed at the opening with its rate `fee_bps`.
        result: Any JSON, given with `complete`.
        reason: Given with `cancel`.
        ended_by: The agent that ended it; None for the clock.
    """

    id: str
    client_agent_id: str
    provider_agent_id: str
    client_owner_id: str
    is_countable: bool
    capability: str
    input: Any = None
    negotiation_session_id: str | None = None
    price: int
    fee: int
    fee_bps: int
    escrow_status: Escrow
    status: Phase = Phase.PENDING
    input_stream: StreamState = StreamState()
    output_stream: StreamState = StreamState()
    progress: Progress | None = None
    result: Any = None
    error: TaskError | None = None
    reason: str | None = None
    ended_by: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    deadline: datetime

    @property
    def topic(self) -> str:
        """The topic of the task."""
        return f"task:{self.id}"

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.status not in RUNNING

    def stream(self, direction: Direction) -> StreamState:
        """The stream of one direction."""
        return self.input_stream if direction == "input" else self.output_stream


NOT_TOLD: Final = frozenset(("client_owner_id", "is_countable", "input_stream", "output_stream"))
"""Fields that a snapshot leaves out: the house's own, and the streams, which have a form for telling."""


def snapshot(task: Task, market: Market) -> dict[str, Any]:
    """The whole task as both parties see it: join reply, end of the task, REST."""
    return {
        **{name: getattr(task, name) for name in task.__struct_fields__ if name not in NOT_TOLD},
        "task_id": task.id,
        "net": task.price - task.fee,
        "streams": {"input": stream_snapshot(task.input_stream), "output": stream_snapshot(task.output_stream)},
        "signing_domain": market.signing_domain,
        "currency": market.currency,
        "exponent": market.exponent,
    }


def stream_snapshot(stream: StreamState) -> dict[str, Any]:
    """A stream as both parties see it. It is complete only with a verified checksum, so the two say the same."""
    return {
        "next_seq": stream.next_seq,
        "total_size": stream.size,
        "complete": stream.is_complete,
        "verified": stream.is_complete,
        "checksum": stream.checksum,
    }


def told(task: Task, **fields: Any) -> dict[str, Any]:
    """What an event of a running task tells, as reply and relayed: its fields, and what keeps a snapshot current."""
    return {"task_id": task.id, **fields, "status": task.status, "started_at": task.started_at}


def relayed(task: Task, event: str, payload: dict[str, Any]) -> Broadcast:
    """An event as the other party gets it."""
    return Broadcast(task.topic, event, payload, Audience.OTHER_AGENTS)


def started(task: Task, now: datetime) -> Task:
    """The task once the provider has begun: its first event starts it, later ones change nothing."""
    if task.started_at is not None:
        return task
    return msgspec.structs.replace(task, status=Phase.IN_PROGRESS, started_at=now)


def require_participant(task: Task | None, context: Context) -> Task:
    """The task, if the sender is one of its two agents.

    Raises:
        NotFound: `not_found`.
    """
    if task is None or context.sender.agent_id not in {task.client_agent_id, task.provider_agent_id}:
        raise not_found("task")
    return task


def require_role(task: Task | None, context: Context, role: Role) -> Task:
    """The task, if the sender has that part in it.

    Raises:
        NotFound: `not_found`: it has no part at all.
        Forbidden: `forbidden_role`, with the role that may.
    """
    found = require_participant(task, context)
    if context.sender.agent_id != (found.client_agent_id if role == "client" else found.provider_agent_id):
        raise Forbidden("forbidden_role", f"Only the task's {role} may do this.", role=role)
    return found


def require_running(task: Task, context: Context) -> None:
    """Refuse what comes after the end of a task, or after its deadline: the clock decides, also before the timer.

    Raises:
        Conflict: `terminal_state`, with the status.
        Expired: `expired`.
    """
    if task.is_final:
        raise Conflict("terminal_state", f"This task has ended: {task.status}.", status=task.status)
    if context.now >= task.deadline:
        raise Expired("expired", "The task's deadline has passed.", expired_at=task.deadline)

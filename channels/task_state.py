"""A task as it is kept: its phase, its price, its two streams, and what every event of it asks and tells.

What is told keeps a snapshot current: the events of a running task carry `status` and `started_at`, those of a stream
also what moved in it, and the end of a task carries the whole. The reply to an event carries the same.

Where the money is does not follow from the phase alone: the price of a completed task may still be held, until it is
released or disputed.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

import msgspec

from channels.errors import Conflict, Expired, Forbidden, not_found
from channels.handlers import Context
from channels.limits import Market
from channels.told import Audience, Broadcast
from crypto import NO_CHUNKS

DEADLINE: Final = "task_deadline"
"""The timer that ends a task which nobody else has ended."""

HOLD: Final = "task_hold"
"""The timer that pays a completed task, whose price was held for a while so that the client could look at the work."""

DECISION: Final = "task_decision"
"""The timer that decides a dispute which no operator has decided."""

RETENTION: Final = "task_retention"
"""The timer that deletes the chunks and the checkpoint of a task, some time after its end."""

Direction = Literal["input", "output"]
"""`input` flows from client to provider, `output` from provider to client."""

Role = Literal["client", "provider"]


class Phase(StrEnum):
    """Where a task stands; COMPLETED, FAILED and CANCELLED are final, but for a dispute of a completed one."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DISPUTED = "disputed"


RUNNING: Final = frozenset((Phase.PENDING, Phase.IN_PROGRESS))
FINAL: Final = frozenset((Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED))


class Escrow(StrEnum):
    """Where a task's price is: nowhere for a price of 0, held, paid to the provider, back with the client, or both."""

    NONE = "none"
    HELD = "held"
    RELEASED = "released"
    REFUNDED = "refunded"
    SPLIT = "split"


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """How far one direction has come.

    Args:
        next_seq: The first missing chunk.
        size: Decoded bytes of the chunks before it.
        digest: The running digest over those chunks, in seq order.
        ahead: Seq and decoded bytes of each chunk that is stored beyond the first missing one, in order; at most a
            window of them.
        is_complete: Closed by its sender, with a checksum that was verified.
        checksum: That SHA-256, 64 lower-case hex digits.
    """

    next_seq: int = 0
    size: int = 0
    digest: str = NO_CHUNKS
    ahead: tuple[tuple[int, int], ...] = ()
    is_complete: bool = False
    checksum: str | None = None

    @property
    def is_delivered(self) -> bool:
        """Whether something came and all of it is verified: a stream closed without a chunk delivers nothing."""
        return self.is_complete and self.next_seq > 0

    @property
    def stored_count(self) -> int:
        """Chunks that are stored, those ahead included."""
        return self.next_seq + len(self.ahead)

    @property
    def stored_size(self) -> int:
        """Their decoded bytes."""
        return self.size + sum(size for _, size in self.ahead)


class StreamPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What each unit of the output costs that is paid as it streams.

    Args:
        amount: Of one unit, in minor units.
        per: A unit is one chunk, or `unit_bytes` bytes begun.
        unit_bytes: For `bytes` only; no chunk has more.
        credit: Units that may be delivered ahead of their payment, and so the most that the provider risks.
    """

    amount: int
    per: Literal["chunk", "bytes"]
    unit_bytes: int | None = None
    credit: int = 1


class TaskDispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute of a task, open or settled.

    Args:
        opened_by: The client; None where a ban has opened it.
        reason: The client's, or `banned`.
        opened_at: When.
        decides_at: When the clock decides it, if no operator has.
    """

    opened_by: str | None
    reason: str
    opened_at: datetime
    decides_at: datetime


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a dispute has ended.

    Args:
        decision: Whom the price goes to.
        decided_by: An operator, the clock after its time, or the rules at once, where nothing was delivered.
        to_client: The client's part, in minor units.
        to_provider: The provider's, before the fee.
        fee: The platform's part of that.
        reason: An operator's.
        settled_at: When.
    """

    decision: Literal["client", "provider", "split"]
    decided_by: Literal["operator", "default", "automatic"]
    to_client: int
    to_provider: int
    fee: int
    reason: str | None
    settled_at: datetime


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
        price: In minor units, held from the opening on; 0 where the output is paid as it streams.
        fee: The platform's part of it, in minor units, fixed at the opening with its rate `fee_bps`.
        hold_seconds: How long a completed task's price is held, unless the client releases it earlier.
        hold_ends_at: When that is over; None before completion, and where nothing was held.
        channel_id: The payment channel that the output is paid over as it streams; None for a held price.
        stream_price: What each unit of it costs; None for a held price.
        paid: What the client has paid for it over that channel, in minor units.
        dispute: The one that there is or was: there is one at most.
        settlement: How it has ended.
        checkpoint_seq: Of the provider's newest checkpoint; None before the first.
        private_channel_id: The private channel of the two, where one was asked for. It ends with the task.
        kept_until: When the chunks and the checkpoint are deleted; None while the task has not ended.
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
    hold_seconds: int = 0
    hold_ends_at: datetime | None = None
    channel_id: str | None = None
    stream_price: StreamPrice | None = None
    paid: int = 0
    dispute: TaskDispute | None = None
    settlement: Settlement | None = None
    checkpoint_seq: int | None = None
    private_channel_id: str | None = None
    kept_until: datetime | None = None
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
        """Whether it has ended; the price of a completed one may be held still."""
        return self.status in FINAL

    @property
    def ends_channel(self) -> bool:
        """Whether the private channel of the two is over with it."""
        return self.is_final

    @property
    def is_delivered(self) -> bool:
        """Whether there is a result, or output that is verified."""
        return self.result is not None or self.output_stream.is_delivered

    @property
    def units(self) -> int | None:
        """Units of the output that are stored; None for a held price."""
        return None if self.stream_price is None else units_of(self.output_stream, self.stream_price)

    @property
    def paid_up_to(self) -> int | None:
        """Units that are paid whole; None for a held price."""
        return None if self.stream_price is None else self.paid // self.stream_price.amount  # Rounds down: whole units.

    def stream(self, direction: Direction) -> StreamState:
        """The stream of one direction."""
        return self.input_stream if direction == "input" else self.output_stream


def units_of(stream: StreamState, price: StreamPrice) -> int:
    """The units of a stream that are stored; a unit of bytes that has begun is one."""
    if price.unit_bytes is None:
        return stream.stored_count
    return -(-stream.stored_size // price.unit_bytes)  # Rounds up.


def without_documents(task: Task) -> Task:
    """The task without what may be large, and what no event of a running task rests on."""
    return msgspec.structs.replace(task, input=None, result=None, error=None)


NOT_TOLD: Final = frozenset(("client_owner_id", "is_countable", "input_stream", "output_stream", "checkpoint_seq"))
"""Fields that a snapshot leaves out: the house's own, and the streams, which have a form for telling."""


def snapshot(task: Task, market: Market) -> dict[str, Any]:
    """The whole task as both parties see it: join reply, end of the task, REST."""
    return {
        **{name: getattr(task, name) for name in task.__struct_fields__ if name not in NOT_TOLD},
        "task_id": task.id,
        "net": task.price - task.fee,
        "units": task.units,
        "paid_up_to": task.paid_up_to,
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
        "digest": stream.digest,
        "complete": stream.is_complete,
        "verified": stream.is_complete,
        "checksum": stream.checksum,
    }


def told(task: Task, **fields: Any) -> dict[str, Any]:
    """What an event of a running task tells, as reply and relayed: its fields, and what keeps a snapshot current."""
    return {
        "task_id": task.id,
        **fields,
        "status": task.status,
        "started_at": task.started_at,
        "units": task.units,
        "paid_up_to": task.paid_up_to,
    }


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
        Conflict: `escrow_locked`: it is disputed; `terminal_state`, with the status.
        Expired: `expired`.
    """
    require_unlocked(task)
    require_not_over(task, context)


def require_not_over(task: Task, context: Context) -> None:
    """The same of the end alone; that of a disputed task is when it is decided.

    Raises:
        Conflict: `terminal_state`, with the status.
        Expired: `expired`.
    """
    if task.is_final:
        raise Conflict("terminal_state", f"This task has ended: {task.status}.", status=task.status)
    ends_at = task.dispute.decides_at if task.status is Phase.DISPUTED and task.dispute is not None else task.deadline
    if context.now >= ends_at:
        raise Expired("expired", "The time of this task is over; the clock decides.", expired_at=ends_at)


def require_unlocked(task: Task) -> None:
    """Refuse what would end a task or move its money while it is disputed.

    Raises:
        Conflict: `escrow_locked`, with when the dispute is decided at the latest.
    """
    if task.status is Phase.DISPUTED and task.dispute is not None:
        raise Conflict(
            "escrow_locked",
            "This task is disputed; its price is held until that is decided.",
            decides_at=task.dispute.decides_at,
        )

"""What a client can prove of a task that it has hired: what went out, what came in, what was paid."""

from typing import Any, Literal

import msgspec

from .errors import AlteredChunk, LostChunks
from .receipts import TaskReceipt
from .streams import Position


class Progress(msgspec.Struct, frozen=True):
    """How far the provider says that it is."""

    percent: int
    message: str | None = None


class StreamShape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a task's stream is read here."""

    next_seq: int
    total_size: int
    digest: str
    complete: bool


class TaskShape(msgspec.Struct, frozen=True, kw_only=True):
    """What of a task is read here: without it, it is none."""

    id: str
    status: str
    escrow_status: str
    price: int
    fee: int
    net: int
    result: Any
    error: dict[str, Any] | None
    reason: str | None
    progress: Progress | None
    streams: dict[Literal["input", "output"], StreamShape]
    negotiation_session_id: str | None


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A task of which everything holds that its client can compute itself. Amounts are in minor units.

    Args:
        task_id: The task's.
        price, fee, net: What was held, the platform's part of it, and the provider's.
        escrow_status: Where the price is: `held`, `released`, `refunded`, `split`, or `none` where it is 0.
        sent: Behind the last chunk of the input: their number, size and running digest.
        received: Behind the last chunk of the output, likewise.
        result: The task's, as JSON.
        receipt: What proves it to others; None while the price is held.
    """

    task_id: str
    price: int
    fee: int
    net: int
    escrow_status: str
    sent: Position
    received: Position
    result: Any
    receipt: TaskReceipt | None

    @classmethod
    def of(cls, task: dict[str, Any], *, sent: Position, received: Position, receipt: TaskReceipt | None) -> "Verified":
        """Of a task that was verified."""
        return cls(
            task_id=task["id"],
            price=task["price"],
            fee=task["fee"],
            net=task["net"],
            escrow_status=task["escrow_status"],
            sent=sent,
            received=received,
            result=task["result"],
            receipt=receipt,
        )


def require_streams(streams: dict[str, Any], *, sent: Position, received: Position) -> None:
    """Refuse streams that are not of the bytes that this agent has sent and received.

    Args:
        streams: `streams` of the ended task.
        sent: Behind the last chunk of its input.
        received: Behind the last chunk of its output.

    Raises:
        LostChunks: They have another number of chunks.
        AlteredChunk: They have another size or digest.
    """
    # A provider that does not wait for all of it ends the task before the last chunks are stored, and they are refused.
    if streams["input"]["complete"] or streams["input"]["next_seq"] >= sent.seq:
        _require_same("input", streams["input"], sent)
    _require_same("output", streams["output"], received)


def _require_same(direction: str, told: dict[str, Any], known: Position) -> None:
    if told["next_seq"] != known.seq:
        raise LostChunks(
            f"the task's {direction} has {told['next_seq']} chunks, and this agent knows {known.seq}",
            expected=known.seq,
            told=told["next_seq"],
        )
    if (told["total_size"], told["digest"]) != (known.size, known.digest):
        raise AlteredChunk(
            f"the task's {direction} is stored with another size or digest than this agent has computed",
            expected=known.digest,
            told=told["digest"],
        )

"""The receipt of a task: what it was, how it ended, where its price went, and what flowed.

Neither party signs a task, so its receipt is the platform's word; the digests in it let both parties prove to anyone
what was delivered (crypto/SIGNING.md, "Receipts").
"""

from typing import Any

from channels.errors import Conflict
from channels.limits import Market
from channels.task_state import Escrow, Settlement, StreamState, Task, TaskDispute
from crypto import BadDocument, canonical_digest


def receipt_document(task: Task, market: Market) -> dict[str, Any]:
    """A task that has ended as a receipt's document: all that is needed to verify it offline.

    What is paid over a channel for the task may grow after its end, and a later receipt says so.

    Raises:
        Conflict: `not_settled`, with status and escrow_status: it goes on, or its price is held still.
    """
    if not task.is_final or task.escrow_status is Escrow.HELD:
        raise Conflict(
            "not_settled",
            "This task has a receipt once it has ended and its price is not held any more.",
            status=task.status,
            escrow_status=task.escrow_status,
        )
    same = (
        *("client_agent_id", "provider_agent_id", "capability", "status", "negotiation_session_id", "price", "fee_bps"),
        *("escrow_status", "channel_id", "stream_price", "paid", "units", "paid_up_to"),
        *("created_at", "started_at", "ended_at"),
    )
    return {
        "task_id": task.id,
        **{name: getattr(task, name) for name in same},
        **_paid_out(task),
        "settlement": _settlement(task.settlement, task.dispute),
        "streams": {"input": _stream(task.input_stream), "output": _stream(task.output_stream)},
        "input_digest": _digest(task.input),
        "result_given": task.result is not None,
        "result_digest": _digest(task.result),
        "currency": market.currency,
        "exponent": market.exponent,
    }


def _paid_out(task: Task) -> dict[str, int]:
    """Who got what of the price, in minor units: the provider what is left after the fee."""
    if task.settlement is not None:
        made = task.settlement
        return {"to_client": made.to_client, "to_provider": made.to_provider - made.fee, "fee": made.fee}
    if task.escrow_status is Escrow.REFUNDED:
        return {"to_client": task.price, "to_provider": 0, "fee": 0}
    return {"to_client": 0, "to_provider": task.price - task.fee, "fee": task.fee}


def _settlement(made: Settlement | None, dispute: TaskDispute | None) -> dict[str, Any] | None:
    if made is None:
        return None
    assert dispute is not None, "what was settled was disputed"
    return {
        "decision": made.decision,
        "decided_by": made.decided_by,
        "reason": made.reason,
        "disputed_at": dispute.opened_at,
        "settled_at": made.settled_at,
    }


def _stream(stream: StreamState) -> dict[str, Any]:
    """A stream as far as it came without a gap: beyond one, nothing was ever acknowledged."""
    return {
        "chunks": stream.next_seq,
        "total_size": stream.size,
        "digest": stream.digest,
        "complete": stream.is_complete,
        "checksum": stream.checksum,
    }


def _digest(document: Any) -> str | None:
    """A digest of any JSON; None where there is none, or where it holds a number that has no canonical form."""
    if document is None:
        return None
    try:
        return canonical_digest(document)
    except BadDocument:
        return None

"""Disputes of a task: the client refuses what it got, the price stays where it is, and somebody decides.

    IN_PROGRESS ─────────────┬── dispute ──┬── nothing was delivered ──► FAILED     refunded, at once
    COMPLETED, price held ───┤             └──► DISPUTED
    either ── a ban ─────────┘                      ├── an operator: client ──────► FAILED     refunded
                                                    ├── an operator: provider ────► COMPLETED  paid, less the fee
                                                    ├── an operator: split ───────► COMPLETED  both, the fee on one part
                                                    └── the clock ──┬── delivered ► COMPLETED  paid, less the fee
                                                                    └── not ──────► FAILED     refunded

A client disputes a task once. While it is disputed the deadline stops, and nothing moves the price; the provider may
still finish its output, because without a decision the one is right who has delivered, or has not.

Why the clock decides in the end: so that no money is stuck where no operator comes. Why that time favours what was
delivered: else every client could have its money back by disputing. Why what was refunded at once counts nothing for
the provider: the client has lost nothing, and could do it for ever.
"""

from datetime import timedelta
from typing import Final, Literal

import msgspec

from channels.changes import Change, Outcome, Timer
from channels.errors import Conflict, Expired, not_found
from channels.fields import invalid_payload, parse_text
from channels.handlers import Context, Decision
from channels.ledger import BASIS_POINTS, fee_of, split
from channels.negotiation import require_text
from channels.task_ends import Moved, duplicate, kept, refunded, released
from channels.task_state import (
    DEADLINE,
    DECISION,
    HOLD,
    Escrow,
    Phase,
    Settlement,
    Task,
    TaskDispute,
    TaskError,
    require_role,
    snapshot,
)
from channels.told import Broadcast

Winner = Literal["client", "provider", "split"]

DELTAS_CENTI: Final[dict[Winner, int]] = {"provider": 10, "client": -15, "split": -5}
"""Hundredths of a star that an operator's decision adds to the provider's reputation."""


class DisputeTask(msgspec.Struct, frozen=True, kw_only=True):
    """Refuse what was delivered; `reason`, at most 2,000 characters, is told to the provider and to operators."""

    reason: str


class DecideTask(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's decision.

    Args:
        decision: Whom the price goes to.
        client_bps: Of a split: the client's part in basis points of the price, 1 to 9,999.
        reason: Why, in 1-2,000 characters.
    """

    decision: Winner
    client_bps: int | None = None
    reason: str


def dispute(task: Task | None, request: DisputeTask, context: Context) -> Decision:
    """Refuse what was delivered; client only, once, while the work is under way or its price is still held.

    Raises:
        Invalid: `invalid_payload`: a reason has at most 2,000 characters.
        NotFound: `not_found`.
        Forbidden: `forbidden_role`.
        Conflict: `dispute_used`; `not_started`; `terminal_state`: it has ended, and nothing is held for it any more;
            `not_held`: it costs nothing, or is paid as it streams.
        Expired: `expired`: the deadline, or the hold, is over.
    """
    require_text("reason", request.reason, context.market)
    task = require_role(task, context, "client")
    if _is_repeated(task, request):
        return duplicate(task, context)
    _require_disputable(task, context)
    first = disputed(task, context, opened_by=task.client_agent_id, reason=request.reason)
    if task.is_delivered or task.output_stream.stored_count > 0:
        return first
    second = _settled(first.state, context, decision="client", decided_by="automatic", ended_by=task.client_agent_id)
    return msgspec.structs.replace(
        second, broadcasts=(*first.broadcasts, *second.broadcasts), changes=(*first.changes, *second.changes)
    )


def disputed(task: Task, context: Context, *, opened_by: str | None, reason: str) -> Decision:
    """A task whose price stays held until somebody has decided: its other clocks stop.

    Args:
        task: Its price is held.
        context: The clock.
        opened_by: The client; None where a ban opens it.
        reason: What it says.
    """
    decides_at = context.now + timedelta(seconds=context.market.limits.task_dispute_ttl_s)
    opened = TaskDispute(opened_by=opened_by, reason=reason, opened_at=context.now, decides_at=decides_at)
    after = msgspec.structs.replace(task, status=Phase.DISPUTED, dispute=opened)
    whole = snapshot(after, context.market)
    return Decision(
        state=after,
        reply=whole,
        broadcasts=(Broadcast(task.topic, "task_disputed", {"task": whole}),),
        changes=(
            Timer(DEADLINE, task.topic, None),
            Timer(HOLD, task.topic, None),
            Timer(DECISION, task.topic, decides_at),
        ),
    )


def decide_task(task: Task | None, request: DecideTask, context: Context) -> Decision:
    """End a dispute as an operator decides.

    Raises:
        Invalid: `invalid_payload`: the reason, or `client_bps`, which a split needs and nothing else has.
        NotFound: `not_found`.
        Conflict: `terminal_state`, with the status: it is decided; `not_disputed`, with the status.
        Expired: `expired`: its time is over, and the clock decides.
    """
    reason = parse_text(request.reason, field="reason", chars_max=context.market.limits.text_chars_max)
    client_bps = _parse_part(request)
    if task is None:
        raise not_found("task")
    to_client = task.price * client_bps // BASIS_POINTS  # Rounds down, in the provider's favour.
    settlement = task.settlement
    if settlement is not None:
        has = (settlement.decided_by, settlement.decision, settlement.to_client, settlement.reason)
        if has == ("operator", request.decision, to_client, reason):
            return duplicate(task, context)
        raise Conflict("terminal_state", f"This dispute is decided: {settlement.decision}.", status=task.status)
    if task.status is not Phase.DISPUTED or task.dispute is None:
        raise Conflict("not_disputed", f"This task is not disputed, but {task.status}.", status=task.status)
    if context.now >= task.dispute.decides_at:
        raise Expired(
            "expired", "The time for a decision is over; the clock decides.", expired_at=task.dispute.decides_at
        )
    return _settled(task, context, decision=request.decision, decided_by="operator", to_client=to_client, reason=reason)


def decision_due(task: Task, context: Context) -> Decision:
    """The timer: without an operator the price goes to the provider if it has delivered, else back to the client."""
    if task.status is not Phase.DISPUTED or task.dispute is None:
        return Decision()
    if context.now < task.dispute.decides_at:
        return Decision(changes=(Timer(DECISION, task.topic, task.dispute.decides_at),))  # Too early: must not be lost.
    return _settled(task, context, decision="provider" if task.is_delivered else "client", decided_by="default")


def _is_repeated(task: Task, request: DisputeTask) -> bool:
    """Whether the client has said the same before, and nobody has decided since."""
    opened, settlement = task.dispute, task.settlement
    if opened is None or (opened.opened_by, opened.reason) != (task.client_agent_id, request.reason):
        return False
    return settlement is None or settlement.decided_by == "automatic"


def _require_disputable(task: Task, context: Context) -> None:
    if task.dispute is not None:
        raise Conflict("dispute_used", "A task is disputed once; this one was.", status=task.status)
    if task.status is Phase.PENDING:
        raise Conflict("not_started", "The provider has not started; cancel the task instead.")
    if task.is_final and task.escrow_status is not Escrow.HELD:
        raise Conflict("terminal_state", f"This task has ended: {task.status}.", status=task.status)
    if task.price == 0:
        raise Conflict("not_held", "No price is held for this task.", escrow_status=task.escrow_status)
    ends_at = task.deadline if task.hold_ends_at is None else task.hold_ends_at
    if context.now >= ends_at:
        raise Expired("expired", "The time to dispute this task is over.", expired_at=ends_at)


def _parse_part(request: DecideTask) -> int:
    """The client's part, in basis points of the price.

    Raises:
        Invalid: `invalid_payload`.
    """
    client_bps = request.client_bps
    if request.decision == "split":
        if client_bps is None or not 1 <= client_bps < BASIS_POINTS:
            raise invalid_payload("client_bps", f"A split has client_bps, 1 to {BASIS_POINTS - 1}.")
        return client_bps
    if client_bps is not None:
        raise invalid_payload("client_bps", "Only a split has client_bps.")
    return BASIS_POINTS if request.decision == "client" else 0


def _settled(
    task: Task,
    context: Context,
    *,
    decision: Winner,
    decided_by: Literal["operator", "default", "automatic"],
    to_client: int | None = None,
    reason: str | None = None,
    ended_by: str | None = None,
) -> Decision:
    """The end of a dispute: the price moves, the end counts or is corrected, both are told.

    Args:
        task: Disputed.
        context: The clock.
        decision: Whom the price goes to.
        decided_by: Who says so.
        to_client: Of a split, in minor units.
        reason: An operator's.
        ended_by: The agent that has ended the task by it, where it had not ended.
    """
    if to_client is None:
        to_client = task.price if decision == "client" else 0
    to_provider = task.price - to_client
    settlement = Settlement(
        decision=decision,
        decided_by=decided_by,
        to_client=to_client,
        to_provider=to_provider,
        fee=fee_of(to_provider, fee_bps=task.fee_bps),
        reason=reason,
        settled_at=context.now,
    )
    after, changes = _moved(msgspec.structs.replace(task, settlement=settlement), settlement, context)
    after = msgspec.structs.replace(
        after,
        status=Phase.FAILED if decision == "client" else Phase.COMPLETED,
        error=TaskError(type="dispute") if decision == "client" else task.error,
        ended_at=task.ended_at or context.now,
        ended_by=task.ended_by or ended_by,
    )
    whole = snapshot(after, context.market)
    return Decision(
        state=after,
        reply=whole,
        broadcasts=(Broadcast(task.topic, "task_settled", {"task": whole}),),
        changes=(*changes, Timer(DECISION, task.topic, None), *_counted(task, settlement)),
    )


def _moved(task: Task, settlement: Settlement, context: Context) -> Moved:
    if settlement.decision == "client":
        return refunded(task, context)
    if settlement.decision == "provider":
        return released(task, context)
    entries = split(
        task_id=task.id,
        client_agent_id=task.client_agent_id,
        to_client=settlement.to_client,
        provider_agent_id=task.provider_agent_id,
        to_provider=settlement.to_provider,
        fee=settlement.fee,
    )
    return kept(msgspec.structs.replace(task, escrow_status=Escrow.SPLIT), entries, context)


def _counted(task: Task, settlement: Settlement) -> tuple[Change, ...]:
    """What a decision counts for the provider, and what of a task that had ended before it corrects."""
    if not task.is_countable or settlement.decided_by == "automatic":
        return ()
    delta_centi = DELTAS_CENTI[settlement.decision] if settlement.decided_by == "operator" else 0
    return (
        Outcome(
            task.provider_agent_id,
            task.client_owner_id,
            task.id,
            is_completed=settlement.decision != "client",
            delta_centi=delta_centi,
            is_correction=task.ended_at is not None,
        ),
    )

"""What is open ends because its two agents may not go on: one was banned, or has revoked the contact.

    negotiation   OPEN ──────────────────► CANCELLED
    task          PENDING, IN_PROGRESS ──► CANCELLED   refunded
                  IN_PROGRESS, and its output is verified ──────► DISPUTED   a ban alone
                  COMPLETED, held, and its provider is banned ──► DISPUTED
    channel       see payment_moves.revoked

Nobody's reputation changes by it: neither side has ended its work. Why a ban disputes what was delivered: the work may
be good, and the agent's fault may have nothing to do with it; an operator knows.
"""

from typing import Final

import msgspec

from channels import negotiation, task_state
from channels.changes import Timer
from channels.handlers import Context, Decision
from channels.negotiation import NegotiationSession
from channels.task_disputes import disputed
from channels.task_ends import by_the_clock, refunded
from channels.task_state import Escrow, Task
from channels.told import Broadcast

BANNED: Final = "banned"
"""The reason that stands in what a ban has ended."""

CONTACT_REVOKED: Final = "contact_revoked"
"""The reason that stands in what the end of a contact, or a block, has ended."""


def cancel_negotiation(session: NegotiationSession, context: Context, *, reason: str) -> Decision:
    """End an open negotiation; both are told why. An ended one stays as it is."""
    if session.status is not negotiation.Phase.OPEN:
        return Decision()
    topic = f"negotiation:{session.id}"
    after = msgspec.structs.replace(session, status=negotiation.Phase.CANCELLED, ended_at=context.now, reason=reason)
    told = {"session_id": session.id, "reason": reason, "ended_at": after.ended_at}
    return Decision(
        state=after,
        broadcasts=(Broadcast(topic, "negotiation_cancelled", told),),
        changes=(Timer(negotiation.EXPIRES, topic, None),),
    )


def cancel_task(task: Task, context: Context, *, reason: str) -> Decision:
    """End a task that is under way; the client gets the whole price back, both are told. Another stays as it is."""
    over = by_the_clock(task, context)
    if over is not None:
        return over
    if task.status not in task_state.RUNNING:
        return Decision()
    after, changes = refunded(
        msgspec.structs.replace(task, status=task_state.Phase.CANCELLED, reason=reason, ended_at=context.now), context
    )
    told = {"task": task_state.snapshot(after, context.market)}
    return Decision(
        state=after,
        broadcasts=(Broadcast(task.topic, "task_cancelled", told),),
        changes=(*changes, Timer(task_state.DEADLINE, task.topic, None)),
    )


def ban_task(task: Task, context: Context, *, agent_id: str) -> Decision:
    """What the ban of one of its agents makes of a task: it is cancelled, or disputed where there is work to pay for.

    Args:
        task: Any of the two.
        context: The clock.
        agent_id: Who is banned. A client's ban leaves what was completed for it as it is: it is paid when the hold is
            over.
    """
    over = by_the_clock(task, context)
    if over is not None:
        return over
    is_held = task.escrow_status is Escrow.HELD
    if task.status in task_state.RUNNING and not (is_held and task.output_stream.is_delivered):
        return cancel_task(task, context, reason=BANNED)
    is_disputed = task.status in task_state.RUNNING or (
        task.status is task_state.Phase.COMPLETED and is_held and agent_id == task.provider_agent_id
    )
    return disputed(task, context, opened_by=None, reason=BANNED) if is_disputed else Decision()

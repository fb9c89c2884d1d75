"""What is open ends because its two agents may not go on: one was banned, or has revoked the contact.

    negotiation   OPEN ──────────────────► CANCELLED
    task          PENDING, IN_PROGRESS ──► CANCELLED   refunded
    channel       see payment_moves.revoked

Nobody's reputation changes by it: neither side has ended its work.
"""

from typing import Final

import msgspec

from channels import negotiation, task_state
from channels.handlers import Broadcast, Context, Decision, Timer
from channels.ledger import refund
from channels.negotiation import NegotiationSession
from channels.task_state import Escrow, Task

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
    """End an unfinished task; the client gets the whole price back, both are told. An ended one stays as it is."""
    if task.is_final:
        return Decision()
    after = msgspec.structs.replace(
        task,
        status=task_state.Phase.CANCELLED,
        escrow_status=Escrow.REFUNDED if task.price else Escrow.NONE,
        reason=reason,
        ended_at=context.now,
    )
    told = {"task": task_state.snapshot(after, context.market)}
    return Decision(
        state=after,
        broadcasts=(Broadcast(task.topic, "task_cancelled", told),),
        changes=(
            *refund(task_id=task.id, client_agent_id=task.client_agent_id, price=task.price),
            Timer(task_state.DEADLINE, task.topic, None),
        ),
    )

"""What a ban, a revoked contact or a block ends: what was open is cancelled, and the held price goes back."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from channels.ending import BANNED, CONTACT_REVOKED, cancel_negotiation, cancel_task
from channels.handlers import Broadcast, Context, Timer
from channels.identity import Identity
from channels.ledger import available, escrow
from channels.negotiation import NegotiationSession
from channels.negotiation import Phase as NegotiationPhase
from channels.task_state import Escrow, Task
from channels.task_state import Phase as TaskPhase
from tests.channels.roles import MARKET, NOW

OLGA = Identity(kind="user", user_id="olga", handle="olga", key_id="k", is_operator=True)
CONTEXT = Context(sender=OLGA, now=NOW, market=MARKET, new_id=lambda: "new")


def session(status: NegotiationPhase) -> NegotiationSession:
    return NegotiationSession(
        id="n1",
        client_agent_id="alice",
        provider_agent_id="bob",
        client_public_key="a",
        provider_public_key="b",
        capability="translate",
        base_max=1_000,
        max_offer=2_000,
        max_rounds=10,
        terms=None,
        session_digest="d",
        status=status,
        created_at=NOW,
        expires_at=NOW,
    )


def work(status: TaskPhase, price: int = 1_000) -> Task:
    return Task(
        id="t1",
        client_agent_id="alice",
        provider_agent_id="bob",
        client_owner_id="a",
        is_countable=True,
        capability="translate",
        price=price,
        fee=50,
        fee_bps=500,
        escrow_status=Escrow.HELD if price else Escrow.NONE,
        status=status,
        created_at=NOW,
        deadline=NOW,
    )


REASONS = pytest.mark.parametrize("reason", [BANNED, CONTACT_REVOKED])


def test_the_reasons_are_these() -> None:
    assert (BANNED, CONTACT_REVOKED) == ("banned", "contact_revoked")


@REASONS
def test_an_open_negotiation_is_cancelled_and_both_are_told(reason: str) -> None:
    decision = cancel_negotiation(session(NegotiationPhase.OPEN), CONTEXT, reason=reason)

    after: NegotiationSession = decision.state
    assert (after.status, after.reason, after.ended_at, after.ended_by) == ("cancelled", reason, NOW, None)
    told = {"session_id": "n1", "reason": reason, "ended_at": NOW}
    assert decision.broadcasts == (Broadcast("negotiation:n1", "negotiation_cancelled", told),)
    assert decision.changes == (Timer("negotiation_expires", "negotiation:n1", None),)


@REASONS
@pytest.mark.parametrize("status", [TaskPhase.PENDING, TaskPhase.IN_PROGRESS])
def test_an_unfinished_task_is_cancelled_and_the_client_has_its_money_back(status: TaskPhase, reason: str) -> None:
    decision = cancel_task(work(status), CONTEXT, reason=reason)

    after: Task = decision.state
    assert (after.status, after.escrow_status, after.reason, after.ended_by) == (
        "cancelled",
        "refunded",
        reason,
        None,
    )
    refund, retention, timer = decision.changes
    assert [(posting.account, posting.amount) for posting in refund.postings] == [  # type: ignore[union-attr] # An Entry.
        (escrow("t1"), -1_000),
        (available("alice"), 1_000),
    ]
    assert retention == Timer("task_retention", "task:t1", after.kept_until)
    assert timer == Timer("task_deadline", "task:t1", None)
    (told,) = decision.broadcasts
    assert isinstance(told, Broadcast)
    assert (told.topic, told.event) == ("task:t1", "task_cancelled")
    assert told.payload["task"]["status"] == "cancelled"


def test_a_free_task_is_cancelled_without_money() -> None:
    decision = cancel_task(work(TaskPhase.PENDING, price=0), CONTEXT, reason=BANNED)

    assert decision.state.escrow_status is Escrow.NONE
    retention, timer = decision.changes
    assert retention == Timer("task_retention", "task:t1", decision.state.kept_until)
    assert timer == Timer("task_deadline", "task:t1", None)


@REASONS
def test_it_counts_for_nobodys_reputation(reason: str) -> None:
    decision = cancel_task(work(TaskPhase.IN_PROGRESS), CONTEXT, reason=reason)

    assert not [change for change in decision.changes if type(change).__name__ == "Outcome"]


ENDED: list[tuple[Callable[..., Any], msgspec.Struct]] = [
    *((cancel_negotiation, session(phase)) for phase in NegotiationPhase if phase is not NegotiationPhase.OPEN),
    *((cancel_task, work(phase)) for phase in TaskPhase if phase not in {TaskPhase.PENDING, TaskPhase.IN_PROGRESS}),
]


@pytest.mark.parametrize(("cancel", "ended"), ENDED)
def test_what_has_ended_stays_as_it_ended(cancel: Callable[..., Any], ended: msgspec.Struct) -> None:
    decision = cancel(ended, CONTEXT, reason=BANNED)

    assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())

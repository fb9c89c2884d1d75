"""What a ban, a revoked contact or a block ends: what was open is cancelled, and the held price goes back."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from channels.changes import Timer
from channels.ending import BANNED, CONTACT_REVOKED, ban_task, cancel_negotiation, cancel_task
from channels.handlers import Context
from channels.identity import Identity
from channels.ledger import available, escrow
from channels.negotiation import NegotiationSession
from channels.negotiation import Phase as NegotiationPhase
from channels.task_state import Escrow, StreamState, Task
from channels.task_state import Phase as TaskPhase
from channels.told import Broadcast
from tests.channels.roles import MARKET, NOW

OLGA = Identity(kind="user", user_id="olga", handle="olga", key_id="k", is_operator=True)
CONTEXT = Context(sender=OLGA, now=NOW, market=MARKET, new_id=lambda: "new", new_token=lambda: "token")


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
        deadline=NOW + timedelta(days=7),
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


DELIVERED = StreamState(next_seq=1, size=1, is_complete=True)
BOTH = pytest.mark.parametrize("agent_id", ["alice", "bob"])


@BOTH
@pytest.mark.parametrize("status", [TaskPhase.PENDING, TaskPhase.IN_PROGRESS])
@pytest.mark.parametrize(
    "output", [StreamState(), StreamState(next_seq=1, size=1), StreamState(is_complete=True)], ids=repr
)
def test_a_ban_cancels_what_is_not_delivered(status: TaskPhase, output: StreamState, agent_id: str) -> None:
    task = msgspec.structs.replace(work(status), output_stream=output)

    assert ban_task(task, CONTEXT, agent_id=agent_id) == cancel_task(task, CONTEXT, reason=BANNED)


@BOTH
def test_a_ban_cancels_what_no_money_is_held_for(agent_id: str) -> None:
    task = msgspec.structs.replace(work(TaskPhase.IN_PROGRESS, price=0), output_stream=DELIVERED)

    assert ban_task(task, CONTEXT, agent_id=agent_id).state.status == "cancelled"


@BOTH
def test_a_ban_disputes_what_is_delivered(agent_id: str) -> None:
    task = msgspec.structs.replace(work(TaskPhase.IN_PROGRESS), output_stream=DELIVERED)

    decision = ban_task(task, CONTEXT, agent_id=agent_id)

    after: Task = decision.state
    assert after.dispute is not None
    assert (after.status, after.escrow_status, after.ended_at) == ("disputed", "held", None)
    assert (after.dispute.opened_by, after.dispute.reason) == (None, BANNED)
    assert [timer.kind for timer in decision.changes if isinstance(timer, Timer) and timer.due_at] == ["task_decision"]
    (told,) = decision.broadcasts
    assert isinstance(told, Broadcast)
    assert told.event == "task_disputed"


@pytest.mark.parametrize(("agent_id", "is_disputed"), [("alice", False), ("bob", True)])
def test_of_what_is_completed_and_held_only_the_providers_ban_disputes_it(agent_id: str, *, is_disputed: bool) -> None:
    decision = ban_task(work(TaskPhase.COMPLETED), CONTEXT, agent_id=agent_id)

    assert (decision.state is not None) is is_disputed


@BOTH
@pytest.mark.parametrize("status", [TaskPhase.COMPLETED, TaskPhase.FAILED, TaskPhase.CANCELLED, TaskPhase.DISPUTED])
def test_a_ban_leaves_what_is_over_or_disputed(status: TaskPhase, agent_id: str) -> None:
    task = work(status)
    if status is not TaskPhase.DISPUTED:
        task = msgspec.structs.replace(task, escrow_status=Escrow.RELEASED)

    decision = ban_task(task, CONTEXT, agent_id=agent_id)

    assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())


ENDED: list[tuple[Callable[..., Any], msgspec.Struct]] = [
    *((cancel_negotiation, session(phase)) for phase in NegotiationPhase if phase is not NegotiationPhase.OPEN),
    *((cancel_task, work(phase)) for phase in TaskPhase if phase not in {TaskPhase.PENDING, TaskPhase.IN_PROGRESS}),
]


@pytest.mark.parametrize(("cancel", "ended"), ENDED)
def test_what_has_ended_stays_as_it_ended(cancel: Callable[..., Any], ended: msgspec.Struct) -> None:
    decision = cancel(ended, CONTEXT, reason=BANNED)

    assert (decision.state, decision.changes, decision.broadcasts) == (None, (), ())


def test_a_ban_comes_after_what_the_clock_has_done_though_its_timer_has_not_run() -> None:
    over = NOW - timedelta(seconds=1)
    held = msgspec.structs.replace(
        work(TaskPhase.COMPLETED), escrow_status=Escrow.HELD, hold_seconds=60, hold_ends_at=over, ended_at=NOW
    )
    late = msgspec.structs.replace(work(TaskPhase.IN_PROGRESS), deadline=over)
    delivered = msgspec.structs.replace(late, output_stream=DELIVERED)

    paid = ban_task(held, CONTEXT, agent_id="bob")
    failed = ban_task(late, CONTEXT, agent_id="bob")
    cut_off = cancel_task(late, CONTEXT, reason="contact_revoked")
    completed = ban_task(delivered, CONTEXT, agent_id="bob")

    assert (paid.state.status, paid.state.escrow_status, paid.state.dispute) == ("completed", "released", None)
    assert (failed.state.status, failed.state.error.type) == ("failed", "deadline")
    assert (cut_off.state.status, cut_off.state.error.type) == ("failed", "deadline")
    assert (completed.state.status, completed.state.dispute) == ("completed", None)

"""Alerts and what raises them, as tests make them: Alice hires, Bob works."""

from datetime import timedelta
from typing import Any

import msgspec

from channels.alert_rules import Over, Raise, is_notable, verdict_on
from channels.alerts import Alert, AlertType, Phase, Severity
from channels.identity import Identity
from channels.messages import StoredMessage
from channels.payment_state import PaymentChannel
from channels.payment_state import Phase as ChannelPhase
from channels.task_state import Escrow, Settlement, Task, TaskDispute, TaskError
from channels.task_state import Phase as TaskPhase
from tests.channels.roles import ALICE, BOB, FRESH_ID, MARKET, NOW, OTHER_ID

LATER = NOW + timedelta(hours=1)
PRICE = 8_500_000
OLGA = Identity(
    kind="user", user_id="olga", handle="olga", key_id="k", is_operator=True, scopes=frozenset({"analytics"})
)
BOBS_OWNER = Identity(kind="user", user_id=BOB.agent.owner_id, handle="bob", key_id="k")
HANDLES = {ALICE.id: "alice/bot", BOB.id: "bob/bot"}
NOBODY = "33333333-3333-4333-8333-333333333333"


def an_alert(status: Phase = Phase.ACTIVE, **fields: Any) -> Alert:
    """An alert of Bob's agent."""
    defaults: dict[str, Any] = {
        "id": FRESH_ID,
        "severity": Severity.ERROR,
        "type": AlertType.TASK_FAILED,
        "message": "Something has failed. Look into it.",
        "agent_id": BOB.id,
        "owner_id": BOB.agent.owner_id,
        "data": {"task_id": OTHER_ID},
        "subject": f"task:{OTHER_ID}",
        "status": status,
        "inserted_at": NOW,
        "updated_at": NOW,
    }
    return Alert(**(defaults | fields))


def of_the_market(status: Phase = Phase.ACTIVE) -> Alert:
    """An alert of the whole market."""
    return an_alert(
        status,
        severity=Severity.CRITICAL,
        type=AlertType.LEDGER_MISMATCH,
        agent_id=None,
        owner_id=None,
        subject="ledger",
    )


def a_task(status: TaskPhase = TaskPhase.IN_PROGRESS, **fields: Any) -> Task:
    """A task that Bob does for Alice, as far as it has come."""
    defaults: dict[str, Any] = {
        "id": OTHER_ID,
        "client_agent_id": ALICE.id,
        "provider_agent_id": BOB.id,
        "client_owner_id": ALICE.agent.owner_id,
        "is_countable": True,
        "capability": "translate",
        "price": PRICE,
        "fee": 0,
        "fee_bps": 0,
        "escrow_status": Escrow.HELD,
        "status": status,
        "created_at": NOW,
        "deadline": LATER,
    }
    return Task(**(defaults | fields))


def failed(type_: str = "broken", **fields: Any) -> Task:
    """The same once it has failed."""
    return a_task(TaskPhase.FAILED, **{"error": TaskError(type=type_), "ended_at": NOW, "ended_by": BOB.id, **fields})


SETTLED = Settlement(
    decision="client",
    decided_by="operator",
    to_client=PRICE,
    to_provider=0,
    fee=0,
    reason="so",
    settled_at=NOW,
)


def disputed(opened_by: str | None = ALICE.id, **fields: Any) -> Task:
    """The same while it is disputed."""
    dispute = TaskDispute(opened_by=opened_by, reason="it is wrong", opened_at=NOW, decides_at=LATER)
    return a_task(TaskPhase.DISPUTED, dispute=dispute, **fields)


def a_channel(status: ChannelPhase = ChannelPhase.OPEN, **fields: Any) -> PaymentChannel:
    """A payment channel of Alice and Bob."""
    defaults: dict[str, Any] = {
        "id": OTHER_ID,
        "mode": "online",
        "window_s": 86_400,
        "agent_a_id": ALICE.id,
        "agent_b_id": BOB.id,
        "public_key_a": "a",
        "public_key_b": "b",
        "status": status,
        "deposit_a": PRICE,
        "deposited_since_a": 0,
        "balance_a": PRICE - 1_000_000,
        "balance_b": 1_000_000,
        "created_at": NOW,
        "expires_at": LATER,
    }
    return PaymentChannel(**(defaults | fields))


def a_message(status: str = "queued", **fields: Any) -> StoredMessage:
    """A message of Alice to Bob."""
    defaults: dict[str, Any] = {
        "id": OTHER_ID,
        "to_agent_id": BOB.id,
        "type": "status_update",
        "payload": {},
        "from_agent_id": ALICE.id,
        "is_from_market": False,
        "inserted_at": NOW,
        "expires_at": LATER,
        "status": status,
    }
    return msgspec.convert(defaults | fields, StoredMessage)


def name_of(agent_id: str) -> str:
    """A handle."""
    return HANDLES[agent_id]


def follows(store: str, before: Any, after: Any) -> list[Raise | Over]:
    """What follows from a change, as the server finds it."""
    if not is_notable(store, before, after):
        return []
    return [*verdict_on(store, before, after, name_of=name_of, market=MARKET)]


def raised(store: str, before: Any, after: Any) -> list[tuple[str, str, str | None]]:
    """Type, severity and agent of what is raised by a change."""
    return [(one.type, one.severity, one.agent_id) for one in follows(store, before, after) if isinstance(one, Raise)]


def over(store: str, before: Any, after: Any) -> list[tuple[str, str]]:
    """Type and subject of what is over by a change."""
    return [(one.type, one.subject) for one in follows(store, before, after) if isinstance(one, Over)]

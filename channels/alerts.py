"""Alerts: what an owner should look at. They are raised by what happens (alert_rules.py), never by asking around.

    raised ─► ACTIVE ── acknowledge ──► ACKNOWLEDGED
                │                            │
                └─────────────┬──────────────┘
                              ├── resolve ───────────────┐
                              ├── its condition is over ─┼──► RESOLVED ── the clock ──► deleted
                              └── too many of its agent ─┘

An alert belongs to one agent, and is its owner's; or to nobody, and is the whole market's: then operators answer it.
Some tell of a condition that lasts, such as a dispute: those resolve themselves when it is over. What can only be
looked at, such as a failed task, waits until somebody has resolved it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from channels.changes import DropAlert, SetThreshold, Timer
from channels.errors import Conflict, not_found
from channels.handlers import Access, Context, Decision, Empty, Handler
from channels.identity import Identity
from channels.limits import Market
from channels.scopes import require_may_see
from channels.told import Broadcast

ALERT: Final = "alert"
"""What is told of an alert, to the sockets that have asked for it."""

HOUSE: Final = "house"
"""Who has resolved what nobody had to."""

RETENTION: Final = "alert_retention"
"""The timer that deletes an alert, some time after it was resolved."""

SUBSCRIBED_MAX: Final = 100
"""Alerts in the reply to who asks for them; REST has the others."""


class Severity(StrEnum):
    """How much it matters, most first."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class AlertType(StrEnum):
    """What has happened, or lasts."""

    TASK_FAILED = "task_failed"
    SUCCESS_RATE_LOW = "success_rate_low"
    DISPUTE_OPENED = "dispute_opened"
    CHANNEL_DISPUTE = "channel_dispute"
    CHANNEL_STATE_LOST = "channel_state_lost"
    DELIVERY_EXHAUSTED = "delivery_exhausted"
    BALANCE_LOW = "balance_low"
    LEDGER_MISMATCH = "ledger_mismatch"


PAST: Final = (AlertType.TASK_FAILED, AlertType.DELIVERY_EXHAUSTED)
"""Types that tell of what is past; the others tell of what lasts, and resolve themselves when it is over."""


class Phase(StrEnum):
    """Where an alert stands; RESOLVED is final."""

    ACTIVE = "active"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"


MOVES: Final[Mapping[Phase, frozenset[Phase]]] = {
    Phase.ACTIVE: frozenset({Phase.ACKNOWLEDGED, Phase.RESOLVED}),
    Phase.ACKNOWLEDGED: frozenset({Phase.RESOLVED}),
    Phase.RESOLVED: frozenset(),
}
"""From → to. Nothing else is ever made of an alert."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One alert.

    Args:
        message: For people: what has happened, to whom, and what to do next.
        agent_id: Whose it is; None for the whole market's.
        owner_id: The owner of that agent, when it was raised.
        data: For programs: the ids and numbers that the message speaks of.
        subject: What it is about: `task:…`, `payment:…`, `message:…`, `agent:…`, `ledger`. There is one unresolved
            alert of a type, a subject and an agent at most.
        acknowledged_by: The agent or the user who did.
        resolved_by: The same; HOUSE where its condition was over, or where its agent had too many.
    """

    id: str
    severity: Severity
    type: AlertType
    message: str
    agent_id: str | None = None
    owner_id: str | None = None
    data: dict[str, Any]
    subject: str
    status: Phase = Phase.ACTIVE
    inserted_at: datetime
    updated_at: datetime
    acknowledged_by: str | None = None
    resolved_by: str | None = None


class OpenAlerts(msgspec.Struct, frozen=True):
    """The newest active alerts of a topic, newest first, and whether there are more.

    `owner_id`: whose agent it is, for the topic of an agent.
    """

    alerts: tuple[Alert, ...]
    has_more: bool
    owner_id: str | None = None


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's alerts are measured by.

    Args:
        agent_id: Whose they are.
        balance_below: `balance_low` is raised when less than this is available, in minor units; None: never.
    """

    agent_id: str
    balance_below: int | None


class OwnThresholds(msgspec.Struct, frozen=True):
    """An agent's thresholds, and who owns it."""

    thresholds: Thresholds
    owner_id: str


class SetThresholds(msgspec.Struct, frozen=True, kw_only=True):
    """Set an agent's thresholds; `balance_below` in minor units, null for none."""

    balance_below: int | None


def told_of(alert: Alert) -> tuple[Broadcast, ...]:
    """What is told of an alert that is new or has changed: to its agent and its owner, or to all."""
    if alert.agent_id is None:
        topics: tuple[str, ...] = ("analytics:global",)
    else:
        topics = (f"analytics:agent:{alert.agent_id}", f"analytics:user:{alert.owner_id}")
    payload = shown(alert)
    return tuple(Broadcast(topic, ALERT, payload, is_asked_for=True) for topic in topics)


def shown(alert: Alert) -> dict[str, Any]:
    """An alert as sockets are told of it."""
    return {
        "id": alert.id,
        "severity": alert.severity,
        "type": alert.type,
        "message": alert.message,
        "agent_id": alert.agent_id,
        "data": alert.data,
        "status": alert.status,
        "inserted_at": alert.inserted_at,
        "updated_at": alert.updated_at,
    }


def whole(alert: Alert) -> dict[str, Any]:
    """The same, and who has answered it: as REST shows it."""
    return {**shown(alert), "acknowledged_by": alert.acknowledged_by, "resolved_by": alert.resolved_by}


def subscribe_alerts(found: OpenAlerts, request: Empty, context: Context) -> Decision:
    """The active alerts of the topic; from now on its new ones, and every change of one, are pushed to this socket.

    Raises:
        Forbidden: `unauthorized`.
    """
    del request
    require_may_see(found.owner_id, context)
    reply = {"alerts": [shown(alert) for alert in found.alerts], "has_more": found.has_more}
    return Decision(reply=reply, takes=ALERT)


def acknowledge(alert: Alert | None, request: Empty, context: Context) -> Decision:
    """Say that somebody looks after it. A second time is a duplicate.

    Raises:
        NotFound: `not_found`: there is no such alert, or it is somebody else's.
        Conflict: `terminal_state`, with the status: it is resolved.
    """
    del request
    found = require_seen(alert, context.sender)
    if found.status is Phase.ACKNOWLEDGED:
        return Decision(reply={**whole(found), "duplicate": True})
    if found.status is Phase.RESOLVED:
        raise Conflict("terminal_state", "This alert is resolved already.", status=found.status)
    after = msgspec.structs.replace(
        moved(found, Phase.ACKNOWLEDGED, now=context.now), acknowledged_by=context.sender.id
    )
    return Decision(state=after, reply=whole(after), broadcasts=told_of(after))


def resolve(alert: Alert | None, request: Empty, context: Context) -> Decision:
    """Say that it is over. A second time is a duplicate.

    What it tells of may last: it is not raised again before that has been over once.

    Raises:
        NotFound: `not_found`: there is no such alert, or it is somebody else's.
    """
    del request
    found = require_seen(alert, context.sender)
    if found.status is Phase.RESOLVED:
        return Decision(reply={**whole(found), "duplicate": True})
    after = resolved(found, by=context.sender.id, now=context.now)
    return Decision(state=after, reply=whole(after), broadcasts=told_of(after), changes=(kept(after, context.market),))


def forget(alert: Alert | None, request: Empty, context: Context) -> Decision:
    """The timer: an alert that was resolved long ago is deleted."""
    del request
    if alert is None or alert.status is not Phase.RESOLVED:
        return Decision()
    timer = kept(alert, context.market)
    if timer.due_at is not None and context.now < timer.due_at:
        return Decision(changes=(timer,))  # Too early: it must not be lost.
    return Decision(changes=(DropAlert(alert.id),))


def set_thresholds(own: OwnThresholds | None, request: SetThresholds, context: Context) -> Decision:
    """Set an agent's thresholds; its owner and itself may. What is low by them is alerted at once, or resolved.

    Raises:
        NotFound: `not_found`: there is no such agent, or it is somebody else's.
    """
    found = require_thresholds(own, context.sender)
    after = msgspec.structs.replace(found, balance_below=request.balance_below)
    if after == found:
        return Decision(reply=thresholds_shown(after, context.market))
    change = SetThreshold(found.agent_id, balance_below=after.balance_below)
    return Decision(reply=thresholds_shown(after, context.market), changes=(change,))


def thresholds_shown(thresholds: Thresholds, market: Market) -> dict[str, Any]:
    """An agent's thresholds as they are answered."""
    return {**msgspec.structs.asdict(thresholds), "currency": market.currency, "exponent": market.exponent}


def require_thresholds(own: OwnThresholds | None, sender: Identity) -> Thresholds:
    """An agent's thresholds, if the sender is the agent or its owner.

    Raises:
        NotFound: `not_found`.
    """
    if own is not None:
        agent_id = own.thresholds.agent_id
        if sender.agent_id == agent_id or (sender.agent_id is None and sender.user_id == own.owner_id):
            return own.thresholds
    raise not_found("agent")


def require_seen(alert: Alert | None, sender: Identity) -> Alert:
    """The alert, if the sender may see it: its owner, every agent of that owner, operators the whole market's.

    Raises:
        NotFound: `not_found`.
    """
    if alert is not None:
        if alert.owner_id is None and sender.is_operator:
            return alert
        if alert.owner_id is not None and alert.owner_id == sender.user_id:
            return alert
    raise not_found("alert")


def moved(alert: Alert, status: Phase, *, now: datetime) -> Alert:
    """The alert in another phase, which MOVES allows."""
    assert status in MOVES[alert.status], f"no alert goes from {alert.status} to {status}"
    return msgspec.structs.replace(alert, status=status, updated_at=now)


def resolved(alert: Alert, *, by: str, now: datetime) -> Alert:
    """The alert once it is over."""
    return msgspec.structs.replace(moved(alert, Phase.RESOLVED, now=now), resolved_by=by)


def kept(alert: Alert, market: Market) -> Timer:
    """A resolved alert is kept for a while."""
    due_at = alert.updated_at + timedelta(seconds=market.limits.alert_retention_s)
    return Timer(RETENTION, f"{ALERT}:{alert.id}", due_at)


SUBSCRIBE_ALERTS = Handler(
    Empty, subscribe_alerts, loads="open_alerts", access=Access.WRITE, scope="analytics", rate="discovery"
)
"""The event `subscribe_alerts` of every analytics topic."""

ACKNOWLEDGE = Handler(Empty, acknowledge, loads="alert", access=Access.WRITE, scope="analytics")
RESOLVE = Handler(Empty, resolve, loads="alert", access=Access.WRITE, scope="analytics")
SET_THRESHOLDS = Handler(
    SetThresholds, set_thresholds, loads="alert_thresholds", access=Access.WRITE, scope="analytics"
)
RETENTION_CLOCK = Handler(Empty, forget, loads="alert")

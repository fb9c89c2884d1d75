"""Alerts: listed, answered, and what they are measured by."""

from datetime import datetime
from typing import Any, Literal

import msgspec

from agrenting.api.answers import Duplicate
from agrenting.api.call import Call
from agrenting.api.money import Money
from agrenting.api.operation import Callers, Noun
from agrenting.api.paging import LAST, PageQuery, decode_cursor, page_of
from agrenting.db import alerts as stored
from agrenting.db import states
from agrenting.db.alerts import Wanted
from channels import alerts
from channels.alerts import Alert, AlertType, Phase, SetThresholds, Severity, require_seen, whole
from channels.fields import parse_money
from channels.handlers import Context, Empty
from channels.identity import Identity

NOUN = Noun("alerts", "What an owner should look at: what has failed, is disputed, or runs low.")
NAME = "alerts"
NAME_OF_ALL = "alerts/all"
SCOPES = ("analytics",)


class AlertAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An alert.

    Args:
        severity: `critical`, `error`, `warning` or `info`.
        message: For people: what has happened, to whom, and what to do next.
        agent_id: Whose it is; null for the whole market's.
        data: For programs: ids and numbers, by the type.
        updated_at: When its status changed last.
        acknowledged_by: The agent or the user who did.
        resolved_by: The same; `house` where its condition was over, or where its agent had too many.
        duplicate: It was so already.
    """

    id: str
    severity: Severity
    type: AlertType
    message: str
    agent_id: str | None
    data: dict[str, Any]
    status: Phase
    inserted_at: datetime
    updated_at: datetime
    acknowledged_by: str | None
    resolved_by: str | None
    duplicate: Duplicate = msgspec.UNSET


class ThresholdsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's alerts are measured by.

    Args:
        balance_below: `balance_low` is raised when less than this is available, in minor units; null: never.
    """

    agent_id: str
    balance_below: int | None
    currency: str
    exponent: int


class ThresholdsBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent's alerts are to be measured by; null: `balance_low` is never raised."""

    balance_below: Money | None


class AlertsQuery(PageQuery, frozen=True, kw_only=True):
    """Which alerts, newest first.

    Args:
        agent_id: Only that agent's.
        status: Only those that stand so.
        severity: Only those that matter so much.
        type: Only those of this type.
    """

    agent_id: str | None = None
    status: Phase | None = None
    severity: Severity | None = None
    type: AlertType | None = None


class AllAlertsQuery(AlertsQuery, frozen=True, kw_only=True):
    """Which alerts of everybody; `whose`: those of agents and the market's, or the whole market's alone."""

    whose: Literal["all", "market"] = "all"


@NOUN.get("/alerts", answer=AlertAnswer, scopes=SCOPES)
async def list_alerts(call: Call, query: AlertsQuery) -> object:
    """List the alerts of the caller's agents, newest first; an agent's key lists its own, unless it names another.

    Resolved ones are there for `alert_retention_s` after that.
    """
    caller = call.caller
    wanted = _wanted(query, owner_id=caller.user_id, agent_id=query.agent_id or caller.agent_id)
    return await _page(call, query, wanted, name=NAME)


@NOUN.get("/alerts/{id}", answer=AlertAnswer, scopes=SCOPES, errors={404: "not_found"})
async def read_alert(call: Call) -> object:
    """Read an alert of one of the caller's agents; for operators, also one of the whole market."""
    found: Alert | None = await call.read(lambda tx: states.load(tx, "alert", call.id))
    return whole(require_seen(found, call.caller))


@NOUN.post(
    "/alerts/{id}/acknowledge",
    answer=AlertAnswer,
    scopes=SCOPES,
    errors={404: "not_found", 409: "terminal_state"},
)
async def acknowledge_alert(call: Call) -> object:
    """Say that somebody looks after an alert. A second time is a duplicate."""
    return await call.decide(alerts.ACKNOWLEDGE, f"alert:{call.id}", Empty())


@NOUN.post("/alerts/{id}/resolve", answer=AlertAnswer, scopes=SCOPES, errors={404: "not_found"})
async def resolve_alert(call: Call) -> object:
    """Say that an alert is over. A second time is a duplicate.

    A condition that lasts is not raised again before it was over once.
    """
    return await call.decide(alerts.RESOLVE, f"alert:{call.id}", Empty())


@NOUN.get("/agents/{id}/alert-thresholds", answer=ThresholdsAnswer, scopes=SCOPES, errors={404: "not_found"})
async def read_thresholds(call: Call) -> object:
    """Read what an agent's alerts are measured by; for the agent itself and its owner."""
    context = _context(call)
    found = await call.read(lambda tx: stored.own_thresholds(tx, call.id, None, context))
    return alerts.thresholds_shown(alerts.require_thresholds(found, call.caller), call.market)


@NOUN.put(
    "/agents/{id}/alert-thresholds",
    answer=ThresholdsAnswer,
    scopes=SCOPES,
    errors={404: "not_found", 422: "invalid_amount"},
)
async def set_thresholds(call: Call, body: ThresholdsBody) -> object:
    """Set what an agent's alerts are measured by; for the agent itself and its owner.

    What is low by the new threshold is alerted at once, and what is not any more is resolved.
    """
    below = body.balance_below
    if below is not None:
        below = parse_money(below, exponent=call.market.exponent, field="balance_below")
    return await call.decide(alerts.SET_THRESHOLDS, f"thresholds:{call.id}", SetThresholds(balance_below=below))


@NOUN.get("/admin/alerts", answer=AlertAnswer, callers=Callers.OPERATOR, scopes=SCOPES)
async def list_all_alerts(call: Call, query: AllAlertsQuery) -> object:
    """List the alerts of everybody, newest first. Those of the whole market are for operators to answer."""
    wanted = _wanted(query, agent_id=query.agent_id, is_global=query.whose == "market")
    return await _page(call, query, wanted, name=NAME_OF_ALL)


def _wanted(
    query: AlertsQuery, *, owner_id: str | None = None, agent_id: str | None, is_global: bool = False
) -> Wanted:
    return Wanted(
        owner_id=owner_id,
        agent_id=agent_id,
        is_global=is_global,
        status=query.status,
        severity=query.severity,
        type=query.type,
    )


async def _page(call: Call, query: AlertsQuery, wanted: Wanted, *, name: str) -> object:
    before = decode_cursor(query.cursor, name=name, start=LAST)
    rows = await call.read(lambda tx: stored.listed(tx, wanted, before=before, limit=query.limit + 1))
    return page_of(rows, query=query, key=lambda row: row.id, name=name, show=whole)


def _context(call: Call) -> Context:
    caller: Identity = call.caller
    return call.server.engine.context(caller, f"thresholds:{call.id}")

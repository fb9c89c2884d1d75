"""Numbers, alerts and activity of the client: what stands, and what comes, each once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agrenting.client import watching as module
from agrenting.client.errors import Disconnected, NoAnswer, RefusedByServer
from agrenting.client.watching import Watching
from tests.agrenting.client_stage import NOW, OWN_ID, OWNER_ID, Stage, StageTopic, refusal, settle, staged

LATER = "2026-03-01T12:00:01Z"
LATEST = "2026-03-01T12:00:02Z"
NUMBERS = [
    "tasks_total",
    "tasks_completed",
    "tasks_failed",
    "tasks_cancelled",
    "tasks_active",
    "tasks_hired",
    "revenue_gross",
    "fees",
    "revenue_net",
    "spend",
    "negotiations_started",
    "negotiations_completed",
    "transfers_in",
    "transfers_out",
    "transfers_in_amount",
    "transfers_out_amount",
    "messages_in",
]
RATES = [
    "success_rate",
    "avg_execution_time_ms",
    "p50_execution_time_ms",
    "p95_execution_time_ms",
    "p99_execution_time_ms",
    "reputation",
]


class Tower:
    """Somebody who watches, and what there is to see."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.active: list[dict[str, Any]] = []
        self.recent: list[dict[str, Any]] = []
        self.watching = Watching(stage.context)
        stage.on("join", "analytics:.*", {"metrics": metrics(0)})
        stage.on("push", "subscribe_alerts", lambda _: {"alerts": self.active, "has_more": False})
        stage.on("push", "subscribe_activity", lambda _: {"activity": self.recent})

    @property
    def topic(self) -> StageTopic:
        return self.stage.topic(f"analytics:agent:{OWN_ID}")


def metrics(tasks: int) -> dict[str, Any]:
    over = {"scope": f"agent:{OWN_ID}", "period": "24h", "from": NOW, "to": LATER, "currency": "USD", "exponent": 6}
    return {**over, **dict.fromkeys(NUMBERS, 0), **dict.fromkeys(RATES), "tasks_total": tasks}


def stats(agents: int) -> dict[str, Any]:
    numbers = dict.fromkeys(("online_agents", "total_tasks", "active_tasks", "tasks_per_minute", "volume_24h"), 0)
    return {**numbers, "total_agents": agents, "system_load": 0.5, "currency": "USD", "exponent": 6, "at": NOW}


def alert(id_: str, status: str = "active", at: str = NOW) -> dict[str, Any]:
    return {
        "id": id_, "severity": "warning", "type": "balance_low", "message": "Low.", "agent_id": OWN_ID, "data": {},
        "status": status, "inserted_at": NOW, "updated_at": at,
    }  # fmt: skip


def activity(id_: str, at: str = NOW) -> dict[str, Any]:
    return {
        "id": id_, "at": at, "kind": "offer", "topic": "negotiation:n", "agents": [{"id": "a", "handle": "alice/x"}],
        "capability": "translate", "amount": 5,
    }  # fmt: skip


@pytest.fixture
async def tower(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Tower]:
    async with staged(monkeypatch, tmp_path) as stage:
        yield Tower(stage)


async def test_the_newest_numbers_are_told_now_and_as_they_change_and_older_ones_are_dropped(tower: Tower) -> None:
    updates = tower.watching.updates()
    assert (await anext(updates)).tasks_total == 0
    for tasks in (1, 2):
        tower.topic.come("metrics_updated", {**metrics(tasks), "updated_at": NOW})
    tower.topic.come("something_new", {})
    await tower.topic.settled()

    assert (await anext(updates)).tasks_total == 2
    assert (await anext(tower.watching.updates())).tasks_total == 2, "who comes later hears what stands"
    tower.stage.on("join", "analytics:.*", {"metrics": metrics(3)})
    tower.topic.rejoin({"metrics": metrics(3)})
    assert (await anext(updates)).tasks_total == 3
    assert len(tower.topic.joined) == 1, "one topic for all who listen"


async def test_the_market_tells_its_numbers(tower: Tower) -> None:
    tower.stage.on("join", "analytics:global", {"metrics": metrics(0), "stats": stats(1)})
    seen = tower.watching.global_stats()
    assert (await anext(seen)).total_agents == 1

    tower.stage.topic("analytics:global").come("global_stats", stats(2))

    assert (await anext(seen)).total_agents == 2
    assert (await anext(tower.watching.global_stats())).total_agents == 2


async def test_alerts_are_those_that_are_active_then_each_change_and_over_a_loss_what_has_changed(
    tower: Tower,
) -> None:
    tower.active = [alert("2"), alert("1")]
    alerts = tower.watching.alerts()
    await settle()
    assert [one.id for one in alerts.drain()] == ["1", "2"], "the oldest first"
    tower.topic.come("alert", alert("2"))
    tower.topic.come("alert", alert("2", "acknowledged", LATER))
    await settle()
    assert [(one.id, one.status) for one in alerts.drain()] == [("2", "acknowledged")]
    late = tower.watching.alerts()
    assert [(one.id, one.status) for one in late.drain()] == [("1", "active"), ("2", "acknowledged")]

    tower.active = [alert("3")]
    tower.stage.on("GET", "/alerts/1", alert("1", "resolved", LATER))
    tower.stage.on("GET", "/alerts/2", alert("2", "acknowledged", LATER))
    tower.topic.rejoin({"metrics": metrics(0)})
    await settle()

    assert [(one.id, one.status) for one in alerts.drain()] == [("1", "resolved"), ("3", "active")]
    tower.stage.on("GET", "/alerts/[23]", refusal("not_found"))
    tower.active = []
    tower.topic.rejoin({"metrics": metrics(0)})
    await settle()
    assert alerts.drain() == []
    assert tower.watching.alerts().drain() == [], "what cannot be read any more is not kept"


async def test_how_many_alerts_are_kept_is_limited(tower: Tower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 2)
    tower.active = [alert("3"), alert("2"), alert("1")]
    alerts = tower.watching.alerts()
    await settle()

    assert [one.id for one in alerts.drain()] == ["2", "3"]
    assert [one.id for one in tower.watching.alerts().drain()] == ["2", "3"]


async def test_activity_is_the_last_of_it_then_what_comes_each_once(tower: Tower) -> None:
    tower.recent = [activity("1"), activity("2")]
    seen = tower.watching.activity("user")
    topic = tower.stage.topic(f"analytics:user:{OWNER_ID}")
    await settle()
    topic.come("activity", {"items": [activity("2"), activity("3")], "skipped": 0})
    await settle()
    tower.recent = [activity("1", LATER)]  # The server was started anew, and counts from the beginning.
    topic.rejoin({"metrics": metrics(0)})
    await settle()

    assert [(one.id, one.agents[0].handle) for one in seen.drain()] == [
        (id_, "alice/x") for id_ in ("1", "2", "3", "1")
    ]
    assert len(tower.watching.activity("user").drain()) == 4


async def test_activity_of_the_market_is_refused_to_who_listens_and_everything_else_is_told(tower: Tower) -> None:
    tower.stage.on("push", "subscribe_activity", refusal("unauthorized"))
    seen = tower.watching.activity("global")

    with pytest.raises(RefusedByServer, match="unauthorized"):
        await anext(seen)

    assert (await anext(tower.watching.updates("global"))).tasks_total == 0


@pytest.mark.parametrize("step", [("join", "analytics:.*"), ("push", "subscribe_activity"), ("GET", "/alerts/1")])
async def test_a_refusal_is_told_to_who_listens_and_the_next_one_tries_again(
    tower: Tower, step: tuple[str, str]
) -> None:
    tower.active = [alert("1")]
    if step[0] == "GET":
        alerts = tower.watching.alerts()
        await settle()
        tower.active = []
        tower.stage.on(*step, refusal("missing_scope"))
        tower.topic.rejoin({"metrics": metrics(0)})
        await anext(alerts)
    else:
        tower.stage.on(*step, refusal("missing_scope"))
        alerts = tower.watching.alerts()
        await settle()
        alerts.drain()

    with pytest.raises(RefusedByServer, match="missing_scope"):
        await anext(alerts)

    again = tower.watching.updates()
    await settle()
    assert len(tower.topic.joined) == 2
    assert again is not None


async def test_a_closed_connection_and_closing_end_what_is_told(tower: Tower) -> None:
    updates = tower.watching.updates()
    await anext(updates)
    tower.topic.end()
    with pytest.raises(Disconnected):
        await anext(updates)
    updates = tower.watching.updates()
    await anext(updates)

    await tower.watching.close()

    with pytest.raises(Disconnected):
        await anext(updates)

    assert tower.topic.is_left


async def test_who_listens_is_told_the_end_also_where_the_reading_has_not_begun(tower: Tower) -> None:
    updates = tower.watching.updates()

    tower.stage.context.cancel_background()

    with pytest.raises(Disconnected):
        await anext(updates)


async def test_a_subscription_that_is_not_answered_in_time_is_made_again(tower: Tower) -> None:
    answers: list[Any] = [NoAnswer("slow"), {"alerts": [alert("1")], "has_more": False}]
    tower.stage.on("push", "subscribe_alerts", lambda _: answers.pop(0))
    activities: list[Any] = [NoAnswer("slow"), {"activity": [activity("2")]}]
    tower.stage.on("push", "subscribe_activity", lambda _: activities.pop(0))

    alerts, seen = tower.watching.alerts(), tower.watching.activity()

    assert ((await anext(alerts)).id, (await anext(seen)).id) == ("1", "2")


async def test_an_end_that_is_read_after_a_loss_and_told_as_well_is_told_once(tower: Tower) -> None:
    tower.active = [alert("1")]
    alerts = tower.watching.alerts()
    await settle()
    alerts.drain()
    tower.active = []
    tower.stage.on("GET", "/alerts/1", alert("1", "resolved", LATER))

    tower.topic.rejoin({"metrics": metrics(0)})
    tower.topic.come("alert", alert("1", "acknowledged"))  # Both came between the subscription and the reading.
    tower.topic.come("alert", alert("1", "resolved", LATER))
    await settle()

    assert [one.status for one in alerts.drain()] == ["resolved"]
    tower.topic.come("alert", alert("1", "active", LATEST))
    await settle()
    assert [one.status for one in alerts.drain()] == ["active"]
    assert [one.id for one in tower.watching.alerts().drain()] == ["1"]


async def test_questions_name_the_scope_and_leave_out_what_is_not_said(tower: Tower) -> None:
    over = {"scope": "x", "period": "7d", "from": NOW, "to": LATER}
    tower.stage.on("GET", "/analytics/metrics", {**metrics(7), "benchmarks": []})
    tower.stage.on(
        "GET",
        "/analytics/time-series",
        {**over, "metric": "spend", "interval": "day", "points": [{"at": NOW, "value": None}]},
    )
    earned = {"gross": 100, "fees": 5, "net": 95}
    lists = {
        "by_day": [{"day": "2026-03-01", **earned}],
        "by_capability": [{"capability": None, **earned}],
        "by_counterparty": [{"agent_id": "a", "handle": None, **earned}],
    }
    tower.stage.on("GET", "/analytics/revenue", {**over, **earned, **lists, "currency": "USD", "exponent": 6})
    tower.stage.on("GET", "/analytics/heatmap", {**over, "matrix": [[0] * 24] * 7, "max": 0})
    tower.stage.on("GET", "/analytics/stats", stats(3))

    assert (await tower.watching.metrics("7d", "user")).tasks_total == 7
    assert (await tower.watching.time_series("spend", "7d")).points[0].value is None
    revenue = await tower.watching.revenue("7d")
    assert (revenue.by_day[0].day.isoformat(), revenue.by_capability[0].net) == ("2026-03-01", 95)
    assert len((await tower.watching.heatmap("7d", "global")).matrix) == 7
    assert (await tower.watching.stats()).total_agents == 3
    assert [(path, query) for _, path, query in tower.stage.asked] == [
        ("/analytics/metrics", {"scope": f"user:{OWNER_ID}", "period": "7d"}),
        ("/analytics/time-series", {"scope": f"agent:{OWN_ID}", "metric": "spend", "period": "7d"}),
        ("/analytics/revenue", {"scope": f"agent:{OWN_ID}", "period": "7d"}),
        ("/analytics/heatmap", {"scope": "global", "period": "7d"}),
        ("/analytics/stats", {}),
    ]


async def test_alerts_are_listed_answered_and_their_threshold_is_set(tower: Tower) -> None:
    tower.stage.on("GET", "/alerts", [alert("1")])
    tower.stage.on("POST", "/alerts/1/acknowledge", alert("1", "acknowledged"))
    tower.stage.on("POST", "/alerts/1/resolve", alert("1", "resolved"))

    (one,) = [each async for each in tower.watching.alert_list("active", "warning")]
    assert (await tower.watching.acknowledge(one)).status == "acknowledged"
    assert (await tower.watching.resolve("1")).status == "resolved"
    await tower.watching.alert_below("2.50")
    await tower.watching.alert_below(None)

    assert tower.stage.bodies("GET", "/alerts") == [{"status": "active", "severity": "warning", "limit": "100"}]
    thresholds = tower.stage.bodies("PUT", f"/agents/{OWN_ID}/alert-thresholds")
    assert thresholds == [{"balance_below": 2_500_000}, {"balance_below": None}]

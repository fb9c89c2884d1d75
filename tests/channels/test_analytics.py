"""analytics:{scope}: each question, each refusal, each role."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from channels import alerts, analytics
from channels.analytics import (
    RequestHeatmap,
    RequestMetrics,
    RequestRevenue,
    RequestTimeSeries,
    SeriesOptions,
    join,
    market_stats,
    request_heatmap,
    request_metrics,
    request_revenue,
    request_time_series,
    subscribe_activity,
)
from channels.analytics_answers import PERCENTILES, ROWS_MAX, metric_names
from channels.handlers import Access, Context, Decision, Empty, Push
from channels.identity import Identity
from channels.periods import Interval
from channels.scopes import topic_of
from channels.wire import decode_payload
from tests.channels.counted import MANY, STATS, Counted, activities, group, own
from tests.channels.roles import ALICE, BOB, NOW, context, refused
from tests.channels.test_scopes import AGENT, MAY, OPERATOR, ROLES, USER

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
QUESTIONS: dict[str, tuple[Callable[[Any, Any, Context], Decision], Any]] = {
    "join": (join, Empty()),
    "metrics": (request_metrics, RequestMetrics()),
    "series": (request_time_series, RequestTimeSeries("fees")),
    "revenue": (request_revenue, RequestRevenue()),
    "heatmap": (request_heatmap, RequestHeatmap()),
    "activity": (subscribe_activity, Empty()),
}


@pytest.fixture
def figures() -> Counted:
    return Counted()


def asked(figures: Counted, question: str, sender: Any = BOB, scope: str = AGENT, request: Any = None) -> Any:
    """The reply to a question."""
    decide, default = QUESTIONS[question]
    return decide(figures, default if request is None else request, context(sender, topic=topic_of(scope))).reply


def points(figures: Counted, metric: str, period: str = "24h", interval: Interval | None = None) -> dict[datetime, Any]:
    """A time series, by the begin of each interval."""
    reply = asked(figures, "series", request=RequestTimeSeries(metric, SeriesOptions(period, interval)))
    return {point["at"]: point["value"] for point in reply["points"]}


class TestWhoMayAsk:
    @pytest.mark.parametrize("question", QUESTIONS)
    @pytest.mark.parametrize("scope", [AGENT, USER])
    @pytest.mark.parametrize(("sender", "may"), MAY, ids=ROLES)
    def test_of_an_agent_and_of_a_user_whose_it_is(
        self,
        figures: Counted,
        question: str,
        scope: str,
        sender: Identity,
        may: bool,  # noqa: FBT001 - a row of the table
    ) -> None:
        if may:
            assert asked(figures, question, sender, scope)
        else:
            assert refused(asked, figures, question, sender, scope).reason == "unauthorized"

    @pytest.mark.parametrize("question", ["join", "metrics", "series", "heatmap"])
    @pytest.mark.parametrize("sender", [sender for sender, _ in MAY], ids=ROLES)
    def test_of_the_market_everybody(self, figures: Counted, question: str, sender: Identity) -> None:
        assert asked(figures, question, sender, "global")["scope"] == "global"

    @pytest.mark.parametrize("sender", [sender for sender, _ in MAY], ids=ROLES)
    def test_the_markets_revenue_is_nobodys_to_see(self, figures: Counted, sender: Identity) -> None:
        assert refused(asked, figures, "revenue", sender, "global").reason == "unauthorized"

    @pytest.mark.parametrize("sender", [sender for sender, _ in MAY], ids=ROLES)
    def test_what_happens_on_the_market_operators_see(self, figures: Counted, sender: Identity) -> None:
        if sender is OPERATOR:
            assert asked(figures, "activity", sender, "global") == {"activity": []}
        else:
            assert refused(asked, figures, "activity", sender, "global").reason == "unauthorized"

    @pytest.mark.parametrize("question", QUESTIONS)
    def test_an_agent_that_never_was_is_nobodys(self, figures: Counted, question: str) -> None:
        figures.owners.clear()

        assert refused(asked, figures, question).reason == "unauthorized"

    def test_what_may_not_be_seen_is_refused_before_anything_else(self, figures: Counted) -> None:
        wrong = RequestTimeSeries("nothing", SeriesOptions("never"))

        assert refused(asked, figures, "series", ALICE, AGENT, wrong).reason == "unauthorized"


class TestAJoin:
    def test_brings_the_numbers_of_the_last_day(self, figures: Counted) -> None:
        figures.count(AGENT, NOW, tasks_total=2)
        reply = asked(figures, "join")
        (metrics,) = [asked(figures, "metrics")]
        del metrics["benchmarks"]

        assert reply == {"scope": AGENT, "currency": "USD", "exponent": 6, "metrics": metrics}
        assert metrics["tasks_total"] == 2

    def test_of_the_market_brings_its_statistics_and_pushes_them(self, figures: Counted) -> None:
        decision = join(figures, Empty(), context(ALICE, topic="analytics:global"))
        expected = {**msgspec.structs.asdict(STATS), "currency": "USD", "exponent": 6, "at": NOW}

        assert decision.reply["stats"] == expected
        assert decision.pushes == (Push("global_stats", expected),)
        assert market_stats(figures, Empty(), context(ALICE)).reply == expected

    def test_of_an_agent_pushes_nothing(self, figures: Counted) -> None:
        assert join(figures, Empty(), context(BOB, topic=topic_of(AGENT))).pushes == ()


class TestMetrics:
    def test_are_sums_over_the_period_and_nothing_else(self, figures: Counted) -> None:
        for at in (NOW - DAY - HOUR, NOW - DAY + HOUR, NOW):
            figures.count(AGENT, at, tasks_total=1, spend=7)
        figures.count(USER, NOW, tasks_total=100)
        reply = asked(figures, "metrics")

        assert (reply["tasks_total"], reply["spend"]) == (2, 14)
        assert reply["to"] - reply["from"] == DAY
        assert reply["from"] <= NOW < reply["to"]

    def test_what_is_active_is_so_whatever_the_period(self, figures: Counted) -> None:
        figures.count(AGENT, NOW - 400 * DAY, tasks_total=9, tasks_completed=2, tasks_failed=3, tasks_cancelled=1)

        assert asked(figures, "metrics", request=RequestMetrics("1h"))["tasks_active"] == 3

    def test_net_is_gross_without_fees(self, figures: Counted) -> None:
        figures.count(AGENT, NOW, revenue_gross=1_000, fees=50)
        reply = asked(figures, "metrics")

        assert (reply["revenue_gross"], reply["fees"], reply["revenue_net"]) == (1_000, 50, 950)

    def test_without_any_task_there_are_no_rates_and_no_times(self, figures: Counted) -> None:
        reply = asked(figures, "metrics")

        assert {reply[name] for name in ("success_rate", "avg_execution_time_ms", *PERCENTILES)} == {None}

    def test_the_rate_is_of_those_that_completed_or_failed(self, figures: Counted) -> None:
        figures.count(AGENT, NOW, tasks_completed=3, tasks_failed=1, tasks_cancelled=4)

        assert asked(figures, "metrics")["success_rate"] == 0.75

    def test_the_mean_is_exact_and_the_percentiles_are_by_rank(self, figures: Counted) -> None:
        for milliseconds in (*range(1, 20), 31):
            figures.took(AGENT, NOW, milliseconds)
        reply = asked(figures, "metrics")

        assert reply["avg_execution_time_ms"] == (sum(range(1, 20)) + 31) // 20
        assert [reply[name] for name in PERCENTILES] == [10, 19, 31]

    def test_all_time_begins_with_the_data(self, figures: Counted) -> None:
        figures.count(AGENT, NOW - 500 * DAY, tasks_total=1)
        reply = asked(figures, "metrics", request=RequestMetrics("all"))

        assert (reply["tasks_total"], reply["from"].date()) == (1, (NOW - 500 * DAY).date())

    def test_of_an_agent_come_with_benchmarks_and_of_others_without(self, figures: Counted) -> None:
        figures.shared = [(own(), group(7)), (own(capability="rare"), group(1))]

        assert [one["capability"] for one in asked(figures, "metrics")["benchmarks"]] == ["translate"]
        assert "benchmarks" not in asked(figures, "metrics", scope=USER)

    def test_an_unknown_period_is_refused(self, figures: Counted) -> None:
        for question, request in (
            ("metrics", RequestMetrics("2h")),
            ("series", RequestTimeSeries("fees", SeriesOptions("2h"))),
            ("revenue", RequestRevenue("2h")),
            ("heatmap", RequestHeatmap("2h")),
        ):
            assert refused(asked, figures, question, request=request).reason == "invalid_period"


class TestATimeSeries:
    def test_has_a_point_for_every_interval_and_zero_where_nothing_was(self, figures: Counted) -> None:
        figures.count(AGENT, NOW - 3 * HOUR, fees=5)
        figures.count(AGENT, NOW, fees=2)
        series = points(figures, "fees")

        assert len(series) == 24
        assert {start: value for start, value in series.items() if value} == {NOW - 3 * HOUR: 5, NOW: 2}

    @pytest.mark.parametrize("metric", metric_names(AGENT))
    @pytest.mark.parametrize(("period", "interval"), [("1h", None), ("24h", None), ("7d", "hour"), ("30d", None)])
    def test_there_is_one_of_every_number(
        self, figures: Counted, metric: str, period: str, interval: Interval | None
    ) -> None:
        series = points(figures, metric, period, interval)

        assert {*series.values()} == ({3.5} if metric == "reputation" else {0})

    def test_a_number_that_adds_up_adds_up_to_that_of_the_period(self, figures: Counted) -> None:
        for days in range(40):
            figures.count(AGENT, NOW - days * DAY, tasks_total=days, revenue_gross=days * 10, fees=days)
        reply = asked(figures, "metrics", request=RequestMetrics("30d"))

        for metric in ("tasks_total", "revenue_gross", "revenue_net"):
            assert sum(points(figures, metric, "30d").values()) == reply[metric]
            assert sum(points(figures, metric, "30d", "hour").values()) == reply[metric]

    def test_rates_means_and_percentiles_are_those_of_each_interval(self, figures: Counted) -> None:
        for milliseconds in (10, 12, 14):
            figures.took(AGENT, NOW - HOUR, milliseconds)
        figures.count(AGENT, NOW - HOUR, tasks_failed=1)
        figures.count(AGENT, NOW, tasks_cancelled=1)
        told = {
            metric: points(figures, metric)
            for metric in ("success_rate", "avg_execution_time_ms", "p50_execution_time_ms")
        }

        assert {metric: series[NOW - HOUR] for metric, series in told.items()} == {
            "success_rate": 0.75,
            "avg_execution_time_ms": 12,
            "p50_execution_time_ms": 12,
        }
        assert {series[NOW] for series in told.values()} == {0}

    def test_active_tasks_are_those_at_the_end_of_each_interval(self, figures: Counted) -> None:
        figures.count(AGENT, NOW - 10 * DAY, tasks_total=5)
        figures.count(AGENT, NOW - 3 * HOUR, tasks_total=2, tasks_completed=1)
        figures.count(AGENT, NOW - HOUR, tasks_failed=2, tasks_cancelled=1)
        series = [*points(figures, "tasks_active").values()]

        assert series[-5:] == [5, 6, 6, 3, 3]
        assert series[-1] == asked(figures, "metrics")["tasks_active"]

    def test_reputation_stands_until_it_changes(self, figures: Counted) -> None:
        figures.stars = [(BOB.id, NOW - 9 * DAY, 310), (BOB.id, NOW - 2 * HOUR, 400), (ALICE.id, NOW, 10)]

        assert [*points(figures, "reputation").values()][-4:] == [3.1, 4.0, 4.0, 4.0]

    def test_reputation_begins_where_every_agent_begins(self, figures: Counted) -> None:
        figures.stars = [(BOB.id, NOW, 400)]

        assert [*points(figures, "reputation").values()][-2:] == [3.5, 4.0]

    @pytest.mark.parametrize("metric", ["", "benchmarks", "scope", "currency", "TASKS_TOTAL"])
    def test_what_is_no_number_has_none(self, figures: Counted, metric: str) -> None:
        refusal = refused(asked, figures, "series", request=RequestTimeSeries(metric))

        assert refusal.reason == "unknown_metric"
        assert refusal.context == {"metrics": metric_names(AGENT)}

    @pytest.mark.parametrize("scope", [USER, "global"])
    def test_only_agents_have_one_of_reputation(self, figures: Counted, scope: str) -> None:
        refusal = refused(asked, figures, "series", BOB, scope, RequestTimeSeries("reputation"))

        assert refusal.reason == "unknown_metric"
        assert {*metric_names(AGENT)} - {*refusal.context["metrics"]} == {"reputation"}

    def test_every_number_of_the_metrics_has_one(self, figures: Counted) -> None:
        told = asked(figures, "metrics")
        words = {"scope", "period", "from", "to", "currency", "exponent", "benchmarks"}

        assert {*metric_names(AGENT)} == told.keys() - words

    def test_too_many_points_are_refused(self, figures: Counted) -> None:
        request = RequestTimeSeries("fees", SeriesOptions("24h", "minute"))

        assert refused(asked, figures, "series", request=request).reason == "too_many_points"

    def test_its_options_may_be_left_out(self) -> None:
        assert decode_payload(msgspec.Raw(b'{"metric": "fees"}'), RequestTimeSeries) == RequestTimeSeries("fees")
        assert decode_payload(msgspec.Raw(b'{"metric": "fees", "opts": {}}'), RequestTimeSeries) == RequestTimeSeries(
            "fees"
        )


class TestRevenue:
    def test_is_told_by_day_capability_and_counterparty(self, figures: Counted) -> None:
        figures.paid(AGENT, NOW - DAY, gross=100, fees=5, capability="translate", by=ALICE.id)
        figures.paid(AGENT, NOW, gross=40, fees=2, capability="sing", by="gone")
        reply = asked(figures, "revenue", request=RequestRevenue("7d"))

        assert (reply["gross"], reply["fees"], reply["net"], len(reply["by_day"])) == (140, 7, 133, 7)
        assert reply["by_day"][-2:] == [
            {"day": "2026-02-28", "gross": 100, "fees": 5, "net": 95},
            {"day": "2026-03-01", "gross": 40, "fees": 2, "net": 38},
        ]
        assert reply["by_capability"] == [
            {"capability": "translate", "gross": 100, "fees": 5, "net": 95},
            {"capability": "sing", "gross": 40, "fees": 2, "net": 38},
        ]
        assert [(one["agent_id"], one["handle"], one["net"]) for one in reply["by_counterparty"]] == [
            (ALICE.id, ALICE.agent.handle, 95),
            ("gone", None, 38),
        ]

    @pytest.mark.parametrize("period", ["1h", "24h"])
    def test_of_a_short_period_has_the_part_of_each_day_that_is_in_it(self, figures: Counted, period: str) -> None:
        for hours in range(0, 30, 6):
            figures.paid(AGENT, NOW - hours * HOUR, gross=10, fees=1, capability="translate", by=ALICE.id)
        reply = asked(figures, "revenue", request=RequestRevenue(period))

        assert [day["gross"] for day in reply["by_day"]] == ([10] if period == "1h" else [10, 30])
        assert sum(day["gross"] for day in reply["by_day"]) == reply["gross"]

    def test_of_all_time_has_the_newest_thousand_days(self, figures: Counted) -> None:
        figures.paid(AGENT, NOW - 2_000 * DAY, gross=10, fees=1, capability="translate", by=ALICE.id)
        reply = asked(figures, "revenue", request=RequestRevenue("all"))

        assert (len(reply["by_day"]), reply["by_day"][-1]["day"], reply["gross"]) == (1_000, "2026-03-01", 10)

    def test_the_smallest_are_one(self, figures: Counted) -> None:
        for number in range(ROWS_MAX + 3):
            figures.paid(AGENT, NOW, gross=1_000 - number, fees=number, capability=f"c{number}", by=f"a{number}")
        reply = asked(figures, "revenue")

        for rows, name in ((reply["by_capability"], "capability"), (reply["by_counterparty"], "agent_id")):
            assert len(rows) == ROWS_MAX + 1
            assert rows[-1][name] is None
            assert rows[-1]["gross"] == 900 + 899 + 898
            assert sum(row["net"] for row in rows) == reply["net"]

    def test_as_many_as_may_be_told_stand_alone(self, figures: Counted) -> None:
        for number in range(ROWS_MAX):
            figures.paid(AGENT, NOW, gross=5, fees=0, capability=f"c{number}", by=f"a{number}")

        assert len(asked(figures, "revenue")["by_capability"]) == ROWS_MAX


class TestTheHeatmap:
    def test_is_seven_days_of_hours_monday_first(self, figures: Counted) -> None:
        figures.count(AGENT, NOW, tasks_started=3)  # A Sunday at noon.
        figures.count(AGENT, NOW - 6 * DAY, tasks_started=2)
        figures.count(AGENT, NOW - 60 * DAY, tasks_started=9)
        reply = asked(figures, "heatmap", request=RequestHeatmap("30d"))

        assert (len(reply["matrix"]), {len(row) for row in reply["matrix"]}, reply["max"]) == (7, {24}, 3)
        assert (reply["matrix"][6][12], reply["matrix"][0][12], sum(map(sum, reply["matrix"]))) == (3, 2, 5)

    def test_of_nothing_is_zero(self, figures: Counted) -> None:
        assert asked(figures, "heatmap")["max"] == 0


class TestActivity:
    def test_the_last_are_answered_newest_last_and_taken_from_then_on(self, figures: Counted) -> None:
        figures.happened = activities(MANY)
        decision = subscribe_activity(figures, Empty(), context(BOB, topic=topic_of(AGENT)))
        told = decision.reply["activity"]

        assert decision.takes == "activity"
        assert [one["amount"] for one in told] == [*range(3, MANY)]
        assert "owners" not in told[0]
        json.loads(msgspec.json.encode(told))

    def test_only_what_one_takes_part_in_is_shown(self, figures: Counted) -> None:
        (theirs,) = activities(1)
        figures.happened = [theirs]
        stranger = next(sender for (sender, _), role in zip(MAY, ROLES, strict=True) if role == "Mallory")

        assert len(asked(figures, "activity", scope=USER)["activity"]) == 1
        assert asked(figures, "activity", stranger, f"user:{stranger.user_id}") == {"activity": []}
        assert len(asked(figures, "activity", OPERATOR, "global")["activity"]) == 1


def test_questions_are_answered_beside_the_writer_and_the_rest_in_order() -> None:
    reads = {event for event, handler in analytics.HANDLERS.items() if handler.access is Access.READ}

    assert reads == {"request_metrics", "request_time_series", "request_revenue", "request_heatmap"}
    assert analytics.JOIN.access is Access.WRITE
    assert analytics.HANDLERS["subscribe_alerts"] is alerts.SUBSCRIBE_ALERTS
    assert {handler.scope for handler in (*analytics.HANDLERS.values(), analytics.JOIN, analytics.STATS)} == {
        "analytics"
    }

"""PROTOCOL.md is true of analytics: what is answered and told is held against its tables, both ways."""

from typing import Any, get_args

import pytest

from channels.activity import Kind, shown
from channels.analytics import HANDLERS, JOIN, RequestTimeSeries, SeriesOptions
from channels.analytics_answers import ROWS_MAX, metric_names
from channels.benchmarks import OWNERS_MIN, benchmarks
from channels.handlers import Empty
from channels.periods import ALIASES, PERIODS, POINTS_MAX, interval_of, range_of
from channels.scopes import topic_of
from tests.channels.counted import MANY, Counted, activities, group, own
from tests.channels.protocol_text import chapter, code, codes, section, table
from tests.channels.roles import BOB, NOW, as_told, context
from tests.channels.test_protocol_told import CHECKS, fields, require_fits
from tests.channels.test_scopes import AGENT, OPERATOR, USER

ANALYTICS = chapter("`analytics:{scope}`")
CHECKS_HERE = {**CHECKS, "list of lists": lambda value: type(value) is list and {type(row) for row in value} == {list}}
REQUESTS: dict[str, Any] = {"request_time_series": RequestTimeSeries("tasks_total")}
QUESTIONS = [event for event in HANDLERS if event != "subscribe_alerts"]


@pytest.fixture
def figures() -> Counted:
    """Bob's, who has worked for Alice, and Alice's."""
    found = Counted()
    found.count(AGENT, NOW, tasks_total=1, tasks_started=1)
    found.took(AGENT, NOW, 20)
    found.paid(AGENT, NOW, gross=100, fees=5, capability="translate", by="gone")
    found.shared = [(own(), group(OWNERS_MIN))]
    found.happened = activities(MANY)
    return found


def told(figures: Counted, event: str, scope: str = AGENT) -> Any:
    handler = JOIN if event == "phx_join" else HANDLERS[event]
    request = REQUESTS.get(event) or handler.request()
    sender = OPERATOR if scope == "global" else BOB
    return as_told(handler.decide(figures, request, context(sender, topic=topic_of(scope))).reply)


@pytest.mark.parametrize("event", ["phx_join", *QUESTIONS])
@pytest.mark.parametrize("scope", [AGENT, USER, "global"])
def test_a_reply_is_what_its_section_says(
    figures: Counted, event: str, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (event, scope) == ("request_revenue", "global"):
        return  # That is nobody's to see.
    monkeypatch.setitem(CHECKS, "list of lists", CHECKS_HERE["list of lists"])
    text = section("Join" if event == "phx_join" else f"`{event}`", ANALYTICS)

    require_fits(told(figures, event, scope), fields("reply field", text), where=event)


def test_what_belongs_to_some_scopes_alone_is_told_to_those(figures: Counted) -> None:
    assert "benchmarks" in told(figures, "request_metrics")
    assert "benchmarks" not in told(figures, "request_metrics", USER)
    assert "stats" in told(figures, "phx_join", "global")
    assert "stats" not in told(figures, "phx_join")


def test_the_numbers_are_those_of_the_table(figures: Counted) -> None:
    rows = {code(row["number"]): row for row in table("number", section("Numbers", ANALYTICS))}
    replied = fields("reply field", section("`request_metrics`", ANALYTICS))
    may_be_null = {name for name, row in rows.items() if "or null" in row["unit"]}

    assert sorted(rows) == metric_names(AGENT)
    assert {name for name in rows if "null" in replied[name]} == may_be_null


def test_a_benchmark_is_what_its_table_says(figures: Counted) -> None:
    (one,) = as_told(benchmarks(figures.shared))

    require_fits(one, fields("benchmark field", section("`request_metrics`", ANALYTICS)), where="benchmark")
    assert {*one["price"]} == {"own", "median"}


def test_an_activity_is_what_its_table_says() -> None:
    text = section("`subscribe_activity`", ANALYTICS)
    (one,) = as_told([shown(one) for one in activities(1)])

    require_fits(one, fields("activity field", text), where="activity")
    (kinds,) = [row["meaning"] for row in table("activity field", text) if code(row["activity field"]) == "kind"]
    assert codes(kinds) == [*get_args(Kind)]


def test_the_statistics_are_what_their_table_says(figures: Counted) -> None:
    stats = told(figures, "phx_join", "global")["stats"]

    require_fits(stats, fields("statistic", section("What comes in", ANALYTICS)), where="stats")


def test_rows_of_revenue_have_the_fields_that_are_named(figures: Counted) -> None:
    rows = table("reply field", section("`request_revenue`", ANALYTICS))
    reply = told(figures, "request_revenue")

    for row in rows[-3:]:
        assert {*reply[code(row["reply field"])][0]} <= {*codes(row["meaning"])}


def test_the_periods_are_those_of_the_table() -> None:
    rows = table("period", section("Periods", ANALYTICS))
    named = [codes(row["period"]) for row in rows]

    assert [names[0] for names in named] == [*PERIODS]
    assert {alias: names[0] for names in named for alias in names[1:]} == ALIASES
    for row, (period, *_) in zip(rows, named, strict=True):
        assert code(row["interval unless given"]) == interval_of(period, None)
        over = range_of(period, now=NOW)
        assert row["to the end of"] == {60: "the present minute", 3_600: "the present hour"}.get(over.span_s, "today")


def test_the_numbers_in_the_text_are_those_of_the_code() -> None:
    series, revenue = (section(f"`{event}`", ANALYTICS) for event in ("request_time_series", "request_revenue"))

    assert f"{POINTS_MAX:,}" in series
    assert f"{POINTS_MAX:,}" in revenue
    assert f"at most {ROWS_MAX}," in revenue
    assert f"opts` | object | `{as_told(SeriesOptions())}`".replace("'", '"').replace("None", "null") in series


def test_what_comes_in_is_what_is_told() -> None:
    assert [code(row["told"]) for row in table("told", section("What comes in", ANALYTICS))] == [
        "metrics_updated", "global_stats", "activity", "alert"
    ]  # fmt: skip


def test_the_payloads_have_defaults() -> None:
    assert JOIN.request is Empty
    assert {HANDLERS[event].request().period for event in ("request_metrics", "request_revenue")} == {"24h"}

"""`/metrics`: what Prometheus reads of a running market, and the dashboard that rests on it."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from agrenting.market_metrics import COUNT_EVERY_S, READ_EVERY_S, MarketMetrics
from agrenting.metrics import Metrics
from tests.agrenting.api.market import PRICE, Caller, Marketplace, Player
from tests.system.harness import ROOT

BASE_UNITS = ("_seconds", "_bytes", "_minor_units", "_total")
NAME = re.compile(r"agrenting_[a-z0-9_]+")
FOLDED_SUFFIX = re.compile(r"_(bucket|sum|count)$")


class Scraped:
    """One scrape, read as Prometheus does."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {one.name: one for one in text_string_to_metric_families(text)}
        self.samples = {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in self.families.values()
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.samples[name, *sorted(labels.items())]

    @property
    def names(self) -> set[str]:
        """Every name that a query may use, with those of families that have no sample yet."""
        return {str(key[0]) for key in self.samples} | {
            family.name + "_total" * (family.type == "counter") for family in self.families.values()
        }


async def scrape(market: Marketplace) -> Scraped:
    return Scraped((await market.anybody.call("GET", "/metrics")).text)


def dashboard() -> dict[str, Any]:
    """The file that one imports into Grafana."""
    read: dict[str, Any] = json.loads((ROOT / "docs" / "grafana.json").read_text("utf-8"))
    return read


def panels() -> list[dict[str, Any]]:
    """The dashboard's panels but for the headings of its rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


async def test_names_and_units_are_those_of_prometheus(market: Marketplace) -> None:
    told = await scrape(market)

    for family in told.families.values():
        name = family.name
        assert name.startswith(("agrenting_",)), name
        assert family.documentation.endswith("."), name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|percent)$", name)
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{name}_total", f"{name}_created"}
        if family.type == "histogram":
            assert name.endswith(BASE_UNITS) or name.endswith("_units"), name


async def test_a_market_tells_its_sums_as_analytics_does(
    market: Marketplace, alice: Player, bob: Player, olga: Caller
) -> None:
    opened = await alice.post(
        "/tasks",
        {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE, "hold_seconds": 0},
    )
    await bob.post(f"/tasks/{opened['task_id']}/complete", {"result": {"text": "done"}})
    await alice.post("/tasks", {"provider_agent_id": bob.id, "capability": "translate", "max_price": PRICE})

    told = await scrape(market)
    metrics = await olga.get("/analytics/metrics?scope=global&period=all")

    assert told.value("agrenting_tasks_opened_total") == metrics["tasks_total"] == 2
    assert told.value("agrenting_tasks_open") == metrics["tasks_active"] == 1
    for outcome in ("completed", "failed", "cancelled"):
        assert told.value("agrenting_tasks_ended_total", outcome=outcome) == metrics[f"tasks_{outcome}"]
    assert told.value("agrenting_revenue_minor_units_total") == metrics["revenue_gross"] == PRICE
    assert told.value("agrenting_volume_minor_units_total") == PRICE
    assert told.value("agrenting_fees_minor_units_total") == metrics["fees"] > 0
    assert told.value("agrenting_messages_total") == metrics["messages_in"]
    assert told.value("agrenting_task_execution_seconds_count") == 1
    assert told.value("agrenting_minor_units_per_unit") == 10 ** metrics["exponent"]
    assert told.value("agrenting_market_info", currency=metrics["currency"]) == 1
    assert told.value("agrenting_rollup_minutes_pending") == 0
    assert told.value("agrenting_database_bytes", file="main") > 0
    assert told.value("agrenting_ledger_difference") == 0
    assert sum(told.value("agrenting_agents", presence=one) for one in ("online", "busy", "away", "offline")) == 2
    assert told.value("agrenting_alerts_unresolved", severity="critical") == 0


class Clocks:
    """Time that tests move."""

    def __init__(self) -> None:
        self.s = 1_000.0

    def __call__(self) -> float:
        return self.s


class CountingEngine:
    """An engine that counts what it is asked."""

    def __init__(self, engine: Any) -> None:
        self.asked = 0
        self.clock, self.market = engine.clock, engine.market
        self._read = engine.read

    async def read(self, question: Any) -> Any:
        self.asked += 1
        return await self._read(question)


async def test_what_is_counted_row_by_row_is_kept_for_a_while_and_says_how_old_it_is(market: Marketplace) -> None:
    now, engine, path = Clocks(), CountingEngine(market.server.engine), market.server.settings.database_path
    metrics = MarketMetrics(now, now)
    registry = CollectorRegistry()
    registry.register(metrics)
    assert not [*metrics.collect()]
    asked: list[tuple[int, float | None]] = []

    for later_s in (0.0, READ_EVERY_S / 2, READ_EVERY_S, COUNT_EVERY_S):
        now.s += later_s
        await metrics.read(engine, path)  # type: ignore[arg-type]  # It has what is asked for.
        asked.append((engine.asked, registry.get_sample_value("agrenting_counted_timestamp_seconds")))

    assert asked == [(2, 1_000.0), (2, 1_000.0), (3, 1_000.0), (5, now.s)]


async def test_how_long_requests_take_is_measured(market: Marketplace) -> None:
    await market.anybody.get("/meta")

    told = await scrape(market)

    assert told.value("agrenting_http_request_seconds_count", method="GET") == 1
    assert told.value("agrenting_http_request_seconds_sum", method="GET") > 0


async def test_an_event_loop_that_was_held_up_is_late_by_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agrenting.metrics.LAG_EVERY_S", 0.001)
    metrics, held_up_s = Metrics(), 0.05
    watching = asyncio.create_task(metrics.watch_loop_for_ever())
    await asyncio.sleep(0)  # It has asked by now.

    time.sleep(held_up_s)  # noqa: ASYNC251 - this is what is measured
    async with asyncio.timeout(30):
        while not (count := metrics.registry.get_sample_value("agrenting_event_loop_lag_seconds_count")):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)
    watching.cancel()

    late_s = metrics.registry.get_sample_value("agrenting_event_loop_lag_seconds_sum")
    assert count == 1
    assert late_s is not None
    assert late_s >= held_up_s - 0.002


# The dashboard.


async def test_every_metric_of_the_dashboard_is_exported(market: Marketplace) -> None:
    exported = (await scrape(market)).names
    queries = [target["expr"] for panel in panels() for target in panel["targets"]]
    queries += [one["definition"] for one in dashboard()["templating"]["list"]]

    named = {name for query in queries for name in NAME.findall(query)}

    assert len(named) > 20
    unknown = {name for name in named if name not in exported and FOLDED_SUFFIX.sub("", name) not in exported}
    assert unknown == set()


async def test_everything_of_the_market_is_on_the_dashboard(market: Marketplace) -> None:
    text = json.dumps(dashboard())

    families = (await scrape(market)).families
    missing = [name for name in families if name not in text and not name.endswith("_created")]

    assert missing == []


def test_the_dashboard_can_be_imported() -> None:
    read = dashboard()

    (source,) = read["__inputs"]
    assert (source["type"], source["pluginId"]) == ("datasource", "prometheus")
    placeholder = "${" + source["name"] + "}"
    assert read["id"] is None
    assert {one["type"] for one in read["__requires"]} == {"grafana", "datasource", "panel"}
    assert {one["id"] for one in read["__requires"] if one["type"] == "panel"} == {one["type"] for one in panels()}
    assert read["schemaVersion"] >= 30
    assert all(read[field] for field in ("uid", "title", "time", "panels"))
    for where in (*panels(), *(target for panel in panels() for target in panel["targets"])):
        assert where["datasource"] == {"type": "prometheus", "uid": placeholder}
    ids = [panel["id"] for panel in read["panels"]]
    assert len(ids) == len({*ids})


def test_every_panel_has_a_unit_a_description_and_a_place_of_its_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in panels():
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFG"[: len(panel["targets"])])


def test_the_dashboard_has_a_row_for_each_part() -> None:
    titles = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]

    assert titles == ["Market", "Money", "Tasks", "Sockets and REST", "Database", "Alerts"]


@pytest.mark.parametrize("query", [target["expr"] for panel in panels() for target in panel["targets"]])
def test_the_brackets_of_every_query_fit(query: str) -> None:
    def unclosed() -> Iterator[str]:
        opened: list[str] = []
        for character in re.sub(r'"[^"]*"', "", query):
            if character in "([{":
                opened.append(character)
            elif character in ")]}":
                assert opened.pop() + character in {"()", "[]", "{}"}
        yield from opened

    assert [*unclosed()] == []

"""The market's own part of `/metrics`, read when somebody asks, and kept for a while."""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from agrenting.db.market_figures import (
    CountedFigures,
    MarketFigures,
    counted_figures,
    file_bytes,
    market_figures,
)

if TYPE_CHECKING:
    from agrenting.engine import Engine

READ_EVERY_S: Final = 1.0
"""Whoever asks more often is told the same again: `/metrics` is open to anybody who reaches it."""

COUNT_EVERY_S: Final = 60.0
"""The same for what is counted row by row."""

MS: Final = 1_000


class MarketMetrics(Collector):
    """The market's figures, kept for a while.

    Args:
        wall: The time in seconds since 1970.
        monotonic: Seconds that only rise.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._figures: MarketFigures | None = None
        self._counted: CountedFigures | None = None
        self._file_bytes: dict[str, int] = {}
        self._read_at = self._counted_at = float("-inf")
        self._counted_time = 0.0

    async def read(self, engine: "Engine", path: Path) -> None:
        """Read what is too old.

        Args:
            engine: Where it is read.
            path: The database file.
        """
        now = self._monotonic()
        if now - self._read_at >= READ_EVERY_S:
            self._read_at = now
            self._file_bytes = file_bytes(path)
            self._figures = await engine.read(lambda tx: market_figures(tx, now=engine.clock(), market=engine.market))
        if now - self._counted_at >= COUNT_EVERY_S:
            self._counted_at = now
            self._counted = await engine.read(counted_figures)
            self._counted_time = self._wall()

    def collect(self) -> Iterable[Metric]:
        """What was read last; nothing before that."""
        if self._figures is not None:
            yield from _of_sums(self._figures)
            yield _labelled("agrenting_database_bytes", "Size of the database's files.", "file", self._file_bytes)
        if self._counted is not None:
            yield from _of_counts(self._counted)
            yield GaugeMetricFamily(
                "agrenting_counted_timestamp_seconds",
                "When agents, alerts and the ledger were counted last, in seconds since 1970.",
                self._counted_time,
            )


def _of_sums(figures: MarketFigures) -> Iterable[Metric]:
    ever, market = figures.ever, figures.market
    yield GaugeMetricFamily(
        "agrenting_minor_units_per_unit", "How many minor units a whole one of the currency has.", 10**market.exponent
    )
    info = GaugeMetricFamily("agrenting_market_info", "The market's currency.", labels=("currency",))
    info.add_metric((market.currency,), 1)
    yield info
    yield GaugeMetricFamily("agrenting_tasks_open", "Tasks that have not ended.", figures.tasks_open)
    ended = CounterMetricFamily("agrenting_tasks_ended", "Tasks that have ended, by outcome.", labels=("outcome",))
    for outcome in ("completed", "failed", "cancelled"):
        ended.add_metric((outcome,), ever[f"tasks_{outcome}"])
    yield ended
    yield SummaryMetricFamily(
        "agrenting_task_execution_seconds",
        "From the start to the end of completed tasks.",
        count_value=ever["executions"],
        sum_value=ever["execution_ms"] / MS,
    )
    counters = {
        "tasks_opened": ("Tasks that were opened.", ever["tasks_total"]),
        "negotiations_started": ("Negotiations that were opened.", ever["negotiations_started"]),
        "negotiations_agreed": ("Negotiations that came to an agreement.", ever["negotiations_completed"]),
        "transfers": ("Transfers of payment channels that both have signed.", ever["transfers_in"]),
        "messages": ("Messages to agents.", ever["messages_in"]),
        "volume_minor_units": ("What tasks and transfers have paid.", figures.volume),
        "revenue_minor_units": ("What tasks have earned, before fees.", ever["revenue_gross"]),
        "fees_minor_units": ("The platform's fees.", ever["fees"]),
        "transferred_minor_units": ("What transfers have paid.", ever["transfers_in_amount"]),
    }
    for name, (text, value) in counters.items():
        yield CounterMetricFamily(f"agrenting_{name}", text, value)
    yield GaugeMetricFamily(
        "agrenting_rollup_minutes_pending", "Minutes of the roll-ups that wait to be folded.", figures.minutes_pending
    )


def _of_counts(counted: CountedFigures) -> Iterable[Metric]:
    yield _labelled("agrenting_agents", "Active agents, by presence.", "presence", counted.agents)
    yield _labelled("agrenting_alerts_unresolved", "Alerts that are not resolved.", "severity", counted.alerts)
    yield GaugeMetricFamily(
        "agrenting_ledger_difference", "The sum over all accounts, which must be 0.", counted.ledger_difference
    )


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, count in values.items():
        family.add_metric((value,), count)
    return family

"""What is counted, for `/metrics`: Prometheus's own library keeps and prints it."""

import asyncio
import time
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agrenting.market_metrics import MarketMetrics

BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SECONDS_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)

LAG_EVERY_S: Final = 0.5
"""How often the event loop is asked how late it is."""


class Metrics:
    """The counters of one server; each server has a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[tuple[str, str, str, str], Counter] = {}
        """Found again without the library's own look-up, which costs more than the counting."""
        self.connections = Gauge("agrenting_connections", "Open sockets.", registry=self.registry)
        self.events = Counter(
            "agrenting_events",
            "Joins, pushes and closes by topic, event and outcome.",
            ("what", "topic", "event", "outcome"),
            registry=self.registry,
        )
        self.requests = Counter(
            "agrenting_http_requests",
            "REST requests by method and status.",
            ("method", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "agrenting_http_request_seconds",
            "How long REST requests took, by method.",
            ("method",),
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.loop_lag_seconds = Histogram(
            "agrenting_event_loop_lag_seconds",
            "How much later than asked for the event loop came back.",
            buckets=SECONDS_BUCKETS,
            registry=self.registry,
        )
        self.refused_sockets = Counter(
            "agrenting_refused_sockets", "Sockets refused before the upgrade.", ("reason",), registry=self.registry
        )
        self.batch_units = Histogram(
            "agrenting_commit_batch_units",
            "Changes that shared a commit.",
            buckets=BATCH_BUCKETS,
            registry=self.registry,
        )
        self.batch_seconds = Histogram(
            "agrenting_commit_seconds", "From BEGIN to durable.", buckets=SECONDS_BUCKETS, registry=self.registry
        )
        self.outbox_bytes = Gauge("agrenting_outbox_bytes", "Bytes that wait for sockets.", registry=self.registry)
        self.timers_due = Gauge("agrenting_timers_due", "Timers that are due and not yet run.", registry=self.registry)
        self.market = MarketMetrics()
        self.registry.register(self.market)

    def count(self, what: str, topic: str, event: str, outcome: str) -> None:
        """Count one event."""
        key = (what, topic, event, outcome)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self.events.labels(*key)
        counter.inc()

    def observe_batch(self, units: int, seconds: float) -> None:
        """Note one commit."""
        self.batch_units.observe(units)
        self.batch_seconds.observe(seconds)

    def count_request(self, method: str, status: int, seconds: float) -> None:
        """Count one REST request."""
        self.requests.labels(method, status).inc()
        self.request_seconds.labels(method).observe(seconds)

    async def watch_loop_for_ever(self) -> None:
        """Note how late the event loop is, until cancelled."""
        while True:
            asked = time.perf_counter()
            await asyncio.sleep(LAG_EVERY_S)
            self.loop_lag_seconds.observe(max(0.0, time.perf_counter() - asked - LAG_EVERY_S))

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self.registry)

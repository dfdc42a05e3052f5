"""Metrics of the connection caches."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import REGISTRY, Counter
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

LOOKUPS = Counter(
    "messaging_connection_lookups_total",
    "Lookups that had to ask a layer (redis, connections_service), by its result",
    ["layer", "result"],
)
SHARED_FAILURES = Counter(
    "messaging_shared_connections_failures_total",
    "Redis commands that failed or were not sent, by operation and reason",
    ["operation", "reason"],
)


class KnownAnswers(Collector):
    """Answers from memory, as plain integers: a `Counter.inc` would cost twice the look-up itself."""

    def __init__(self) -> None:
        self.connected = 0
        self.not_connected = 0

    def collect(self) -> Iterable[Metric]:
        """The two counts as one counter family."""
        family = CounterMetricFamily(
            "messaging_connection_known",
            "Lookups answered from this process's memory",
            labels=["result"],
        )
        family.add_metric(["connected"], self.connected)
        family.add_metric(["not_connected"], self.not_connected)
        yield family


KNOWN = KnownAnswers()
REGISTRY.register(KNOWN)
PRESENCE_FAILURES = Counter(
    "messaging_presence_store_failures_total", "Redis commands of presence that failed", ["operation"]
)
RATE_COUNT_FAILURES = Counter(
    "messaging_rate_count_failures_total",
    "Questions about rates that Redis did not answer, by reason; the local count decided",
    ["reason"],
)

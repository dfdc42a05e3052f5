"""What the system is to reach on the reference machine: two cores, the driver on the same two."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.results import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound for one figure of a workload."""

    workload: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether a median is within the bound."""
        if self.at_least is not None and value < self.at_least:
            return False
        return self.at_most is None or value <= self.at_most


TARGETS = (
    Target(workload="saturation", figure="messages_per_second", at_least=8_500),
    Target(workload="saturation", figure="server_cpu_us", at_most=180),
    Target(workload="saturation", figure="server_cpu_to_floor_ratio", at_most=1.35),
    Target(workload="steady", figure="p50_ms", at_most=1.2),
    Target(workload="steady", figure="p99_ms", at_most=1.5),
    Target(workload="specified", figure="p99_ms", at_most=20),
    Target(workload="specified", figure="memory_growth_percent", at_most=5),
    Target(workload="history", figure="pages_per_second", at_least=2_000),
    Target(workload="history", figure="p95_ms", at_most=4.5),
    Target(workload="idle", figure="broker_kib_per_connection", at_most=10),
    Target(workload="idle", figure="service_kib_per_connection", at_most=0.1),
    Target(workload="idle", figure="latency_ratio", at_most=2),
    Target(workload="growth", figure="worst_growth_percent", at_most=10),
    Target(workload="storm", figure="consistent_after_s", at_most=10),
    Target(workload="overload", figure="goodput_ratio", at_least=0.9),
    Target(workload="overload", figure="recovered_after_s", at_most=10),
    Target(workload="flood", figure="latency_ratio", at_most=1.25),
)


def targets_of(summary: Summary) -> Mapping[str, Target]:
    """The targets of a workload by figure."""
    return {target.figure: target for target in TARGETS if target.workload == summary.workload}

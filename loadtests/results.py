"""What a run of a workload measured, and several runs taken together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How large a run is."""

    smoke: bool = False
    """Seconds instead of minutes and few clients: shows that all is correct, not how fast it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one workload."""

    workload: str
    figures: Mapping[str, float]
    """What was measured; a name ends in its unit (`p99_ms`, `messages_per_second`)."""
    cpu_us: Mapping[str, float] = field(default_factory=dict)
    """CPU time by process, in microseconds for each unit of work (message or page)."""
    checks: Mapping[str, int] = field(default_factory=dict)
    """Counts of what must not happen; any other value than 0 makes the run worthless."""

    @property
    def is_correct(self) -> bool:
        """Whether nothing happened that must not."""
        return not any(self.checks.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Several runs of one workload."""

    workload: str
    runs: Sequence[Run]

    @property
    def figures(self) -> Mapping[str, float]:
        """The median of every figure."""
        return {name: median(run.figures[name] for run in self.runs) for name in self.runs[0].figures}

    @property
    def cpu_us(self) -> Mapping[str, float]:
        """The median of every process's CPU time."""
        return {name: median(run.cpu_us[name] for run in self.runs) for name in self.runs[0].cpu_us}

    @property
    def checks(self) -> Mapping[str, int]:
        """Every check, summed over the runs."""
        return {name: sum(run.checks[name] for run in self.runs) for name in self.runs[0].checks}

    def spread(self, figure: str) -> tuple[float, float]:
        """The smallest and the largest value of a figure."""
        values = [run.figures[figure] for run in self.runs]
        return min(values), max(values)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` (0 to 1) of the ordered values do not exceed; 0 without values."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

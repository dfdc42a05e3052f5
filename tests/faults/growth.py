"""What a process holds over time, and whether it grows: a line fitted through samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from devstack import processes

_KIB_PER_MIB = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much a quantity may seem to grow in a whole run: the larger of the two."""

    least: float
    share: float
    """Of its mean."""


ALLOWANCES: Mapping[str, Allowance] = {
    # Private memory wanders: arenas fill up, caches warm, a batch was larger than any before.
    "memory MiB": Allowance(least=24.0, share=0.10),
    "threads": Allowance(least=2.0, share=0.10),
    "file descriptors": Allowance(least=4.0, share=0.10),
    "connections": Allowance(least=4.0, share=0.10),
    "tasks": Allowance(least=8.0, share=0.10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """A quantity of one process over a run."""

    name: str
    quantity: str
    mean: float
    slope_per_hour: float
    growth: float
    """What the line gains from the first sample to the last."""

    @property
    def grows(self) -> bool:
        """Whether that is more than chance explains."""
        allowance = ALLOWANCES[self.quantity]
        return self.growth > max(allowance.least, allowance.share * self.mean)

    def line(self) -> str:
        """For the report."""
        verdict = "GROWS" if self.grows else "flat"
        return (
            f"{self.name:<18} {self.quantity:<17} mean {self.mean:9.1f}, "
            f"slope {self.slope_per_hour:+9.2f} an hour, {verdict}"
        )


class Series:
    """Samples of one quantity, by time in seconds."""

    def __init__(self, name: str, quantity: str) -> None:
        self.name = name
        self.quantity = quantity
        self._samples: list[tuple[float, float]] = []

    def add(self, at: float, value: float) -> None:
        """One sample."""
        self._samples.append((at, value))

    def trend(self) -> Trend:
        """The line of least squares; a run of less than two samples has none that rises."""
        times = [at for at, _ in self._samples]
        values = [value for _, value in self._samples]
        slope = slope_of(times, values)
        return Trend(
            name=self.name,
            quantity=self.quantity,
            mean=sum(values) / len(values) if values else 0.0,
            slope_per_hour=slope * 3_600,
            growth=slope * (times[-1] - times[0]) if times else 0.0,
        )


def slope_of(times: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line of least squares; 0 where all samples are of one moment."""
    if not times:
        return 0.0
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((at - middle) ** 2 for at in times)
    if not spread:
        return 0.0
    return sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True)) / spread


def held_by(process_id: int) -> Mapping[str, float]:
    """What a process and its children hold now; a process that has just ended holds nothing."""
    family = [process_id, *processes.children(process_id)]
    status = [_status(each) for each in family]
    descriptors = [target for each in family for target in _descriptors(each)]
    return {
        "memory MiB": sum(each.get("RssAnon", 0) for each in status) / _KIB_PER_MIB,
        "threads": sum(each.get("Threads", 0) for each in status),
        "file descriptors": len(descriptors),
        "connections": sum(target.startswith("socket:") for target in descriptors),
    }


def _status(process_id: int) -> Mapping[str, int]:
    """The numbers of proc(5)'s status; sizes in KiB."""
    try:
        lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    numbers = {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            numbers[name] = int(words[0])
    return numbers


def _descriptors(process_id: int) -> Sequence[str]:
    """What each open file descriptor leads to."""
    found = []
    try:
        for entry in Path(f"/proc/{process_id}/fd").iterdir():
            try:
                found.append(str(entry.readlink()))
            except FileNotFoundError:
                continue  # Closed since the folder was read.
    except (FileNotFoundError, ProcessLookupError):
        return []
    return found

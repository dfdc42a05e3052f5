"""Names and numbers of a benchmark as people read them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, isfinite, log10

from loadtests.results import Summary
from loadtests.targets import Target

_UNITS = {"us": "µs", "ms": "ms", "s": "s", "percent": "%", "ratio": "ratio", "bytes": "bytes"}
_UNITS |= {"kib": "KiB", "mib": "MiB", "gib": "GiB"}
_NAMES = {"cpu": "CPU", "postgresql": "PostgreSQL", "redis": "Redis"}
_UNITS_OF_WORK = {"history": "page", "storm": "client"}


def label(name: str) -> str:
    """A figure's name for people: `messages_per_second` is messages/s, `p50_ms` is p50 (ms)."""
    words = name.split("_")
    if "per" in words[1:-1]:
        place = words.index("per", 1)
        amount, divisor = words[place - 1], " ".join(words[place + 1 :])
        if amount in _UNITS:
            return _with_unit(words[: place - 1], f"{_UNITS[amount]}/{divisor}")
        return f"{spoken(words[:place])}/{'s' if divisor == 'second' else divisor}"
    if words[-1] in _UNITS:
        return _with_unit(words[:-1], _UNITS[words[-1]])
    return spoken(words)


def number(value: float) -> str:
    """Three significant digits, and all digits before the point."""
    if not isfinite(value):
        return "–"
    if value == int(value) or abs(value) >= 999.5:
        return f"{value:,.0f}"
    # 9.996 has one digit less behind the point once it is rounded.
    digits = 2 - floor(log10(abs(float(f"{value:.3g}"))))
    return f"{value:.{min(max(digits, 0), 6)}f}"


def spoken(words: Sequence[str]) -> str:
    """Words of a name in their own spelling."""
    return " ".join(_NAMES.get(word, f"{int(word):,}" if word.isdecimal() else word) for word in words)


def bad_checks(summary: Summary) -> str:
    """The checks that are not 0; empty when all are."""
    bad = [f"{name} {count:,}" for name, count in summary.checks.items() if count]
    return f"checks not 0: {', '.join(bad)}" if bad else ""


def bound(target: Target) -> str:
    """What a figure is to be."""
    return f"≥ {target.at_least:,g}" if target.at_least is not None else f"≤ {target.at_most:,g}"


def times(summary: Summary) -> str:
    """How often a workload was run."""
    return f"{len(summary.runs)} run{'' if len(summary.runs) == 1 else 's'}"


def unit_of_work(summary: Summary) -> str:
    """What CPU time of a workload is counted for."""
    return _UNITS_OF_WORK.get(summary.workload, "message")


def _with_unit(words: Sequence[str], unit: str) -> str:
    return f"{spoken(words)} ({unit})" if words else unit

"""What a run must reach to pass: one table, and its judgement. Pure.

What must not happen has the limit zero. The latencies are generous: they have to
hold up to the load that the product is specified for (1,000 connections with 1,000
messages a second), driven by as many Locust processes as that takes. The product's
own goal, p99 of 20 ms, is measured by the benchmark, whose driver costs little; in
a Locust process an event waits for its turn longer than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from loadtests.locust.ledger import Measure

CHAT = "chat"
"""Locust's request type of what users of the messaging protocol measure."""
MQTT = "mqtt"
GRPC = "grpc"

CONNECT = "connect and subscribe"
CONNECTION = "connection lost"
LIST = "ListConversations"
HISTORY = "GetMessageHistory"


class Measured(Protocol):
    """An entry of Locust's statistics."""

    num_requests: int
    num_failures: int

    def get_response_time_percentile(self, percent: float) -> int:
        """Milliseconds that this share of the requests did not exceed."""


Entries = Mapping[tuple[str, str], Measured]
"""Locust's statistics by name and request type."""


class Statistic(StrEnum):
    """What of an entry is compared."""

    P50_MS = "p50 ms"
    P99_MS = "p99 ms"
    FAILURE_RATIO = "failure ratio"
    FAILURES = "failures"
    SUCCESSES = "successes"
    PER_MESSAGE = "for each message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One line of the table; `name` is what `--limit` takes."""

    name: str
    kind: str
    entry: str
    statistic: Statistic
    limit: float
    at_least: bool = False
    """The limit is the smallest value that passes, not the largest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A threshold and what was measured; None when nothing was."""

    threshold: Threshold
    value: float | None

    @property
    def passes(self) -> bool:
        """Whether the threshold holds; what was not tried cannot break one, except one that demands it."""
        if self.value is None:
            return not self.threshold.at_least
        if self.threshold.at_least:
            return self.value >= self.threshold.limit
        return self.value <= self.threshold.limit

    def __str__(self) -> str:
        threshold = self.threshold
        value = "not measured" if self.value is None else f"{self.value:g}"
        sign = ">=" if threshold.at_least else "<="
        return (
            f"{'ok    ' if self.passes else 'FAILED'} {threshold.name:<24} {value:>12} {sign} "
            f"{threshold.limit:g}  ({threshold.kind}: {threshold.entry}, {threshold.statistic})"
        )


def _chat(
    name: str, entry: Measure, statistic: Statistic, limit: float, *, at_least: bool = False
) -> Threshold:
    return Threshold(name=name, kind=CHAT, entry=entry, statistic=statistic, limit=limit, at_least=at_least)


THRESHOLDS: Sequence[Threshold] = (
    _chat("acknowledged", Measure.ACKNOWLEDGED, Statistic.SUCCESSES, 1, at_least=True),
    _chat("unacknowledged", Measure.ACKNOWLEDGED, Statistic.FAILURES, 0),
    _chat("acknowledged_p50_ms", Measure.ACKNOWLEDGED, Statistic.P50_MS, 200),
    _chat("acknowledged_p99_ms", Measure.ACKNOWLEDGED, Statistic.P99_MS, 1000),
    _chat("received", Measure.RECEIVED, Statistic.SUCCESSES, 1, at_least=True),
    _chat("not_received", Measure.RECEIVED, Statistic.FAILURES, 0),
    _chat("received_p99_ms", Measure.RECEIVED, Statistic.P99_MS, 1000),
    # Receipts may be repeated and overtaken; one that is late is covered by the next one.
    _chat("delivered_failures", Measure.DELIVERED, Statistic.FAILURE_RATIO, 0.001),
    _chat("delivered_p99_ms", Measure.DELIVERED, Statistic.P99_MS, 1000),
    _chat("read_failures", Measure.READ, Statistic.FAILURE_RATIO, 0.001),
    _chat("read_told_failures", Measure.READ_TOLD, Statistic.FAILURE_RATIO, 0.001),
    _chat("read_p99_ms", Measure.READ, Statistic.P99_MS, 1000),
    _chat("resent", Measure.RESENT, Statistic.PER_MESSAGE, 0.01),
    Threshold(
        name="connect_failures", kind=MQTT, entry=CONNECT, statistic=Statistic.FAILURE_RATIO, limit=0.001
    ),
    Threshold(name="connections_lost", kind=MQTT, entry=CONNECTION, statistic=Statistic.FAILURES, limit=0),
    Threshold(
        name="history_failures", kind=GRPC, entry=HISTORY, statistic=Statistic.FAILURE_RATIO, limit=0.001
    ),
    Threshold(name="history_p99_ms", kind=GRPC, entry=HISTORY, statistic=Statistic.P99_MS, limit=500),
    Threshold(name="list_failures", kind=GRPC, entry=LIST, statistic=Statistic.FAILURE_RATIO, limit=0.001),
    Threshold(name="list_p99_ms", kind=GRPC, entry=LIST, statistic=Statistic.P99_MS, limit=500),
)


def judge(thresholds: Iterable[Threshold], entries: Entries) -> list[Verdict]:
    """Every threshold with what was measured."""
    return [Verdict(threshold=threshold, value=_value(threshold, entries)) for threshold in thresholds]


def acknowledged(entries: Entries) -> int:
    """Messages that are known to be durable."""
    entry = entries.get((Measure.ACKNOWLEDGED, CHAT))
    return _successes(entry) if entry else 0


def with_limits(thresholds: Sequence[Threshold], changes: Iterable[str]) -> list[Threshold]:
    """The table with other limits (`name=value`); raises `ValueError` for a name it does not have."""
    table = {threshold.name: threshold for threshold in thresholds}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in table:
            raise ValueError(f"there is no threshold {name!r}; there are {', '.join(table)}")
        table[name] = replace(table[name], limit=float(value))
    return list(table.values())


def _value(threshold: Threshold, entries: Entries) -> float | None:
    entry = entries.get((threshold.entry, threshold.kind))
    if threshold.statistic is Statistic.PER_MESSAGE:
        messages = entries.get((Measure.ACKNOWLEDGED, CHAT))
        if messages is None or not messages.num_requests:
            return None
        return (entry.num_requests if entry else 0) / messages.num_requests
    if threshold.statistic is Statistic.FAILURES:
        return entry.num_failures if entry else 0
    if entry is None or not entry.num_requests:
        return None
    match threshold.statistic:
        case Statistic.P50_MS:
            return entry.get_response_time_percentile(0.5)
        case Statistic.P99_MS:
            return entry.get_response_time_percentile(0.99)
        case Statistic.FAILURE_RATIO:
            return entry.num_failures / entry.num_requests
        case Statistic.SUCCESSES:
            return _successes(entry)


def _successes(entry: Measured) -> int:
    return entry.num_requests - entry.num_failures

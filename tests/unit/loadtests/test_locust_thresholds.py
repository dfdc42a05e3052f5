"""When a run passes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from loadtests.locust.ledger import Measure
from loadtests.locust.thresholds import CHAT, THRESHOLDS, Entries, Statistic, Threshold, judge, with_limits


@dataclass
class Entry:
    num_requests: int
    num_failures: int = 0
    percentiles: dict[float, int] = field(default_factory=dict)

    def get_response_time_percentile(self, percent: float) -> int:
        return self.percentiles[percent]


def threshold(statistic: Statistic, limit: float, *, at_least: bool = False) -> Threshold:
    return Threshold(
        name="it",
        kind=CHAT,
        entry=Measure.ACKNOWLEDGED,
        statistic=statistic,
        limit=limit,
        at_least=at_least,
    )


def entries(entry: Entry) -> Entries:
    return {(Measure.ACKNOWLEDGED, CHAT): entry}


@pytest.mark.parametrize(
    ("statistic", "value"),
    [
        (Statistic.P50_MS, 4),
        (Statistic.P99_MS, 20),
        (Statistic.FAILURES, 5),
        (Statistic.FAILURE_RATIO, 0.05),
        (Statistic.SUCCESSES, 95),
    ],
)
def test_a_limit_may_be_reached_but_not_exceeded(statistic: Statistic, value: float) -> None:
    measured = entries(Entry(100, 5, {0.5: 4, 0.99: 20}))
    for limit, passes in ((value, True), (value - 0.01, False)):
        [verdict] = judge([threshold(statistic, limit)], measured)
        assert (verdict.value, verdict.passes) == (value, passes)
        [verdict] = judge([threshold(statistic, 2 * value - limit, at_least=True)], measured)
        assert verdict.passes is passes


def test_commands_sent_again_are_counted_for_each_message() -> None:
    [resent] = [each for each in THRESHOLDS if each.name == "resent"]
    measured: Entries = {(Measure.ACKNOWLEDGED, CHAT): Entry(200), (Measure.RESENT, CHAT): Entry(3)}
    [verdict] = judge([resent], measured)
    assert verdict.value == pytest.approx(0.015)
    assert not verdict.passes
    [verdict] = judge([resent], entries(Entry(200)))
    assert (verdict.value, verdict.passes) == (0, True)


def test_a_run_in_which_nothing_was_measured_fails() -> None:
    failed = {verdict.threshold.name for verdict in judge(THRESHOLDS, {}) if not verdict.passes}
    assert failed == {"acknowledged", "received"}


def test_names_are_unique_and_limits_can_be_changed_by_them() -> None:
    assert len({each.name for each in THRESHOLDS}) == len(THRESHOLDS)
    changed = with_limits(THRESHOLDS, ["acknowledged_p99_ms=20.5"])
    assert [each.limit for each in changed if each.name == "acknowledged_p99_ms"] == [20.5]
    assert [each.name for each in changed] == [each.name for each in THRESHOLDS]
    with pytest.raises(ValueError, match="no threshold 'nothing'"):
        with_limits(THRESHOLDS, ["nothing=1"])
    with pytest.raises(ValueError, match="could not convert"):
        with_limits(THRESHOLDS, ["acknowledged_p99_ms"])

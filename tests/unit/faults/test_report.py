"""What the report says, and above all what it does not hide."""

from __future__ import annotations

from tests.faults.arena import Arena
from tests.faults.outcome import ArenaOutcome, Outcome
from tests.faults.report import report
from tests.faults.scenario import Scenario


async def nothing(arena: Arena) -> None:
    """A fault that hurts nobody."""


KILLED = Scenario(name="service-killed", run=nothing, fault="service killed")
FULL = Scenario(name="disk-full", run=nothing, fault="disk full")


def outcome(acknowledged: int, recovery_s: float | None, *violations: str) -> Outcome:
    return Outcome(
        scenario=KILLED,
        acknowledged=acknowledged,
        counters={"kills": 3},
        measures={"ms of the longest take-over": acknowledged},
        recovery_s=recovery_s,
        longest_silence_s=2.5,
        violations=violations,
    )


def test_a_clean_run_has_its_counts_and_its_bound() -> None:
    runs = [
        ArenaOutcome(
            outcomes=[outcome(1_000, 0.4), outcome(500, 1.2)],
            seed=7,
            acknowledged=3_000_000,
            classes={"ok": 3_000_000},
        )
    ]
    text = report(runs, 7)
    done = "6 kills, 1,000 ms of the longest take-over"
    assert f"| **service-killed**: service killed | 2 | 1,500 | {done} | 2 | 1.2 s | 2.5 s | 0 |" in text
    assert "0 lost of 3,000,000 acknowledged" in text
    assert "1.0e-06" in text
    assert "seed 7" in text


def test_a_loss_is_not_a_bound() -> None:
    runs = [
        ArenaOutcome(outcomes=[], seed=7, acknowledged=10, classes={"lost": 2, "ok": 8}, violations=["I1: a"])
    ]
    text = report(runs, 7)
    assert "2 of 10 acknowledged messages were lost" in text
    assert "3/N" not in text
    assert "1 violations" in text


def test_what_did_not_recover_or_could_not_run_is_told() -> None:
    not_possible = Outcome(scenario=FULL, not_possible="mount failed: permission denied")
    runs = [ArenaOutcome(outcomes=[outcome(10, None, "I7: late"), not_possible], seed=1, acknowledged=10)]
    assert runs[0].failed
    text = report(runs, 1)
    assert "| 1 | 10 | 3 kills, 10 ms of the longest take-over | 0 | 0.0 s | 2.5 s | 1 |" in text
    assert "- `disk-full`: mount failed: permission denied" in text
    assert "not recovered" in outcome(10, None).line()

"""The line through a soak's samples, and when it counts as growth."""

from __future__ import annotations

import os
import socket

import pytest

from tests.faults.growth import Series, held_by, slope_of


def test_the_slope_of_a_line_is_found_exactly() -> None:
    times = [0.0, 1.0, 4.0, 10.0]
    assert slope_of(times, [3.0 + 2.5 * at for at in times]) == pytest.approx(2.5)


def test_samples_of_one_moment_have_no_slope() -> None:
    assert slope_of([5.0, 5.0], [1.0, 9.0]) == 0.0
    assert slope_of([], []) == 0.0


def test_what_alternates_is_flat() -> None:
    series = Series("service", "file descriptors")
    for second in range(100):
        series.add(float(second), 50.0 + second % 2)
    trend = series.trend()
    assert not trend.grows
    assert trend.mean == pytest.approx(50.5)
    assert "flat" in trend.line()


@pytest.mark.parametrize(
    ("quantity", "start", "step"),
    [("memory MiB", 80.0, 0.3), ("file descriptors", 40.0, 0.1), ("tasks", 30.0, 0.2)],
)
def test_a_leak_under_noise_is_growth(quantity: str, start: float, step: float) -> None:
    series = Series("service", quantity)
    for number in range(240):
        series.add(number * 30.0, start + step * number + (number % 3))
    trend = series.trend()
    assert trend.grows
    assert trend.slope_per_hour == pytest.approx(step * 120, rel=0.05)
    assert "GROWS" in trend.line()


def test_what_this_process_holds_is_counted() -> None:
    before = held_by(os.getpid())
    with socket.socket(), socket.socket():
        after = held_by(os.getpid())
    assert after["connections"] - before["connections"] == 2
    assert after["file descriptors"] - before["file descriptors"] == 2
    assert before["memory MiB"] > 1
    assert before["threads"] >= 1


def test_a_process_that_has_ended_holds_nothing() -> None:
    held = held_by(2**22 + 1)
    assert set(held.values()) == {0}

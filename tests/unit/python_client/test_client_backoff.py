"""Delays of the Python client grow, stay bounded and are spread out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_client import Backoff


def test_delay_doubles_up_to_its_maximum() -> None:
    backoff = Backoff(initial=1, maximum=10)
    assert [backoff.delay(attempt, lambda: 0.0) for attempt in range(6)] == [0.5, 1, 2, 4, 5, 5]


def test_half_of_the_delay_is_random() -> None:
    backoff = Backoff(initial=8, maximum=8)
    assert backoff.delay(0, lambda: 0.0) == 4
    assert backoff.delay(0, lambda: 0.5) == 6
    assert 7.9 < backoff.delay(0, lambda: 0.99) < 8


def test_delay_is_never_shorter_than_what_the_other_side_asked_for_and_still_spread() -> None:
    backoff = Backoff(initial=1, maximum=10)
    assert backoff.delay(0, lambda: 0.0, at_least=3) == 3
    assert backoff.delay(0, lambda: 0.9, at_least=3) > 3


@given(attempt=st.integers(0, 10**9), jitter=st.floats(0, 1, exclude_max=True), at_least=st.floats(0, 1e6))
def test_delay_is_bounded_however_often_it_failed(attempt: int, jitter: float, at_least: float) -> None:
    delay = Backoff(initial=0.25, maximum=30).delay(attempt, lambda: jitter, at_least=at_least)
    assert at_least <= delay <= max(at_least, 15) + 15


@pytest.mark.parametrize(("initial", "maximum"), [(0, 1), (-1, 1), (2, 1)])
def test_senseless_limits_are_refused(initial: float, maximum: float) -> None:
    with pytest.raises(ValueError, match="back-off"):
        Backoff(initial=initial, maximum=maximum)

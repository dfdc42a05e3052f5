"""The circuit breaker, by a clock that the tests turn."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from service.breaker import Breaker, CircuitOpen
from tests.contract.connections.doubles import Clock


class Failure(Exception):
    """Counts."""


class Answer(Exception):
    """Does not count."""


def a_breaker(clock: Clock) -> Breaker:
    return Breaker(
        "test",
        failures=3,
        recovery=2.0,
        probe_time=0.2,
        counts=lambda error: isinstance(error, Failure),
        clock=clock,
    )


def call(breaker: Breaker, error: BaseException | None = None) -> None:
    with breaker.admitted():
        if error is not None:
            raise error


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(Failure):
            call(breaker, Failure())


def test_it_opens_after_failures_in_a_row_and_says_how_long() -> None:
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, 3)
    clock.advance(0.5)
    with pytest.raises(CircuitOpen) as caught:
        call(breaker)
    assert caught.value.retry_after == pytest.approx(1.5)


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = a_breaker(Clock())
    fail(breaker, 2)
    call(breaker)
    fail(breaker, 2)
    call(breaker)


def test_an_error_that_is_an_answer_does_not_count() -> None:
    breaker = a_breaker(Clock())
    fail(breaker, 2)
    for _ in range(5):
        with pytest.raises(Answer):
            call(breaker, Answer())
    call(breaker)


def test_a_cancelled_call_neither_counts_nor_closes() -> None:
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, 2)
    with pytest.raises(asyncio.CancelledError):
        call(breaker, asyncio.CancelledError())
    fail(breaker, 1)
    clock.advance(2.0)
    with pytest.raises(asyncio.CancelledError):
        call(breaker, asyncio.CancelledError())
    fail(breaker, 1)
    with pytest.raises(CircuitOpen):
        call(breaker)


def test_half_open_lets_one_probe_through_at_a_time() -> None:
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, 3)
    clock.advance(2.0)
    with breaker.admitted():
        with pytest.raises(CircuitOpen) as caught:
            call(breaker)
        assert caught.value.retry_after == 0.2
    call(breaker)


def test_a_probe_that_succeeds_closes_the_circuit() -> None:
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, 3)
    clock.advance(2.0)
    call(breaker)
    fail(breaker, 2)
    call(breaker)


def test_a_probe_that_fails_opens_the_circuit_for_the_whole_time_again() -> None:
    clock = Clock()
    breaker = a_breaker(clock)
    fail(breaker, 3)
    clock.advance(2.0)
    fail(breaker, 1)
    clock.advance(1.9)
    with pytest.raises(CircuitOpen):
        call(breaker)
    clock.advance(0.1)
    call(breaker)


def test_late_failures_of_older_calls_do_not_prolong_the_open_time() -> None:
    clock = Clock()
    breaker = a_breaker(clock)

    def opens_meanwhile() -> None:
        with breaker.admitted():
            fail(breaker, 3)
            clock.advance(1.5)
            raise Failure

    with pytest.raises(Failure):
        opens_meanwhile()
    clock.advance(0.5)
    call(breaker)


def test_opening_and_closing_are_logged_once_and_shown_in_the_metric() -> None:
    clock = Clock()
    breaker = a_breaker(clock)

    def gauge() -> float | None:
        return REGISTRY.get_sample_value("messaging_circuit_open", {"circuit": "test"})

    with capture_logs() as logs:
        fail(breaker, 3)
        assert gauge() == 1
        clock.advance(2.0)
        fail(breaker, 1)
        clock.advance(2.0)
        call(breaker)
        assert gauge() == 0
    assert [entry["event"] for entry in logs] == ["circuit_opened", "circuit_closed"]

"""What the load tests count as acknowledged, received, sent again and lost."""

from __future__ import annotations

import pytest

from loadtests.locust.ledger import Command, Ledger, Measure

_RESEND_AFTER, _GIVE_UP_AFTER = 5.0, 30.0

Reported = list[tuple[Measure, float, str | None]]


@pytest.fixture
def reported() -> Reported:
    return []


@pytest.fixture
def ledger(reported: Reported) -> Ledger:
    def report(measure: Measure, seconds: float, failure: str | None) -> None:
        reported.append((measure, seconds, failure))

    return Ledger(report, resend_after=_RESEND_AFTER, give_up_after=_GIVE_UP_AFTER)


def message(*, received: bool = True, sent_at: float = 0.0) -> Command:
    return Command(
        name="sendMessage",
        payload=b"{}",
        user="a",
        counterpart="b",
        answer=Measure.ACKNOWLEDGED,
        effect=Measure.RECEIVED if received else None,
        sent_at=sent_at,
    )


def mark(seq: int, sent_at: float) -> Command:
    return Command(
        name="markAsDelivered",
        payload=b"{}",
        user="b",
        counterpart="a",
        effect=Measure.DELIVERED,
        seq=seq,
        sent_at=sent_at,
    )


def test_answer_and_arrival_are_reported_once_each(ledger: Ledger, reported: Reported) -> None:
    ledger.sent("1", message())
    ledger.arrived("1", 0.25)
    ledger.arrived("1", 0.5)
    assert ledger.waits_for("a")
    assert not ledger.waits_for("b")
    ledger.answered("1", 1.0)
    ledger.answered("1", 2.0)
    assert reported == [(Measure.RECEIVED, 0.25, None), (Measure.ACKNOWLEDGED, 1.0, None)]
    assert not ledger.waits_for("a")


def test_a_command_without_an_answer_is_sent_again_and_then_lost(ledger: Ledger, reported: Reported) -> None:
    command = message()
    ledger.sent("1", command)
    assert ledger.due("a", 4.9) == []
    assert ledger.due("b", 5.0) == []
    assert ledger.due("a", 5.0) == [command]
    assert ledger.due("a", 9.9) == []
    assert ledger.due("a", 10.0) == [command]
    assert [measure for measure, _, _ in reported] == [Measure.RESENT, Measure.RESENT]
    del reported[:]
    assert ledger.due("a", 30.0) == []
    assert reported == [
        (Measure.ACKNOWLEDGED, 30.0, "lost: no answer"),
        (Measure.RECEIVED, 30.0, "lost: no answer"),
    ]
    assert not ledger.waits_for("a")


def test_an_acknowledged_message_is_not_sent_again_but_may_still_be_lost(
    ledger: Ledger, reported: Reported
) -> None:
    ledger.sent("1", message())
    ledger.answered("1", 1.0)
    assert ledger.due("a", 20.0) == []
    assert ledger.due("a", 30.0) == []
    assert reported[1:] == [(Measure.RECEIVED, 30.0, "lost: not seen at the counterpart")]


def test_a_final_error_fails_the_command_with_its_code(ledger: Ledger, reported: Reported) -> None:
    ledger.sent("1", message(received=False))
    ledger.refused("1", "NOT_CONNECTED", retry_after=None, now=1.0)
    assert reported == [(Measure.ACKNOWLEDGED, 1.0, "refused: NOT_CONNECTED")]
    assert not ledger.waits_for("a")


def test_a_retryable_error_puts_off_the_next_attempt_and_is_named_when_it_was_the_last_word(
    ledger: Ledger, reported: Reported
) -> None:
    command = message(received=False)
    ledger.sent("1", command)
    ledger.refused("1", "BUSY", retry_after=8.0, now=1.0)
    assert ledger.due("a", 8.9) == []
    assert ledger.due("a", 9.0) == [command]
    ledger.abandon("a", 10.0)
    assert reported[-1] == (Measure.ACKNOWLEDGED, 10.0, "lost: BUSY")


def test_marks_are_reached_by_later_ones_of_the_same_user(ledger: Ledger, reported: Reported) -> None:
    ledger.sent("1", mark(3, 1.0))
    ledger.sent("2", mark(5, 2.0))
    ledger.sent("3", mark(6, 3.0))
    ledger.reached(Measure.DELIVERED, "a", 9, 3.5)
    ledger.reached(Measure.READ_TOLD, "b", 9, 3.5)
    assert reported == []
    ledger.reached(Measure.DELIVERED, "b", 5, 4.0)
    assert reported == [(Measure.DELIVERED, 3.0, None), (Measure.DELIVERED, 2.0, None)]
    assert ledger.waits_for("a")
    assert ledger.waits_for("b")


def test_who_leaves_loses_what_it_was_to_see_and_nothing_else(ledger: Ledger, reported: Reported) -> None:
    ledger.sent("1", message())
    ledger.sent("2", message(received=False))
    ledger.abandon("b", 1.0)
    assert [(measure, failure) for measure, _, failure in reported] == [
        (Measure.ACKNOWLEDGED, "lost: no answer"),
        (Measure.RECEIVED, "lost: no answer"),
    ]
    assert ledger.waits_for("a")

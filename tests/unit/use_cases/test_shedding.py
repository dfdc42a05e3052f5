"""Who finds room among what waits, and when the refused are to come back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ErrorCode
from service.domain.ids import UserId
from service.use_cases.shedding import Shedding

ALICE, BOB, CAROL = (UserId(name) for name in ("alice", "bob", "carol"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def shedding(limit: int = 10, of_user: int = 5, clock: Clock | None = None) -> Shedding:
    """Without jitter, after commits of exactly 100 messages a second."""
    made = Shedding(limit, of_user, clock=clock or Clock(), jitter=lambda low, _: low)
    for _ in range(200):
        made.committed(100, 1.0)
    return made


def delays_ms(made: Shedding, count: int) -> list[int]:
    refusals = [made.refusal() for _ in range(count)]
    assert {refusal.code for refusal in refusals} == {ErrorCode.BUSY}
    return [refusal.retry_after_ms or 0 for refusal in refusals]


def test_one_user_fills_its_share_and_all_together_the_room() -> None:
    made = shedding(limit=6, of_user=4)
    for _ in range(4):
        assert made.has_room(ALICE)
        made.enter(ALICE)
    assert not made.has_room(ALICE)
    for _ in range(2):
        assert made.has_room(BOB)
        made.enter(BOB)
    assert not made.has_room(CAROL)
    made.leave([ALICE, BOB])
    assert made.has_room(ALICE)
    assert made.has_room(CAROL)


def test_the_refused_come_back_behind_what_waits_and_one_after_the_other() -> None:
    clock = Clock()
    made = shedding(clock=clock)
    for _ in range(5):
        made.enter(ALICE)
    # 5 wait at 100 a second: 50 ms; then a place every 10 ms.
    assert delays_ms(made, 3) == pytest.approx([60, 70, 80], abs=1)
    clock.now += 0.05
    assert delays_ms(made, 1) == pytest.approx([60], abs=1)
    clock.now += 10
    made.leave([ALICE] * 5)
    assert delays_ms(made, 1) == pytest.approx([10], abs=1)


def test_nobody_is_sent_away_for_long() -> None:
    made = shedding()
    assert max(delays_ms(made, 2_000)) == 10_000


def test_jitter_only_adds() -> None:
    most, least = (
        Shedding(100, 100, clock=Clock(), jitter=jitter)
        for jitter in (lambda _, high: high, lambda low, _: low)
    )
    for made in (most, least):
        for _ in range(99):
            made.enter(ALICE)
    assert delays_ms(least, 1) == pytest.approx([100], abs=1)
    assert delays_ms(most, 1) == pytest.approx([150], abs=1)


@given(st.lists(st.sampled_from([ALICE, BOB, CAROL]), max_size=60))
def test_what_entered_and_left_leaves_the_room_as_it_was(users: list[UserId]) -> None:
    made = shedding(limit=1_000, of_user=1)
    for user in users:
        made.enter(user)
    made.leave(users)
    assert all(made.has_room(user) for user in (ALICE, BOB, CAROL))

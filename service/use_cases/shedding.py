"""When more waits than can be committed soon: what is refused, and when it is to come back."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable

from service.domain.errors import ErrorCode, Rejection
from service.domain.ids import UserId
from service.metrics import WAITING

_FIRST_RATE = 1_000.0
"""Messages a second, until a commit was measured."""
_SMOOTHING = 0.2
"""Weight of the latest commit in the measured rate."""
_LONGEST_S = 10.0


class Shedding:
    """Counts the messages that wait for a commit; what is over the limits is refused with BUSY.

    `limit` bounds them all, `limit_of_user` those of one user, so that nobody fills the room
    alone. Who is refused is told when there will be room: every refusal takes the next place
    behind what waits, at the rate of the latest commits, so that the refused come back one
    after the other and not at once. `jitter` gives a number between its two arguments.
    """

    def __init__(
        self,
        limit: int,
        limit_of_user: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._limit = limit
        self._limit_of_user = limit_of_user
        self._clock = clock
        self._jitter = jitter
        self._waiting = 0
        self._of_user: dict[UserId, int] = {}
        self._rate = _FIRST_RATE
        self._next_place = 0.0
        """When the place behind the last refusal's will be free, by the clock."""
        WAITING.set_function(lambda: self._waiting)

    def has_room(self, user: UserId) -> bool:
        """Whether one more message of this user may wait."""
        return self._waiting < self._limit and self._of_user.get(user, 0) < self._limit_of_user

    def enter(self, user: UserId) -> None:
        """A message of this user waits from now on."""
        self._waiting += 1
        self._of_user[user] = self._of_user.get(user, 0) + 1

    def leave(self, users: Iterable[UserId]) -> None:
        """The messages of these users, one for each time that a user is named, wait no more."""
        of_user = self._of_user
        for user in users:
            self._waiting -= 1
            left = of_user[user] - 1
            if left:
                of_user[user] = left
            else:
                del of_user[user]

    def committed(self, messages: int, seconds: float) -> None:
        """So many messages took so long: what the time until there is room is reckoned from."""
        self._rate += _SMOOTHING * (messages / max(seconds, 1e-6) - self._rate)

    def refusal(self) -> Rejection:
        """BUSY, with the time until a place of its own is free."""
        now = self._clock()
        free_at = now + self._waiting / self._rate
        place = min(max(free_at, self._next_place) + 1 / self._rate, now + _LONGEST_S)
        self._next_place = place
        delay_s = self._jitter(1.0, 1.5) * (place - now)
        return Rejection(ErrorCode.BUSY, "too much waits to be committed", max(1, math.ceil(delay_s * 1_000)))

"""A `ConnectionDirectory` that a test tells what to say."""

from __future__ import annotations

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId


class ConnectedPairs:
    """Knows its pairs, or nothing while `reachable` is False. Remembers who was asked about."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self._pairs = {frozenset(pair) for pair in pairs}
        self.reachable = True
        self.asked: list[tuple[UserId, UserId]] = []

    def connect(self, user: str, other: str) -> None:
        self._pairs.add(frozenset((user, other)))

    def known(self, user: UserId, other: UserId) -> bool | None:
        return None

    async def are_connected(self, user: UserId, other: UserId) -> bool:
        self.asked.append((user, other))
        if not self.reachable:
            raise Rejected(
                ErrorCode.AUTHORIZATION_UNAVAILABLE, "connections cannot be checked now", retry_after_ms=250
            )
        return frozenset((user, other)) in self._pairs

    def drop(self, user: UserId, other: UserId) -> None:
        """Nothing is remembered."""

    async def forget(self, user: UserId, other: UserId) -> None:
        """Nothing is remembered."""

    def forget_everything(self) -> None:
        """Nothing is remembered."""

"""Reads what a user chose to show."""

from __future__ import annotations

from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.use_cases.ports import PreferenceRepository


class GetPreferences:
    """A user's own preferences; the defaults for who never chose."""

    def __init__(self, preferences: PreferenceRepository) -> None:
        self._preferences = preferences

    async def __call__(self, user: UserId) -> Preferences:
        """Raises `Rejected(STORAGE_UNAVAILABLE)`."""
        return await self._preferences.of(user)

"""Changes what a user chose to show, durably, and lets it take effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.errors import ErrorCode, Rejected
from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.use_cases.ports import PreferenceRepository


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPreferencesCommand:
    """The wish to change what one shows; None leaves a choice as it is."""

    user_id: UserId
    read_receipts: bool | None
    invisible: bool | None

    @property
    def id(self) -> UserId:
        """What logs name the command by."""
        return self.user_id


class SetPreferences:
    """A front door that answers by itself leaves `tell` out; otherwise it reaches the user's devices."""

    def __init__(
        self,
        preferences: PreferenceRepository,
        on_change: Callable[[UserId], None],
        tell: Callable[[UserId, Preferences], None] | None = None,
    ) -> None:
        self._preferences = preferences
        self._on_change = on_change
        self._tell = tell

    async def __call__(
        self, user: UserId, *, read_receipts: bool | None, invisible: bool | None
    ) -> Preferences:
        """Changes what is not None and returns what holds now.

        Raises `Rejected`: INVALID_PAYLOAD when there is nothing to change, STORAGE_UNAVAILABLE;
        and `LeaseLost` where changes are made under a lease.
        """
        if read_receipts is None and invisible is None:
            raise Rejected(ErrorCode.INVALID_PAYLOAD, "give readReceipts or invisible")
        try:
            changed = await self._preferences.change(user, read_receipts=read_receipts, invisible=invisible)
        finally:
            # Who was not told that it came about may have changed it all the same.
            self._on_change(user)
        if self._tell is not None:
            self._tell(user, changed)
        return changed

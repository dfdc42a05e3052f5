"""Preferences by user."""

from __future__ import annotations

from service.domain.ids import UserId
from service.domain.preferences import Preferences
from service.storage.database import Database, translated_errors
from service.storage.fence import Fence

_OF = "SELECT read_receipts, invisible FROM preference WHERE user_id = %s"

_CHANGE = """
INSERT INTO preference AS mine (user_id, read_receipts, invisible)
SELECT %(user)s, coalesce(%(read_receipts)s, true), coalesce(%(invisible)s, false)
WHERE %(name)s::text IS NULL OR demand_lease(%(name)s, %(epoch)s)
ON CONFLICT (user_id) DO UPDATE SET
    read_receipts = coalesce(%(read_receipts)s, mine.read_receipts),
    invisible = coalesce(%(invisible)s, mine.invisible)
RETURNING read_receipts, invisible
"""


class PostgresPreferences:
    """The `PreferenceRepository` port on PostgreSQL.

    With a `fence`, changes are made under it: a command that comes again after a takeover must not
    undo what was changed since. A call that is made once needs none.
    """

    def __init__(self, database: Database, fence: Fence | None = None) -> None:
        self._database = database
        self._lease = {"name": fence and fence.name, "epoch": fence and fence.epoch}

    async def of(self, user: UserId) -> Preferences:
        """See `PreferenceRepository.of`; raises `Rejected(STORAGE_UNAVAILABLE)`."""
        with translated_errors("preferences"):
            async with self._database.connection() as connection:
                row = await (await connection.execute(_OF, (user,))).fetchone()
        return Preferences(read_receipts=row[0], invisible=row[1]) if row else Preferences()

    async def change(
        self, user: UserId, *, read_receipts: bool | None, invisible: bool | None
    ) -> Preferences:
        """See `PreferenceRepository.change`; raises `Rejected(STORAGE_UNAVAILABLE)`, `LeaseLost`."""
        parameters = {"user": user, "read_receipts": read_receipts, "invisible": invisible, **self._lease}
        with translated_errors("change_preferences"):
            async with self._database.connection() as connection:
                row = await (await connection.execute(_CHANGE, parameters)).fetchone()
        assert row is not None
        return Preferences(read_receipts=row[0], invisible=row[1])

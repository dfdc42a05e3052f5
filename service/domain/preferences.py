"""What users choose to show of themselves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """One user's choices; the defaults hold for who never chose."""

    read_receipts: bool = True
    """Off: others see this user's messages as delivered, never as read."""
    invisible: bool = False
    """On: others see this user as offline."""

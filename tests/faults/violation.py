"""A broken promise."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """Which invariant, and in words what broke it; quotes ids, never text."""

    invariant: str
    what: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.what}"

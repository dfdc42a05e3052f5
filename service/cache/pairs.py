"""Two users in the one order that every layer uses, because the relation is symmetric."""

from __future__ import annotations

from typing import TypeAlias

from service.domain.ids import UserId

Pair: TypeAlias = tuple[UserId, UserId]
"""Both users, sorted."""


def pair_of(user: UserId, other: UserId) -> Pair:
    """The pair of two users, whichever is named first."""
    return (user, other) if user < other else (other, user)

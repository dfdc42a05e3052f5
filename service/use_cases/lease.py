"""What one instance at a time can hold: a port like those in `ports.py`, and how its loss is said."""

from __future__ import annotations

from typing import Protocol, TypeVar


class LeaseLost(Exception):
    """Another instance has the lease, or may have it by now, and why that is believed.

    For the instance itself, never an answer to a user: whoever has the lease is sent the commands again.
    """


class Tenure(Protocol):
    """The lease as one instance holds it, from taking it to losing it."""

    @property
    def epoch(self) -> int:
        """Higher than that of every tenure before."""
        ...

    def demand(self) -> None:
        """Raises `LeaseLost` unless it is certain right now that nobody else holds the lease."""
        ...

    async def hold(self) -> None:
        """Keeps the lease until it is lost, which it raises as `LeaseLost`.

        While nobody can be asked who holds the lease, nobody can take it either: that alone is no loss.
        """
        ...

    def release(self) -> None:
        """Gives the lease up, lost or not: others get it at once."""
        ...


TenureOut = TypeVar("TenureOut", bound=Tenure, covariant=True)


class Lease(Protocol[TenureOut]):
    """What one instance at a time can hold."""

    @property
    def is_held_elsewhere(self) -> bool:
        """Whether `acquire` waits, and found another holder when it last looked."""
        ...

    async def acquire(self) -> TenureOut:
        """Waits for as long as it takes, whatever fails meanwhile."""
        ...

"""What keeps the commits of an instance that has lost its lease out of the tables."""

from __future__ import annotations

from dataclasses import dataclass, field

from service.storage.arrays import Packed, packed_bigint

FALLEN = "LE001"
"""SQLSTATE of `demand_lease` in the schema: the lease has another epoch by now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fence:
    """The lease that a statement is to be made under.

    A statement fails with `FALLEN` when another epoch of the lease was committed before it began.
    """

    name: str
    epoch: int
    parameters: tuple[Packed, Packed] = field(init=False, repr=False, compare=False)
    """Name and epoch for a prepared statement, made once."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "parameters", (Packed(self.name.encode()), packed_bigint(self.epoch)))

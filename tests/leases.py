"""The lease that tests commit under which are not about leases."""

from __future__ import annotations

import psycopg

from service.storage.fence import Fence

FENCE = Fence(name="tests", epoch=1)
"""Every database of the tests has this lease, at this epoch."""


def take_lease(database_url: str, fence: Fence = FENCE) -> Fence:
    """Does what a new holder does to the lease, so that `fence` falls; returns the new one."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO lease AS held VALUES (%s, 1, now()) "
            "ON CONFLICT (name) DO UPDATE SET epoch = held.epoch + 1 RETURNING epoch",
            (fence.name,),
        ).fetchone()
    assert row is not None
    return Fence(name=fence.name, epoch=row[0])

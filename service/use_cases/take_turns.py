"""Lets one instance at a time be the active one: the others stand by and take its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from service.metrics import LEASE_ACQUISITIONS, LEASE_HELD
from service.use_cases.lease import Lease, LeaseLost, Tenure

_log = structlog.get_logger(__name__)

OwnTenure = TypeVar("OwnTenure", bound=Tenure)


class TakeTurns(Generic[OwnTenure]):
    """Runs `serve` once for each tenure, until its second argument is set.

    `serve` is cancelled when the lease is lost, and may raise `LeaseLost` itself. When it returns by
    itself, the lease is given up: what it has finished by then, the next holder need not do again.
    """

    def __init__(
        self, lease: Lease[OwnTenure], serve: Callable[[OwnTenure, asyncio.Event], Awaitable[None]]
    ) -> None:
        self._lease = lease
        self._serve = serve
        self._is_active = False

    @property
    def is_active(self) -> bool:
        """Whether this instance is the active one."""
        return self._is_active

    @property
    def is_standby(self) -> bool:
        """Whether another instance is known to be the active one."""
        return not self._is_active and self._lease.is_held_elsewhere

    async def run(self, stop: asyncio.Event) -> None:
        """Takes turns until `stop` is set; then returns when nothing is left to finish."""
        while not stop.is_set():
            tenure = await self._acquire(stop)
            if tenure is not None:
                await self._take(tenure, stop)

    async def _acquire(self, stop: asyncio.Event) -> OwnTenure | None:
        """The lease, or None when `stop` comes first."""
        acquiring = asyncio.create_task(self._lease.acquire(), name="lease-acquire")
        stopping = asyncio.create_task(stop.wait(), name="lease-stop")
        try:
            await asyncio.wait((acquiring, stopping), return_when=asyncio.FIRST_COMPLETED)
            return acquiring.result() if acquiring.done() else None
        finally:
            # The lock of a session that is cancelled on its way goes with the session.
            for task in (acquiring, stopping):
                task.cancel()

    async def _take(self, tenure: OwnTenure, stop: asyncio.Event) -> None:
        _log.info("lease_acquired", epoch=tenure.epoch)
        LEASE_ACQUISITIONS.inc()
        LEASE_HELD.set(1)
        self._is_active = True
        try:
            async with asyncio.TaskGroup() as tasks:
                holding = tasks.create_task(tenure.hold(), name="lease")
                await self._serve(tenure, stop)
                holding.cancel()
            _log.info("lease_released", epoch=tenure.epoch)
        except* LeaseLost as lost:
            _log.warning("lease_lost", epoch=tenure.epoch, reason=str(_first(lost)))
        finally:
            self._is_active = False
            LEASE_HELD.set(0)
            tenure.release()


def _first(group: BaseExceptionGroup[LeaseLost]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

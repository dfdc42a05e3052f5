"""The `Lease` port in memory: all leases on one `Registrar` compete."""

from __future__ import annotations

import asyncio

from service.use_cases.lease import LeaseLost


class Registrar:
    """Who holds the lease."""

    def __init__(self) -> None:
        self.holder: MemoryTenure | None = None
        self.epoch = 0
        self.changed = asyncio.Condition()

    async def end(self, tenure: MemoryTenure) -> None:
        """Ends the tenure as the death of its holder would."""
        tenure.release()
        async with self.changed:
            self.changed.notify_all()


class MemoryTenure:
    """See `Tenure`."""

    def __init__(self, registrar: Registrar, epoch: int) -> None:
        self.epoch = epoch
        self._registrar = registrar
        self._lost = asyncio.Event()
        self._waking: asyncio.Task[None] | None = None

    def demand(self) -> None:
        if self._registrar.holder is not self:
            raise LeaseLost("it has ended")

    async def hold(self) -> None:
        await self._lost.wait()
        raise LeaseLost("it has ended")

    def release(self) -> None:
        if self._registrar.holder is self:
            self._registrar.holder = None
            self._lost.set()
            self._waking = asyncio.create_task(self._registrar.end(self))


class MemoryLease:
    """See `Lease`."""

    def __init__(self, registrar: Registrar) -> None:
        self._registrar = registrar
        self._held_elsewhere = False

    @property
    def is_held_elsewhere(self) -> bool:
        return self._held_elsewhere

    async def acquire(self) -> MemoryTenure:
        registrar = self._registrar
        async with registrar.changed:
            while registrar.holder is not None:
                self._held_elsewhere = True
                await registrar.changed.wait()
        self._held_elsewhere = False
        registrar.epoch += 1
        registrar.holder = MemoryTenure(registrar, registrar.epoch)
        return registrar.holder

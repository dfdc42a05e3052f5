"""What a fault scenario is: what it needs around it, and what it does while the load goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.arena import Arena


class Edge(StrEnum):
    """The transport connections that can go through a fault proxy."""

    CLIENT_BROKER = "client-broker"
    """Two proxies: MQTT over WebSocket, and over TCP."""
    BROKER_SERVICE = "broker-service"
    SERVICE_POSTGRESQL = "service-postgresql"
    SERVICE_REDIS = "service-redis"
    SERVICE_CONNECTIONS = "service-connections"


class Storage(StrEnum):
    """Where PostgreSQL has its data."""

    FOLDER = "folder"
    SMALL_DISK = "small-disk"
    """Tables on a file system of their own that a scenario can fill; needs `mount`."""
    LOOP_DISK = "loop-disk"
    """Everything on a loop-mounted ext4 whose power a scenario can cut; needs `loop`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What an arena is built with; scenarios with the same layout can share one."""

    edges: frozenset[Edge] = frozenset()
    instances: int = 1
    """Service processes."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Environment of the services on top of the usual one."""
    broker: Mapping[str, str] = field(default_factory=dict)
    """Directives of mosquitto.conf that get another value."""
    storage: Storage = Storage.FOLDER
    pairs: int = 20
    """Connected pairs under load."""

    def key(self) -> tuple[object, ...]:
        """Equal for layouts that differ at most in what goes through a proxy."""
        settings, broker = sorted(self.settings.items()), sorted(self.broker.items())
        return (self.instances, tuple(settings), tuple(broker), self.storage, self.pairs)

    def with_edges(self, edges: frozenset[Edge]) -> Layout:
        """The same with these edges behind proxies as well."""
        return Layout(
            edges=self.edges | edges,
            instances=self.instances,
            settings=self.settings,
            broker=self.broker,
            storage=self.storage,
            pairs=self.pairs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One fault. `run` injects it while the load goes on and returns when it has ended.

    From that moment on every pair has 10 s to get a message acknowledged, unattended.
    """

    name: str
    run: Callable[[Arena], Awaitable[None]]
    fault: str
    """In the report's words: what happens to whom."""
    edges: frozenset[Edge] = frozenset()
    instances: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    broker: Mapping[str, str] = field(default_factory=dict)
    storage: Storage = Storage.FOLDER
    pairs: int = 20
    in_short: bool = True
    """Whether `make faults` runs it, too."""
    needs: str | None = None
    """A name in `capabilities.py`: what the machine must permit."""
    alone: bool = False
    """Never at the same time as another one, and in an arena of its own."""
    controls: str | None = None
    """Whose processes it stops and starts: two of one kind would start what the other one stops."""

    @property
    def layout(self) -> Layout:
        """What its arena is built with."""
        return Layout(
            edges=self.edges,
            instances=self.instances,
            settings=self.settings,
            broker=self.broker,
            storage=self.storage,
            pairs=self.pairs,
        )


def can_share(first: Scenario, second: Scenario) -> bool:
    """Whether both can happen in one arena."""
    return not (first.alone or second.alone) and first.layout.key() == second.layout.key()


def can_be_at_once(first: Scenario, second: Scenario) -> bool:
    """Whether both can happen in one arena, and neither is in the other one's way."""
    return can_share(first, second) and (first.controls is None or first.controls != second.controls)


def together(first: Scenario, second: Scenario) -> Scenario:
    """Both faults at once; it has ended when both have. Raises `ValueError` when they cannot be."""
    if not can_share(first, second):
        raise ValueError(f"{first.name} and {second.name} need different arenas")
    if not can_be_at_once(first, second):
        raise ValueError(f"{first.name} and {second.name} both stop and start: {first.controls}")

    async def run(arena: Arena) -> None:
        arena.combined, arena.at_work = True, 2
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_run(first, arena))
                tasks.create_task(_run(second, arena))
        finally:
            arena.combined, arena.at_work = False, 1

    return Scenario(
        name=f"{first.name}+{second.name}",
        run=run,
        fault=f"{first.fault}; and {second.fault}",
        edges=first.edges | second.edges,
        instances=first.instances,
        settings=first.settings,
        broker=first.broker,
        storage=first.storage,
        pairs=first.pairs,
        needs=first.needs or second.needs,
    )


async def _run(scenario: Scenario, arena: Arena) -> None:
    try:
        await scenario.run(arena)
    finally:
        arena.at_work -= 1

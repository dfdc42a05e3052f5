"""What a scenario works with: the running stack, the load on it, and means to do harm."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import isawaitable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from devstack import processes
from devstack.ports import LOOPBACK
from devstack.server_process import ServerProcess
from tests.faults.ledger import Ledger, Relation
from tests.faults.load import Load, Pair
from tests.faults.proxy import FaultProxy
from tests.faults.scenario import Edge
from tests.faults.servers import Servers, ServiceInstance

_POLL_SECONDS = 0.05
_WITH_OTHERS_S = 180.0
"""The longest that a wait goes on for the sake of another scenario; each is over by then."""


@dataclass(slots=True, kw_only=True)
class Arena:
    """One stack under load. A scenario that raises has failed, like one after which the ledger is wrong."""

    servers: Servers
    load: Load
    """The users who write all the time; scenarios may add users of their own to it."""
    ledger: Ledger
    random: random.Random
    """The only source of chance, so that a seed tells what happened."""
    short: bool
    """Whether minutes are to be spared (`make faults`)."""
    combined: bool = False
    """Whether another scenario runs at the same time, so that not everything is this one's doing."""
    at_work: int = 1
    """Scenarios that have not ended."""
    counters: Counter[str] = field(default_factory=Counter)
    measures: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    """What a scenario found itself, beside what the checker finds in the ledger."""

    @property
    def proxies(self) -> Mapping[Edge, Sequence[FaultProxy]]:
        """Of the edges that the scenario asked for; CLIENT_BROKER has two, for WebSocket and for TCP."""
        return self.servers.proxies

    @property
    def services(self) -> Sequence[ServiceInstance]:
        """The service processes, in the order in which they were started first."""
        return self.servers.services

    @property
    def service(self) -> ServiceInstance:
        """The only, or first, one."""
        return self.servers.services[0]

    @property
    def folder(self) -> Path:
        """Everything of this arena; logs are in `logs`."""
        return self.servers.folder

    def note(self, counter: str, n: int = 1) -> None:
        """Counts something for the report: `kills`, `cuts`, `resets` ..."""
        self.counters[counter] += n

    def measure(self, name: str, value: int) -> None:
        """Keeps a size or a time for the report, the largest of each name."""
        self.measures[name] = max(value, self.measures.get(name, value))

    def violate(self, invariant: str, what: str) -> None:
        """Notes that a promise (I1 to I8) was broken; the run goes on and fails at its end."""
        self.violations.append(f"{invariant}: {what}")

    def token(self, user_id: str, *, role: str | None = None, seconds: float = 6 * 3600) -> str:
        """A JWT that broker and service accept."""
        return self.load.tokens.mint(user_id, role=role, seconds=seconds)

    async def pause(self, seconds: float) -> None:
        """Lets the load go on; raises if a client of the load has choked."""
        await asyncio.sleep(seconds)
        self.load.raise_failures()

    async def until(
        self, condition: Callable[[], bool | Awaitable[bool]], seconds: float, what: str = "condition"
    ) -> float:
        """Waits for a condition; returns the seconds it took, or raises `TimeoutError`.

        What is promised in a time is promised where nothing else is wrong: while another scenario
        is at work beside this one, up to `_WITH_OTHERS_S`, the time to wait does not begin.
        """
        started = counting = time.monotonic()
        while True:
            holds = condition()
            if isawaitable(holds):
                holds = await holds
            now = time.monotonic()
            if holds:
                return now - started
            if self.at_work > 1 and now - started < _WITH_OTHERS_S:
                counting = now
            if now - counting > seconds:
                raise TimeoutError(f"{what}: not within {seconds:.0f} s")
            await self.pause(_POLL_SECONDS)

    async def revoke(self, pair: Pair) -> None:
        """The two are no longer connected, and the platform tells so; returns with the broker's PUBACK."""
        await self.servers.connections.disconnect([pair.names])
        began = await self.load.platform.connections_changed(*pair.names)
        self._relate(pair, began, connected=False)

    async def connect(self, pair: Pair) -> None:
        """The two are connected again."""
        self._relate(pair, self.ledger.now(), connected=True)
        await self.servers.connections.connect([pair.names])
        await self.load.platform.connections_changed(*pair.names)

    def _relate(self, pair: Pair, at: float, *, connected: bool) -> None:
        wall = time.time() - (self.ledger.now() - at)
        self.ledger.record(Relation(at=at, wall=wall, users=pair.names, connected=connected))

    async def kill(self, server: ServerProcess) -> None:
        """`kill -9`; PostgreSQL's sessions are gone when this returns."""
        self.note("kills")
        self.ledger.fault(f"kill -9 {server.name}")
        await asyncio.to_thread(server.kill)

    async def terminate(self, server: ServerProcess) -> None:
        """A clean stop (SIGTERM), waited for; a server that does not manage it is killed, and noted."""
        self.note("stops")
        self.ledger.fault(f"stop {server.name}")
        await asyncio.to_thread(server.stop)
        if server.exit_code != 0:
            self.note("unclean stops")

    async def start(self, server: ServerProcess) -> None:
        """Starts a server and waits until it is ready."""
        await asyncio.to_thread(server.start)
        self.ledger.fault(f"started {server.name}")

    async def launch(self, server: ServerProcess) -> None:
        """Starts a server without waiting until it is ready."""
        await asyncio.to_thread(server.launch)
        self.ledger.fault(f"launched {server.name}")

    def suspend(self, server: ServerProcess) -> list[int]:
        """SIGSTOP to the process and its children; returns their ids, for `resume`."""
        self.note("suspensions")
        self.ledger.fault(f"SIGSTOP {server.name}")
        # The parent first: it starts no new child then.
        os.kill(server.pid, signal.SIGSTOP)
        stopped = [server.pid]
        for child in processes.children(server.pid):
            if _signal(child, signal.SIGSTOP):
                stopped.append(child)
        return stopped

    def resume(self, process_ids: Sequence[int]) -> None:
        """SIGCONT to them."""
        for process_id in process_ids:
            _signal(process_id, signal.SIGCONT)
        self.ledger.fault(f"SIGCONT {process_ids[0]}")

    def active_grpc_target(self) -> str:
        """Where history can be read: any instance that runs."""
        running = [instance for instance in self.services if instance.process.is_running]
        return running[0].grpc_target

    async def is_ready(self, instance: ServiceInstance) -> bool:
        """What `/readyz` says."""
        return await self.get(instance, "/readyz") is not None

    async def get(self, instance: ServiceInstance, path: str) -> str | None:
        """The body behind `path` of the operations routes, None unless the answer is 200 within 2 s."""
        return await asyncio.to_thread(_get, f"http://{LOOPBACK}:{instance.http_port}{path}")

    async def metric(self, instance: ServiceInstance, name: str, **labels: str) -> float | None:
        """The present value of a sample; None where there is none, or no answer."""
        page = await self.get(instance, "/metrics")
        for family in text_string_to_metric_families(page or ""):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


def _signal(process_id: int, number: signal.Signals) -> bool:
    try:
        os.kill(process_id, number)
    except ProcessLookupError:
        return False
    return True


def _get(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            body: bytes = answer.read()
            return body.decode()
    except OSError:
        return None

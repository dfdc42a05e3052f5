"""Faults of the broker: it is a transport, and what it holds may be lost at any time."""

from __future__ import annotations

import asyncio

from tests.faults.arena import Arena
from tests.faults.profile import Profile, Reading
from tests.faults.scenario import Scenario

_CLIENTS = 1_000
_DROPPED = b"Outgoing messages are being dropped for client messaging-service:bridge"


async def killed_and_emptied(arena: Arena) -> None:
    """`kill -9`, and all sessions and queues deleted."""
    broker = arena.servers.mosquitto
    for _ in range(1 if arena.short else 4):
        await arena.kill(broker)
        await asyncio.to_thread(broker.forget_everything)
        await arena.pause(arena.random.uniform(0.0, 1.0))
        await arena.start(broker)
        await arena.pause(arena.random.uniform(1.0, 3.0))


async def overflows(arena: Arena) -> None:
    """The service stands still until its queue in the broker is full: the broker drops without a word."""
    for _ in range(1 if arena.short else 4):
        suspended = arena.suspend(arena.service.process)
        try:
            await arena.until(lambda: _has_dropped(arena), 10.0, "the broker drops messages")
            await arena.pause(1.0)
        finally:
            arena.resume(suspended)
        arena.note("overflows")
        await arena.pause(2.0)


def _has_dropped(arena: Arena) -> bool:
    return _DROPPED in arena.servers.mosquitto.log_file.read_bytes()


async def restarts_with_many_clients(arena: Arena) -> None:
    """A clean restart with a thousand clients, who all come back at once."""
    idle = [
        arena.load.new_user(
            Profile(
                user_id=f"idle-{number:04}",
                peer_id="nobody",
                canary="",
                per_second=0.0,
                reading=Reading.NONE,
                websocket=number % 4 != 3,
                keeps_session=number % 3 == 0,
            )
        )
        for number in range(_CLIENTS - 2 * len(arena.load.pairs))
    ]
    for user in idle:
        arena.load.add(user)
    await arena.until(lambda: all(user.is_connected for user in idle), 60.0, "a thousand clients connect")
    arena.measure("clients", len(idle) + 2 * len(arena.load.pairs))
    links = {user: user.links for user in idle}
    await arena.terminate(arena.servers.mosquitto)
    await arena.start(arena.servers.mosquitto)
    took = await arena.until(
        lambda: all(user.links > links[user] and user.is_connected for user in idle),
        30.0,
        "a thousand clients come back",
    )
    arena.measure("ms until all clients were back", round(took * 1_000))


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="broker-killed-and-emptied",
        run=killed_and_emptied,
        fault="broker `kill -9`, its sessions and queues deleted",
    ),
    Scenario(
        name="broker-queue-overflow",
        run=overflows,
        fault="the service's queue in the broker overflows",
        broker={"max_inflight_messages": "20", "max_queued_messages": "20"},
    ),
    Scenario(
        name="broker-restart-1000-clients",
        run=restarts_with_many_clients,
        fault="broker restarted with 1,000 clients",
        alone=True,
    ),
)

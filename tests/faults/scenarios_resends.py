"""One key, many attempts: at once, later, after a restart, with another token."""

from __future__ import annotations

import asyncio
from uuid import UUID

from tests.faults.arena import Arena
from tests.faults.raw_device import RawDevice, raw_device
from tests.faults.resends import resend_acknowledged
from tests.faults.scenario import Scenario
from tests.faults.scenarios_service import roles

_AT_ONCE = 100
_PATIENCE_S = 1.5
_ANSWERED_WITHIN_S = 15.0


async def after_restart(arena: Arena) -> None:
    """The service has forgotten everything; the key's row has not."""
    for _ in range(1 if arena.short else 5):
        await arena.kill(arena.service.process)
        await arena.start(arena.service.process)
        await resend_acknowledged(arena, "after a restart")


async def after_token_refresh(arena: Arena) -> None:
    """Every user has come back with another token."""
    for _ in range(1 if arena.short else 5):
        await _all_come_back(arena)
        await resend_acknowledged(arena, "with another token")


async def _all_come_back(arena: Arena) -> None:
    """Every connection ends; the next one is made with a token of its own."""
    links = {user: user.links for pair in arena.load.pairs for user in pair.users}
    for user in links:
        user.drop()
    await arena.until(lambda: all(user.links > n for user, n in links.items()), 10.0, "all are back")


async def at_once(arena: Arena) -> None:
    """A hundred times at once from two devices: one message, and a hundred answers that say so."""
    for number in range(3 if arena.short else 20):
        await _many_at_once(arena, number, is_disturbed=False)


async def at_once_with_take_over(arena: Arena) -> None:
    """The same while the active one of two instances is killed, so that both take part."""
    for number in range(2 if arena.short else 10):
        active, _ = await roles(arena)
        sending = asyncio.create_task(_many_at_once(arena, number, is_disturbed=True))
        await arena.pause(arena.random.uniform(0.0, 0.05))
        await arena.kill(active.process)
        await sending
        await arena.start(active.process)


async def _many_at_once(arena: Arena, number: int, *, is_disturbed: bool) -> None:
    pair = arena.random.choice([pair for pair in arena.load.pairs if pair.connected])
    profile = pair.first.profile
    key = str(UUID(int=arena.random.getrandbits(128), version=4))
    text = f"{profile.canary} {key[:8]} at once"
    async with (
        raw_device(arena, profile, f"tablet-{number}") as tablet,
        raw_device(arena, profile, f"laptop-{number}") as laptop,
    ):
        devices = (tablet, laptop)
        for _ in range(_AT_ONCE // 2):
            for device in devices:
                device.send(key, text)
        wanted = 1 if is_disturbed else _AT_ONCE
        await _until_answered(arena, devices, key, text, wanted)
        messages = {answer for device in devices for answer in device.answers[key]}
    arena.note("ids sent 100 times at once")
    if len(messages) != 1:
        arena.violate("I1", f"one key stood for {len(messages)} messages")


async def _until_answered(
    arena: Arena, devices: tuple[RawDevice, RawDevice], key: str, text: str, wanted: int
) -> None:
    """All devices of a user hear every answer. Where answers may be lost, the message is sent again."""
    asked_at = arena.ledger.now()

    def is_answered() -> bool:
        nonlocal asked_at
        if wanted == 1 and arena.ledger.now() - asked_at > _PATIENCE_S:
            asked_at = arena.ledger.now()
            for device in devices:
                device.send(key, text)
        return all(len(device.answers[key]) >= wanted for device in devices)

    await arena.until(is_answered, _ANSWERED_WITHIN_S, f"{wanted} answers at each device")


SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        name="resend-after-restart",
        controls="service",
        run=after_restart,
        fault="acknowledged messages sent again after a restart of the service",
    ),
    Scenario(
        name="resend-after-token-refresh",
        run=after_token_refresh,
        fault="acknowledged messages sent again with another token",
    ),
    Scenario(
        name="same-id-at-once",
        run=at_once,
        fault="the same id sent 100 times at once from two devices",
    ),
    Scenario(
        name="same-id-at-once-two-instances",
        run=at_once_with_take_over,
        fault="the same id sent 100 times at once from two devices to two instances, one taking over",
        instances=2,
        controls="service",
    ),
)

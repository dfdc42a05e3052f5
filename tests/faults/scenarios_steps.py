"""The service's process ends at a chosen step of a message's way, again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path

from tests.faults.arena import Arena
from tests.faults.scenario import Scenario

_MODULE = "tests.faults.service_with_exits"
_LIFE_S = 5.0
"""Longest that one life may take on the average: it starts in half a second and ends within 40 messages."""

_STEPS: Mapping[str, str] = {
    "received": "a command is read",
    "authorized": "a command is authorized",
    "inserted": "the commit is sent, its answer not read",
    "committed": "the commit is done, nothing published",
    "published": "a message is published, its command not acknowledged",
    "acknowledged": "a command is acknowledged",
}
"""As in `service_with_exits.Step`, which only the service's own process may import."""


def _ends_at(step: str) -> Callable[[Arena], Awaitable[None]]:
    async def run(arena: Arena) -> None:
        """Ends at the step so many times, and lives on plainly in the end."""
        process, times = arena.service.process, 3 if arena.short else 200
        plain = process.program
        log = arena.folder / f"exits-{step}"
        log.touch()
        exits = {
            "FAULT_EXITS_STEP": step,
            "FAULT_EXITS_COUNT": str(times),
            "FAULT_EXITS_SEED": str(arena.random.getrandbits(32)),
            "FAULT_EXITS_LOG": str(log),
        }
        await arena.terminate(process)
        process.program = replace(plain, module=_MODULE, settings={**plain.settings, **exits})
        try:
            await arena.launch(process)
            await arena.until(lambda: _has_ended(arena, log, times), times * _LIFE_S, f"exits at {step}")
            await arena.until(lambda: arena.is_ready(arena.service), 10.0, "the next life is ready")
        finally:
            process.program = plain
            await arena.terminate(process)
            arena.note(f"exits at {step}", _lines(log))
            await arena.start(process)

    return run


def _has_ended(arena: Arena, log: Path, times: int) -> bool:
    process = arena.service.process
    if not process.is_running:
        raise RuntimeError(f"the service {process.ending()}, which was not called for")
    return _lines(log) == times


def _lines(log: Path) -> int:
    return len(log.read_text().splitlines())


SCENARIOS: tuple[Scenario, ...] = tuple(
    Scenario(name=f"exit-{step}", run=_ends_at(step), fault=f"service ends when {words}", controls="service")
    for step, words in _STEPS.items()
)

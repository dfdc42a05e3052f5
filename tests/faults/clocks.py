"""Wall clocks of servers that a scenario sets: libfaketime, preloaded into the processes.

Monotonic clocks are left alone, as they are when a machine's clock is set.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from devstack.server_process import ServerProcess
from tests.faults.arena import Arena

_FOLDERS = ("/usr/lib", "/usr/local/lib")
_NOTICED_WITHIN_S = 1


def library() -> Path | None:
    """libfaketime for programs with threads (Debian: `libfaketime`)."""
    for folder in _FOLDERS:
        for found in sorted(Path(folder).glob("**/faketime/libfaketimeMT.so.1")):
            return found
    return None


class Clocks:
    """The clocks of the servers that were started here; all of them show the same time."""

    def __init__(self, arena: Arena, preloaded: Path) -> None:
        self._arena = arena
        self._file = arena.folder / "clock"
        self._settings = {
            "LD_PRELOAD": str(preloaded),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(_NOTICED_WITHIN_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.set_to("+0")

    def set_to(self, distance: str) -> None:
        """Sets all clocks to a distance from the right time, `-2h` or `+0`; works within a second."""
        self._arena.ledger.fault(f"clocks at {distance}")
        # In one step: nobody reads half a file.
        fresh = self._file.with_suffix(".new")
        fresh.write_text(distance)
        fresh.chmod(0o644)
        fresh.replace(self._file)

    async def restart(self, server: ServerProcess) -> None:
        """Stops a server and starts it with such a clock."""
        await self._arena.terminate(server)
        with _environment(self._settings):
            await self._arena.start(server)


@asynccontextmanager
async def settable_clocks(arena: Arena, servers: Sequence[ServerProcess]) -> AsyncIterator[Clocks]:
    """Starts the servers anew, one by one, with clocks that can be set and show the right time.

    They keep them when the block ends, and show the right time again.
    """
    preloaded = library()
    if preloaded is None:
        raise RuntimeError("libfaketime is not installed")
    clocks = Clocks(arena, preloaded)
    for server in servers:
        await clocks.restart(server)
    try:
        yield clocks
    finally:
        clocks.set_to("+0")
        await arena.pause(_NOTICED_WITHIN_S)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Whoever is started meanwhile inherits these."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

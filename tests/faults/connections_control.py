"""The test's side of the ConnectionsService: its process, who is connected, how it misbehaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from pathlib import Path

from devstack.ports import LOOPBACK
from devstack.python_server import Program, PythonServer


class ConnectionsControl:
    """What the ConnectionsService says, kept here so that a new process says the same."""

    def __init__(self, folder: Path, port: int, control_port: int) -> None:
        self.port = port
        self._control_port = control_port
        self._state_file = folder / "connections.json"
        self._pairs: set[tuple[str, str]] = set()
        self._delay_seconds = 0.0
        self._failure: str | None = None
        self._telling = asyncio.Lock()
        self.process = PythonServer(
            Program(
                name="ConnectionsService",
                module="tests.faults.connections_server",
                port=port,
                arguments=(
                    f"--port={port}",
                    f"--control-port={control_port}",
                    f"--state={self._state_file}",
                ),
            ),
            folder / "logs" / "connections.log",
        )
        self._write()

    async def connect(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on these are connected, too."""
        self._pairs |= {_pair(*pair) for pair in pairs}
        await self._tell()

    async def disconnect(self, pairs: Iterable[tuple[str, str]]) -> None:
        """From now on these are not connected; the service is not told, see `Arena.revoke`."""
        self._pairs -= {_pair(*pair) for pair in pairs}
        await self._tell()

    async def answer(self, *, delay_seconds: float = 0.0, failure: str | None = None) -> None:
        """From now on it answers late, or with this gRPC status; without arguments it is well again."""
        self._delay_seconds, self._failure = delay_seconds, failure
        await self._tell()

    def _state(self) -> str:
        return json.dumps(
            {
                "pairs": sorted(self._pairs),
                "delay_seconds": self._delay_seconds,
                "failure": self._failure,
            }
        )

    def _write(self) -> None:
        self._state_file.write_text(self._state())

    async def _tell(self) -> None:
        """Returns when it answers so; a process that does not run starts with it."""
        # One after the other: an older state must not overtake a newer one.
        async with self._telling:
            self._write()
            if not self.process.is_running:
                return
            reader, writer = await asyncio.open_connection(LOOPBACK, self._control_port)
            try:
                writer.write(self._state().encode() + b"\n")
                if await reader.readline() != b"ok\n":
                    raise RuntimeError("the ConnectionsService did not take its state")
            finally:
                writer.close()


def _pair(user: str, other: str) -> tuple[str, str]:
    return (user, other) if user < other else (other, user)

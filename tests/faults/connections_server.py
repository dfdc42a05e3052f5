"""The development ConnectionsService as a process of its own that can be told to misbehave.

    python -m tests.faults.connections_server --port 50052 --control-port 50053 --state state.json

The state file says who is connected and how it answers; every line on the
control port is a whole new state in the same form, answered by `ok`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import grpc

from devstack.connections_service import ConnectionsDirectory, serve
from devstack.ports import LOOPBACK


class ObedientDirectory(ConnectionsDirectory):
    """A directory that becomes what a state says."""

    def become(self, state: dict[str, Any]) -> None:
        """Takes over pairs, delay and failure."""
        self._pairs = {frozenset(pair) for pair in state["pairs"]}
        self.delay_seconds = state["delay_seconds"]
        self.failure = grpc.StatusCode[state["failure"]] if state["failure"] else None


async def _serve(port: int, control_port: int, state: str) -> None:
    directory = ObedientDirectory()
    directory.become(json.loads(state))

    async def obey(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            directory.become(json.loads(line))
            writer.write(b"ok\n")
        writer.close()

    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for stop_signal in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop_signal, stopped.set)
    # A state names every pair: a thousand of them are longer than a stream's usual line.
    control = await asyncio.start_server(obey, LOOPBACK, control_port, limit=2**24)
    async with control, serve(directory, port=port):
        await stopped.wait()


def main() -> int:
    """Serves until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.connections_server", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.control_port, arguments.state.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

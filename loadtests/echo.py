"""The echo responder behind a broker of its own: what broker, links and client cost by themselves."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from devstack.python_server import Program, PythonServer
from devstack.server_process import ServerFailed
from loadtests.driver.chatter import until
from loadtests.stack import BenchStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """Where the running echo is."""

    websocket_port: int
    """Of its broker."""
    processes: Mapping[str, int]
    """Process ids of `broker` and `responder`."""


@asynccontextmanager
async def echo(stack: BenchStack) -> AsyncIterator[Echo]:
    """Runs a broker like the stack's, which goes on by itself, and the responder behind it.

    Raises `ServerFailed` when one does not start, or the responder does not subscribe within ten seconds.
    """
    folder = stack.folder / "echo"
    broker = stack.make_broker(folder)
    await asyncio.to_thread(broker.start)
    try:
        arguments = ["--port", str(broker.mqtt_port)]
        arguments += ["--token", stack.token("messaging-service", role="service")]
        if broker.socket_path is not None:
            arguments += ["--socket", str(broker.socket_path)]
        program = Program(
            name="Echo responder",
            module="loadtests.echo_responder",
            port=broker.mqtt_port,
            arguments=arguments,
        )
        responder = PythonServer(program, folder / "responder.log")
        await asyncio.to_thread(responder.start)
        try:
            if not await until(lambda: "broker_link_ready" in responder.log_tail(), 10.0):
                raise ServerFailed(f"The echo responder does not subscribe.{responder.quoted_log()}")
            yield Echo(
                websocket_port=broker.websocket_port,
                processes={"broker": broker.pid, "responder": responder.pid},
            )
        finally:
            await asyncio.to_thread(responder.stop)
    finally:
        await asyncio.to_thread(broker.stop)
        shutil.rmtree(folder)

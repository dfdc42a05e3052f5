"""The echo responder in the place of the service: what broker, links and client cost by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from devstack.python_server import Program, PythonServer
from devstack.server_process import ServerFailed
from loadtests.driver.chatter import until
from loadtests.stack import BenchStack


@asynccontextmanager
async def without_service(stack: BenchStack) -> AsyncIterator[None]:
    """Stops the service, which would answer, too, and starts it again afterwards."""
    await asyncio.to_thread(stack.stop_service)
    try:
        yield
    finally:
        await asyncio.to_thread(stack.start_service)


@asynccontextmanager
async def responder(stack: BenchStack) -> AsyncIterator[None]:
    """Runs the responder; raises `ServerFailed` when it does not subscribe within ten seconds."""
    arguments = ["--port", str(stack.mqtt_port)]
    arguments += ["--token", stack.token("messaging-service", role="service")]
    if stack.mosquitto.socket_path is not None:
        arguments += ["--socket", str(stack.mosquitto.socket_path)]
    program = Program(
        name="Echo responder", module="loadtests.echo_responder", port=stack.mqtt_port, arguments=arguments
    )
    server = PythonServer(program, stack.folder / "echo.log")
    # What an earlier one has logged there says nothing of this one.
    server.log_file.unlink(missing_ok=True)
    await asyncio.to_thread(server.start)
    stack.processes["responder"] = server.pid
    try:
        if not await until(lambda: "broker_link_ready" in server.log_tail(), 10.0):
            raise ServerFailed(f"The echo responder does not subscribe.{server.quoted_log()}")
        yield
    finally:
        del stack.processes["responder"]
        await asyncio.to_thread(server.stop)

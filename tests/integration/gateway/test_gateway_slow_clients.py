"""Clients that connect and then do little or nothing, or are too many; none of them has a token."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from devstack.python_server import PythonServer
from gateway.request_limits import BodyLimitMiddleware
from tests.conftest import MintToken
from tests.integration.gateway.conftest import RunGateway, url_of
from tests.integration.gateway.in_memory_messaging import RunningService

GENEROUS_S = 30
"""Until when something must have happened; many times what it takes."""
HEAD = b"POST /api/conversations HTTP/1.1\r\nHost: gateway\r\n"
DECLARED = HEAD + b"Content-Length: 100\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n64\r\n"


@pytest.fixture
async def impatient(run_gateway: RunGateway) -> AsyncIterator[PythonServer]:
    """A gateway that waits one second for a request."""
    async with run_gateway(request_deadline_s="1") as server:
        yield server


@asynccontextmanager
async def _connection(
    server: PythonServer, *, receive_buffer: int | None = None
) -> AsyncIterator[socket.socket]:
    """A bare socket: after a reset it still gives what came before, which a stream does not."""
    with socket.socket() as client:
        client.setblocking(False)
        if receive_buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", server.program.port))
        yield client


async def _send(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)


async def _status(client: socket.socket) -> bytes:
    """The beginning of an answer."""
    async with asyncio.timeout(GENEROUS_S):
        return await asyncio.get_running_loop().sock_recv(client, len(b"HTTP/1.1 200"))


async def _rest(client: socket.socket, *, end: bytes | None = None) -> bytes:
    """What comes until `end`, or else until the server closes."""
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(GENEROUS_S):
            while data := await asyncio.get_running_loop().sock_recv(client, 4_096):
                received += data
                if end is not None and received.endswith(end):
                    break
    return received


async def _rest_with_drip(client: socket.socket, drip: bytes) -> bytes:
    """What comes until the server closes; meanwhile it gets a byte of `drip` several times a second."""
    rest = asyncio.create_task(_rest(client))
    for byte in itertools.cycle(drip):
        await asyncio.wait((rest,), timeout=0.3)
        if rest.done():
            break
        with contextlib.suppress(ConnectionError):
            await _send(client, bytes((byte,)))
    return await rest


async def _until_it_serves(server: PythonServer) -> None:
    """Asks on new connections until there is an answer, and it is not BUSY."""
    async with asyncio.timeout(GENEROUS_S):
        while True:
            try:
                async with httpx.AsyncClient(base_url=url_of(server), timeout=1) as client:
                    if (await client.get("/healthz")).status_code == 200:
                        return
            except httpx.TransportError:
                continue


@pytest.mark.parametrize(
    ("start", "drip"),
    [(b"", b""), (HEAD, b""), (b"", b"G"), (HEAD, b"X-Filler: 1\r\n")],
    ids=["nothing", "an incomplete head", "letter after letter", "header after header"],
)
async def test_a_connection_without_a_request_is_closed(
    start: bytes, drip: bytes, impatient: PythonServer
) -> None:
    async with _connection(impatient) as client:
        await _send(client, start)
        assert await _rest_with_drip(client, drip) == b""


async def test_after_an_answer_the_next_request_must_come_in_time(impatient: PythonServer) -> None:
    async with _connection(impatient) as client:
        for _ in range(2):
            await _send(client, b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n")
            assert await _status(client) == b"HTTP/1.1 200"
            await _rest(client, end=b"}")
        await _send(client, HEAD)
        assert await _rest_with_drip(client, b"X-Filler: 1\r\n") == b""


@pytest.mark.parametrize("drip", [b"", b"["], ids=["nothing", "a byte now and then"])
@pytest.mark.parametrize("head", [DECLARED, CHUNKED], ids=["declared", "chunked"])
async def test_a_body_that_does_not_come_is_refused_and_the_connection_closed(
    head: bytes, drip: bytes, impatient: PythonServer
) -> None:
    async with _connection(impatient) as client:
        await _send(client, head)
        answer, body = (await _rest_with_drip(client, drip)).split(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer
    assert b"x-content-type-options: nosniff" in answer
    error = json.loads(body)["error"]
    assert (error["code"], error["retryable"]) == ("INVALID_PAYLOAD", True)


async def test_what_is_left_of_a_refused_body_is_not_awaited_for_ever(impatient: PythonServer) -> None:
    async with _connection(impatient) as client:
        await _send(client, HEAD + b"Content-Length: 100000\r\n\r\n")
        assert await _status(client) == b"HTTP/1.1 413"
        await _rest_with_drip(client, b"[")


async def test_a_complete_request_may_take_longer_than_the_deadline_to_answer(
    impatient: PythonServer, service: RunningService, token: MintToken
) -> None:
    service.messaging.hangs = True  # Until the deadline of the call, 1.5 s.
    headers = {"Authorization": f"Bearer {token('alice')}"}
    async with httpx.AsyncClient(base_url=url_of(impatient), timeout=GENEROUS_S) as client:
        answer = await client.post("/api/conversations", json={"recipientId": "bob"}, headers=headers)
    assert answer.status_code == 504


async def test_the_wait_for_a_disconnect_after_the_body_has_no_deadline() -> None:
    deadline_s = 0.05
    messages: asyncio.Queue[Message] = asyncio.Queue()
    messages.put_nowait({"type": "http.request", "body": b"[", "more_body": True})
    messages.put_nowait({"type": "http.request", "body": b"]", "more_body": False})
    received: list[Message] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        asyncio.get_running_loop().call_later(
            10 * deadline_s, messages.put_nowait, {"type": "http.disconnect"}
        )
        received.append(await receive())

    async def send(message: Message) -> None:
        raise AssertionError(f"nothing was to be answered: {message}")

    limited = BodyLimitMiddleware(application, deadline_s=deadline_s)
    await limited({"type": "http", "headers": []}, messages.get, send)
    assert received == [
        {"type": "http.request", "body": b"[]", "more_body": False},
        {"type": "http.disconnect"},
    ]


async def test_sigterm_does_not_wait_its_full_grace_for_a_body(run_gateway: RunGateway) -> None:
    async with (
        run_gateway(request_deadline_s="1", shutdown_grace_s="8") as server,
        _connection(server) as client,
    ):
        # The answer to an expectation shows that the gateway waits for the body.
        await _send(client, HEAD + b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n")
        assert await _status(client) == b"HTTP/1.1 100"
        await asyncio.to_thread(server.stop)
        assert server.exit_code == 0
        log = server.log_file.read_text()
    assert "timeout graceful shutdown exceeded" not in log
    assert "Traceback" not in log


@pytest.mark.skipif(sys.platform != "linux", reason="changes the limit of another process")
async def test_silent_connections_do_not_keep_the_descriptors(impatient: PythonServer) -> None:
    _, hard = resource.prlimit(impatient.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(impatient.pid, resource.RLIMIT_NOFILE, (64, hard))
    async with AsyncExitStack() as connections:
        for _ in range(100):
            await connections.enter_async_context(_connection(impatient))
        await _until_it_serves(impatient)


async def test_what_is_too_much_is_told_to_try_again(run_gateway: RunGateway) -> None:
    origin = "https://app.example"
    async with (
        run_gateway(request_deadline_s="60", connections_limit="2", allowed_origins=origin) as server,
        AsyncExitStack() as connections,
    ):
        for _ in range(2):
            await connections.enter_async_context(_connection(server))
        async with httpx.AsyncClient(base_url=url_of(server), timeout=GENEROUS_S) as client:
            answer = await client.get("/api/conversations", headers={"Origin": origin})
            lives = await client.get("/healthz")
        assert lives.status_code == 200
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert (error["code"], error["retryable"]) == ("BUSY", True)
        assert int(answer.headers["retry-after"]) * 1000 == error["retryAfterMs"]
        assert answer.headers["connection"] == "close"
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["x-content-type-options"] == "nosniff"
        await connections.aclose()
        await _until_it_serves(server)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such option")
async def test_a_client_that_does_not_read_its_answers_is_cut_off(impatient: PythonServer) -> None:
    request = b"GET /docs/assets/swagger-ui-bundle.js HTTP/1.1\r\nHost: gateway\r\n\r\n"
    before = _descriptors(impatient)
    async with _connection(impatient, receive_buffer=4_096) as client:
        # More than the system's buffers hold.
        await _send(client, 10 * request)
        assert await _status(client) == b"HTTP/1.1 200"
        async with asyncio.timeout(GENEROUS_S):
            while _descriptors(impatient) > before:
                await asyncio.sleep(0.05)
    assert "Traceback" not in impatient.log_file.read_text()


def _descriptors(server: PythonServer) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))

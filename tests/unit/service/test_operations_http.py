"""The operators' server, and that nobody keeps it from ending."""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from devstack.ports import LOOPBACK, free_port
from service.operations_http import OperationsServer

FAR_MORE_THAN_FITS = "x" * 16 * 1024 * 1024


async def test_an_answer_that_nobody_reads_does_not_keep_it_from_ending() -> None:
    begun = asyncio.Event()

    async def large(_request: Request) -> Response:
        begun.set()
        return PlainTextResponse(FAR_MORE_THAN_FITS)

    port = free_port()
    server = OperationsServer(Starlette(routes=[Route("/", large)]), host=LOOPBACK, port=port)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    _, writer = await asyncio.open_connection(LOOPBACK, port, limit=1)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await asyncio.wait_for(begun.wait(), 5)
    server.should_exit = True
    await asyncio.wait_for(serving, 10)
    writer.close()

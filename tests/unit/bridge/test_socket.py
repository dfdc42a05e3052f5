"""The asyncio side of a link, on a real pair of sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from bridge.socket import LinkSocket

FAR_MORE_THAN_FITS = bytes(8 * 1024 * 1024)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        yield ours, theirs


async def linked(ours: socket.socket) -> LinkSocket:
    _, link = await asyncio.get_running_loop().create_connection(
        lambda: LinkSocket(lambda _data: None), sock=ours
    )
    return link


@pytest.mark.parametrize("end", ["read", "cut"])
async def test_who_waits_goes_on_when_what_was_written_has_left_or_the_link_has_ended(
    pair: tuple[socket.socket, socket.socket], end: str
) -> None:
    ours, theirs = pair
    link = await linked(ours)
    await asyncio.wait_for(link.until_writable(), 1)
    link.write(FAR_MORE_THAN_FITS)
    waiting = asyncio.create_task(link.until_writable())
    done, _ = await asyncio.wait((waiting,), timeout=0.05)
    assert not done
    if end == "read":
        left = len(FAR_MORE_THAN_FITS)
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(theirs, 1024 * 1024))
    else:
        theirs.close()
    await asyncio.wait_for(waiting, 5)
    link.abort()

"""Free TCP ports on loopback."""

from __future__ import annotations

import os
import random
import socket

LOOPBACK = "127.0.0.1"

_LOWEST, _HIGHEST = 12_000, 32_000
"""Below what Linux gives to outgoing connections: such a one would have the port before its server."""

_handed_out: set[int] = set()
# Not the module's own generator: whoever seeds that for a test would get the same ports again.
_chance = random.SystemRandom()


def free_port() -> int:
    """A loopback port nobody listens on, never the same twice in one process.

    Nothing reserves the port: another process may take it before its user does. Tests that run side by
    side, and what they start, have different ports to choose from.
    """
    side, sides = _side()
    while True:
        port = _chance.randrange(_LOWEST + side, _HIGHEST, sides)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            return port


def _side() -> tuple[int, int]:
    """Which of how many workers of the test runner this is a part of."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return int(number), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def usual_or_free_port(usual: int) -> int:
    """`usual` if nobody listens on it (and nobody asked for it before), else a free one."""
    if usual not in _handed_out and is_free(usual):
        _handed_out.add(usual)
        return usual
    return free_port()


def is_free(port: int) -> bool:
    """Whether a server could listen on the loopback port now."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free, one with a listener does not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def accepts_connections(port: int, *, host: str = LOOPBACK, timeout_seconds: float = 1.0) -> bool:
    """Whether somebody listens on the port."""
    try:
        with socket.create_connection((host, port), timeout=timeout_seconds):
            return True
    except OSError:
        return False

"""Free loopback ports."""

from __future__ import annotations

import socket

from devstack import ports
from devstack.ports import LOOPBACK, accepts_connections, free_port, is_free, usual_or_free_port


def test_a_free_port_is_never_handed_out_twice() -> None:
    given = [free_port() for _ in range(200)]
    assert len(set(given)) == len(given)


def test_the_usual_port_is_taken_when_nobody_listens_on_it() -> None:
    port = _new_port()
    assert usual_or_free_port(port) == port


def _new_port() -> int:
    """A port that nobody has and that no test before this one was given."""
    while True:
        with socket.create_server((LOOPBACK, 0)) as listener:
            port: int = listener.getsockname()[1]
        if port not in ports._handed_out:
            return port


def test_another_port_is_taken_when_somebody_listens_on_the_usual_one() -> None:
    for address in (LOOPBACK, "0.0.0.0"):
        with socket.create_server((address, 0)) as listener:
            port = listener.getsockname()[1]
            assert not is_free(port)
            assert usual_or_free_port(port) != port


def test_the_usual_port_is_not_handed_out_twice() -> None:
    port = usual_or_free_port(free_port())
    assert usual_or_free_port(port) != port


def test_a_listener_is_told_from_a_closed_port() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        assert accepts_connections(listener.getsockname()[1])
    assert not accepts_connections(free_port())

"""An own Redis: a cache, so it keeps nothing on disk."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from devstack.ports import LOOPBACK
from devstack.server_process import ServerFailed, ServerProcess, find_executable


class RedisServer(ServerProcess):
    """Redis on a loopback port."""

    start_timeout = 15.0

    def __init__(self, data_dir: Path, port: int, *, log_file: Path | None = None) -> None:
        super().__init__("Redis", log_file or data_dir / "redis.log")
        self.data_dir = data_dir
        self.port = port

    @property
    def url(self) -> str:
        """URL of database 0."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        """Makes the folder."""
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def command(self) -> Sequence[str]:
        """Redis in the foreground, without persistence."""
        executable = find_executable("redis-server")
        if executable is None:
            raise ServerFailed("Redis is missing: sudo apt-get install redis-server")
        options = {
            "bind": LOOPBACK,
            "port": str(self.port),
            "dir": str(self.data_dir),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": "128mb",
            "maxmemory-policy": "allkeys-lru",
        }
        return [executable, *(word for key, value in options.items() for word in (f"--{key}", value))]

    def is_ready(self) -> bool:
        """Whether the server that answers on the port is this process."""
        return f"process_id:{self.pid}\r".encode() in self._info()

    def _info(self) -> bytes:
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"INFO server\r\nQUIT\r\n")
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
                return answer
        except OSError:
            return b""

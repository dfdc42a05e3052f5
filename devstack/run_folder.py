"""The git-ignored folder of `make run`: data, secret, logs, and who uses it now."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from devstack import processes
from devstack.server_process import ServerProcess

_LOG_BYTES_KEPT = 5_000_000


class AlreadyRunning(RuntimeError):
    """Another supervisor holds the folder."""


class RunFolder:
    """Everything that one local stack keeps."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        # PostgreSQL, which may run as another user, must get through; what is secret has its own mode.
        path.chmod(0o711)
        self._children: dict[int, int] = {}

    def log_file(self, name: str) -> Path:
        """Where a server logs; what it logged before moves away once it is large."""
        folder = self.path / "logs"
        folder.mkdir(mode=0o700, exist_ok=True)
        file = folder / f"{name}.log"
        if file.exists() and file.stat().st_size > _LOG_BYTES_KEPT:
            file.replace(file.with_suffix(".old.log"))
        return file

    def jwt_secret(self) -> str:
        """The HS256 secret: made on first use, the same ever after, readable by its owner only."""
        file = self.path / "jwt_secret"
        if not file.exists() or not file.read_text().strip():
            unfinished = file.with_suffix(".new")
            unfinished.unlink(missing_ok=True)
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
                new.write(secrets.token_urlsafe(48) + "\n")
            unfinished.replace(file)
        return file.read_text().strip()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder while the block runs; the system lets go of it when we are killed.

        Raises:
            AlreadyRunning: somebody else holds it; the text says which process.
        """
        with (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise AlreadyRunning(
                    f"The stack of this checkout already runs (process {holder}): use that one, "
                    f"or stop it with Ctrl-C in its terminal or `kill {holder}`."
                ) from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def remember(self, server: ServerProcess) -> None:
        """Notes a child, for `end_leftovers` of the next supervisor."""
        started = processes.start_time(server.pid)
        if started is not None:
            self._children[server.pid] = started
            self._children_file.write_text(json.dumps(list(self._children.items())))

    def end_leftovers(self, *, timeout_seconds: float = 10) -> int:
        """Waits for the children of a killed supervisor, which were told to end; kills those that do not.

        Returns:
            How many still ran.
        """
        try:
            noted = json.loads(self._children_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return 0
        left = list(_still_running(noted))
        if not processes.wait_until_gone(left, timeout_seconds=timeout_seconds):
            for process_id in _still_running(noted):
                processes.end(process_id, signal.SIGTERM, timeout_seconds=timeout_seconds)
        self._children_file.unlink()
        return len(left)

    @property
    def _children_file(self) -> Path:
        return self.path / "children.json"


def _still_running(noted: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Ids of those of the processes, each with its start, that run; each is looked at when its turn comes.

    The id of one that has ended meanwhile may be another's.
    """
    for process_id, started in noted:
        if processes.is_alive(process_id) and processes.start_time(process_id) == started:
            yield process_id

"""An own PostgreSQL cluster on a loopback port, with a password of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psycopg
from psycopg import sql

from devstack import processes
from devstack.ports import LOOPBACK
from devstack.server_process import ServerFailed, ServerProcess, dying_with_parent, find_executable
from devstack.unprivileged import unprivileged_user

_INSTALLATIONS = Path("/usr/lib/postgresql")
_SUPERUSER = "postgres"


def _shared_buffers_mib() -> int:
    """1 GiB, or a quarter of the machine's memory: Linux does not promise more than it has."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(1024, memory // 4 // 2**20)


class PostgreSQLServer(ServerProcess):
    """PostgreSQL with its cluster, password and log in `data_dir`.

    Durable by default. `fsync=False` is for tests that lose nothing by a power cut.
    """

    stop_signal = signal.SIGINT  # "fast": ends sessions; SIGTERM would wait for them

    def __init__(
        self, data_dir: Path, port: int, *, fsync: bool = True, log_file: Path | None = None
    ) -> None:
        super().__init__("PostgreSQL", log_file or data_dir / "postgresql.log")
        self.data_dir = data_dir
        self.port = port
        self._fsync = fsync

    @property
    def cluster(self) -> Path:
        """The data folder proper (PGDATA)."""
        return self.data_dir / "cluster"

    def url(self, database: str) -> str:
        """libpq URL of a database, with the password; the server must have been started once."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{_SUPERUSER}:{password}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str, template: str | None = None) -> None:
        """Creates a database, as a copy of `template` where given (nobody may be connected to that).

        Raises:
            psycopg.errors.DuplicateDatabase: it exists.
        """
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(name), sql.Identifier(template or "template1")
        )
        with psycopg.connect(self.url(_SUPERUSER), autocommit=True) as connection:
            connection.execute(statement)

    def drop_database(self, name: str) -> None:
        """Deletes a database if it exists, ending all sessions in it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.url(_SUPERUSER), autocommit=True) as connection:
            connection.execute(statement)

    def has_database(self, name: str) -> bool:
        """Whether the database exists."""
        with psycopg.connect(self.url(_SUPERUSER), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            return found.fetchone() is not None

    def prepare(self) -> None:
        """Makes the cluster on first use; deals with what a killed server left behind."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if not self.cluster.exists():
            self._create_cluster()
        else:
            self._end_leftover()

    def privileges(self) -> Sequence[str]:
        """Away from root."""
        user = unprivileged_user(self.cluster)
        return user.privileges(self.cluster) if user else ()

    def command(self) -> Sequence[str]:
        """The server in the foreground, logging neither statements nor their values."""
        settings = {
            "listen_addresses": LOOPBACK,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "synchronous_commit": "on",
            "full_page_writes": "on" if self._fsync else "off",
            # Taken as it is used, so a small database costs no more than before.
            "shared_buffers": f"{_shared_buffers_mib()}MB",
            "max_connections": 100,
            "max_wal_size": "1GB",
            # Log segments are used again: to make a new one holds up every commit for its 16 MB.
            "min_wal_size": "256MB",
            "checkpoint_timeout": "15min",
            "max_parallel_workers_per_gather": 0,
            "jit": "off",
            "timezone": "UTC",
            # A statement or a DETAIL line may hold the text of a message.
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        version = (self.cluster / "PG_VERSION").read_text().strip()
        options = (word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
        return [_program("postgres", version), "-D", str(self.cluster), *options]

    def environment(self) -> dict[str, str]:
        """Without the PG* variables of the caller, which would change settings."""
        return {key: value for key, value in os.environ.items() if not key.startswith("PG")}

    def kill(self) -> None:
        """Ends the server as a crash would, and waits until its sessions have noticed.

        A new server refuses to start while one of them holds the shared memory.
        """
        if not self.is_running:
            return
        sessions = processes.children(self.pid)
        super().kill()
        processes.wait_until_gone(sessions, timeout_seconds=self.stop_timeout)

    def is_ready(self) -> bool:
        """Whether the server lets us in; nobody else's knows our password."""
        try:
            with psycopg.connect(self.url(_SUPERUSER), connect_timeout=2):
                return True
        except psycopg.OperationalError:
            return False

    @property
    def _password_file(self) -> Path:
        return self.data_dir / "password"

    def _create_cluster(self) -> None:
        """Runs initdb in a folder of another name, so that an interrupted run leaves no half cluster."""
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._password_file.unlink(missing_ok=True)
        descriptor = os.open(self._password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(24) + "\n")
            file.flush()
            # initdb forces the cluster to the disk; after a power cut nobody could get into it without this.
            os.fsync(descriptor)
        privileges: Sequence[str] = ()
        user = unprivileged_user(unfinished)
        if user is not None:
            user.own(unfinished)
            user.own(self._password_file)
            privileges = user.privileges(unfinished)
        command = [
            # Nobody needs initdb once its parent is gone.
            *dying_with_parent(signal.SIGKILL, privileges),
            _program("initdb"),
            f"--pgdata={unfinished}",
            f"--username={_SUPERUSER}",
            f"--pwfile={self._password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            *([] if self._fsync else ["--no-sync"]),
        ]
        made = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=self.environment()
        )
        if made.returncode != 0:
            raise ServerFailed(f"initdb failed:\n{made.stdout}{made.stderr}")
        unfinished.rename(self.cluster)

    def _end_leftover(self) -> None:
        """Ends the server of a parent that was killed, and removes a lock file that is nobody's."""
        lock_file = self.cluster / "postmaster.pid"
        if not lock_file.exists():
            return
        first_line = lock_file.read_text().split("\n", 1)[0]
        if first_line.isdecimal():
            process_id = int(first_line)
            if os.fsencode(self.cluster) in processes.command_line(process_id):
                processes.end(process_id, signal.SIGINT, timeout_seconds=self.stop_timeout)
                return
            if not processes.is_alive(process_id):
                return  # PostgreSQL itself takes over the lock of a dead process
        # Torn by a crash, or the id belongs to another program by now, which PostgreSQL cannot tell.
        lock_file.unlink()


def _program(name: str, version: str | None = None) -> str:
    """Path of a PostgreSQL program, of the given major version or else the newest.

    Raises:
        ServerFailed: it is not installed.
    """
    installed = sorted(_INSTALLATIONS.glob("*/bin"), key=lambda folder: float(folder.parent.name))
    fitting = [folder for folder in installed if version in (None, folder.parent.name)]
    if fitting or version is None or not installed:
        path = find_executable(name, [str(folder) for folder in reversed(fitting)])
        if path is not None:
            return path
        raise ServerFailed("PostgreSQL is missing: sudo apt-get install postgresql")
    raise ServerFailed(
        f"The database was made by PostgreSQL {version}, which is not installed: "
        f"sudo apt-get install postgresql-{version}, or delete the database with `make clean`."
    )

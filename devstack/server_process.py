"""One child process: started, waited for, stopped, and gone when its parent dies."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# The kernel sends the parent-death signal when the *thread* that forked ends, so
# all children come from one thread that lives as long as the interpreter.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="server-process-spawner")

_POLL_SECONDS = 0.02


class ServerFailed(RuntimeError):
    """A server did not start, or ended by itself; the text holds the tail of its log."""


class ServerProcess(ABC):
    """A server in a child process, with its output in a log file.

    Not safe for use by two threads at once. After `stop` or `kill` it can be started again.
    """

    #: Asks the process to end cleanly; also sent by the kernel when the parent dies.
    stop_signal = signal.SIGTERM
    #: Seconds until a server must be ready.
    start_timeout = 30.0
    #: Seconds a server has for a clean end before it is killed.
    stop_timeout = 10.0

    def __init__(self, name: str, log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Program and arguments."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server serves now; asked again and again while it starts."""

    def prepare(self) -> None:  # noqa: B027 - most servers need nothing
        """Makes ready what the process needs: folders, configuration."""

    def environment(self) -> dict[str, str] | None:
        """The whole environment of the process; None passes on the parent's."""
        return None

    def working_folder(self) -> Path | None:
        """Where the process starts; None for the parent's folder."""
        return None

    def privileges(self) -> Sequence[str]:
        """Options of setpriv(1) that change the user."""
        return ()

    def start(self) -> None:
        """Starts the process and returns when it is ready.

        Raises:
            ServerFailed: it ended, or was not ready within `start_timeout`; it does not run any more.
        """
        if not self.is_running:
            self.launch()
            self.wait_until_ready()

    def launch(self) -> None:
        """Starts the process without waiting for it to become ready."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.prepare()
        self._process = _spawner.submit(self._spawn).result()

    def wait_until_ready(self, *, at_each_poll: Callable[[], None] = lambda: None) -> None:
        """Waits for the launched process; an exception of `at_each_poll` ends the wait, not the process.

        Raises:
            ServerFailed: it ended, or was not ready within `start_timeout`; it does not run any more.
        """
        deadline = time.monotonic() + self.start_timeout
        while True:
            ready = self.is_ready()
            # Asked after that: while a foreign server answers on our port, our own has ended or soon will.
            if not self.is_running:
                raise ServerFailed(f"{self.name} {self.ending()} before it was ready.{self.quoted_log()}")
            if ready:
                return
            if time.monotonic() > deadline:
                self.kill()
                raise ServerFailed(
                    f"{self.name} was not ready within {self.start_timeout:.0f} s.{self.quoted_log()}"
                )
            at_each_poll()
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Ends the process cleanly, or with SIGKILL after `stop_timeout`. Does nothing if it has ended."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(self.stop_signal)
        try:
            process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the process with SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stops cleanly and starts again, on the same port and data."""
        self.stop()
        self.start()

    @property
    def is_running(self) -> bool:
        """Whether the process runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id of the running, or else of the last, process.

        Raises:
            RuntimeError: it was never started.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What the process ended with, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    def ending(self) -> str:
        """In words, how the process ended."""
        code = self.exit_code
        if code is None:
            return "runs"
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the log."""
        return "\n".join(_last_lines(self.log_file, lines))

    def quoted_log(self) -> str:
        """A sentence with the end of the log, to follow one that says what went wrong."""
        tail = _last_lines(self.log_file, 20)
        if not tail:
            return " It logged nothing."
        return f" The end of {self.log_file}:\n" + "\n".join(f"  {line}" for line in tail)

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = [*dying_with_parent(self.stop_signal, self.privileges()), *self.command()]
        with self.log_file.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment(),
                cwd=self.working_folder(),
                # A group of its own: Ctrl-C reaches the parent only, which stops its children in order.
                process_group=0,
            )


def dying_with_parent(death_signal: signal.Signals, privileges: Sequence[str] = ()) -> list[str]:
    """The words before a command that tie its life to the thread that starts it.

    setpriv(1) is part of Debian's essential util-linux. It spares a preexec_fn, which would
    make subprocess fork a process that has threads (gRPC's among them).
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        if privileges:
            raise ServerFailed("setpriv is missing: sudo apt-get install util-linux")
        return []
    return [setpriv, f"--pdeathsig={death_signal.name.removeprefix('SIG')}", *privileges, "--"]


def find_executable(name: str, folders: Sequence[str] = ()) -> str | None:
    """Path of a program in `folders` first, then in PATH and the system's server folders."""
    path = os.pathsep.join([*folders, os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which(name, path=path)


def _last_lines(file: Path, count: int) -> list[str]:
    try:
        with file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 65536))
            return log.read().decode("utf-8", "replace").splitlines()[-count:]
    except FileNotFoundError:
        return []

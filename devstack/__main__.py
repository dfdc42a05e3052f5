"""`python -m devstack`, which is `make run`: the whole product on this machine."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from devstack.progress import Progress
from devstack.python_server import REPOSITORY
from devstack.run_folder import AlreadyRunning, RunFolder
from devstack.server_process import ServerFailed
from devstack.stack import Stack, StopRequested


class StopSignals:
    """Whether SIGINT or SIGTERM has arrived; the handler only takes a note."""

    def __init__(self) -> None:
        self.arrived = False
        for stop_signal in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(stop_signal, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.arrived = True


def run(folder: RunFolder, progress: Progress) -> int:
    """Runs the stack until a signal or a crash; returns the exit code."""
    signals = StopSignals()
    started = time.monotonic()
    stack = Stack(folder, progress, stop_requested=lambda: signals.arrived)
    try:
        stack.start()
        _introduce(stack, folder, progress, time.monotonic() - started)
        stack.watch()
    except StopRequested:
        pass
    except ServerFailed as error:
        # Ctrl-C in a terminal also ends what only runs for a moment here: the compiler, initdb.
        if not signals.arrived:
            progress.complain(str(error))
            return 1
    finally:
        progress.say()
        stack.stop()
    return 0


def main() -> int:
    """Parses the arguments, takes the folder and runs the stack."""
    parser = argparse.ArgumentParser(prog="python -m devstack", description=__doc__)
    parser.add_argument(
        "--folder", type=Path, default=REPOSITORY / ".run", help="data, secret and logs (default: .run)"
    )
    path = parser.parse_args().folder.resolve()
    progress = Progress()
    try:
        folder = RunFolder(path)
        with folder.locked():
            left = folder.end_leftovers()
            if left:
                progress.say(f"  {left} server(s) of a stack that was killed have ended.")
            return run(folder, progress)
    except AlreadyRunning as error:
        progress.complain(str(error))
    except PermissionError as error:
        progress.complain(
            f"{error.filename} belongs to another user: run this as that user, or delete {path} "
            "(with the messages in it)."
        )
    return 1


def _introduce(stack: Stack, folder: RunFolder, progress: Progress, seconds: float) -> None:
    url = stack.page_url
    progress.say(
        f"\n  {progress.bold('Ready')} in {seconds:.1f} s. Two demo users are connected: alice and bob.\n"
    )
    progress.say(f"    both side by side   {progress.bold(url)}")
    progress.say(f"    Alice alone         {url}?user=alice")
    progress.say(f"    Bob alone           {url}?user=bob")
    progress.say(f"    REST API            {url}docs")
    progress.say(f"    logs                {_relative(folder.path / 'logs')}")
    active, standby = stack.instance_ids
    progress.say(f"    try this            kill -9 {active}   (instance {standby} takes over)")
    progress.say("\n  Ctrl-C stops everything; the messages are still there next time.")


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())

"""`python -m loadtests.locust`: a private stack, and Locust headless against it.

Ends with Locust's exit code. All arguments are Locust's, or those of locustfile.py.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from devstack.ports import LOOPBACK
from devstack.python_server import REPOSITORY
from devstack.server_process import ServerFailed, dying_with_parent
from loadtests.stack import BenchStack, bench_stack

LOCUSTFILE = Path(__file__).with_name("locustfile.py")

_DEFAULTS = ("--users=50", "--spawn-rate=25", "--run-time=20s")
_STOP_SECONDS = 60


def locust_command(stack: BenchStack, arguments: Sequence[str]) -> list[str]:
    """Locust, headless, against this stack; later arguments win."""
    return [
        sys.executable,
        *("-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless"),
        f"--broker-url=ws://{LOOPBACK}:{stack.websocket_port}",
        f"--grpc-target={stack.grpc_target}",
        # Of a stack that only this process knows and that ends with it.
        f"--jwt-secret={stack.jwt_secret}",
        *_DEFAULTS,
        *arguments,
    ]


def main(arguments: Sequence[str]) -> int:
    """The exit code: Locust's, or 1 when the stack does not start."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with bench_stack() as stack:
            command = [*dying_with_parent(signal.SIGTERM), *locust_command(stack, arguments)]
            return _run(command)
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(command: Sequence[str]) -> int:
    # A group of its own: what interrupts us comes to it once, from here.
    child = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, process_group=0)
    try:
        return child.wait()
    except KeyboardInterrupt:
        # Locust ends its run, and says what it measured, before the servers stop.
        child.send_signal(signal.SIGINT)
        try:
            return child.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

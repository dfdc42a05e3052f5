"""The load tests pass against the running system, and fail when it does not do what it must."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from devstack.ports import LOOPBACK, free_port
from devstack.python_server import REPOSITORY, gateway
from loadtests.locust.__main__ import LOCUSTFILE, locust_command
from loadtests.stack import BenchStack, bench_stack

_LOCUST = (sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE), "--headless")
_USERS = ("--users=10", "--spawn-rate=10", "--only-summary", "--message-rate=4")
_MESSAGES = 100
# The time is only what ends a run that does not get so far.
_UNTIL_SENT = (f"--messages={_MESSAGES}", "--run-time=40s")


@pytest.fixture(scope="module")
def bench() -> Iterator[BenchStack]:
    """Where everybody is connected with everybody."""
    with bench_stack() as stack:
        yield stack


def run(command: Sequence[str]) -> tuple[int, str]:
    """Exit code and output."""
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    return done.returncode, done.stdout + done.stderr


def test_every_message_of_a_run_is_acknowledged_and_received(bench: BenchStack, tmp_path: Path) -> None:
    # The times are not of interest here: the tests share their machine.
    limits = ["--limit=acknowledged_p50_ms=5000", "--limit=acknowledged_p99_ms=10000"]
    limits += [
        f"--limit={name}_p99_ms=10000" for name in ("received", "delivered", "read", "history", "list")
    ]
    code, output = run(
        locust_command(bench, [*_USERS, *_UNTIL_SENT, f"--json-file={tmp_path / 'stats'}", *limits])
    )
    assert code == 0, output
    entries: list[dict[str, Any]] = json.loads((tmp_path / "stats.json").read_text())
    done = {entry["name"]: entry["num_requests"] for entry in entries if not entry["num_failures"]}
    for name in (
        "connect and subscribe",
        "sendMessage to messageSent",
        "sendMessage to newMessage",
        "markAsDelivered to messageDelivered",
        "markAsRead to messageRead",
        "markAsRead to messageRead at the author",
        "ListConversations",
        "GetMessageHistory",
    ):
        assert done.get(name, 0) > 0, output
    assert _MESSAGES <= done["sendMessage to messageSent"] < 5 * _MESSAGES


def test_a_threshold_that_is_exceeded_fails_the_run_and_the_gateway_says_the_rest(
    bench: BenchStack, tmp_path: Path
) -> None:
    page = gateway(
        tmp_path / "gateway.log",
        port=free_port(),
        grpc_ports=[bench.grpc_port],
        broker_websocket_url=bench.mosquitto.websocket_url,
        jwt_secret=bench.jwt_secret,
    )
    page.start()
    try:
        host = f"--host=http://{LOOPBACK}:{page.program.port}"
        code, output = run([*_LOCUST, host, *_USERS, *_UNTIL_SENT, "--limit=acknowledged_p99_ms=-1"])
    finally:
        page.stop()
    assert code == 1, output
    assert "FAILED acknowledged_p99_ms" in output
    assert "ok     acknowledged " in output
    assert "ok     unacknowledged" in output


def test_messages_without_an_answer_are_sent_again_and_fail_the_run(bench: BenchStack) -> None:
    # Time for ten users to connect and to send, on a machine that the tests share.
    arguments = [*_USERS, "--run-time=8s", "--resend-after=0.5", "--drain=1"]
    bench.stop_service()
    try:
        code, output = run(locust_command(bench, arguments))
    finally:
        bench.start_service()
    assert code == 1, output
    for name in ("acknowledged", "unacknowledged", "not_received", "resent"):
        assert f"FAILED {name} " in output, output
    assert "lost: no answer" in output


def test_the_command_starts_a_stack_and_ends_with_the_exit_code_of_locust() -> None:
    module = [sys.executable, "-m", "loadtests.locust"]
    code, output = run([*module, *_USERS, *_UNTIL_SENT, "--limit=acknowledged=1000000"])
    assert code == 1, output
    assert "FAILED acknowledged " in output
    assert "ok     unacknowledged" in output


def test_options_that_do_not_say_what_to_drive_are_refused() -> None:
    code, output = run(_LOCUST)
    assert code == 1, output
    assert "give --host (the gateway) or --broker-url" in output

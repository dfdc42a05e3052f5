"""Entry for Locust: `locust -f loadtests/locust/locustfile.py`, from the checkout's folder."""

from __future__ import annotations

import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from grpc.experimental import gevent as grpc_gevent  # type: ignore[attr-defined]
from locust import events, log
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtests.locust.chatter import Chatter
from loadtests.locust.deployment import Deployment, NotConfigured, add_options, thresholds_of
from loadtests.locust.history_reader import HistoryReader, open_stub
from loadtests.locust.stage import Stage, StagedUser
from loadtests.locust.thresholds import acknowledged, judge

__all__ = ["Chatter", "HistoryReader"]

_COUNT_SECONDS = 0.1
"""How often messages are counted for `--messages`."""


def _add_options(parser: LocustArgumentParser, **_: Any) -> None:
    add_options(parser)


def _check_options(environment: Environment, **_: Any) -> None:
    """Before anything starts; a worker gets the master's options with its first users."""
    # Locust forks its workers before this, which gRPC would not survive after it.
    grpc_gevent.init_gevent()
    if isinstance(environment.runner, WorkerRunner):
        return
    options = _options(environment)
    try:
        thresholds_of(options)
        Deployment.of(options, host=environment.host)
    except NotConfigured as error:
        sys.exit(f"locust: {error}")
    if options.grpc_target is None:
        environment.user_classes.remove(HistoryReader)


def _set_stage(environment: Environment, **_: Any) -> None:
    """In every process that has users."""
    runner = environment.runner
    if isinstance(runner, MasterRunner):
        return
    options = _options(environment)
    part, parts = 0, 1
    if isinstance(runner, WorkerRunner):
        part, parts = runner.worker_index, max(options.expect_workers, runner.worker_index + 1)
    deployment = Deployment.of(options, host=environment.host, part=part, parts=parts)
    StagedUser.stage = Stage.of(environment, deployment)
    stub = open_stub(deployment)
    if stub is not None:
        HistoryReader.stub = stub


def _end_after_messages(environment: Environment, **_: Any) -> None:
    """Where the run is ended: in the only process, or in the master."""
    runner, options = environment.runner, _options(environment)
    if runner is None or isinstance(runner, WorkerRunner) or not options.headless or options.messages is None:
        return
    # A greenlet: Locust has patched the standard library.
    threading.Thread(target=_quit_after, args=(runner, options.messages), daemon=True).start()


def _quit_after(runner: Runner, messages: int) -> None:
    while acknowledged(runner.stats.entries) < messages:
        time.sleep(_COUNT_SECONDS)
    runner.quit()


def _judge(environment: Environment, **_: Any) -> None:
    """Prints every threshold and decides on the exit code."""
    runner = environment.runner
    if runner is None or isinstance(runner, WorkerRunner):
        return
    # After Ctrl-C the users still run: they report what they lose when they stop.
    runner.quit()
    verdicts = judge(thresholds_of(_options(environment)), environment.stats.entries)
    defects = len(runner.exceptions) + int(log.unhandled_greenlet_exception)
    lines = [*map(str, verdicts), f"{'FAILED' if defects else 'ok    '} exceptions in users {defects:>16}"]
    sys.stdout.write("\nThresholds\n" + "\n".join(lines) + "\n\n")
    sys.stdout.flush()
    passed = not defects and all(verdict.passes for verdict in verdicts)
    environment.process_exit_code = 0 if passed else 1


def _options(environment: Environment) -> Namespace:
    options: Namespace | None = environment.parsed_options
    if options is None:
        raise RuntimeError("Locust has not parsed its options")
    return options


def _listen() -> None:
    for hook, listener in (
        (events.init_command_line_parser, _add_options),
        (events.init, _check_options),
        (events.test_start, _set_stage),
        (events.test_start, _end_after_messages),
        (events.quitting, _judge),
    ):
        add: Callable[[Callable[..., None]], object] = hook.add_listener
        add(listener)


_listen()

"""`python -m loadtests`: measures the workloads and writes the report."""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import uvloop

from devstack.server_process import ServerFailed
from loadtests.machine import this_machine
from loadtests.newer_mosquitto import NewerMosquitto, NoNewerMosquitto, newer_mosquitto
from loadtests.report import printed, write_report
from loadtests.results import Run, Scale, Summary
from loadtests.stack import BenchStack, bench_stack

WORKLOADS = (
    "saturation",
    "steady",
    "specified",
    "history",
    "idle",
    "growth",
    "storm",
    "overload",
    "flood",
)
_OWN_STACK = ("growth", "idle", "storm")
"""Workloads of which every run needs empty tables or a fresh broker."""
_ON_NEWER_MOSQUITTO = ("steady", "specified", "idle", "overload", "flood")
"""Workloads with many quiet clients, or with more to read than can be taken: Mosquitto 2.0 asks every client
at each turn of its loop, and then takes one packet of each, also of the service."""
_LIMITED = ("flood",)
"""Workloads in which a user may not do more than by default."""
_FLOORS = "floors"
"""Measured in turns with saturation."""
_OUTPUT = Path("bench-results")


def main() -> int:
    """Measures what was asked for; 1 when a run was not correct, 2 when nothing could be run."""
    parser = argparse.ArgumentParser(prog="python -m loadtests", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--runs", type=int, default=3, help="of each workload; medians are reported (3)")
    parser.add_argument("--smoke", action="store_true", help="small and short: is it correct, not how fast")
    parser.add_argument("--output", type=Path, default=_OUTPUT, help=f"folder of the report ({_OUTPUT})")
    parser.add_argument(
        "--mosquitto",
        choices=("by-workload", "system", "newer"),
        default="by-workload",
        help=f"2.1 for {', '.join(_ON_NEWER_MOSQUITTO)} and the system's for the others, or one for all",
    )
    arguments = parser.parse_args()
    unknown = set(arguments.workloads) - set(WORKLOADS)
    if unknown or arguments.runs < 1:
        parser.error(f"no such workload: {', '.join(sorted(unknown))}" if unknown else "--runs is at least 1")
    _allow_many_files()
    try:
        chosen = arguments.workloads or WORKLOADS
        brokers = _brokers(chosen, "system" if arguments.smoke else arguments.mosquitto)
        newer = next(filter(None, brokers.values()), None)
        machine = this_machine(mosquitto_executable="mosquitto")
        if newer is not None:
            those = ", ".join(workload for workload, broker in brokers.items() if broker)
            machine = replace(machine, versions={**machine.versions, f"Mosquitto for {those}": newer.version})
        summaries: list[Summary] = []
        for workload in chosen:
            used = brokers[workload]
            for summary in _measure(workload, arguments.runs, Scale(smoke=arguments.smoke), used):
                summaries.append(summary)
                print(printed(summary, floors_of(summaries)), flush=True)
                write_report(summaries, machine, arguments.output)
    except (ServerFailed, NoNewerMosquitto) as error:
        print(error, file=sys.stderr)
        return 2
    print(f"The report is in {arguments.output}/results.md")
    return 0 if all(run.is_correct for summary in summaries for run in summary.runs) else 1


def _brokers(workloads: Sequence[str], choice: str) -> dict[str, NewerMosquitto | None]:
    """The broker of each workload; None is the system's. The newer one is built when one needs it."""
    on_newer = [each for each in workloads if choice == "newer" or each in _ON_NEWER_MOSQUITTO]
    newer = newer_mosquitto() if on_newer and choice != "system" else None
    return {workload: newer if workload in on_newer else None for workload in workloads}


def _measure(workload: str, runs: int, scale: Scale, broker: NewerMosquitto | None) -> Iterator[Summary]:
    """Runs a workload several times."""
    done: dict[str, list[Run]] = {}
    started = partial(
        bench_stack, mosquitto=broker, has_been_used=not scale.smoke, is_limited=workload in _LIMITED
    )
    if workload in _OWN_STACK:
        for _ in range(runs):
            with started() as stack:
                _run(workload, stack, scale, done)
    else:
        with started() as stack:
            for _ in range(runs):
                _run(workload, stack, scale, done)
    for name, measured in done.items():
        yield Summary(workload=name, runs=measured)


def _run(workload: str, stack: BenchStack, scale: Scale, done: dict[str, list[Run]]) -> None:
    module = importlib.import_module(f"loadtests.workloads.{workload}")
    # A collection here would count as latency there.
    gc.collect()
    gc.disable()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            result: Run | Sequence[Run] = runner.run(module.run(stack, scale))
    finally:
        gc.enable()
    for run in (result,) if isinstance(result, Run) else result:
        done.setdefault(run.workload, []).append(run)


def floors_of(summaries: Sequence[Summary]) -> Summary | None:
    """The floors among the summaries, if they were measured."""
    return next((summary for summary in summaries if summary.workload == _FLOORS), None)


def _allow_many_files() -> None:
    """Thousands of connections need as many descriptors, here and in the broker."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.faults`: exit code 1 on any violation, never a retry."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.faults import plan
from tests.faults.checker import check
from tests.faults.ledger import read
from tests.faults.outcome import ArenaOutcome
from tests.faults.registry import SCENARIOS
from tests.faults.report import report
from tests.faults.runner import Options, run_arena
from tests.faults.scenario import Scenario

_TOTAL = re.compile(r"([\d,]+) acknowledged, \d+ of \d+ arenas failed")
"""The last line of a run."""


async def run(arguments: argparse.Namespace) -> Sequence[ArenaOutcome]:
    """Runs what the arguments ask for; the report is brought up to date after every arena."""
    options = Options(
        short=arguments.short,
        messages_per_second=arguments.rate,
        say=lambda line: print(line, flush=True),
    )
    chance = random.Random(arguments.seed)
    seed = arguments.seed
    finished: list[ArenaOutcome] = []
    deadline = time.monotonic() + arguments.minutes * 60
    chosen = groups(arguments, chance)
    if arguments.arena is not None:
        chosen = [list(chosen)[arguments.arena]]
    for group in chosen:
        if arguments.minutes and time.monotonic() > deadline:
            break
        outcome = await run_arena(group, seed, options)
        options.say(outcome.line())
        finished.append(outcome)
        if arguments.report is not None:
            arguments.report.write_text(report(finished, arguments.seed))
        # A failed scenario is run again by its name and the seed that it prints.
        seed = chance.getrandbits(32)
    return finished


def groups(arguments: argparse.Namespace, chance: random.Random) -> Iterable[Sequence[Scenario]]:
    """What to run, arena by arena."""
    if arguments.only:
        chosen = plan.named(arguments.only)
        return plan.shared_arenas([each for (each,) in chosen]) if arguments.short else chosen
    if arguments.minutes:
        return plan.long_run(chance)
    return plan.short_run() if arguments.short else plan.full_run()


async def run_side_by_side(arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Runs the same arenas, several at once in processes of their own; acknowledged, failed, all."""
    chance = random.Random(arguments.seed)
    arenas = asyncio.Queue[tuple[int, int]]()
    seed = arguments.seed
    for number in range(len(list(groups(arguments, random.Random(arguments.seed))))):
        arenas.put_nowait((number, seed))
        seed = chance.getrandbits(32)
    count, results = arenas.qsize(), []

    async def work_off(side: int) -> None:
        while not arenas.empty():
            number, its_seed = arenas.get_nowait()
            results.append(await _in_a_process(arguments, number, its_seed, side))

    async with asyncio.TaskGroup() as tasks:
        for side in range(arguments.at_once):
            tasks.create_task(work_off(side), name=f"side-{side}")
    return sum(acknowledged for acknowledged, _ in results), sum(failed for _, failed in results), count


async def _in_a_process(arguments: argparse.Namespace, number: int, seed: int, side: int) -> tuple[int, bool]:
    """Runs one arena and passes its lines on; what it acknowledged, and whether it failed."""
    only = [part for name in arguments.only or () for part in ("--only", name)]
    command = [
        *(sys.executable, "-m", "tests.faults", "--arena", str(number), "--seed", str(seed)),
        *(("--short",) if arguments.short else ()),
        *("--rate", str(arguments.rate), *only),
    ]
    # Ports of its own, as the workers of the test runner have them.
    sides = {"PYTEST_XDIST_WORKER": f"gw{side}", "PYTEST_XDIST_WORKER_COUNT": str(arguments.at_once)}
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env={**os.environ, **sides}
    )
    assert process.stdout is not None
    acknowledged = None
    try:
        async for line in process.stdout:
            text = line.decode().rstrip()
            if total := _TOTAL.match(text):
                acknowledged = int(total[1].replace(",", ""))
            elif not text.startswith("seed "):
                print(text, flush=True)
        failed = await process.wait() != 0
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    return acknowledged or 0, failed or acknowledged is None


def recheck(file: Path) -> int:
    """Prints what the checker says of a kept ledger; 1 when there is a violation."""
    verdict = check(read(file))
    print(", ".join(f"{n:,} {kind.value}" for kind, n in sorted(verdict.classes.items())))
    for violation in verdict.violations:
        print(violation)
    return 1 if verdict.violations else 0


def main() -> int:
    """Parses the arguments and runs."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--short", action="store_true", help="a few minutes: scenarios share arenas")
    parser.add_argument("--only", action="append", metavar="NAME", help="this scenario; a+b for two at once")
    parser.add_argument("--list", action="store_true", help="the names, and what they do")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument(
        "--minutes", type=float, default=0.0, help="each once, then by chance until the time is over"
    )
    parser.add_argument(
        "--at-once", type=int, default=1, help="arenas side by side, with no --minutes or --report"
    )
    parser.add_argument("--arena", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=float, default=300.0, help="messages per second, all users together")
    parser.add_argument("--report", type=Path, help="write a report in Markdown")
    parser.add_argument("--check", type=Path, metavar="LEDGER", help="check a kept ledger once more")
    arguments = parser.parse_args()
    if arguments.check is not None:
        return recheck(arguments.check)
    if arguments.list:
        for each in SCENARIOS:
            print(f"{each.name:<34} {each.fault}")
        return 0
    started = time.monotonic()
    print(f"seed {arguments.seed}", flush=True)
    if arguments.at_once > 1:
        if arguments.minutes or arguments.report:
            parser.error("--at-once goes with neither --minutes nor --report")
        acknowledged, failed, count = asyncio.run(run_side_by_side(arguments))
    else:
        finished = asyncio.run(run(arguments))
        acknowledged = sum(arena.acknowledged for arena in finished)
        failed, count = sum(arena.failed for arena in finished), len(finished)
    seconds = time.monotonic() - started
    print(f"{acknowledged:,} acknowledged, {failed} of {count} arenas failed, {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m service`: runs the service; `python -m service migrate`: only brings the database up to date."""

from __future__ import annotations

import argparse
import asyncio
import sys

import uvloop
from pydantic import ValidationError

from service.app import run
from service.logs import configure_logs
from service.settings import Settings
from service.storage.migrations import migrate


def main() -> int:
    """Reads the settings, or says what is wrong with them, and does what was asked."""
    parser = argparse.ArgumentParser(prog="python -m service", description="The messaging service.")
    parser.add_argument("command", nargs="?", choices=("run", "migrate"), default="run")
    command = parser.parse_args().command
    try:
        settings = Settings()
    except ValidationError as error:
        print(_readable(error), file=sys.stderr)
        return 2
    configure_logs(settings.log_level)
    if command == "migrate":
        print(f"{migrate(str(settings.database_url))} migrations applied")
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run(settings))


def _readable(error: ValidationError) -> str:
    """One line a setting, by its environment name, without the values: some are secrets."""
    lines = ["The service cannot start; these settings are missing or wrong:"]
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        name = "".join(f"MESSAGING_{str(part).upper()}: " for part in detail["loc"][:1])
        lines.append(f"  {name}{detail['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())

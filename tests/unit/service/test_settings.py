"""Settings are complete and right at start, or the process says what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
GOOD = {
    "MESSAGING_DATABASE_URL": "postgresql://u:hidden-password@127.0.0.1:1/db",
    "MESSAGING_REDIS_URL": "redis://127.0.0.1:1/0",
    "MESSAGING_JWT_SECRET": "hidden-secret-of-more-than-32-characters",
}


def start(settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`python -m service migrate` with exactly these settings."""
    return subprocess.run(
        [sys.executable, "-m", "service", "migrate"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_missing_settings_are_listed_by_name() -> None:
    ended = start({})
    assert ended.returncode == 2
    assert "MESSAGING_DATABASE_URL" in ended.stderr
    assert "MESSAGING_REDIS_URL" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_wrong_settings_are_listed_together_and_without_their_values() -> None:
    ended = start(
        GOOD
        | {
            "MESSAGING_BROKER_PORT": "0",
            "MESSAGING_ENVIRONMENT": "staging",
            "MESSAGING_BROKER_CLIENT_ID": "someone-else:bridge",
            "MESSAGING_SENDS_LIMIT": "as many as they like",
            "MESSAGING_COMMANDS_LIMIT": "10 per second; 20 per minute",
            "MESSAGING_WAITING_LIMIT": "0",
        }
    )
    assert ended.returncode == 2
    for name in (
        "MESSAGING_BROKER_PORT",
        "MESSAGING_ENVIRONMENT",
        "MESSAGING_BROKER_CLIENT_ID",
        "MESSAGING_SENDS_LIMIT",
        "MESSAGING_COMMANDS_LIMIT",
        "MESSAGING_WAITING_LIMIT",
    ):
        assert name in ended.stderr
    assert "hidden" not in ended.stderr


def test_a_short_secret_is_refused() -> None:
    ended = start(GOOD | {"MESSAGING_JWT_SECRET": "short"})
    assert ended.returncode == 2
    assert "MESSAGING_JWT_SECRET must have at least 32 characters" in ended.stderr


def test_asymmetric_keys_need_their_files() -> None:
    ended = start(GOOD | {"MESSAGING_JWT_ALGORITHM": "RS256"})
    assert ended.returncode == 2
    assert "MESSAGING_JWT_PUBLIC_KEY_FILE must name a file with RS256" in ended.stderr

"""What of the plugin needs no broker: the order of expiries, the count of rates and of what waits; in C."""

from __future__ import annotations

import subprocess
from pathlib import Path

from devstack.mosquitto import CONFIG_FOLDER


def test_what_needs_no_broker(tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", "-C", str(CONFIG_FOLDER), "check", f"BUILD_DIR={tmp_path}"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr

"""The plugin's own order of expiries and count of rates, in C and without a broker."""

from __future__ import annotations

import subprocess
from pathlib import Path

from devstack.mosquitto import CONFIG_FOLDER


def test_expiries_come_in_order_and_rates_are_kept(tmp_path: Path) -> None:
    made = subprocess.run(
        ["make", "-C", str(CONFIG_FOLDER), "check", f"BUILD_DIR={tmp_path}"], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stdout + made.stderr

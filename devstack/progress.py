"""What `make run` shows: one line a step, with the time it took."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_GREEN, _RED, _DIM, _BOLD, _RESET = "\033[32m", "\033[31m", "\033[2m", "\033[1m", "\033[0m"


class Progress:
    """Lines for a person at a terminal, or plain ones for a file or pipe."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = self._stream.isatty()
        self._has_color = self._is_terminal and "NO_COLOR" not in os.environ
        self._done, self._failed = (
            ("✓", "✗") if self._is_terminal and self._can_print("✓✗") else ("ok", "failed")
        )

    @contextmanager
    def step(self, what: str, detail: str = "") -> Iterator[None]:
        """Shows one step while and after it runs."""
        started = time.monotonic()
        if self._is_terminal:
            self._write(f"    {what} ...")
        try:
            yield
        except BaseException:
            self._finish(_RED, self._failed, what, "", time.monotonic() - started)
            raise
        self._finish(_GREEN, self._done, what, detail, time.monotonic() - started)

    def say(self, text: str = "") -> None:
        """Shows a line as it is."""
        self._write(f"{text}\n")

    def bold(self, text: str) -> str:
        """The text, bold where the terminal can."""
        return self._painted(_BOLD, text)

    def complain(self, text: str) -> None:
        """Shows what went wrong."""
        self._write(f"\n{self._painted(_RED, text)}\n")

    def _finish(self, color: str, mark: str, what: str, detail: str, seconds: float) -> None:
        clear_line = "\r\033[K" if self._is_terminal else ""
        taken = self._painted(_DIM, f"{seconds:5.1f} s")
        line = f"{clear_line}  {self._painted(color, mark)} {what:<40} {taken}  {self._painted(_DIM, detail)}"
        self._write(f"{line.rstrip()}\n")

    def _painted(self, color: str, text: str) -> str:
        return f"{color}{text}{_RESET}" if self._has_color and text else text

    def _can_print(self, text: str) -> bool:
        try:
            text.encode(self._stream.encoding or "ascii")
        except UnicodeEncodeError:
            return False
        return True

    def _write(self, text: str) -> None:
        # A terminal or pipe that is gone keeps nothing from being stopped in order.
        with suppress(OSError):
            self._stream.write(text)
            self._stream.flush()

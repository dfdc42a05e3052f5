"""The lines of `make run`."""

from __future__ import annotations

import io
import os

import pytest

from devstack.progress import Progress


class Terminal(io.StringIO):
    """A stream that a person looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_file_gets_plain_lines() -> None:
    stream = io.StringIO()
    with Progress(stream).step("Redis", "127.0.0.1:6379"):
        pass
    text = stream.getvalue()
    assert text.isascii()
    assert text.count("\n") == 1
    assert "ok Redis" in text
    assert "127.0.0.1:6379" in text
    assert not set("\033\r") & set(text)


def test_a_terminal_gets_color_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored, plain = Terminal(), Terminal()
    with Progress(colored).step("Redis"):
        pass
    monkeypatch.setenv("NO_COLOR", "1")
    with Progress(plain).step("Redis"):
        pass
    assert "\033[32m" in colored.getvalue()
    assert "\033[32m" not in plain.getvalue()


def test_a_failed_step_is_shown_and_not_swallowed() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="reason"), Progress(stream).step("Redis"):
        raise ValueError("reason")
    assert "failed Redis" in stream.getvalue()


def test_a_reader_that_is_gone_keeps_no_step_from_being_done() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = False
    with open(write_end, "w", encoding="utf-8") as stream:
        progress = Progress(stream)
        progress.say()
        with progress.step("Redis stopped"):
            done = True
        # What could not be written is still in the stream's own buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), write_end)
    assert done

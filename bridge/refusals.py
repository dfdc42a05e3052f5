"""One log line a second for what is refused by the thousand."""

from __future__ import annotations

import asyncio
from collections import Counter

import structlog

from service.domain.errors import ErrorCode
from service.domain.ids import UserId

_log = structlog.get_logger(__name__)

_PERIOD_S = 1.0


class RefusalLog:
    """Gathers refusals from the first one on and writes, after a second, one line for each code."""

    def __init__(self) -> None:
        self._refusals: Counter[ErrorCode] = Counter()
        self._users: dict[ErrorCode, set[UserId]] = {}

    def note(self, code: ErrorCode, user: UserId) -> None:
        """Counts one refusal; needs a running event loop."""
        if not self._refusals:
            asyncio.get_running_loop().call_later(_PERIOD_S, self._write)
        self._refusals[code] += 1
        self._users.setdefault(code, set()).add(user)

    def _write(self) -> None:
        for code, count in self._refusals.items():
            _log.warning("commands_refused", code=code.value, count=count, users=len(self._users[code]))
        self._refusals.clear()
        self._users.clear()

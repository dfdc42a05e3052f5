"""The payloads of commands. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from messaging_client.events import PresenceState

AUTOMATIC = b"messaging-client:"
"""Begins the correlation data of commands that nobody waits for: errors about them are logged, not told."""


def encode_command(command: Mapping[str, Any]) -> bytes:
    """A command's payload; raises `ValueError` for what UTF-8 JSON cannot hold (lone surrogates, NaN)."""
    return json.dumps(dict(command), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def presence_command(state: PresenceState, session_id: str) -> bytes:
    """The command `presence`, which is also the will."""
    return encode_command({"state": state.value, "sessionId": session_id})

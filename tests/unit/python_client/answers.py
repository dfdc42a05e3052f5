"""An answer for the tests of what waits for one."""

from __future__ import annotations

from datetime import UTC, datetime

from messaging_client import MessageSent

SENT = MessageSent(
    message_id="m",
    conversation_id="c",
    seq=1,
    sender_id="alice",
    text="x",
    timestamp=datetime(2025, 1, 1, tzinfo=UTC),
    client_message_id="k",
)

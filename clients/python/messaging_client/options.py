"""What a client is told when it is made."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from messaging_client.backoff import Backoff
from messaging_client.events import ConversationSummary

_RECONNECT = Backoff(initial=0.25, maximum=30.0)
_ANSWER_WAIT = Backoff(initial=5.0, maximum=60.0)
_RETRY = Backoff(initial=0.25, maximum=30.0)


class Status(StrEnum):
    """Where the client stands with the broker."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    RECONNECTING = "reconnecting"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChange:
    """A status and why it came; `reason` is for logs and never holds a token."""

    status: Status
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MessagingClientOptions:
    """All settings of a `MessagingClient`; times are in seconds."""

    host: str
    port: int
    user_id: str
    """The token's `sub`."""
    device_id: str
    """Stable per device: with `user_id` it names the session that the broker keeps."""
    token: Callable[[], Awaitable[str]] = field(repr=False)
    """Called for a fresh JWT before every connect; may raise, and is then asked again later."""

    topic_root: str = "chat/v1"
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: str = "/mqtt"
    tls: ssl.SSLContext | None = None
    keepalive: int = 30
    session_expiry: int = 86_400
    """How long the broker keeps events for a client that is away."""
    connect_timeout: float = 10.0
    """For the token, the broker's answers to CONNECT and SUBSCRIBE, and `list_conversations`, each."""
    renewal_margin: float = 60.0
    """A client reconnects with a fresh token up to this long before the old one expires."""

    reconnect: Backoff = _RECONNECT
    answer_wait: Backoff = _ANSWER_WAIT
    """How long an unanswered command waits before it is sent again; grows, as the service may be busy."""
    retry: Backoff = _RETRY
    """Pause after a retryable error, on top of what the error asks for."""

    collect_events: bool = True
    """False for a client that only sends: nothing is kept for `events()`, marked or repaired."""
    max_buffered_events: int = 10_000
    """How many events wait for the application, and how many messages for earlier ones. Beyond it,
    changes are asked for again when there is room; signals are dropped."""
    mark_delivered: bool = True
    """Whether new messages are marked as delivered by themselves."""
    mark_delivered_delay: float = 0.05
    """How long marks are gathered; only the newest message of a conversation is marked."""

    presence: bool = True
    """Whether others learn that this device is there."""
    heartbeat: float = 20.0
    """The service forgets a session of which it hears nothing for 60 s."""
    typing_refresh: float = 3.0

    known_positions: Mapping[str, int] = field(default_factory=dict)
    """By conversation, the last `seq` that the application has; `events()` goes on after it.
    A conversation that is not here, nor in the state file, is told from its beginning."""
    list_conversations: Callable[[], Awaitable[Mapping[str, ConversationSummary]]] | None = None
    """All of the user's conversations by id (from the gateway or gRPC). Called
    after each connect, so that only changed conversations are asked for; may raise, and is then
    asked again. Without it, all known conversations are asked for."""
    state_file: Path | None = None
    """Keeps unanswered messages and reads over a restart; one file for one device."""
    keep_positions: bool = False
    """Whether the state file also keeps how far `events()` was read."""
    on_status: Callable[[StatusChange], None] | None = None
    on_payload: Callable[[str, bytes], None] | None = None
    """Sees the name and payload of every event as it came, duplicates included. What it raises
    ends the client and comes out of its `async with`: made for tests."""
    jitter: Callable[[], float] = random.random
    """Numbers in [0, 1) that spread the waiting times."""
    clock: Callable[[], float] = time.time
    """Seconds since the epoch, compared with the token's expiry."""

    def __post_init__(self) -> None:
        if self.max_buffered_events < 1:
            raise ValueError("max_buffered_events must be at least 1")
        if self.keep_positions and self.state_file is None:
            raise ValueError("keep_positions needs a state_file")

    @property
    def client_id(self) -> str:
        """The MQTT client identifier; the broker binds it to the token."""
        return f"{self.user_id}:{self.device_id}"

    @property
    def event_filter(self) -> str:
        """What the client subscribes to."""
        return f"{self.topic_root}/users/{self.user_id}/events/+"

    def command_topic(self, command: str) -> str:
        """Where the client publishes a command."""
        return f"{self.topic_root}/users/{self.user_id}/commands/{command}"

"""Asyncio client for one-to-one conversations over MQTT.

May import: the standard library, aiomqtt and paho-mqtt (through `link` only).
Must not import: any other package of this repository.
"""

from messaging_client.backoff import Backoff
from messaging_client.client import MessagingClient
from messaging_client.decoding import decode_event
from messaging_client.errors import ClientClosed, CommandRejected, LinkLost, MalformedEvent, MessagingError
from messaging_client.events import (
    Change,
    CommandError,
    ConversationSummary,
    Event,
    MessageDelivered,
    MessageRead,
    MessageSent,
    NewMessage,
    OtherChange,
    OtherEvent,
    Position,
    PositionsMoved,
    PreferencesChanged,
    PresenceChanged,
    PresenceState,
    SyncPage,
    Typing,
)
from messaging_client.options import MessagingClientOptions, Status, StatusChange

__all__ = [
    "Backoff",
    "Change",
    "ClientClosed",
    "CommandError",
    "CommandRejected",
    "ConversationSummary",
    "Event",
    "LinkLost",
    "MalformedEvent",
    "MessageDelivered",
    "MessageRead",
    "MessageSent",
    "MessagingClient",
    "MessagingClientOptions",
    "MessagingError",
    "NewMessage",
    "OtherChange",
    "OtherEvent",
    "Position",
    "PositionsMoved",
    "PreferencesChanged",
    "PresenceChanged",
    "PresenceState",
    "Status",
    "StatusChange",
    "SyncPage",
    "Typing",
    "decode_event",
]

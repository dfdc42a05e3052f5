"""Asyncio client for one-to-one conversations over MQTT.

May import: the standard library, aiomqtt and paho-mqtt (through `link` only).
Must not import: any other package of this repository.
"""

from messaging_client.backoff import Backoff
from messaging_client.client import MessagingClient
from messaging_client.errors import ClientClosed, CommandRejected, LinkLost, MalformedEvent, MessagingError
from messaging_client.events import CommandError, Event, MessageSent, NewMessage, OtherEvent, decode_event
from messaging_client.options import MessagingClientOptions, Status, StatusChange

__all__ = [
    "Backoff",
    "ClientClosed",
    "CommandError",
    "CommandRejected",
    "Event",
    "LinkLost",
    "MalformedEvent",
    "MessageSent",
    "MessagingClient",
    "MessagingClientOptions",
    "MessagingError",
    "NewMessage",
    "OtherEvent",
    "Status",
    "StatusChange",
    "decode_event",
]

"""One connection to the broker: the only module that knows aiomqtt.

What is peculiar about aiomqtt 2.5.1 and handled here: a full queue drops
messages silently (ours is unlimited); a publish that waits for its PUBACK does
not notice that the connection is gone; connecting happens in a thread, so that
a cancelled connect would leave a socket and a task behind; a connect that the
broker never answers leaves them, too; its socket options do not reach the socket
below a WebSocket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from messaging_client.commands import presence_command
from messaging_client.errors import LinkLost
from messaging_client.events import PresenceState
from messaging_client.options import MessagingClientOptions

_IN_FLIGHT = 100
"""Commands that may wait for their PUBACK at once."""
_LOGGER = logging.getLogger("messaging_client.mqtt")
# Its warnings are about connections that end, which are told as a status.
_LOGGER.setLevel(logging.ERROR)

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event as it came from the broker."""

    event: str
    """Last level of its topic."""
    payload: bytes
    correlation_data: bytes | None


class Link:
    """A connection that is up."""

    def __init__(self, client: aiomqtt.Client, timeout: float, session_id: str) -> None:
        self._client = client
        self._timeout = timeout
        self.session_id = session_id
        """Names this connection in `presence`, so that a late will changes nothing."""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the connection has ended and all that came over it was delivered."""

    async def subscribe(self, topic_filter: str) -> None:
        """Subscribes with QoS 1; raises `LinkLost` when the broker refuses or does not answer."""
        codes = await self._unless_lost(self._client.subscribe(topic_filter, qos=1, timeout=self._timeout))
        for code in codes:
            if isinstance(code, ReasonCode) and code.is_failure:
                raise LinkLost(f"subscription refused: {code}")

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        correlation_data: bytes | None = None,
    ) -> None:
        """Publishes once and, with QoS 1, waits for the PUBACK. Raises `LinkLost`."""
        properties = None
        if correlation_data is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation_data
        await self._unless_lost(
            self._client.publish(topic, payload, qos, retain, properties, timeout=self._timeout)
        )

    async def _unless_lost(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        calling = asyncio.create_task(call)
        try:
            until: set[asyncio.Future[Any]] = {calling, self.lost}
            await asyncio.wait(until, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not calling.done():
                calling.cancel()
                await asyncio.wait({calling})
        if calling.cancelled():
            raise LinkLost("the connection ended")
        try:
            return calling.result()
        except (aiomqtt.MqttError, OSError) as error:
            raise LinkLost(str(error)) from error

    async def deliveries(self) -> AsyncIterator[Delivery]:
        """Events until the connection ends; those received before its end come first.

        The library acknowledges events when they arrive, so a reader must not
        be cancelled while the connection lives, or it loses one: end the
        connection (`close`) and read on until the iteration ends. It ends with
        `CancelledError` when the connection could not be closed in time.
        """
        with contextlib.suppress(aiomqtt.MqttError):
            async for message in self._client.messages:
                correlation = getattr(message.properties, "CorrelationData", None)
                yield Delivery(
                    event=message.topic.value.rsplit("/", 1)[-1],
                    payload=bytes(message.payload),
                    correlation_data=correlation if isinstance(correlation, bytes) else None,
                )

    def mark_lost(self) -> None:
        """To be called by the reader of `deliveries` at its end."""
        if not self.lost.done():
            self.lost.set_result(None)

    async def close(self) -> None:
        """Disconnects in good order; does nothing when the connection is gone."""
        # The connection may have ended by itself, with an error nobody needs any more.
        with contextlib.suppress(aiomqtt.MqttError, OSError):
            await self._client.__aexit__(None, None, None)


async def open_link(options: MessagingClientOptions, token: str) -> Link:
    """Connects; raises `LinkLost` with the broker's reason. Whoever gets the link closes it."""
    session_id = uuid4().hex
    client = _client(options, token, session_id)
    await _enter(client)
    _send_at_once(client)
    return Link(client, options.connect_timeout, session_id)


def _will(options: MessagingClientOptions, session_id: str) -> aiomqtt.Will | None:
    if not options.presence:
        return None
    payload = presence_command(PresenceState.OFFLINE, session_id)
    return aiomqtt.Will(options.command_topic("presence"), payload, qos=1)


def _client(options: MessagingClientOptions, token: str, session_id: str) -> aiomqtt.Client:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = options.session_expiry
    client = aiomqtt.Client(
        options.host,
        options.port,
        username=options.user_id,
        password=token,
        identifier=options.client_id,
        protocol=aiomqtt.ProtocolVersion.V5,
        clean_start=False,
        properties=properties,
        keepalive=options.keepalive,
        will=_will(options, session_id),
        timeout=options.connect_timeout,
        transport=options.transport,
        websocket_path=options.websocket_path if options.transport == "websockets" else None,
        tls_context=options.tls,
        max_queued_incoming_messages=0,
        max_queued_outgoing_messages=0,
        max_inflight_messages=_IN_FLIGHT,
        logger=_LOGGER,
    )
    client.pending_calls_threshold = sys.maxsize
    return client


def _send_at_once(client: aiomqtt.Client) -> None:
    """Without this a small packet behind another one waits up to 40 ms for the broker's delayed ACK."""
    connected = client._client.socket()
    if connected is None:
        # Lost again already, which the link's reader tells.
        return
    # A copy of the descriptor: over TLS and WebSocket this is not a socket but has one.
    with socket.fromfd(connected.fileno(), socket.AF_INET, socket.SOCK_STREAM) as below:
        below.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


async def _enter(client: aiomqtt.Client) -> None:
    entering = asyncio.create_task(client.__aenter__())
    try:
        await asyncio.shield(entering)
    except asyncio.CancelledError:
        # The thread that connects cannot be interrupted: await it, then undo its work.
        await asyncio.wait({entering})
        if entering.exception() is None:
            with contextlib.suppress(aiomqtt.MqttError, OSError):
                await client.__aexit__(None, None, None)
        else:
            await _discard(client)
        raise
    except (aiomqtt.MqttError, OSError) as error:
        await _discard(client)
        raise LinkLost(str(error) or type(error).__name__) from error


async def _discard(client: aiomqtt.Client) -> None:
    """Closes the socket that a failed connect may have left open, with its task."""
    client.timeout = 0.1
    with contextlib.suppress(aiomqtt.MqttError, OSError):
        await client.__aexit__(None, None, None)

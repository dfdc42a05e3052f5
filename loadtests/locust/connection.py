"""One device of one user at the broker: MQTT 5 on paho, without paho's thread.

Paho's own loop waits with select(2), which ends at 1,024 file descriptors, and
takes three of them for each client. Here one greenlet a connection (a thread to
the standard library, which Locust has patched) waits with poll and does all
reading, connecting and closing; publishing writes from the caller's greenlet.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import httpx
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from loadtests.locust.deployment import Broker

_KEEPALIVE_SECONDS = 30
_SESSION_SECONDS = 300
"""How long the broker keeps what comes while a connection is lost."""
_CONNECT_TIMEOUT = 10.0
_TICK_SECONDS = 0.1
_WAIT_SECONDS = 0.5
"""Without traffic; each of a thousand idle connections wakes up as seldom as that."""
_LARGEST_BACKOFF = 5.0

_Reasons: TypeAlias = list[ReasonCode]


class Listener(Protocol):
    """Who is told; all calls come from the connection's greenlet, one at a time."""

    def on_ready(self, seconds: float) -> None:
        """Connected and subscribed, that long after it was begun."""

    def on_not_connected(self, seconds: float, why: str) -> None:
        """An attempt failed; another one follows."""

    def on_lost(self, why: str) -> None:
        """The connection ended without being asked to."""

    def on_event(self, event: str, payload: bytes) -> None:
        """An event of the user."""

    def on_tick(self) -> None:
        """Time has passed: after traffic, ten times a second at the most, and now and then without."""

    def on_defect(self, error: Exception) -> None:
        """One of the calls above raised; the connection is closed."""


class ConnectionFailed(Exception):
    """The broker could not be reached, or refused."""


class Connection:
    """Connects, and connects again, until it is closed."""

    def __init__(
        self,
        broker: Broker,
        *,
        user: str,
        device: str,
        token: Callable[[], str],
        topic_root: str,
        listener: Listener,
    ) -> None:
        self._broker = broker
        self._user = user
        self._token = token
        self._topics = f"{topic_root}/users/{user}"
        self._listener = listener
        self._closing = threading.Event()
        self._ready = False
        self._refusal: str | None = None
        self._end = "connection lost"
        self._client = self._new_client(f"{user}:{device}")
        self._thread = threading.Thread(target=self._run, name=f"mqtt-{user}", daemon=True)

    @property
    def is_ready(self) -> bool:
        """Whether it is connected and subscribed."""
        return self._ready

    def start(self) -> None:
        """Begins to connect; returns at once."""
        self._thread.start()

    def publish(self, command: str, payload: bytes, *, qos: int = 1) -> None:
        """Publishes a command; what the connection loses meanwhile, the caller sends again."""
        self._client.publish(f"{self._topics}/commands/{command}", payload, qos=qos)

    def close(self) -> None:
        """Disconnects and ends the session at the broker."""
        self._closing.set()
        self._thread.join(_CONNECT_TIMEOUT)

    def _new_client(self, client_id: str) -> mqtt.Client:
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=mqtt.MQTTv5,
            transport="websockets" if self._broker.websocket else "tcp",
            reconnect_on_failure=False,
        )
        if self._broker.websocket:
            client.ws_set_options(path=self._broker.path)
        if self._broker.tls:
            client.tls_set()
        client.connect_timeout = _CONNECT_TIMEOUT
        # Commands are few and small; what is in flight is bounded by the ledger.
        client.max_inflight_messages_set(1000)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_socket_open = _send_at_once
        return client

    def _run(self) -> None:
        attempt = 0
        while not self._closing.is_set():
            began = time.perf_counter()
            try:
                self._connect(began)
                attempt = 0
                self._serve()
            except (ConnectionFailed, httpx.HTTPError, OSError, ValueError) as error:
                self._listener.on_not_connected(time.perf_counter() - began, str(error) or repr(error))
            except Exception as error:
                self._listener.on_defect(error)
                return
            finally:
                self._ready = False
            attempt += 1
            delay = min(_LARGEST_BACKOFF, 0.2 * 2.0 ** min(attempt, 10))
            self._closing.wait(delay * random.uniform(0.5, 1))

    def _connect(self, began: float) -> None:
        self._refusal = None
        self._client.username_pw_set(self._user, self._token())
        self._client.connect(
            self._broker.host,
            self._broker.port,
            keepalive=_KEEPALIVE_SECONDS,
            clean_start=False,
            properties=_session_expiry(PacketTypes.CONNECT, _SESSION_SECONDS),
        )
        deadline = began + _CONNECT_TIMEOUT
        while not self._ready:
            connected = self._step()
            if self._refusal is not None or not connected:
                raise ConnectionFailed(self._refusal or f"closed by the broker: {self._end}")
            if time.perf_counter() > deadline:
                raise ConnectionFailed(f"not connected and subscribed within {_CONNECT_TIMEOUT:.0f} s")
        self._listener.on_ready(time.perf_counter() - began)

    def _serve(self) -> None:
        next_tick = time.perf_counter()
        while not self._closing.is_set():
            if not self._step():
                self._listener.on_lost(self._end)
                return
            now = time.perf_counter()
            if now >= next_tick:
                next_tick = now + _TICK_SECONDS
                self._listener.on_tick()
        self._client.disconnect(properties=_session_expiry(PacketTypes.DISCONNECT, 0))

    def _step(self) -> bool:
        """Waits for a short time at the most, reads and writes; returns whether it is still connected."""
        sock = self._client.socket()
        if sock is None:
            return False
        writing = select.POLLOUT if self._client.want_write() else 0
        poller = select.poll()
        poller.register(sock.fileno(), select.POLLIN | writing)
        # TLS may hold what was received before; the descriptor does not show that.
        pending: Callable[[], int] | None = getattr(sock, "pending", None)
        if (pending is not None and pending() > 0) or poller.poll(1000 * _WAIT_SECONDS):
            self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()
        return self._client.socket() is not None

    def _on_connect(
        self, client: mqtt.Client, data: Any, flags: object, reason: ReasonCode, properties: object
    ) -> None:
        if reason.is_failure:
            self._refusal = f"refused: {reason}"
        else:
            client.subscribe(f"{self._topics}/events/+", qos=1)

    def _on_subscribe(
        self, client: mqtt.Client, data: Any, mid: int, reasons: _Reasons, properties: object
    ) -> None:
        if any(reason.is_failure for reason in reasons):
            self._refusal = f"subscription refused: {reasons[0]}"
        else:
            self._ready = True

    def _on_disconnect(
        self, client: mqtt.Client, data: Any, flags: object, reason: ReasonCode, properties: object
    ) -> None:
        self._end = str(reason)

    def _on_message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        self._listener.on_event(message.topic.rpartition("/")[2], bytes(message.payload))


def _send_at_once(client: mqtt.Client, data: Any, opened: mqtt.SocketLike) -> None:
    """A small packet behind another one would wait up to 40 ms for the broker's delayed ACK."""
    # A copy of the descriptor: over TLS and WebSocket this is not a socket but has one.
    with socket.fromfd(opened.fileno(), socket.AF_INET, socket.SOCK_STREAM) as below:
        below.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _session_expiry(packet: int, seconds: int) -> Properties:
    new: Callable[[int], Properties] = Properties
    properties = new(packet)
    properties.SessionExpiryInterval = seconds
    return properties

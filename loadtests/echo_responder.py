"""Answers every command with the events that the service would publish, and stores nothing.

The limit of broker, links and client together: what the service does more than this is
its own. Users come in pairs that differ in the last digit's lowest bit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import uvloop

from bridge.connection import ConnectOptions
from bridge.publisher import Publisher, publisher_of
from bridge.session import Delivery, Session
from bridge.transport import BrokerLinks, LinkOptions
from devstack.ports import LOOPBACK

_ID = "01a1fe68-2c9c-7ce0-9253-7a97a2ddbcdf"
_PUBLISHERS = 4


class Responder:
    """Publishes the same bytes for every message, but for the sender's id of it."""

    def __init__(self, session: Session, publishers: Sequence[Publisher]) -> None:
        self._session = session
        self._publishers = publishers
        self.links: BrokerLinks
        receipt = {"conversationId": _ID, "messageId": _ID, "seq": 1_234, "userId": "floor-00001"}
        self._receipt = json.dumps(
            receipt | {"deliveredAt": "2026-01-01T00:00:00.000000Z"}, separators=(",", ":")
        ).encode()

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Answers everything that one read brought."""
        for delivery in deliveries:
            root, _, rest = delivery.topic.partition("/users/")
            user, _, command = rest.partition("/commands/")
            peer = user[:-1] + str(int(user[-1]) ^ 1)
            if command == "sendMessage":
                self._on_send(f"{root}/users/{user}", f"{root}/users/{peer}", user, delivery)
                continue
            if command == "markAsDelivered":
                self._session.publish(f"{root}/users/{peer}/events/messageDelivered", self._receipt)
            self._session.acknowledge(delivery)
        self.links.flush()

    def _on_send(self, sender: str, recipient: str, user: str, delivery: Delivery) -> None:
        command = delivery.payload
        at = command.index(b'"clientMessageId":"') + 19
        text = command.index(b'"text":"') + 8
        event = b"".join(
            (
                b'{"messageId":"' + _ID.encode() + b'","conversationId":"' + _ID.encode(),
                b'","seq":1234,"senderId":"' + user.encode() + b'","text":"',
                command[text : command.index(b'"', text)],
                b'","timestamp":"2026-01-01T00:00:00.000000Z","clientMessageId":"',
                command[at : at + 36],
                b'"}',
            )
        )
        publisher = publisher_of(self._publishers, min(sender, recipient))
        publisher.publish(f"{recipient}/events/newMessage", event, on_behalf_of=delivery)
        publisher.publish(f"{sender}/events/messageSent", event, qos=0)


async def _run(socket_path: Path | None, port: int, token: str) -> None:
    # In the place of the service, whose session would gather all these commands.
    session = Session(
        ConnectOptions(client_id="messaging-service:bridge", receive_maximum=4_096),
        backlog_topic="chat/v1/service/backlog",
    )
    publishers = [
        Publisher(ConnectOptions(client_id=f"messaging-service:echo.{number}"), session.acknowledge)
        for number in range(_PUBLISHERS)
    ]
    responder = Responder(session, publishers)
    options = LinkOptions(
        host=LOOPBACK,
        port=port,
        socket_path=socket_path,
        username="messaging-service",
        token=lambda: token,
        filters=["chat/v1/users/+/commands/+"],
    )
    responder.links = BrokerLinks(
        session, publishers, options, on_deliveries=responder.take, on_session_lost=lambda: None
    )
    await responder.links.run()


def main() -> None:
    """Answers until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.echo_responder", description=__doc__)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--token", required=True, help="of the user messaging-service, role service")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(arguments.socket, arguments.port, arguments.token))


if __name__ == "__main__":
    main()

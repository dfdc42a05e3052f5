"""Good and bad tokens, and what the broker answers to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from devstack.mosquitto import MosquittoServer
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.mqtt311_client import Mqtt311Client
from tests.integration.broker.raw_client import ClosedError, Login, RawClient

KINDS: list[type[RawClient]] = [Mqtt5Client, Mqtt311Client]
#: Makes a token of alice's good claims with some changed.
Sign = Callable[..., str]
OTHER_SECRET = "another-secret-with-enough-bytes-for-hs256"
#: Instead of a value: the token lacks the claim.
REMOVED = object()


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token for alice, with some changed."""
    good = {"sub": "alice", "exp": int(time.time()) + 3600}
    return {name: value for name, value in (good | changes).items() if value is not REMOVED}


def encoded(part: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")


def signed(payload: object, secret: str, **header: object) -> str:
    """An HS256 token of anything, which PyJWT would refuse to make."""
    message = encoded({"alg": "HS256", "typ": "JWT"} | header) + b"." + encoded(payload)
    signature = hmac.new(secret.encode(), message, hashlib.sha256).digest()
    return f"{message.decode()}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def unsigned(**header: object) -> str:
    """A good token but for its signature, which is empty."""
    return signed(claims(), OTHER_SECRET, **header).rpartition(".")[0] + "."


async def answer(broker: MosquittoServer, login: Login, kind: type[RawClient] = Mqtt5Client) -> int | None:
    """What the CONNACK says; None if the broker closes without one."""
    async with kind.open(broker.mqtt_port) as client:
        try:
            return await client.connect(login)
        except ClosedError:
            return None


def login(password: str | None, client_id: str = "alice:web", username: str | None = None) -> Login:
    return Login(client_id=client_id, password=password, username=username)

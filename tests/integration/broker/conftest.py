"""Brokers of all kinds, each a real Mosquitto with the plugin.

MOSQUITTO_EXECUTABLE names another broker than the installed one; MOSQUITTO_INCLUDE_DIR, which the
Makefile reads, the headers that fit it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, Unpack

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from devstack.mosquitto import JwtOptions, MosquittoServer
from devstack.ports import free_port
from tests.conftest import MintToken
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.raw_client import Login, RawClient, Will
from tests.integration.broker.tokens import Sign, claims, signed

EXECUTABLE = os.environ.get("MOSQUITTO_EXECUTABLE", "mosquitto")


class EditedMosquitto(MosquittoServer):
    """A broker whose configuration is changed after it has been rendered."""

    edit: Callable[[str], str] = staticmethod(lambda text: text)

    def prepare(self) -> None:
        super().prepare()
        self.config_file.write_text(self.edit(self.config_file.read_text()))


class MakeBroker(Protocol):
    """Makes brokers that do not run yet; those that run at the end of the scope are stopped."""

    def __call__(
        self,
        jwt: JwtOptions,
        *,
        edit: Callable[[str], str] | None = None,
        topic_root: str = "chat/v1",
        limits: Mapping[str, int] | None = None,
    ) -> MosquittoServer:
        """Returns a broker with a data folder and free ports of its own."""


def _broker_factory(folder: Path) -> Iterator[MakeBroker]:
    brokers: list[MosquittoServer] = []

    def make(
        jwt: JwtOptions,
        *,
        edit: Callable[[str], str] | None = None,
        topic_root: str = "chat/v1",
        limits: Mapping[str, int] | None = None,
    ) -> MosquittoServer:
        broker = EditedMosquitto(
            folder / f"broker-{len(brokers)}",
            free_port(),
            free_port(),
            jwt=jwt,
            executable=EXECUTABLE,
            topic_root=topic_root,
            limits=limits,
        )
        if edit is not None:
            broker.edit = edit
        brokers.append(broker)
        return broker

    yield make
    for broker in brokers:
        broker.stop()


@pytest.fixture(scope="session")
def make_shared_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBroker]:
    """Makes brokers for fixtures of the session."""
    yield from _broker_factory(tmp_path_factory.mktemp("brokers"))


@pytest.fixture
def make_broker(tmp_path: Path) -> Iterator[MakeBroker]:
    """Makes brokers for one test."""
    yield from _broker_factory(tmp_path)


@pytest.fixture(scope="session")
def broker(make_shared_broker: MakeBroker, jwt_options: JwtOptions) -> MosquittoServer:
    """A running broker with HS256 and neither audience nor issuer."""
    server = make_shared_broker(jwt_options)
    server.start()
    return server


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A private key to sign with, and the file of its public key."""

    algorithm: str
    private_pem: str
    public_pem: str
    public_key_file: Path


def _key_pair(algorithm: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, folder: Path) -> KeyPair:
    private_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    public_pem = (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    file = folder / f"{algorithm}.pem"
    file.write_text(public_pem)
    return KeyPair(algorithm=algorithm, private_pem=private_pem, public_pem=public_pem, public_key_file=file)


@pytest.fixture(scope="session")
def rs256(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    """An RSA key pair."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return _key_pair("RS256", key, tmp_path_factory.mktemp("rs256"))


@pytest.fixture(scope="session")
def es256(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    """An elliptic-curve key pair."""
    return _key_pair("ES256", ec.generate_private_key(ec.SECP256R1()), tmp_path_factory.mktemp("es256"))


@pytest.fixture(scope="session")
def other_pairs(tmp_path_factory: pytest.TempPathFactory) -> list[KeyPair]:
    """Key pairs that no broker knows."""
    folder = tmp_path_factory.mktemp("others")
    return [
        _key_pair("RS256", rsa.generate_private_key(public_exponent=65537, key_size=2048), folder),
        _key_pair("ES256", ec.generate_private_key(ec.SECP256R1()), folder),
        _key_pair("ES384", ec.generate_private_key(ec.SECP384R1()), folder),
    ]


@pytest.fixture(scope="session")
def sign(jwt_secret: str) -> Sign:
    """Signs as the identity provider does."""
    return lambda **changes: signed(claims(**changes), jwt_secret)


class Entrance(TypedDict, total=False):
    """How a client comes in, where it is not the usual way."""

    role: str
    device: str  # else "web"
    expires_in: float  # seconds, else an hour
    kind: type[RawClient]  # else MQTT 5
    broker: MosquittoServer  # else the shared one
    will: Will
    clean: bool  # else True
    session_expiry: int  # seconds, else 0


class Enter(Protocol):
    """Opens connections that are broken at the end of the test."""

    async def __call__(self, user_id: str, **entrance: Unpack[Entrance]) -> RawClient:
        """Returns a client that the broker has let in."""


@pytest_asyncio.fixture
async def enter(broker: MosquittoServer, token: MintToken) -> AsyncIterator[Enter]:
    """Opens connections as some user."""
    async with AsyncExitStack() as connections:

        async def connect(user_id: str, **entrance: Unpack[Entrance]) -> RawClient:
            port = entrance.get("broker", broker).mqtt_port
            client = await connections.enter_async_context(entrance.get("kind", Mqtt5Client).open(port))
            login = Login(
                client_id=f"{user_id}:{entrance.get('device', 'web')}",
                password=token(
                    user_id, role=entrance.get("role"), expires_in=entrance.get("expires_in", 3600)
                ),
                will=entrance.get("will"),
                clean=entrance.get("clean", True),
                session_expiry=entrance.get("session_expiry", 0),
            )
            assert await client.connect(login) == 0
            return client

        yield connect

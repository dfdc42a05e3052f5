"""Which passwords let a client in: the signature, and who may use it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import jwt as pyjwt
import pytest
from jwt.warnings import InsecureKeyLengthWarning

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.integration.broker.conftest import KeyPair, MakeBroker
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.mqtt311_client import BridgeClient
from tests.integration.broker.raw_client import RawClient
from tests.integration.broker.tokens import (
    KINDS,
    OTHER_SECRET,
    Sign,
    answer,
    claims,
    login,
    signed,
    unsigned,
)

BAD_AUTHENTICATION_METHOD = 0x8C


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeyBroker:
    """A broker and the key pair whose public half it has."""

    server: MosquittoServer
    pair: KeyPair


@pytest.fixture(scope="session")
def public_key_broker(request: pytest.FixtureRequest, make_shared_broker: MakeBroker) -> PublicKeyBroker:
    """A broker with the public key of the pair that the parameter names."""
    pair: KeyPair = request.getfixturevalue(request.param)
    server = make_shared_broker(
        JwtOptions(algorithm=pair.algorithm, secret=None, public_key_file=pair.public_key_file)
    )
    server.start()
    return PublicKeyBroker(server=server, pair=pair)


@pytest.mark.parametrize("kind", [*KINDS, BridgeClient])
async def test_a_good_token_is_let_in(broker: MosquittoServer, sign: Sign, kind: type[RawClient]) -> None:
    assert await answer(broker, login(sign()), kind) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("username", [None, "", "alice"])
async def test_the_username_may_be_absent_empty_or_the_subject(
    broker: MosquittoServer, sign: Sign, kind: type[RawClient], username: str | None
) -> None:
    assert await answer(broker, login(sign(), username=username), kind) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("username", ["bob", "Alice", "alice2", "alic", "user:alice", "service:alice"])
async def test_another_username_is_refused(
    broker: MosquittoServer, sign: Sign, kind: type[RawClient], username: str
) -> None:
    assert await answer(broker, login(sign(), username=username), kind) == kind.refused


@pytest.mark.parametrize("kind", [*KINDS, BridgeClient])
@pytest.mark.parametrize("username", [None, "alice", "user:alice", "service:messaging-service"])
async def test_without_a_password_nobody_is_let_in(
    broker: MosquittoServer, kind: type[RawClient], username: str | None
) -> None:
    assert await answer(broker, login(None, username=username), kind) == kind.refused


@pytest.mark.parametrize(
    "password",
    [
        "",
        "secret",
        "a.b.c",
        "..",
        "...",
        ".e30.x",
        "e30..x",
        "e30.e30.",
        "e30.e30.x=",
        "e30.e30.\N{GRINNING FACE}",
        "x" * 65_535,
        "[" * 20_000,
    ],
    ids=lambda password: ascii(password)[:20],
)
@pytest.mark.parametrize("kind", KINDS)
async def test_what_is_no_token_is_refused(
    broker: MosquittoServer, kind: type[RawClient], password: str
) -> None:
    assert await answer(broker, login(password), kind) == kind.refused


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS256", "", None, 5])
async def test_a_token_without_a_signature_is_refused(broker: MosquittoServer, algorithm: object) -> None:
    assert await answer(broker, login(unsigned(alg=algorithm))) == Mqtt5Client.refused


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
async def test_another_algorithm_is_refused_though_the_secret_is_right(
    broker: MosquittoServer, jwt_secret: str, algorithm: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureKeyLengthWarning)
        password = pyjwt.encode(claims(), jwt_secret, algorithm=algorithm)
    assert await answer(broker, login(password)) == Mqtt5Client.refused


async def test_another_secret_is_refused(broker: MosquittoServer) -> None:
    assert await answer(broker, login(signed(claims(), OTHER_SECRET))) == Mqtt5Client.refused


async def test_changed_claims_are_refused(broker: MosquittoServer, sign: Sign) -> None:
    header, _, signature = sign(sub="bob").split(".")
    _, payload, _ = sign().split(".")
    assert await answer(broker, login(f"{header}.{payload}.{signature}")) == Mqtt5Client.refused


async def test_a_fourth_part_of_the_token_is_refused(broker: MosquittoServer, sign: Sign) -> None:
    assert await answer(broker, login(sign() + ".x")) == Mqtt5Client.refused


@pytest.mark.parametrize("public_key_broker", ["rs256", "es256"], indirect=True)
class TestPublicKeys:
    """The same for the algorithms with a public key."""

    async def test_a_token_of_the_private_key_is_let_in(self, public_key_broker: PublicKeyBroker) -> None:
        pair = public_key_broker.pair
        password = pyjwt.encode(claims(), pair.private_pem, algorithm=pair.algorithm)
        assert await answer(public_key_broker.server, login(password)) == 0

    async def test_a_token_of_another_private_key_is_refused(
        self, public_key_broker: PublicKeyBroker, other_pairs: list[KeyPair]
    ) -> None:
        for other in other_pairs:
            password = pyjwt.encode(claims(), other.private_pem, algorithm=other.algorithm)
            assert await answer(public_key_broker.server, login(password)) == Mqtt5Client.refused

    @pytest.mark.parametrize("key", [str, str.strip], ids=["the_file", "without_its_last_line_end"])
    @pytest.mark.parametrize("claimed", [None, "RS256", "ES256"])
    async def test_the_public_key_is_no_hmac_secret(
        self, public_key_broker: PublicKeyBroker, key: Callable[[str], str], claimed: str | None
    ) -> None:
        header = {} if claimed is None else {"alg": claimed}
        password = signed(claims(), key(public_key_broker.pair.public_pem), **header)
        assert await answer(public_key_broker.server, login(password)) == Mqtt5Client.refused

    @pytest.mark.parametrize("algorithm", ["none", "RS256", "ES256"])
    async def test_a_token_without_a_signature_is_refused(
        self, public_key_broker: PublicKeyBroker, algorithm: str
    ) -> None:
        assert await answer(public_key_broker.server, login(unsigned(alg=algorithm))) == Mqtt5Client.refused


async def test_an_authentication_method_is_no_way_round_the_token(broker: MosquittoServer) -> None:
    async with Mqtt5Client.open(broker.mqtt_port) as client:
        assert isinstance(client, Mqtt5Client)
        assert await client.connect_with_method("SCRAM-SHA-1", "alice:web") == BAD_AUTHENTICATION_METHOD


async def test_a_refusal_is_logged_with_client_id_and_reason_and_without_the_token(
    make_broker: MakeBroker, jwt_options: JwtOptions, sign: Sign
) -> None:
    # One of its own: a broker that refuses many does not log them all.
    broker = make_broker(jwt_options)
    broker.start()
    password = sign(exp=1)
    await answer(broker, login(password, "alice:logged"))
    line = next(line for line in broker.log_tail(50).splitlines() if "alice:logged" in line)
    assert "refused client alice:logged from 127.0.0.1: the token has expired" in line
    assert not any(part in broker.log_file.read_text() for part in password.split("."))

"""No method without a user's good token; and the token alone says who calls."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from service.domain.errors import ErrorCode
from service.grpc_api.authentication import TokenVerifier
from service.grpc_api.messaging_service import MessagingService
from service.grpc_api.server import GrpcServer, ServerOptions
from tests.conftest import MintToken
from tests.contract.conversation_reader.seeding import PostgresSeed
from tests.integration.grpc_api.client import (
    AUDIENCE,
    REQUESTS,
    SERVICE,
    Client,
    Metadata,
    assert_refused,
    connect,
    eventually,
)


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    claims = {"sub": "alice", "aud": AUDIENCE, "exp": int(time.time()) + 60}
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims)}."


async def assert_all_refused(client: Client, metadata: Metadata | None) -> None:
    for method, request in REQUESTS.items():
        call = getattr(client.stub, method)(request, metadata=metadata)
        await assert_refused(call, ErrorCode.UNAUTHENTICATED)


def wrong_metadata(token: MintToken, secret: str) -> dict[str, Metadata | None]:
    good = token("alice", aud=AUDIENCE)
    expiring = {"sub": "alice", "aud": AUDIENCE}
    return {
        "no metadata": None,
        "empty": (("authorization", ""),),
        "no scheme": (("authorization", good),),
        "scheme only": (("authorization", "Bearer"),),
        "no token": (("authorization", "Bearer "),),
        "another scheme": (("authorization", f"Basic {good}"),),
        "two tokens": bearer(good) + bearer(token("bob", aud=AUDIENCE)),
        "another key": (("token", good),),
        "garbage": bearer("garbage"),
        "nested header": bearer(base64.urlsafe_b64encode(b"[" * 3_000).decode() + ".e30.AA"),
        "expired": bearer(token("alice", aud=AUDIENCE, expires_in=-6)),
        "no expiry": bearer(jwt.encode(expiring, secret, algorithm="HS256")),
        "no audience": bearer(token("alice")),
        "another audience": bearer(token("alice", aud="other")),
        "another secret": bearer(jwt.encode(expiring | {"exp": 2**32}, secret + "x", algorithm="HS256")),
        "another algorithm": bearer(jwt.encode(expiring | {"exp": 2**32}, secret * 2, algorithm="HS512")),
        "algorithm none": bearer(unsigned("none")),
        "algorithm NONE": bearer(unsigned("NONE")),
        "signature removed": bearer(good.rpartition(".")[0] + "."),
        "payload changed": bearer(
            ".".join((good.split(".")[0], unsigned("none").split(".")[1], good.split(".")[2]))
        ),
        "subject with a slash": bearer(token("alice/bob", aud=AUDIENCE)),
        "empty subject": bearer(token("", aud=AUDIENCE)),
        "long subject": bearer(token("a" * 65, aud=AUDIENCE)),
        "service": bearer(token("messaging-service", role="service", aud=AUDIENCE)),
        "platform": bearer(token("alice", role="platform", aud=AUDIENCE)),
    }


async def test_every_method_refuses_every_wrong_token(
    client: Client, token: MintToken, jwt_secret: str
) -> None:
    for metadata in wrong_metadata(token, jwt_secret).values():
        await assert_all_refused(client, metadata)


async def test_a_refusal_says_why_and_nothing_of_the_token(client: Client, token: MintToken) -> None:
    expired = token("alice", aud=AUDIENCE, expires_in=-60)
    refusal = await assert_refused(
        client.stub.ListConversations(REQUESTS["ListConversations"], metadata=bearer(expired)),
        ErrorCode.UNAUTHENTICATED,
    )
    assert refusal.message == "the token has expired"
    assert refusal.metadata == {"error-code": "UNAUTHENTICATED", "error-retryable": "false"}


async def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(
    service: MessagingService, server_options: ServerOptions, token: MintToken
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    server = GrpcServer(service, TokenVerifier(algorithm="RS256", key=public), server_options)
    async with connect(await server.start(), token) as client:
        claims = {"sub": "alice", "exp": int(time.time()) + 60}
        good = jwt.encode(claims, key, algorithm="RS256")
        await client.stub.ListConversations(REQUESTS["ListConversations"], metadata=bearer(good))
        body = f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}"
        mac = hmac.new(public.encode(), body.encode(), hashlib.sha256).digest()
        confused = f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        await assert_all_refused(client, bearer(confused))
    await server.stop(0)


async def test_without_a_token_not_even_the_request_or_the_method_is_looked_at(client: Client) -> None:
    for method in (*REQUESTS, "NoSuchMethod"):
        await assert_refused(client.call(SERVICE + method, b"\xff"), ErrorCode.UNAUTHENTICATED)
    await assert_refused(client.call("/other.Service/Method", b""), ErrorCode.UNAUTHENTICATED)


async def test_a_token_that_was_good_is_refused_once_it_has_expired(
    service: MessagingService, jwt_secret: str, server_options: ServerOptions, token: MintToken
) -> None:
    verifier = TokenVerifier(algorithm="HS256", key=jwt_secret, leeway_seconds=0)
    server = GrpcServer(service, verifier, server_options)
    async with connect(await server.start(), token) as client:
        short = bearer(token("alice", expires_in=2))
        await client.stub.ListConversations(REQUESTS["ListConversations"], metadata=short)

        async def is_refused() -> bool:
            try:
                await client.stub.ListConversations(REQUESTS["ListConversations"], metadata=short)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAUTHENTICATED
            return False

        await eventually(is_refused)
    await server.stop(0)


async def test_concurrent_callers_are_not_mistaken_for_each_other(client: Client, seed: PostgresSeed) -> None:
    users = [f"user{number}" for number in range(40)]
    for user in users:
        await seed.conversation(user, "hub")

    async def listed(user: str) -> list[str]:
        response = await client.conversations(user)
        return [p for c in response.conversations for p in c.participant_ids if p != "hub"]

    for _ in range(3):
        assert await asyncio.gather(*map(listed, users)) == [[user] for user in users]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_is_taken_in_any_case(client: Client, token: MintToken, scheme: str) -> None:
    metadata = (("authorization", f"{scheme} {token('alice', aud=AUDIENCE)}"),)
    await client.stub.ListConversations(REQUESTS["ListConversations"], metadata=metadata)

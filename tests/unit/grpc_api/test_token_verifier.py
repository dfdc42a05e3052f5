"""Tokens: which ones name a user, and which ones nobody."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import replace
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from service.grpc_api.authentication import InvalidToken, TokenVerifier

SECRET = "a-secret-of-the-tests-with-enough-bytes"
HS256 = TokenVerifier(algorithm="HS256", key=SECRET)


@cache
def key_pair(algorithm: str) -> tuple[str, str]:
    """Private and public key as PEM texts."""
    key: Any
    if algorithm == "RS256":
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    else:
        key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def sign(key: str = SECRET, algorithm: str = "HS256", /, **claims: object) -> str:
    payload = {"sub": "alice", "exp": int(time.time()) + 60} | claims
    return jwt.encode({k: v for k, v in payload.items() if v is not None}, key, algorithm=algorithm)


def forge(header: str, payload: str = "{}", signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in (header, payload)]
    return ".".join([*parts, signature])


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_public_key_algorithms_verify_their_own_tokens(algorithm: str) -> None:
    private, public = key_pair(algorithm)
    verifier = TokenVerifier(algorithm=algorithm, key=public)
    assert verifier.verify(sign(private, algorithm)).user == "alice"


def test_a_user_token_names_its_user_and_its_end() -> None:
    end = int(time.time()) + 60
    verified = HS256.verify(sign(exp=end, role="user", iat=int(time.time()), cid="alice:phone"))
    assert (verified.user, verified.expires_at) == ("alice", end + 5)


def test_a_token_is_good_for_five_seconds_beyond_its_end() -> None:
    assert HS256.verify(sign(exp=int(time.time()) - 3)).user == "alice"
    with pytest.raises(InvalidToken):
        HS256.verify(sign(exp=int(time.time()) - 6))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": float("inf")},
        {"exp": float("nan")},
        {"exp": [1]},
        {"nbf": 4_102_444_800},
        {"iat": 4_102_444_800},
        {"sub": None},
        {"sub": ""},
        {"sub": "a/b"},
        {"sub": "alice\n"},
        {"sub": "x" * 65},
        {"sub": "+"},
        {"role": "service"},
        {"role": "platform"},
        {"role": ["user"]},
        {"role": ""},
    ],
    ids=str,
)
def test_a_signed_token_with_a_wrong_claim_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(InvalidToken):
        HS256.verify(sign(**claims))


def test_a_subject_that_is_not_text_is_refused() -> None:
    payload = json.dumps({"sub": 7, "exp": int(time.time()) + 60}).encode()
    with pytest.raises(InvalidToken):
        HS256.verify(jwt.PyJWS().encode(payload, SECRET, algorithm="HS256"))


def test_a_role_of_null_is_no_user() -> None:
    payload = json.dumps({"sub": "alice", "role": None, "exp": int(time.time()) + 60}).encode()
    with pytest.raises(InvalidToken):
        HS256.verify(jwt.PyJWS().encode(payload, SECRET, algorithm="HS256"))


def test_audience_and_issuer_are_checked_when_configured_and_only_then() -> None:
    assert HS256.verify(sign(aud="somebody", iss="someone")).user == "alice"
    strict = replace(HS256, audience="messaging", issuer="accounts")
    assert strict.verify(sign(aud=["other", "messaging"], iss="accounts")).user == "alice"
    for claims in (
        {"aud": "messaging"},
        {"iss": "accounts"},
        {"aud": "other", "iss": "accounts"},
        {"aud": "messaging", "iss": "other"},
    ):
        with pytest.raises(InvalidToken):
            strict.verify(sign(**claims))


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "", "HS512", "RS256"])
def test_the_token_does_not_choose_the_algorithm(algorithm: str) -> None:
    payload = json.dumps({"sub": "alice", "exp": int(time.time()) + 60})
    good = sign().rpartition(".")[2]
    for signature in ("", good):
        with pytest.raises(InvalidToken):
            HS256.verify(forge(json.dumps({"alg": algorithm, "typ": "JWT"}), payload, signature))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_signed_with_the_public_key_as_a_secret_is_refused(algorithm: str) -> None:
    _, public = key_pair(algorithm)
    # By hand: PyJWT refuses to sign with such a secret, which stops no attacker.
    body = forge('{"alg":"HS256","typ":"JWT"}', json.dumps({"sub": "alice", "exp": int(time.time()) + 60}))
    mac = hmac.new(public.encode(), body.rstrip(".").encode(), hashlib.sha256).digest()
    token = body + base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
    with pytest.raises(InvalidToken):
        TokenVerifier(algorithm=algorithm, key=public).verify(token)


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "..",
        "a.b.c",
        "\ud800",
        "é.é.é",
        forge("[" * 4_000),
        forge('{"alg":"HS256","x":' + "[" * 4_000),
        forge('{"alg":7}'),
        forge('"HS256"'),
        forge("1e999"),
        forge('{"alg":"HS256","crit":["exp"]}'),
        forge('{"alg":"HS256","b64":false}'),
    ],
    ids=lambda token: ascii(token[:20]),
)
def test_what_is_no_token_is_refused_and_never_an_error_of_ours(token: str) -> None:
    with pytest.raises(InvalidToken):
        HS256.verify(token)


def test_refusals_do_not_quote_the_token() -> None:
    token = sign("another-secret-of-sufficient-length-here")
    with pytest.raises(InvalidToken) as refused:
        HS256.verify(token)
    assert not any(part in str(refused.value) for part in token.split("."))
    assert refused.value.__cause__ is None


def test_a_verifier_does_not_show_its_key() -> None:
    assert SECRET not in repr(HS256)


@pytest.mark.parametrize("algorithm", ["none", "HS512", ""])
def test_an_unknown_algorithm_cannot_be_configured(algorithm: str) -> None:
    with pytest.raises(ValueError, match="algorithm"):
        TokenVerifier(algorithm=algorithm, key=SECRET)


def test_an_empty_key_cannot_be_configured() -> None:
    with pytest.raises(ValueError, match="key"):
        TokenVerifier(algorithm="HS256", key="")

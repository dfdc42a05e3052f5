"""Which claims let a client in."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from devstack.mosquitto import JwtOptions, MosquittoServer
from tests.integration.broker.conftest import MakeBroker
from tests.integration.broker.mqtt5_client import Mqtt5Client
from tests.integration.broker.raw_client import RawClient
from tests.integration.broker.tokens import (
    KINDS,
    REMOVED,
    Sign,
    answer,
    login,
    signed,
)

ISSUER = "https://login.test/"
CLIENT_ID_NOT_VALID = 0x85


@pytest.fixture(scope="session")
def scoped_broker(make_shared_broker: MakeBroker, jwt_secret: str) -> MosquittoServer:
    """A broker that wants an audience and an issuer."""
    server = make_shared_broker(JwtOptions(secret=jwt_secret, audience="chat", issuer=ISSUER))
    server.start()
    return server


@pytest.mark.parametrize("payload", [[], "alice", None, {}, {"sub": "alice"}, 5])
async def test_claims_of_the_wrong_shape_are_refused(
    broker: MosquittoServer, jwt_secret: str, payload: object
) -> None:
    assert await answer(broker, login(signed(payload, jwt_secret))) == Mqtt5Client.refused


@pytest.mark.parametrize(
    ("claim", "value", "accepted"),
    [
        ("exp", REMOVED, False),
        ("exp", None, False),
        ("exp", "4102444800", False),
        ("exp", True, False),
        ("exp", [4102444800], False),
        ("exp", 0, False),
        ("exp", -1, False),
        ("exp", 10**40, False),
        ("exp", 4102444800, True),
        ("exp", 4102444800.5, True),
        ("nbf", 0, True),
        ("nbf", "soon", False),
        ("nbf", None, False),
        ("nbf", 4102444800, False),
    ],
)
async def test_times_must_be_numbers_on_the_right_side_of_now(
    broker: MosquittoServer, sign: Sign, claim: str, value: object, accepted: bool
) -> None:
    assert await answer(broker, login(sign(**{claim: value}))) == (0 if accepted else Mqtt5Client.refused)


@pytest.mark.parametrize(
    ("claim", "seconds_from_now", "accepted"),
    [("exp", -6, False), ("exp", -3, True), ("nbf", 3, True), ("nbf", 8, False)],
)
async def test_clocks_may_differ_by_five_seconds(
    broker: MosquittoServer, sign: Sign, claim: str, seconds_from_now: int, accepted: bool
) -> None:
    password = sign(**{claim: int(time.time()) + seconds_from_now})
    assert await answer(broker, login(password)) == (0 if accepted else Mqtt5Client.refused)


@pytest.mark.parametrize(
    "subject",
    [
        REMOVED,
        None,
        5,
        ["alice"],
        "",
        "x" * 65,
        "al ice",
        "al/ice",
        "al+ice",
        "+",
        "#",
        "al:ice",
        "alice\u0000",
        "alice\n",
        "\u00e4lice",
        "al\u0131ce",
        "$SYS",
        "alice%",
    ],
)
async def test_a_subject_that_is_no_user_id_is_refused(
    broker: MosquittoServer, sign: Sign, subject: object
) -> None:
    password = sign(sub=subject)
    client_ids = {f"{subject}:web" if isinstance(subject, str) and "\x00" not in subject else "alice:web"}
    for client_id in client_ids | {"alice:web", ":web"}:
        # A client id with a control character is not for the plugin to refuse.
        refusals = (None, CLIENT_ID_NOT_VALID) if "\n" in client_id else (Mqtt5Client.refused,)
        assert await answer(broker, login(password, client_id)) in refusals


@pytest.mark.parametrize("subject", ["a", "x" * 64, "A.b_c@d-0", "-", "messaging-service"])
async def test_every_user_id_can_be_a_subject(broker: MosquittoServer, sign: Sign, subject: str) -> None:
    assert await answer(broker, login(sign(sub=subject), f"{subject}:web")) == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("subject", "client_id"),
    [
        ("alice", "bob:web"),
        ("al", "alice:x"),
        ("alice", "al:x"),
        ("alice", "alice"),
        ("alice", "alice:"),
        ("alice", "alice-web"),
        ("alice", "Alice:web"),
        ("alice", ":web"),
        ("alice", ""),
        ("alice", "alice:" + "x" * 60_000),
        ("mallory", "messaging-service:bridge"),
    ],
    ids=lambda text: text[:20],
)
async def test_a_client_id_of_someone_else_is_refused(
    broker: MosquittoServer, sign: Sign, kind: type[RawClient], subject: str, client_id: str
) -> None:
    assert await answer(broker, login(sign(sub=subject), client_id), kind) == kind.refused


@pytest.mark.parametrize(
    ("bound_id", "accepted"),
    [
        ("alice:web", True),
        ("alice:phone", False),
        ("alice:we", False),
        ("", False),
        (5, False),
        (None, False),
    ],
)
async def test_a_token_bound_to_a_client_id_is_good_for_no_other(
    broker: MosquittoServer, sign: Sign, bound_id: object, accepted: bool
) -> None:
    assert await answer(broker, login(sign(cid=bound_id))) == (0 if accepted else Mqtt5Client.refused)


async def test_where_it_is_required_each_users_token_names_its_client_id(
    make_broker: MakeBroker, jwt_options: JwtOptions, sign: Sign
) -> None:
    broker = make_broker(replace(jwt_options, require_cid=True))
    broker.start()
    assert await answer(broker, login(sign())) == Mqtt5Client.refused
    assert await answer(broker, login(sign(cid="alice:web"))) == 0
    service = sign(sub="messaging-service", role="service")
    assert await answer(broker, login(service, "messaging-service:bridge")) == 0


@pytest.mark.parametrize(
    ("role", "accepted"),
    [
        ("user", True),
        ("service", True),
        ("platform", True),
        ("admin", False),
        ("User", False),
        ("", False),
        (None, False),
        (1, False),
        (["service"], False),
    ],
)
async def test_an_unknown_role_is_refused(
    broker: MosquittoServer, sign: Sign, role: object, accepted: bool
) -> None:
    assert await answer(broker, login(sign(role=role))) == (0 if accepted else Mqtt5Client.refused)


@pytest.mark.parametrize(
    ("audience", "issuer", "accepted"),
    [
        ("chat", ISSUER, True),
        (["chat"], ISSUER, True),
        (["shop", 'say \\ "hi"', "chat"], ISSUER, True),
        ("shop", ISSUER, False),
        ("chat2", ISSUER, False),
        ("", ISSUER, False),
        (REMOVED, ISSUER, False),
        ([], ISSUER, False),
        (["shop"], ISSUER, False),
        ([["chat"]], ISSUER, False),
        ([{"chat": "chat"}], ISSUER, False),
        ({"chat": "chat"}, ISSUER, False),
        (['"chat'], ISSUER, False),
        (['x","chat'], ISSUER, False),
        (5, ISSUER, False),
        ("chat", REMOVED, False),
        ("chat", "https://login.test", False),
        ("chat", [ISSUER], False),
    ],
)
async def test_audience_and_issuer_are_checked_where_they_are_configured(
    scoped_broker: MosquittoServer, sign: Sign, audience: object, issuer: object, accepted: bool
) -> None:
    password = sign(aud=audience, iss=issuer)
    assert await answer(scoped_broker, login(password)) == (0 if accepted else Mqtt5Client.refused)


async def test_audience_and_issuer_do_not_matter_where_they_are_not_configured(
    broker: MosquittoServer, sign: Sign
) -> None:
    assert await answer(broker, login(sign(aud="shop", iss="whoever"))) == 0

"""What the load tests take from their command line."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import jwt
import pytest

from loadtests.locust.deployment import Broker, Deployment, NotConfigured, add_options, thresholds_of

_SECRET = "secret-of-the-tests-with-enough-bytes-for-hs256"
_STACK = ("--broker-url=ws://127.0.0.1:9001", f"--jwt-secret={_SECRET}")


class Parser(argparse.ArgumentParser):
    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        options.pop("include_in_web_ui", None)
        return super().add_argument(*names, **options)


def options(*arguments: str) -> argparse.Namespace:
    parser = Parser()
    add_options(parser)
    return parser.parse_args(arguments)


def test_a_stack_is_described_by_broker_and_secret() -> None:
    deployment = Deployment.of(options(*_STACK, "--message-rate=2"), host=None)
    assert deployment.broker == Broker(host="127.0.0.1", port=9001, path="/mqtt", websocket=True, tls=False)
    claims = jwt.decode(deployment.tokens.of("alice"), _SECRET, algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert (deployment.topic_root, deployment.grpc_target, deployment.pairs) == ("chat/v1", None, None)
    assert deployment.message_rate == 2


def test_tls_and_ports_follow_from_the_scheme() -> None:
    assert Broker.of("wss://broker.example/ws") == Broker(
        host="broker.example", port=443, path="/ws", websocket=True, tls=True
    )
    assert Broker.of("mqtts://broker.example") == Broker(
        host="broker.example", port=8883, path="/mqtt", websocket=False, tls=True
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "give --host"),
        (_STACK[:1], "give --jwt-secret, --token-url or --host"),
        (["--broker-url=http://127.0.0.1", _STACK[1]], "is not a URL with ws"),
        ([*_STACK, "--message-rate=0"], "must be positive"),
        ([*_STACK, "--messages=0"], "--messages must be positive"),
        ([*_STACK, "--pairs=/nowhere/pairs"], "--pairs: .*No such file"),
    ],
)
def test_options_that_do_not_say_what_to_drive_are_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(NotConfigured, match=complaint):
        Deployment.of(options(*arguments), host=None)


def test_a_gateway_that_is_not_there_is_named() -> None:
    address = "http://127.0.0.1:9"
    with pytest.raises(NotConfigured, match=f"{address}/api/config gives no configuration"):
        Deployment.of(options(), host=address)


def test_pairs_and_limits_are_read(tmp_path: Path) -> None:
    (tmp_path / "pairs").write_text("alice bob\n")
    given = options(*_STACK, f"--pairs={tmp_path / 'pairs'}", "--limit=resent=0.5", "--limit=received=7")
    assert Deployment.of(given, host=None).pairs == [("alice", "bob")]
    limits = {threshold.name: threshold.limit for threshold in thresholds_of(given)}
    assert (limits["resent"], limits["received"]) == (0.5, 7)
    with pytest.raises(NotConfigured, match="--limit: there is no threshold 'x'"):
        thresholds_of(options("--limit=x=1"))

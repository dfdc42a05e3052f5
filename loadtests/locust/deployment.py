"""What is driven, and how hard: the command line's options, checked and resolved."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from loadtests.locust.accounts import Tokens, fetched_from, minted_with, read_pairs
from loadtests.locust.thresholds import THRESHOLDS, Threshold, with_limits

_TOPIC_ROOT = "chat/v1"
_DEFAULT_PORTS = {"ws": 80, "wss": 443, "mqtt": 1883, "mqtts": 8883}


class NotConfigured(ValueError):
    """The options do not say what to drive."""


class Parser(Protocol):
    """Locust's argument parser."""

    def add_argument(self, *names: str, **options: Any) -> Any:
        """As `argparse.ArgumentParser`; `include_in_web_ui` is Locust's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Broker:
    """Where MQTT is spoken."""

    host: str
    port: int
    path: str
    websocket: bool
    tls: bool

    @classmethod
    def of(cls, url: str) -> Broker:
        """From `ws://`, `wss://`, `mqtt://` or `mqtts://`; raises `NotConfigured`."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise NotConfigured(f"--broker-url: {url!r} is not a URL with ws, wss, mqtt or mqtts")
        return cls(
            host=parts.hostname,
            port=parts.port or _DEFAULT_PORTS[parts.scheme],
            path=parts.path or "/mqtt",
            websocket=parts.scheme.startswith("ws"),
            tls=parts.scheme in {"wss", "mqtts"},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A stack and what the users do with it."""

    broker: Broker
    topic_root: str
    tokens: Tokens
    grpc_target: str | None
    grpc_tls: bool
    pairs: Sequence[tuple[str, str]] | None
    message_rate: float
    resend_after: float
    give_up_after: float
    drain: float

    @classmethod
    def of(cls, options: Namespace, *, host: str | None, part: int = 0, parts: int = 1) -> Deployment:
        """Asks the gateway `host` for what the options leave open; raises `NotConfigured`."""
        config = _gateway_config(host) if host and options.broker_url is None else {}
        broker_url = options.broker_url or config.get("brokerUrl")
        if broker_url is None:
            raise NotConfigured("give --host (the gateway) or --broker-url")
        if options.jwt_secret is not None:
            issue = minted_with(options.jwt_secret)
        elif options.token_url or host:
            issue = fetched_from(options.token_url or f"{str(host).rstrip('/')}/api/dev/token")
        else:
            raise NotConfigured("give --jwt-secret, --token-url or --host (a gateway in development)")
        if min(options.message_rate, options.resend_after, options.give_up_after) <= 0:
            raise NotConfigured("--message-rate, --resend-after and --give-up-after must be positive")
        if options.messages is not None and options.messages <= 0:
            raise NotConfigured("--messages must be positive")
        try:
            pairs = read_pairs(Path(options.pairs), part=part, parts=parts) if options.pairs else None
        except (OSError, ValueError) as error:
            raise NotConfigured(f"--pairs: {error}") from error
        return cls(
            broker=Broker.of(broker_url),
            topic_root=options.topic_root or config.get("topicRoot") or _TOPIC_ROOT,
            tokens=Tokens(issue),
            grpc_target=options.grpc_target,
            grpc_tls=options.grpc_tls,
            pairs=pairs,
            message_rate=options.message_rate,
            resend_after=options.resend_after,
            give_up_after=options.give_up_after,
            drain=options.drain,
        )


def thresholds_of(options: Namespace) -> Sequence[Threshold]:
    """The table with the limits that `--limit` changes; raises `NotConfigured`."""
    try:
        return with_limits(THRESHOLDS, options.limit or ())
    except ValueError as error:
        raise NotConfigured(f"--limit: {error}") from error


def _gateway_config(host: str) -> dict[str, str]:
    url = f"{host.rstrip('/')}/api/config"
    try:
        answer = httpx.get(url, timeout=10)
        answer.raise_for_status()
        config: dict[str, str] = answer.json()
        return config
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise NotConfigured(f"--host: {url} gives no configuration: {error}") from error


def add_options(parser: Parser) -> None:
    """The options of these load tests; none of them belongs into Locust's page."""

    def add(name: str, text: str, **more: Any) -> None:
        parser.add_argument(name, help=text, include_in_web_ui=False, **more)

    add(
        "--broker-url",
        "the broker: ws://, wss://, mqtt:// or mqtts:// (default: what the gateway --host says)",
    )
    add("--grpc-target", "host:port of the service; without it nobody reads history")
    add("--grpc-tls", "speak gRPC over TLS", action="store_true")
    add("--token-url", "where tokens are got with POST {userId} (default: /api/dev/token of --host)")
    add("--jwt-secret", "HS256 secret of a development stack: tokens are minted with it")
    add("--topic-root", f"first levels of all topics (default: the gateway's, or {_TOPIC_ROOT})")
    add(
        "--pairs",
        "file of connected users, two ids a line (default: fresh users, whom all must be connected to)",
    )
    add("--messages", "end a run without a page when so many messages are acknowledged", type=int)
    add("--message-rate", "messages a second of each chatter (default: 1)", type=float, default=1.0)
    add(
        "--resend-after",
        "seconds until an unanswered command is resent (default: 5)",
        type=float,
        default=5.0,
    )
    add("--give-up-after", "seconds until a command counts as lost (default: 30)", type=float, default=30.0)
    add(
        "--drain",
        "seconds that stopping users wait for what is outstanding (default: 15)",
        type=float,
        default=15.0,
    )
    add("--limit", "another limit for a threshold, name=value; may be repeated", action="append")

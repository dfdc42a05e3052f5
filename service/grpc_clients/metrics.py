"""Metrics of the calls to foreign services."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

CONNECTIONS_RPC_SECONDS = Histogram(
    "messaging_connections_rpc_seconds",
    "Duration of IsConnected calls by outcome: connected, not_connected or the kind of failure",
    ["outcome"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0),
)
CONNECTIONS_FAILURES = Counter(
    "messaging_connections_failures_total",
    "Lookups that ConnectionsService did not answer, by kind, those an open circuit refused included",
    ["failure"],
)

"""Metrics of gRPC calls; labels are closed lists, never what a caller sent."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

CALLS = Counter("messaging_grpc_calls", "gRPC calls answered, by method and status code", ["method", "code"])
CALL_SECONDS = Histogram(
    "messaging_grpc_call_seconds",
    "Duration of a gRPC call, from its request to its answer",
    ["method"],
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)

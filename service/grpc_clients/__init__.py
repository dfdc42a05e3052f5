"""Clients of foreign gRPC services, and the circuit breaker around remote calls.

May import: `service.domain`, `proto`, grpc, circuitbreaker, prometheus_client,
structlog. Must not import: settings, use cases, other adapters, `bridge`.
"""

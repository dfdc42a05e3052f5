"""What is known of connections: in this process, then in Redis, then by asking.

May import: `service.domain`, `service.breaker`, limits, redis,
prometheus_client, structlog. Must not import: settings, gRPC, other adapters,
`bridge`. Only `redis_connections` knows Redis; its errors end there.
"""

"""The gRPC front door: `messaging.v1.MessagingService`, health and reflection.

May import: `service.domain`, `service.use_cases`, `service.metrics`, `proto`,
grpc, PyJWT, prometheus_client. Must not import: the other adapters, `bridge`,
or settings; everything comes in through constructors.
"""

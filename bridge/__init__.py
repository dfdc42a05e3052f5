"""The MQTT front door: from the broker's bytes to use cases and back.

`topics` and `payloads` are pure, `session` is the protocol without I/O,
`transport` its socket, `inbound` and `outbound` the way in and out.

May import: `service.domain`, `service.use_cases`, `service.metrics`, mqtt5,
pydantic. Must not import: adapters, `service.app`, `gateway`, `devstack`.
"""

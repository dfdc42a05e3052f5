"""Pure rules: identifiers, conversations, messages, positions, errors.

May import: the standard library. Must not import: MQTT, gRPC, SQL, Redis,
pydantic, or any other package of this repository.
"""

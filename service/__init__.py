"""The messaging service: rules, use cases and their adapters.

`domain` holds pure rules, `use_cases` one verb a file and the ports they need;
`storage`, `cache`, `grpc_clients` and `grpc_api` are the adapters, and `app`
puts everything together with the MQTT front door in `bridge`.

May import: `bridge` (from `app` only) and `proto`. Must not import: `gateway`,
`devstack`, `clients`, `tests`.
"""

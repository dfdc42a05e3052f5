"""Load: the benchmark (`make bench`) and the Locust users (`make load`).

Everything runs against real servers that are started for it on free loopback
ports, durable as in production. May import `devstack`, `proto`, and the
service's pure rules (`service.domain`), but for the echo responder, which is the
bridge without a service; what is measured is only spoken to through its doors.
"""

"""The local stack: own Mosquitto, PostgreSQL and Redis on loopback, and `make run`.

The server classes are for `make run` and for the tests alike; both use real
servers, never the system's services. `bootstrap.py` runs before `.venv` exists.

May import: `proto` and itself, psycopg, grpc; `bootstrap.py` the standard
library only. Must not import: `service`, `bridge`, `gateway`, `clients`,
`tests`; the first three run as child processes.
"""

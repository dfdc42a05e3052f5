"""The fault suite: real processes are killed, stalled and cut off while independent clients write.

`python -m tests.faults` runs it. What every client attempted, was told and can
read afterwards stands in a ledger; the checker holds the ledger to the promises.

May import: devstack, proto, loadtests (its clients, and what it knows of processes
and the machine), the tests' own modules. Must not import: service, bridge, gateway,
messaging_client - what is tested here does not test itself.
"""

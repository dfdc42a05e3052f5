"""What the service does, one verb a file, and the ports it needs for it.

May import: `service.domain`. Must not import: adapters, `bridge`, or any
library that does I/O.
"""

"""The lean clients: raw WebSocket and HTTP/2 frames, so that what is measured is not the driver.

May import: mqtt5 and the standard library. Must not import: the servers' code.
"""

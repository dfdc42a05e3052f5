"""WebSocket (RFC 6455) as far as an MQTT client needs it, without I/O."""

from __future__ import annotations

import base64
import os

_FINAL_BINARY = 0x82
_MASKED = 0x80
_NO_MASK = bytes(4)
"""A mask of zeros: a client must mask (5.3), but the payload may stay as it is."""

_CONTINUATION, _BINARY, _CLOSE, _PING = 0x0, 0x2, 0x8, 0x9
_PONG_HEADER = b"\x8a\x80" + _NO_MASK


class WebSocketClosed(Exception):
    """The server has closed the WebSocket, or refused it."""


def upgrade_request(host: str, port: int, path: str = "/mqtt") -> bytes:
    """The HTTP request that opens a WebSocket for MQTT."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    ).encode()


def binary_frame(payload: bytes) -> bytes:
    """One whole masked frame; raises `ValueError` from 64 KiB on."""
    return frame_header(len(payload)) + payload


def frame_header(size: int) -> bytes:
    """What stands before a payload of `size` bytes; raises `ValueError` from 64 KiB on."""
    if size < 126:
        return bytes((_FINAL_BINARY, _MASKED | size)) + _NO_MASK
    if size < 65_536:
        return bytes((_FINAL_BINARY, _MASKED | 126, size >> 8, size & 0xFF)) + _NO_MASK
    raise ValueError("larger than any packet of the protocol")


class FrameReader:
    """Takes the frames off what the server sends."""

    def __init__(self) -> None:
        self._rest = b""
        self.pongs: list[bytes] = []
        """Answers to pings, to be written."""

    def read(self, data: bytes) -> bytes:
        """The payloads of all whole frames, one after the other; raises `WebSocketClosed`."""
        if self._rest:
            data = self._rest + data
        # By far most reads are one short frame.
        size = len(data)
        if size >= 2 and data[0] == _FINAL_BINARY and data[1] < 126 and size == data[1] + 2:
            self._rest = b""
            return data[2:]
        payloads: list[bytes] = []
        offset = 0
        while offset + 2 <= size:
            length, start = data[offset + 1], offset + 2
            if length == 126:
                if start + 2 > size:
                    break
                length, start = int.from_bytes(data[start : start + 2], "big"), start + 2
            elif length == 127:
                if start + 8 > size:
                    break
                length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
            end = start + length
            if end > size:
                break
            self._on_frame(data[offset] & 0x0F, data[start:end], payloads)
            offset = end
        self._rest = data[offset:]
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def _on_frame(self, opcode: int, payload: bytes, payloads: list[bytes]) -> None:
        if opcode in (_BINARY, _CONTINUATION):
            payloads.append(payload)
        elif opcode == _PING:
            self.pongs.append(_PONG_HEADER[:1] + bytes((_MASKED | len(payload),)) + _NO_MASK + payload)
        elif opcode == _CLOSE:
            raise WebSocketClosed("the server closed the WebSocket")

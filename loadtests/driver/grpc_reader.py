"""A gRPC client for one unary method: HTTP/2 frames over one connection, one call at a time.

It understands what a gRPC server sends to such a client and fails on anything
else. Request headers are sent once in full and then by their index.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from typing import cast

from loadtests.driver.hpack import Decoder, indexed, literals

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEADER = struct.Struct(">HBBBI")
"""Of a frame: its length in three bytes, its type, its flags, its stream."""
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 4, 5
_LARGEST_WINDOW = 2**31 - 1
_LARGEST_FRAME = 2**24 - 1
_DEFAULT_WINDOW = 65_535
_PREFIX = struct.Struct(">BI")
"""Of a gRPC message: whether it is compressed, and its length."""


class CallFailed(Exception):
    """The call or the connection did not end as a good one does; says how."""


class GrpcReader(asyncio.Protocol):
    """Calls one unary method, one call at a time; made with `connect`."""

    def __init__(self, host: str, path: str, token: str) -> None:
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": host,
            "te": "trailers",
            "content-type": "application/grpc",
            "authorization": f"Bearer {token}",
        }
        self._first_block: bytes | None = literals(headers)
        self._block = indexed(len(headers))
        self._decoder = Decoder()
        self._good_trailers: bytes | None = None
        self._rest = b""
        """Of what was read: a frame that is not whole yet."""
        self._body = b""
        self._stream = -1
        self._window = _LARGEST_WINDOW
        self._answer: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._failure: CallFailed | None = None

    @classmethod
    async def connect(cls, host: str, port: int, path: str, token: str) -> GrpcReader:
        """Connects; `path` is the method's full name behind a slash. Raises `OSError`."""
        _, reader = await asyncio.get_running_loop().create_connection(
            lambda: cls(f"{host}:{port}", path, token), host, port
        )
        return reader

    def close(self) -> None:
        """Ends the connection."""
        if self._transport is not None:
            self._transport.close()

    def call(self, request: bytes) -> asyncio.Future[bytes]:
        """The response message to a request message, neither of them parsed; fails with `CallFailed`."""
        assert self._answer is None, "one call at a time"
        answer = self._answer = asyncio.get_running_loop().create_future()
        if self._failure is not None or self._transport is None:
            self._settle(self._failure or CallFailed("not connected"))
            return answer
        self._stream += 2
        self._body = b""
        block, self._first_block = self._first_block or self._block, None
        body = _PREFIX.pack(0, len(request)) + request
        self._transport.write(
            frame(_HEADERS, _END_HEADERS, self._stream, block) + frame(_DATA, _END_STREAM, self._stream, body)
        )
        return answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Opens the flow control as far as it goes."""
        self._transport = transport = cast("asyncio.Transport", transport)
        settings = struct.pack(
            ">HIHI", _INITIAL_WINDOW_SIZE, _LARGEST_WINDOW, _MAX_FRAME_SIZE, _LARGEST_FRAME
        )
        transport.write(_PREFACE + frame(_SETTINGS, 0, 0, settings) + _window_update(_DEFAULT_WINDOW))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fails the call under way and all later ones."""
        self._failure = self._failure or CallFailed(f"connection lost: {exc}")
        self._settle(self._failure)

    def data_received(self, data: bytes) -> None:
        """Takes in whole frames."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        try:
            while size - at >= _FRAME_HEADER.size:
                high, low, kind, flags, stream = _FRAME_HEADER.unpack_from(data, at)
                begin = at + _FRAME_HEADER.size
                end = begin + (high << 8 | low)
                if size < end:
                    break
                self._take(kind, flags, stream, data[begin:end])
                at = end
        except (ValueError, IndexError, struct.error) as error:
            self._give_up(CallFailed(f"not what a gRPC server sends: {error}"))
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA and stream == self._stream and not flags:
            self._body += payload
            self._window -= len(payload)
            if self._window < _LARGEST_WINDOW // 2:
                self._write(_window_update(self._window))
                self._window = _LARGEST_WINDOW
        elif kind == _HEADERS and flags & ~_END_STREAM == _END_HEADERS and stream == self._stream:
            self._take_headers(payload, is_last=bool(flags & _END_STREAM))
        elif kind == _SETTINGS:
            if not flags & _ACK:
                self._write(frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING:
            if not flags & _ACK:
                self._write(frame(_PING, _ACK, 0, payload))
        elif kind == _RST_STREAM and stream == self._stream:
            self._settle(CallFailed(f"reset with {int.from_bytes(payload)}"))
        elif kind == _GOAWAY:
            self._give_up(CallFailed("the server says goodbye"))
        elif kind != _WINDOW_UPDATE:
            raise ValueError(f"frame of type {kind} with flags {flags} on stream {stream}")

    def _take_headers(self, block: bytes, *, is_last: bool) -> None:
        if is_last and block == self._good_trailers:
            self._settle(None)
            return
        headers, changed = self._decoder.decode_noting_changes(block)
        if changed:
            self._good_trailers = None
        if not is_last:
            if headers.get(":status") != "200":
                raise ValueError("the HTTP status is not 200")
        elif headers.get("grpc-status") != "0":
            self._settle(CallFailed(_refusal(headers)))
        else:
            if not changed:
                # As long as the table stays, the same bytes say the same.
                self._good_trailers = block
            self._settle(None)

    def _settle(self, failure: CallFailed | None) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if failure is None and len(self._body) < _PREFIX.size:
            failure = CallFailed("no message")
        if failure is None:
            compressed, size = _PREFIX.unpack_from(self._body)
            if compressed or size != len(self._body) - _PREFIX.size:
                failure = CallFailed("not one whole uncompressed message")
        if failure is not None:
            answer.set_exception(failure)
            return
        answer.set_result(self._body[_PREFIX.size :])

    def _give_up(self, failure: CallFailed) -> None:
        self._failure = failure
        self._settle(failure)
        self.close()

    def _write(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.write(data)


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """One HTTP/2 frame."""
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _window_update(current: int) -> bytes:
    return frame(_WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - current).to_bytes(4))


def _refusal(trailers: Mapping[str, str]) -> str:
    return f"grpc-status {trailers.get('grpc-status')}: {trailers.get('grpc-message', '')}"

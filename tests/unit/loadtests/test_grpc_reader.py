"""The benchmark's gRPC client: what it sends, and that it fails on anything but a whole good answer."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from loadtests.driver import grpc_reader
from loadtests.driver.grpc_reader import CallFailed, GrpcReader, frame
from loadtests.driver.hpack import Decoder, indexed, literals

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 1, 1, 4
OPENING = b"\x88"
GOOD = literals({"grpc-status": "0", "grpc-message": ""})
GOOD_AGAIN = indexed(2)


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> bytes:
        written = bytes(self.written)
        self.written.clear()
        return written


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def reader(wire: Wire) -> GrpcReader:
    reader = GrpcReader("localhost:1", "/package.Service/Method", "secret" * 40)
    reader.connection_made(cast(Any, wire))
    wire.take()
    return reader


def message(body: bytes) -> bytes:
    return struct.pack(">BI", 0, len(body)) + body


def answer(stream: int, body: bytes, trailers: bytes = GOOD) -> bytes:
    return (
        frame(HEADERS, END_HEADERS, stream, OPENING)
        + frame(DATA, 0, stream, message(body))
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, trailers)
    )


async def test_a_call_sends_its_headers_in_full_once_and_then_by_index(
    reader: GrpcReader, wire: Wire
) -> None:
    decoder = Decoder()
    for stream in (1, 3):
        pending = reader.call(b"ask")
        sent = wire.take()
        size = int.from_bytes(sent[:3])
        assert sent[3:9] == bytes((HEADERS, END_HEADERS)) + stream.to_bytes(4)
        assert decoder.decode(sent[9 : 9 + size]) == {
            ":method": "POST",
            ":scheme": "http",
            ":path": "/package.Service/Method",
            ":authority": "localhost:1",
            "te": "trailers",
            "content-type": "application/grpc",
            "authorization": "Bearer " + "secret" * 40,
        }
        assert sent[9 + size :] == frame(DATA, END_STREAM, stream, message(b"ask"))
        reader.data_received(answer(stream, b"answer", GOOD if stream == 1 else GOOD_AGAIN))
        assert await pending == b"answer"


@pytest.mark.parametrize("piece", [1, 2, 7, 1_000])
async def test_answers_may_come_in_pieces_of_any_size_and_in_many_frames(
    reader: GrpcReader, piece: int
) -> None:
    pending = reader.call(b"")
    whole = message(bytes(range(256)))
    received = (
        frame(SETTINGS, 0, 0, b"")
        + frame(HEADERS, END_HEADERS, 1, OPENING)
        + b"".join(frame(DATA, 0, 1, whole[at : at + 50]) for at in range(0, len(whole), 50))
        + frame(HEADERS, END_HEADERS | END_STREAM, 1, GOOD)
    )
    for at in range(0, len(received), piece):
        reader.data_received(received[at : at + piece])
    assert await pending == bytes(range(256))


async def test_settings_and_pings_are_acknowledged(reader: GrpcReader, wire: Wire) -> None:
    reader.data_received(frame(SETTINGS, 0, 0, bytes(6)) + frame(SETTINGS, ACK, 0, b""))
    reader.data_received(frame(PING, 0, 0, b"12345678") + frame(PING, ACK, 0, b"87654321"))
    assert wire.take() == frame(SETTINGS, ACK, 0, b"") + frame(PING, ACK, 0, b"12345678")


@pytest.mark.parametrize(
    "received",
    [
        answer(1, b"x", literals({"grpc-status": "5", "grpc-message": "no such conversation"})),
        answer(1, b"x", literals({"content-type": "application/grpc"})),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, GOOD),
        frame(DATA, 0, 1, message(b"x") + b"y") + frame(HEADERS, END_HEADERS | END_STREAM, 1, GOOD),
        frame(DATA, 0, 1, message(b"xy")[:-1]) + frame(HEADERS, END_HEADERS | END_STREAM, 1, GOOD),
        frame(DATA, 0, 1, b"\1\0\0\0\1x") + frame(HEADERS, END_HEADERS | END_STREAM, 1, GOOD),
        frame(HEADERS, END_HEADERS, 1, literals({":status": "502"})),
        frame(HEADERS, END_HEADERS, 1, b"\xbf"),
        frame(HEADERS, END_HEADERS, 1, b"\x00\x81\xff\x01x"),
        frame(HEADERS, END_HEADERS, 1, b"\x00\x7f"),
        frame(RST_STREAM, 0, 1, (8).to_bytes(4)),
        frame(GOAWAY, 0, 0, bytes(8)),
        frame(DATA, 0, 3, message(b"x")),
    ],
)
async def test_anything_but_a_whole_good_answer_fails(reader: GrpcReader, received: bytes) -> None:
    pending = reader.call(b"ask")
    reader.data_received(received)
    with pytest.raises(CallFailed):
        await pending


async def test_a_refusal_after_good_answers_is_still_seen(reader: GrpcReader) -> None:
    for stream, trailers in ((1, GOOD), (3, GOOD_AGAIN), (5, GOOD_AGAIN)):
        pending = reader.call(b"ask")
        reader.data_received(answer(stream, b"", trailers))
        await pending
    pending = reader.call(b"ask")
    reader.data_received(answer(7, b"", literals({"grpc-status": "13"})))
    with pytest.raises(CallFailed, match="13"):
        await pending
    # The refusal took the newest place in the table: the old indexes mean something else.
    pending = reader.call(b"ask")
    reader.data_received(answer(9, b"", GOOD_AGAIN))
    with pytest.raises(CallFailed, match="13"):
        await pending


async def test_a_lost_connection_fails_the_call_under_way_and_later_ones(reader: GrpcReader) -> None:
    pending = reader.call(b"ask")
    reader.connection_lost(None)
    for call in (pending, reader.call(b"again")):
        with pytest.raises(CallFailed):
            await call


async def test_the_window_is_opened_again_before_it_is_used_up(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_reader, "_LARGEST_WINDOW", 100_000)
    reader = GrpcReader("localhost:1", "/package.Service/Method", "secret")
    reader.connection_made(cast(Any, wire))
    pending = reader.call(b"")
    wire.take()
    left = 100_000
    for _ in range(70):
        reader.data_received(frame(DATA, 0, 1, bytes(16_000)))
        left -= 16_000
        assert left > 0
        for at in range(0, len(wire.written), 13):
            assert wire.written[at + 3] == WINDOW_UPDATE
            left += int.from_bytes(wire.written[at + 9 : at + 13])
        assert left <= 100_000
        wire.take()
    pending.cancel()


def test_long_header_values_survive() -> None:
    for size in (0, 126, 127, 128, 300, 1_000):
        assert Decoder().decode(literals({"x": "v" * size})) == {"x": "v" * size}

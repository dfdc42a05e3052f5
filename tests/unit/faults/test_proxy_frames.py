"""Frames in the fault proxy: cut right wherever the network cuts them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import mqtt5
from hypothesis import given
from hypothesis import strategies as st

from loadtests.driver.grpc_reader import frame
from loadtests.driver.hpack import literals
from tests.faults.proxy_frames import (
    PREFACE,
    DropRule,
    Frames,
    HttpClientFrames,
    HttpServerFrames,
    Kind,
    MqttFrames,
)

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, END_HEADERS = 0x1, 0x4
TABLE_OF_NOTHING = b"\0\1\0\0\0\0"

cuts = st.lists(st.integers(min_value=0, max_value=600), max_size=40)


def fed(frames: Frames, data: bytes, cuts: Sequence[int]) -> bytes:
    """What passes of the data when it comes in pieces."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return b"".join(frames.feed(data[start:end]) for start, end in pairwise(places))


def publish(number: int) -> bytes:
    return mqtt5.PublishPacket(
        "a/topic", bytes([0x40]) * (number * 97 % 400), qos=mqtt5.QoS.AT_LEAST_ONCE, packet_id=number
    ).write()


def puback(number: int) -> bytes:
    return mqtt5.PubAckPacket(number).write()


@given(cuts=cuts, every=st.integers(min_value=1, max_value=4))
def test_pubacks_are_taken_whole_and_nothing_else_is(cuts: list[int], every: int) -> None:
    rule = DropRule(Kind.PUBACK, every)
    numbers = range(1, 13)
    data = b"".join(publish(number) + puback(number) for number in numbers)
    expected = b"".join(publish(number) + (puback(number) if number % every else b"") for number in numbers)
    assert fed(MqttFrames(lambda: rule), data, cuts) == expected
    assert rule.dropped == len(numbers) // every
    other = DropRule(Kind.GRPC_ANSWER, 1)
    assert fed(MqttFrames(lambda: other), data, cuts) == data


@given(cuts=cuts)
def test_a_client_is_made_to_keep_no_header_table(cuts: list[int]) -> None:
    own = b"\0\4\0\0\xff\xff"
    rest = frame(HEADERS, END_HEADERS, 1, literals({"a": "b"})) + frame(SETTINGS, 1, 0, b"")
    frames = HttpClientFrames()
    assert fed(frames, PREFACE + frame(SETTINGS, 0, 0, own) + rest, cuts) == (
        PREFACE + frame(SETTINGS, 0, 0, own + TABLE_OF_NOTHING) + rest
    )
    assert fed(HttpClientFrames(), PREFACE + frame(SETTINGS, 0, 0, b"") + rest, cuts) == (
        PREFACE + frame(SETTINGS, 0, 0, TABLE_OF_NOTHING) + rest
    )
    assert frames.inject(b"own") == b"own"


@given(cut=st.integers(min_value=1, max_value=20))
def test_an_own_frame_waits_for_the_end_of_the_one_under_way(cut: int) -> None:
    frames = HttpClientFrames()
    frames.feed(PREFACE + frame(SETTINGS, 0, 0, b""))
    under_way = frame(DATA, 0, 1, b"hello, world")
    passed = frames.feed(under_way[:cut])
    assert frames.inject(b"own") == b""
    assert passed + frames.feed(under_way[cut:] + under_way) == under_way + b"own" + under_way


def answer(stream: int) -> bytes:
    """Head, body in two frames, trailers."""
    return (
        frame(HEADERS, END_HEADERS, stream, literals({":status": "200"}))
        + frame(DATA, 0, stream, bytes([stream]) * 50)
        + frame(DATA, 0, stream, bytes([stream]) * 70)
        + frame(HEADERS, END_HEADERS | END_STREAM, stream, literals({"grpc-status": "0"}))
    )


@given(cuts=cuts)
def test_a_lost_answer_is_lost_to_its_last_frame_and_gives_its_window_back(cuts: list[int]) -> None:
    credits: list[bytes] = []
    rule = DropRule(Kind.GRPC_ANSWER, 2)
    frames = HttpServerFrames(lambda: rule, credits.append)
    ping, late_reset = frame(PING, 0, 0, b"12345678"), frame(RST_STREAM, 0, 3, bytes(4))
    data = answer(1) + answer(3) + ping + late_reset + answer(5) + answer(7)
    assert fed(frames, data, cuts) == answer(1) + ping + answer(5)
    assert credits == [frame(WINDOW_UPDATE, 0, 0, n.to_bytes(4)) for n in (50, 70, 50, 70)]


def test_an_answer_under_way_is_not_lost_when_losing_begins() -> None:
    rules: list[DropRule] = []
    frames = HttpServerFrames(lambda: rules[-1] if rules else None, credit=lambda _: None)
    first = answer(1)
    passed = frames.feed(first[:60])
    rules.append(DropRule(Kind.GRPC_ANSWER, 1))
    assert passed + frames.feed(first[60:]) == first
    assert frames.feed(answer(3)) == b""

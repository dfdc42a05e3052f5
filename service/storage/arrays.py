"""Parameters in PostgreSQL's binary format, arrays in one go: psycopg's own way costs three times as much."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import ClassVar
from uuid import UUID

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format

_HEADER = struct.Struct(">iiIii")
_LENGTH = struct.Struct(">i")
_UUID_LENGTH = _LENGTH.pack(16)


class PackedArray:
    """A one-dimensional array without NULLs in PostgreSQL's binary format."""

    element_oid: ClassVar[int]
    array_oid: ClassVar[int]
    __slots__ = ("data",)

    def __init__(self, count: int, body: bytes) -> None:
        # Dimensions, whether there are NULLs, type, length, lower bound.
        self.data = (
            _HEADER.pack(1, 0, self.element_oid, count, 1) + body
            if count
            else _HEADER.pack(0, 0, self.element_oid, 0, 0)[:12]
        )


class Packed:
    """A single value in PostgreSQL's binary format: a UUID's bytes, UTF-8, bytes."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


def packed_bigint(value: int) -> Packed:
    """An `int8`; raises `OverflowError` for what does not fit in 64 bits."""
    return Packed(value.to_bytes(8, "big", signed=True))


class UuidArray(PackedArray):
    """`uuid[]`."""

    element_oid, array_oid = 2950, 2951
    __slots__ = ()

    def __init__(self, values: Iterable[UUID]) -> None:
        parts = [value.int.to_bytes(16, "big") for value in values]
        super().__init__(len(parts), _UUID_LENGTH + _UUID_LENGTH.join(parts))


class IntArray(PackedArray):
    """`int4[]`; raises `struct.error` for what does not fit in 32 bits."""

    element_oid, array_oid = 23, 1007
    __slots__ = ()

    def __init__(self, values: Sequence[int]) -> None:
        numbers = [4] * (2 * len(values))
        numbers[1::2] = values
        super().__init__(len(values), struct.pack(f">{len(numbers)}i", *numbers))


class BigIntArray(PackedArray):
    """`int8[]`; raises `OverflowError` for what does not fit in 64 bits."""

    element_oid, array_oid = 20, 1016
    __slots__ = ()

    def __init__(self, values: Sequence[int]) -> None:
        body = b"".join([b"\0\0\0\x08" + value.to_bytes(8, "big", signed=True) for value in values])
        super().__init__(len(values), body)


class ByteaArray(PackedArray):
    """`bytea[]`."""

    element_oid, array_oid = 17, 1001
    __slots__ = ()

    def __init__(self, values: Iterable[bytes]) -> None:
        parts = [_LENGTH.pack(len(value)) + value for value in values]
        super().__init__(len(parts), b"".join(parts))


class TextArray(PackedArray):
    """`text[]`; PostgreSQL refuses a text with U+0000."""

    element_oid, array_oid = 25, 1009
    __slots__ = ()

    def __init__(self, values: Iterable[str]) -> None:
        encoded = [value.encode() for value in values]
        super().__init__(len(encoded), b"".join([_LENGTH.pack(len(text)) + text for text in encoded]))


class BoolArray(PackedArray):
    """`boolean[]`."""

    element_oid, array_oid = 16, 1000
    __slots__ = ()

    def __init__(self, values: Sequence[bool]) -> None:
        body = b"".join([b"\0\0\0\x01\x01" if value else b"\0\0\0\x01\x00" for value in values])
        super().__init__(len(values), body)


class _PackedDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Packed | PackedArray) -> bytes:
        return obj.data


# A single value's type is what the statement casts it to.
psycopg.adapters.register_dumper(Packed, _PackedDumper)
for _array in (UuidArray, IntArray, BigIntArray, ByteaArray, TextArray, BoolArray):
    psycopg.adapters.register_dumper(
        _array, type(f"_{_array.__name__}Dumper", (_PackedDumper,), {"oid": _array.array_oid})
    )

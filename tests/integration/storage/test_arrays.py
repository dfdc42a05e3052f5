"""Array parameters as PostgreSQL reads them."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from service.storage.arrays import (
    BigIntArray,
    BoolArray,
    ByteaArray,
    IntArray,
    PackedArray,
    TextArray,
    UuidArray,
)

TEXTS = ["", " ", "NULL", "{a,b}", '"quoted"\\', "שלום", "😀", "e\u0301", "\u0001\u2028", "x" * 20_000]
UUIDS = [UUID(int=0), UUID(int=2**128 - 1), *(uuid4() for _ in range(5))]

CASES = [
    pytest.param(UuidArray, "uuid[]", UUIDS, id="uuid"),
    pytest.param(IntArray, "integer[]", [0, 1, -1, 2**31 - 1, -(2**31)], id="integer"),
    pytest.param(BigIntArray, "bigint[]", [0, 1, -1, 2**63 - 1, -(2**63)], id="bigint"),
    pytest.param(ByteaArray, "bytea[]", [b"", b"\0", bytes(range(256)), b"x" * 70_000], id="bytea"),
    pytest.param(TextArray, "text[]", TEXTS, id="text"),
    pytest.param(BoolArray, "boolean[]", [True, False, False, True], id="boolean"),
]


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as opened:
        yield opened


async def read_back(connection: psycopg.AsyncConnection[Any], array: PackedArray) -> tuple[str, list[Any]]:
    """The type that PostgreSQL takes the parameter for without being told, and what is in it."""
    cursor = await connection.execute("SELECT pg_typeof(%b)::text, %b", (array, array))
    row = await cursor.fetchone()
    assert row is not None
    name, values = row
    return name, values


@pytest.mark.parametrize(("kind", "name", "values"), CASES)
@pytest.mark.parametrize("count", ["none", "one", "all", "many"])
async def test_arrays_arrive_as_they_are(
    connection: psycopg.AsyncConnection[Any], kind: type[Any], name: str, values: list[Any], count: str
) -> None:
    sent = {"none": [], "one": values[:1], "all": values, "many": (values * 3_000)[:3_000]}[count]
    if count == "many":
        sent = [value for value in sent if not isinstance(value, str | bytes) or len(value) < 1_000]
    assert await read_back(connection, kind(sent)) == (name, sent)


@pytest.mark.parametrize(("kind", "name", "values"), CASES)
async def test_arrays_are_ordinary_ones_to_sql(
    connection: psycopg.AsyncConnection[Any], kind: type[Any], name: str, values: list[Any]
) -> None:
    """With one dimension, counted from 1: what the statements' subscripts and unnest rely on."""
    cursor = await connection.execute(
        f"SELECT array_ndims(a), array_lower(a, 1), cardinality(a), a[1], a = a || '{{}}'::{name}, "
        f"(SELECT count(*) FROM unnest(a)) FROM (SELECT %b::{name} AS a) AS parameter",
        (kind(values),),
    )
    expected = (1, 1, len(values), values[0], True, len(values))
    assert await cursor.fetchone() == expected
    cursor = await connection.execute(
        f"SELECT array_ndims(a), cardinality(a), a = '{{}}' FROM (SELECT %b::{name} AS a) AS parameter",
        (kind([]),),
    )
    assert await cursor.fetchone() == (None, 0, True)


async def test_arrays_take_what_can_be_read_once(connection: psycopg.AsyncConnection[Any]) -> None:
    for array, values in (
        (UuidArray(iter(UUIDS)), UUIDS),
        (TextArray(iter(TEXTS)), TEXTS),
        (ByteaArray(iter([b"a", b"b"])), [b"a", b"b"]),
    ):
        assert (await read_back(connection, array))[1] == values


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1])
def test_what_does_not_fit_into_an_integer_is_refused(value: int) -> None:
    with pytest.raises(struct.error):
        IntArray([1, value])


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1])
def test_what_does_not_fit_into_a_bigint_is_refused(value: int) -> None:
    with pytest.raises((struct.error, OverflowError)):
        BigIntArray([1, value])


async def test_a_text_that_postgresql_cannot_hold_is_refused_by_it(
    connection: psycopg.AsyncConnection[Any],
) -> None:
    with pytest.raises(psycopg.DataError):
        await read_back(connection, TextArray(["a\0b"]))

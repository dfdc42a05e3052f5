"""What tests ask a directly driven connection."""

from __future__ import annotations

from service.storage.arrays import Packed
from service.storage.direct import DirectConnection

STATEMENTS = {
    "echo": "SELECT $1::text",
    "lengths": "SELECT length(t)::int4 FROM unnest($1::text[]) AS t",
    "divide": "SELECT 1 / n FROM unnest($1::int4[]) AS n",
    "sleep": "SELECT pg_sleep($1::text::float8)::text",
    "whoami": "SELECT pg_backend_pid()",
}


async def echo(connection: DirectConnection, word: str) -> str:
    """Asks for a word and gets it back."""
    ((answer,),) = await connection.execute("echo", [Packed(word.encode())])
    return str(answer)

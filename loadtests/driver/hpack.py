"""Header compression of HTTP/2 (RFC 7541), as far as gRPC peers need it: no Huffman code."""

from __future__ import annotations

from collections.abc import Mapping

_STATIC_ENTRIES = 61
_TABLE_BYTES = 4_096
_ENTRY_OVERHEAD = 32
# Of the static table, what a gRPC server refers to.
_STATIC: Mapping[int, tuple[str, str]] = {
    8: (":status", "200"),
    26: ("accept-encoding", ""),
    28: ("content-length", ""),
    31: ("content-type", ""),
}


def literals(headers: Mapping[str, str]) -> bytes:
    """A block that spells every header out and has the peer remember it."""
    return b"".join(
        b"\x40" + _string(name.encode()) + _string(value.encode()) for name, value in headers.items()
    )


def indexed(count: int) -> bytes:
    """The block that stands for the `count` headers that `literals` was the first to send, in order."""
    return bytes(0x80 | (_STATIC_ENTRIES + count - number) for number in range(count))


class Decoder:
    """Decodes header blocks of one peer, in the order in which they came."""

    def __init__(self) -> None:
        self._entries: list[tuple[str, str]] = []

    def decode(self, block: bytes) -> dict[str, str]:
        """The headers of a block; raises `ValueError` or `IndexError` for what is not understood."""
        return self.decode_noting_changes(block)[0]

    def decode_noting_changes(self, block: bytes) -> tuple[dict[str, str], bool]:
        """The same, and whether the block changed what later indexes stand for."""
        headers: dict[str, str] = {}
        changed = False
        at = 0
        while at < len(block):
            first = block[at]
            if first & 0x80:
                index, at = _integer(block, at, 7)
                name, value = self._entry(index)
            elif first & 0xE0 == 0x20:
                size, at = _integer(block, at, 5)
                if size > _TABLE_BYTES:
                    raise ValueError("a larger table than was offered")
                continue
            else:
                remembered = bool(first & 0x40)
                index, at = _integer(block, at, 6 if remembered else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _text(block, at)
                value, at = _text(block, at)
                if remembered:
                    self._remember((name, value))
                    changed = True
            headers[name] = value
        return headers, changed

    def _entry(self, index: int) -> tuple[str, str]:
        if index > _STATIC_ENTRIES:
            return self._entries[index - _STATIC_ENTRIES - 1]
        if index not in _STATIC:
            raise ValueError(f"static header {index}")
        return _STATIC[index]

    def _remember(self, entry: tuple[str, str]) -> None:
        self._entries.insert(0, entry)
        while sum(len(name) + len(value) + _ENTRY_OVERHEAD for name, value in self._entries) > _TABLE_BYTES:
            self._entries.pop()


def _integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    limit = (1 << bits) - 1
    value = block[at] & limit
    at += 1
    if value < limit:
        return value, at
    shift = 0
    while True:
        value += (block[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not block[at - 1] & 0x80:
            return value, at


def _text(block: bytes, at: int) -> tuple[str, int]:
    if block[at] & 0x80:
        raise ValueError("Huffman code")
    size, at = _integer(block, at, 7)
    if at + size > len(block):
        raise ValueError("a header is cut off")
    return block[at : at + size].decode(), at + size


def _string(value: bytes) -> bytes:
    size = len(value)
    if size < 0x7F:
        return bytes((size,)) + value
    size -= 0x7F
    encoded = bytearray((0x7F,))
    while size >= 0x80:
        encoded.append(size & 0x7F | 0x80)
        size >>= 7
    encoded.append(size)
    return bytes(encoded) + value

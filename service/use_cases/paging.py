"""How many rows one page holds."""

from __future__ import annotations

from service.domain.errors import ErrorCode, Rejected

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 100


def page_limit(page_size: int) -> int:
    """Rows of a page for a requested size, where 0 stands for the default.

    Raises `Rejected(INVALID_PAYLOAD)` outside 0..100.
    """
    if not 0 <= page_size <= MAX_PAGE_SIZE:
        raise Rejected(ErrorCode.INVALID_PAYLOAD, f"page_size is not between 1 and {MAX_PAGE_SIZE}")
    return page_size or DEFAULT_PAGE_SIZE

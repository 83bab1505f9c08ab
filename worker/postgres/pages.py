"""Where a page of a read begins: behind the item that the page before ended with."""

from collections.abc import Callable
from typing import Any

from penstock.worker.sending.reads import Asked, ReadRefused

_BETWEEN = "\n"


def place(*parts: object) -> str:
    """The place of an item, made of what its read is ordered by."""
    return _BETWEEN.join(map(str, parts))


def behind(asked: Asked, *kinds: Callable[[str], Any]) -> list[Any]:
    """The parts of the place that is asked for, read by ``kinds``; each None for the first page.

    Raises ReadRefused.
    """
    if not asked.after:
        return [None] * len(kinds)
    try:
        parts = zip(kinds, asked.after.split(_BETWEEN), strict=True)
        return [kind(part) for kind, part in parts]
    except ValueError as error:
        raise ReadRefused(400, f"after = {asked.after!r} is no page of this read") from error

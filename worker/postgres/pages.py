"""Pages of a read: where one begins, behind the item that the page before ended with, and the query
for it. Only what is asked for is in the query, so that PostgreSQL keeps one plan for each way to
ask, by the index that suits it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from penstock.worker.sending.reads import Asked, ReadRefused

_parts = msgspec.json.Decoder(list[str]).decode


def place(*parts: object) -> str:
    """The place of an item, made of what its read is ordered by."""
    return msgspec.json.encode([str(part) for part in parts]).decode()


def behind(asked: Asked, *kinds: Callable[[str], Any]) -> list[Any]:
    """The parts of the place that is asked for, read by ``kinds``; each None for the first page.

    Raises ReadRefused.
    """
    if not asked.after:
        return [None] * len(kinds)
    try:
        parts = zip(kinds, _parts(asked.after), strict=True)
        return [kind(part) for kind, part in parts]
    except (msgspec.MsgspecError, ValueError) as error:
        raise ReadRefused(400, f"after = {asked.after!r} is no page of this read") from error


def filled(
    query: str, conditions: Mapping[str, Sequence[Any]], **named: Any
) -> tuple[str, Sequence[Any]]:
    """The query with its arguments: ``{where}`` becomes those of ``conditions`` that have a value,
    ``{limit}`` the argument that is so ``named``.
    """
    given = list(named.values())
    where: list[str] = []
    for condition, values in conditions.items():
        if values[0] is not None:
            where.append(condition.format(*_numbers(len(given), len(values))))
            given += values
    places = dict(zip(named, _numbers(0, len(named)), strict=True))
    return query.format(where=" AND ".join(where) or "true", **places), given


def _numbers(before: int, count: int) -> Sequence[str]:
    return [f"${number}" for number in range(before + 1, before + count + 1)]

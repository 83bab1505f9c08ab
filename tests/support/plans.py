"""What PostgreSQL looked at to answer a query."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg


async def looked_at(
    connection: asyncpg.Connection, query: str, given: Sequence[Any]
) -> Counter[str]:
    """How many rows, by the table, whose partitions have its name before ``_``."""
    plain = [one.decode() if isinstance(one, bytes) else one for one in given]
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *plain)
    found = Counter[str]()
    for scan in _scans(json.loads(plan)[0]["Plan"]):
        found[scan["Relation Name"].partition("_")[0]] += _rows_of(scan)
    return found


def _scans(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "Relation Name" in node:
        yield node
    for below in node.get("Plans", ()):
        yield from _scans(below)


def _rows_of(scan: Mapping[str, Any]) -> int:
    each = float(scan["Actual Rows"]) + float(scan.get("Rows Removed by Filter", 0))
    return round(each * float(scan["Actual Loops"]))

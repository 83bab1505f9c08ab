"""What PostgreSQL looked at to answer a query."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import asyncpg


async def looked_at(
    connection: asyncpg.Connection, query: str, given: Sequence[Any]
) -> Counter[str]:
    """How many rows, by the table, whose partitions have its name before ``_``; with the plan for
    any arguments or with that for these, whichever looks at more.
    """
    await connection.execute(f"PREPARE looking AS {query}")
    found = Counter[str]()
    for mode in ("custom", "generic"):
        await connection.execute(f"SET plan_cache_mode = force_{mode}_plan")
        plan = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE looking({', '.join(map(_literal, given))})"
        )
        found |= _rows(json.loads(plan)[0]["Plan"])
    await connection.execute("DEALLOCATE looking")
    return found


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(_literal, value))}]"
    text = value.decode() if isinstance(value, bytes) else str(value)
    return f"'{text}'"


def _rows(plan: Mapping[str, Any]) -> Counter[str]:
    found = Counter[str]()
    for scan in _scans(plan):
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

"""received = new + duplicate + letters, of everything that workers did in a test.

Whoever runs a worker asks for it at the end: every test with a worker is a test of the counts.
"""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

_COUNTS = ("messages", "new", "duplicate", "dead_letters")
_count = {name: re.compile(rf'\b{name}"?[=:] ?(\d+)\b').search for name in _COUNTS}


def balance_of(log: Path) -> tuple[int, int, int, int]:
    """What the workers of a log settled: messages, new, duplicates, letters. Fails where one batch
    does not come out even.
    """
    total = (0, 0, 0, 0)
    lines = log.read_bytes().split(b"\n")[:-1] if log.exists() else []
    for line in lines:  # the last may have been cut off by a kill
        if b"batch_written" in line:
            counts = _counts(line.decode())
            assert counts[0] == sum(counts[1:]), f"received is not what became of it: {line!r}"
            total = _add(total, counts)
    return total


def _counts(line: str) -> tuple[int, int, int, int]:
    messages, new, duplicate, letters = [int(_found(name, line)[1]) for name in _COUNTS]
    return messages, new, duplicate, letters


def _found(name: str, line: str) -> re.Match[str]:
    found = _count[name](line)
    assert found is not None, f"{name} is missing in {line!r}"
    return found


def _add(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])


def check_metrics(registry: CollectorRegistry) -> None:
    """The counters of every stream agree: received, outcomes, reasons."""
    sums: dict[tuple[str, str], float] = {}
    rejected: dict[str, float] = {}
    for family in registry.collect():
        for sample in family.samples:
            key = (sample.name, sample.labels.get("source", ""))
            sums[key] = sums.get(key, 0.0) + sample.value
            if sample.labels.get("outcome") == "rejected":
                rejected[key[1]] = sample.value
    for (name, source), received in sums.items():
        if name == "penstock_received_total":
            assert received == sums["penstock_events_total", source], source
            assert rejected[source] == sums.get(("penstock_rejected_total", source), 0.0), source

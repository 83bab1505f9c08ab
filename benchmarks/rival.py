"""The ways that Penstock is compared with. Each runs in its own process.

``python -m benchmarks.rival JOB``, where JOB is a `Job` as JSON. A rival runs until it is stopped.
If it cannot be watched from outside, it prints a line ``begin`` and a line ``end``.
"""

import asyncio
import importlib
import sys
from importlib.util import find_spec

import msgspec

from benchmarks.go_build import built


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What a rival has to do: drain ``count`` messages into the database.

    ``durable`` is its consumer on each of ``streams``, or its queue on RabbitMQ.
    """

    way: str
    dsn: str
    workload: str
    count: int
    streams: tuple[str, ...] = ()
    durable: str = ""
    nats_url: str = ""
    rabbitmq_url: str = ""


WAYS = {
    "copy": "benchmarks.ways_copy",
    "stock": "benchmarks.ways_nats",
    "staged": "benchmarks.ways_nats",
    "faststream": "benchmarks.ways_faststream",
    "callback": "benchmarks.ways_rabbitmq",
    "consume": "benchmarks.ways_rabbitmq",
}
"""For each way, the module with a coroutine of that name, which takes the `Job`."""

GO = "go"
"""The way that is a program of its own; see `benchmarks.go_build`."""

SELF_TIMED = frozenset({"copy", "callback", "consume"})
"""Those that print when they begin and end."""


def missing(way: str) -> str | None:
    """Why a way cannot be run, or None."""
    if way == "faststream" and find_spec("faststream") is None:
        return "FastStream is not installed"
    if way == GO and isinstance(program := built(), str):
        return program
    return None


def mark(word: str) -> None:
    """Tell the process that started this rival that the measured part begins or ends."""
    print(word, flush=True)


def main() -> None:
    job = msgspec.json.decode(sys.argv[1], type=Job)
    asyncio.run(getattr(importlib.import_module(WAYS[job.way]), job.way)(job))


if __name__ == "__main__":
    main()

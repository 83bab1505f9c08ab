"""What is published: events of one kind, as bytes, with their subjects."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from worker.ports import Message

Workload = Callable[[int], Iterator[Message]]

_AGENTS = [str(UUID(int=(7 << 100) + n)) for n in range(500)]
_TASKS = 50_000


def _event(kind: str, subject: str, number: int, version: int, data: object) -> Message:
    domain, _, verb = kind.partition(".")
    began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    body = {
        "specversion": "1.0",
        "id": str(UUID(int=(0x0192 << 112) + (7 << 76) + (2 << 62) + number)),
        "source": f"/agents/{_AGENTS[number % len(_AGENTS)]}",
        "type": kind,
        "subject": subject,
        "time": (began + timedelta(milliseconds=number)).isoformat(),
        "sequence": version,
        "data": data,
    }
    return Message(subject=f"{domain}.{subject}.{verb}", body=msgspec.json.encode(body))


def heartbeats(count: int) -> Iterator[Message]:
    """`agents.heartbeat` of 500 agents in turn: append, folded state, KV."""
    for n in range(count):
        data = {"status": "busy", "load": 0.25, "metrics": {"queue": 3.0, "rss_mb": 212.5}}
        yield _event("agents.heartbeat", _AGENTS[n % len(_AGENTS)], n, 0, data)


def task_updates(count: int) -> Iterator[Message]:
    """`tasks.updated` of 50,000 tasks in turn: append, wide upserts."""
    for n in range(count):
        data = {
            "status": "running",
            "priority": 4,
            "assigned_to": _AGENTS[n % len(_AGENTS)],
            "result": {"step": n // _TASKS, "note": "tests are running"},
        }
        task = str(UUID(int=(9 << 100) + n % _TASKS))
        yield _event("tasks.updated", task, n, n // _TASKS + 1, data)


WORKLOADS: dict[str, tuple[str, Workload]] = {
    "heartbeats": ("AGENT_STATE", heartbeats),
    "task updates": ("TASK_EXECUTION", task_updates),
}
"""Name to stream and generator."""

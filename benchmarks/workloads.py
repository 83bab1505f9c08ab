"""What is published: events as bytes, generated from a number, so that all runs have the same."""

import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import NamedTuple
from uuid import UUID

import msgspec

from benchmarks.mix import WORDS, run
from penstock.schemas.streams import STREAM_OF

_TASKS = 50_000
_AGENTS = 500
_PAYLOADS = 200
"""Number of different texts; making one for every event would take longer than storing it."""


class Made(NamedTuple):
    """A message to publish. ``event_id`` is None if it cannot be read."""

    subject: str
    body: bytes
    event_id: str | None

    @property
    def stream(self) -> str:
        """The stream that takes it."""
        return STREAM_OF[self.subject.partition(".")[0]]


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """``make`` generates a number of messages, by default ``count``; slow ways drain only the last
    ``part``. ``ways`` lists the ways to compare. With ``replayed`` the database has everything
    before the measured runs begin.
    """

    title: str
    make: Callable[[int], Iterator[Made]]
    count: int
    part: int
    ways: tuple[str, ...]
    replayed: bool = False

    def scaled(self, factor: float) -> "Workload":
        """The same with other counts, in multiples of the 500 messages that some ways fetch."""
        count = max(500, round(self.count * factor / 500) * 500)
        part = max(500, round(self.part * factor / 500) * 500)
        return msgspec.structs.replace(self, count=count, part=part)


def agent(number: int) -> str:
    """The UUID of an agent."""
    return str(UUID(int=(7 << 100) + number))


class Writer:
    """Makes events whose ids and times grow with their number, from half an hour ago on."""

    def __init__(self) -> None:
        self._began = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)

    def event(
        self, number: int, kind: str, subject: str, data: object, *, sequence: int = 0, **more: str
    ) -> Made:
        """Event ``number``; ``more`` are further attributes."""
        domain, _, verb = kind.partition(".")
        event_id = str(UUID(int=(0x0192 << 112) + (7 << 76) + (2 << 62) + number))
        body = {
            "specversion": "1.0",
            "id": event_id,
            "source": f"/agents/{agent(number % _AGENTS)}",
            "type": kind,
            "subject": subject,
            "time": (self._began + timedelta(milliseconds=number)).isoformat(),
            **({"sequence": sequence} if sequence else {}),
            **more,
            "data": data,
        }
        return Made(f"{domain}.{subject}.{verb}", msgspec.json.encode(body), event_id)


def heartbeats(count: int, agents: int = _AGENTS) -> Iterator[Made]:
    """`agents.heartbeat` of ``agents`` in turn: history, folded state, bucket."""
    writer = Writer()
    for n in range(count):
        data = {"status": "busy", "load": 0.25, "metrics": {"queue": 3.0, "rss_mb": 212.5}}
        yield writer.event(n, "agents.heartbeat", agent(n % agents), data)


def task_updates(count: int) -> Iterator[Made]:
    """`tasks.updated` of 50,000 tasks in turn: history, wide upserts."""
    writer = Writer()
    for n in range(count):
        data = {
            "status": "running",
            "priority": 4,
            "assigned_to": agent(n % _AGENTS),
            "result": {"step": n // _TASKS, "note": "tests are running"},
        }
        task = str(UUID(int=(9 << 100) + n % _TASKS))
        yield writer.event(n, "tasks.updated", task, data, sequence=n // _TASKS + 1)


def messages(count: int) -> Iterator[Made]:
    """`messages.sent`: one row each in a partitioned state table, which is the only record."""
    writer = Writer()
    for n in range(count):
        recipient = agent((n + 1) % _AGENTS)
        data = {
            "message_id": str(UUID(int=(11 << 100) + n)),
            "from_id": agent(n % _AGENTS),
            "to_kind": "agent",
            "to_id": recipient,
            "kind": "command",
            "subject": "action",
            "payload": {"action": "run the tests", "step": n},
        }
        yield writer.event(n, "messages.sent", recipient, data)


def mix(count: int) -> Iterator[Made]:
    """What 100 agents at a time publish while they solve issues; see `benchmarks.mix`."""
    writer, chosen = Writer(), random.Random(2)
    runs = [run(chosen, agent(n), str(UUID(int=(9 << 100) + n))) for n in range(100)]
    begun = len(runs)
    for n in range(count):
        place = n % len(runs)
        said = next(runs[place], None)
        while said is None:
            runs[place] = run(chosen, agent(begun), str(UUID(int=(9 << 100) + begun)))
            begun += 1
            said = next(runs[place], None)
        yield writer.event(
            n, said.kind, said.subject, said.data, sequence=said.sequence, correlationid=said.task
        )


def repeated(count: int) -> Iterator[Made]:
    """Heartbeats; every tenth message repeats one of the last 10,000 events."""
    chosen, sent = random.Random(3), list[Made]()
    fresh = heartbeats(count)
    for n in range(count):
        if n % 10 == 9:
            yield sent[chosen.randrange(max(0, len(sent) - 10_000), len(sent))]
        else:
            sent.append(next(fresh))
            yield sent[-1]


def poisoned(count: int) -> Iterator[Made]:
    """Heartbeats; every hundredth message is cut off in the middle."""
    for n, made in enumerate(heartbeats(count)):
        torn = Made(made.subject, made.body[: len(made.body) // 2], None)
        yield torn if n % 100 == 99 else made


def payloads(count: int, size: int) -> Iterator[Made]:
    """`agents.activity` with ``size`` bytes of free-form details: history, state, bucket."""
    writer, chosen = Writer(), random.Random(4)
    texts = [" ".join(chosen.choices(WORDS, k=size // 5))[:size] for _ in range(_PAYLOADS)]
    for n in range(count):
        data = {"activity_type": "thought", "details": {"step": n, "text": texts[n % _PAYLOADS]}}
        yield writer.event(n, "agents.activity", agent(n % _AGENTS), data)


_ALL = ("penstock", "copy", "go", "faststream", "stock", "staged")
_MOST = ("penstock", "copy", "go", "faststream", "staged")
_FEW = ("penstock", "copy", "faststream")
_TWO = ("penstock", "faststream")

WORKLOADS: dict[str, Workload] = {
    "heartbeats": Workload(
        title="heartbeats of 500 agents",
        make=heartbeats,
        count=150_000,
        part=20_000,
        ways=_ALL,
    ),
    "mix": Workload(
        title="everything that real agents publish",
        make=mix,
        count=80_000,
        part=15_000,
        ways=_MOST,
    ),
    "tasks": Workload(
        title="updates of 50,000 tasks",
        make=task_updates,
        count=50_000,
        part=10_000,
        ways=_FEW,
    ),
    "messages": Workload(
        title="messages between 500 agents",
        make=messages,
        count=50_000,
        part=10_000,
        ways=_FEW,
    ),
    "duplicates": Workload(
        title="heartbeats, 10 % delivered twice",
        make=repeated,
        count=50_000,
        part=10_000,
        ways=_TWO,
    ),
    "replay": Workload(
        title="heartbeats that are all stored already",
        make=heartbeats,
        count=100_000,
        part=10_000,
        ways=_TWO,
        replayed=True,
    ),
    "poison": Workload(
        title="heartbeats, 1 % of them unreadable",
        make=poisoned,
        count=50_000,
        part=10_000,
        ways=_TWO,
    ),
    "4KB": Workload(
        title="activities with 4 KB of details",
        make=partial(payloads, size=4_096),
        count=10_000,
        part=5_000,
        ways=_FEW,
    ),
    "64KB": Workload(
        title="activities with 64 KB of details",
        make=partial(payloads, size=65_536),
        count=1_000,
        part=500,
        ways=_FEW,
    ),
}
"""The workloads, by their names for ``--only``."""

"""``penstock status``: how a running deployment does, from PostgreSQL and the brokers alone."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.ports import Waiting
from penstock.worker.brokers.scope import Scope
from penstock.worker.commands.columns import columns
from penstock.worker.ops.presence import BEAT_SECONDS
from penstock.worker.postgres.alerts import REMEDY, open_alerts
from penstock.worker.postgres.jobs import derive_problems
from penstock.worker.postgres.offsets import PostgresOffsets
from penstock.worker.postgres.overview import Overview, Reader, Replica, Upcoming, overview
from penstock.worker.postgres.pool import database
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings

_SILENT_SECONDS = 3 * BEAT_SECONDS
_STALLED_SECONDS = 60.0
"""Something waits, and nothing was stored for this long: it is stalled."""
_SECOND_LOOK_SECONDS = 2.0
"""Where nobody tells how old a message is, it has to wait for so long before our eyes."""


class SourceState(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of one broker. What is None the broker does not tell."""

    transport: str
    stream: str
    pending: int
    ack_pending: int | None
    oldest_seconds: float | None
    last_commit: datetime | None
    readers: int


class Status(msgspec.Struct, frozen=True):
    """All there is to say at one moment; ``problems`` is what needs a person."""

    problems: tuple[str, ...]
    sources: tuple[SourceState, ...]
    replicas: tuple[Replica, ...]
    dead_letters: dict[str, int]
    partitions: tuple[Upcoming, ...]


async def status(settings: Settings, *, as_json: bool) -> int:
    """Print it; 0 if nothing needs a person, else 1. Raises PenstockError if it cannot look."""
    found = await look(settings)
    click.echo(msgspec.json.encode(found).decode() if as_json else _text(found), nl=as_json)
    return int(bool(found.problems))


async def look(settings: Settings) -> Status:
    """Ask PostgreSQL and every broker, once each: who looks wants to know that one is away.

    Raises Unavailable, TopologyError, MigrationError.
    """
    settings = msgspec.structs.replace(settings, start_timeout=0)
    await check_schema(settings, "status")
    waiting: dict[tuple[str, str], Waiting] = {}
    catalogue = Catalogue.load(settings.event_packages)
    async with database(settings) as pool, Scope(settings, catalogue) as scope:
        for name in settings.brokers:
            broker = await scope.broker(name)
            offsets = PostgresOffsets(pool, transport=broker.transport, worker_id="")
            for stream in scope.streams:
                found = await broker.waiting(stream, offsets)
                waiting[broker.transport, stream] = found
        known = await overview(pool)
        derived = [f"{text}; {remedy}" for text, remedy in await derive_problems(pool)]
        alerts = [f"{text}; {REMEDY}" for text in await open_alerts(pool)]
        sources = tuple(_source(key, found, known) for key, found in waiting.items())
        if any(_stalled(one) and one.oldest_seconds is None for one in sources):
            await asyncio.sleep(_SECOND_LOOK_SECONDS)  # it may have come this very moment
            known = await overview(pool)
            sources = tuple(_source(key, found, known) for key, found in waiting.items())
    problems = (*_problems(sources, known), *derived, *alerts)
    return Status(problems, sources, known.replicas, known.letters, known.partitions)


def _source(key: tuple[str, str], found: Waiting, known: Overview) -> SourceState:
    readings = [reading for _, reading in _living(known) if key == _key(reading)]
    moments = [known.commits.get(key), *(reading.settled_at for reading in readings)]
    latest = max((moment for moment in moments if moment is not None), default=None)
    return SourceState(
        transport=key[0],
        stream=key[1],
        pending=found.pending,
        ack_pending=found.ack_pending,
        oldest_seconds=None if found.oldest is None else max(0.0, time.time() - found.oldest),
        last_commit=None if latest is None else datetime.fromtimestamp(latest, UTC),
        readers=len(readings),
    )


def _living(known: Overview) -> Iterator[tuple[Replica, Reader]]:
    for replica in known.replicas:
        for reading in replica.sources if replica.silent_seconds < _SILENT_SECONDS else ():
            yield replica, reading


def _key(reading: Reader) -> tuple[str, str]:
    return reading.transport, reading.stream


def _problems(sources: tuple[SourceState, ...], known: Overview) -> Iterator[str]:
    for source in sources:
        name = f"{source.transport} {source.stream}"
        if not source.readers:
            yield f"{name}: no worker reads it; start one with `penstock run`"
        elif _stalled(source):
            yield f"{name}: {source.pending} messages wait and nothing is stored; see its /readyz"
    for status in ("kept", "rejected"):
        if count := known.letters.get(status):
            yield f"{count} dead letters are {status}; see `penstock dlq list --status {status}`"
    for due in known.partitions:
        if due.overdue:
            remedy = "run SELECT partitions.maintain(), and read PostgreSQL's log if it stays"
            yield f"{due.table}: {due.overdue} partitions are overdue; {remedy}"


def _stalled(source: SourceState) -> bool:
    if not source.pending and not source.ack_pending:
        return False
    waited = source.oldest_seconds is None or source.oldest_seconds > _STALLED_SECONDS
    quiet = source.last_commit is None or _ago(source.last_commit) > _STALLED_SECONDS
    return waited and quiet


def _ago(moment: datetime) -> float:
    return time.time() - moment.timestamp()


def _text(found: Status) -> str:
    parts = [
        columns(
            ("source", "pending", "ack pending", "oldest", "last commit", "workers"),
            map(_source_row, found.sources),
        ),
        columns(("worker", "host", "version", "state", "reads"), map(_replica_row, found.replicas))
        if found.replicas
        else "no worker has been seen\n",
        "dead letters: " + (_counts(found.dead_letters) or "none") + "\n",
        columns(
            ("partitions of", "to make", "overdue", "expired"),
            [(p.table, str(p.to_make), str(p.overdue), str(p.expired)) for p in found.partitions],
        )
        if found.partitions
        else "partitions: nothing is due\n",
        "".join(f"{click.style('problem', fg='red')} {text}\n" for text in found.problems)
        or f"{click.style('ok', fg='green')} nothing needs a person\n",
    ]
    return "\n".join(parts)


def _source_row(source: SourceState) -> tuple[str, ...]:
    return (
        f"{source.transport} {source.stream}",
        str(source.pending),
        _or_dash(source.ack_pending),
        _seconds(source.oldest_seconds),
        "-" if source.last_commit is None else f"{_seconds(_ago(source.last_commit))} ago",
        str(source.readers),
    )


def _replica_row(replica: Replica) -> tuple[str, ...]:
    silent = replica.silent_seconds >= _SILENT_SECONDS
    state = f"silent for {_seconds(replica.silent_seconds)}" if silent else "running"
    reads = ", ".join(reading.stream for reading in replica.sources)
    return replica.worker, replica.host, replica.version, state, reads


def _counts(letters: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in letters.items())


def _or_dash(number: int | None) -> str:
    return "-" if number is None else str(number)


def _seconds(seconds: float | None) -> str:
    """A length of time as a person says it."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"

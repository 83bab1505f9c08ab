"""Drains stored events in each of the ways in turn, and checks that all events arrived."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import count

import msgspec
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from benchmarks import watching
from benchmarks.measure import Figures, Meter
from benchmarks.processes import Failed, rival, worker
from benchmarks.rival import GO, SELF_TIMED, Job, missing
from benchmarks.servers import EMPTY, Servers, ask
from benchmarks.storing import Drained, Stored, store
from benchmarks.workloads import Workload

_EVENTS = """
SELECT (SELECT count(*) FROM agents.heartbeat) + (SELECT count(*) FROM events.log)
     + (SELECT count(*) FROM messages.message)
"""
_LETTERS = "SELECT count(*) FROM bus.dead_letter"
_FIRST_COMMIT = """
SELECT extract(epoch FROM min(pg_xact_commit_timestamp(xmin)))::float FROM agents.heartbeat
"""
_WHOLE = frozenset({"penstock", "copy", GO})
"""Ways that drain everything; the others are slow, and are measured on the last part."""

_numbers = count(1)

Outcome = Figures | str
"""What was measured, or why nothing was."""


def new_consumer(name: str) -> str:
    """A name that is not used yet, for a consumer or a bucket."""
    return f"{name}_{next(_numbers)}"


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A workload in the streams, and the database with which each measured run begins.

    ``bucket`` is the bucket to use; if it is empty, every run has its own, empty bucket.
    """

    name: str
    workload: Workload
    stored: Stored
    template: str = EMPTY
    bucket: str = ""


@contextlib.asynccontextmanager
async def prepared(servers: Servers, name: str, workload: Workload) -> AsyncIterator[Prepared]:
    """Publish a workload into empty streams; if it is a replay, also store it once."""
    await servers.forget()
    async with worker({"nats_url": servers.nats.url, "kv": "false"}, "provision") as process:
        await process.done()
    made = workload.make(workload.count)
    stored = await store(servers.nats.url, made, workload.count, workload.part)
    found = Prepared(name=name, workload=workload, stored=stored)
    if not workload.replayed:
        yield found
        return
    found = msgspec.structs.replace(found, bucket="filled")
    async with servers.database() as filled:
        await penstock(servers, found, filled)
        yield msgspec.structs.replace(found, template=filled.rpartition("/")[2])


async def compare(
    servers: Servers, found: Prepared, ways: Sequence[str], rounds: int
) -> dict[str, list[Outcome]]:
    """Every way ``rounds`` times in turn."""
    outcomes: dict[str, list[Outcome]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, seen in outcomes.items():
            seen.append(missing(way) or await _once(servers, found, way))
    return outcomes


async def _once(servers: Servers, found: Prepared, way: str) -> Outcome:
    async with servers.database(found.template) as dsn:
        try:
            if way == "penstock":
                return await penstock(servers, found, dsn)
            return await _rival(servers, found, dsn, way)
        except (Failed, TimeoutError) as error:
            return f"failed: {error!r}"


async def penstock(
    servers: Servers,
    found: Prepared,
    dsn: str,
    *,
    settings: Mapping[str, str] | None = None,
    processes: int = 1,
    part: bool = False,
) -> Figures:
    """Measure workers with their own consumer, until everything is written, mirrored and acked.

    With ``part``, drain only the last part of the workload.
    """
    durable = new_consumer("penstock")
    drained = found.stored.part if part else found.stored.whole
    if part:
        await _make_consumers(servers, durable, drained)
    bucket = found.bucket or durable
    environment = {
        "nats_url": servers.nats.url,
        "postgres_dsn": dsn,
        "consumer": durable,
        "kv_bucket": bucket,
        "streams": ",".join(drained.starts),
        **(settings or {}),
    }
    born, figures = await _run_workers(servers, environment, processes, durable, drained)
    await _check(dsn, drained, letters=drained.unreadable)
    if not found.bucket:
        await servers.js.delete_key_value(bucket)
    if found.name != "heartbeats":
        return figures
    startup = round(await ask(dsn, _FIRST_COMMIT) - born, 3)
    return msgspec.structs.replace(figures, startup_s=startup)


async def _run_workers(
    servers: Servers,
    environment: Mapping[str, str],
    processes: int,
    durable: str,
    drained: Drained,
) -> tuple[float, Figures]:
    """Run workers until everything is drained. Returns when the first was started, and figures."""
    async with contextlib.AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(worker(environment)) for _ in range(processes)]
        meter = Meter([one.pid for one in workers], servers.pids)
        figures = await watching.consumers(
            servers.js, durable, tuple(drained.starts), workers, meter
        )
        for one in workers:
            if code := await one.stop():
                raise Failed(f"a worker ended with {code}")
    return workers[0].born, figures


async def _rival(servers: Servers, found: Prepared, dsn: str, way: str) -> Figures:
    drained = found.stored.whole if way in _WHOLE else found.stored.part
    job = Job(
        way=way,
        dsn=dsn,
        workload=found.name,
        count=drained.messages,
        streams=tuple(drained.starts),
        durable=new_consumer(way),
        nats_url=servers.nats.url,
    )
    if way not in SELF_TIMED:
        await _make_consumers(servers, job.durable, drained)
    async with rival(job) as process:
        meter = Meter([process.pid], servers.pids)
        if way in SELF_TIMED:
            figures = await watching.lines(process, meter, job.count)
        else:
            figures = await watching.consumers(
                servers.js, job.durable, job.streams, [process], meter
            )
    await _check(dsn, found.stored.whole if found.workload.replayed else drained)
    return figures


async def _make_consumers(servers: Servers, durable: str, drained: Drained) -> None:
    for stream, sequence in drained.starts.items():
        config = ConsumerConfig(
            durable_name=durable,
            ack_policy=AckPolicy.EXPLICIT,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=sequence,
            max_ack_pending=20_000,
        )
        await servers.js.add_consumer(stream, config)


async def _check(dsn: str, drained: Drained, letters: int | None = None) -> None:
    """Raise Failed if not everything was stored: such a run does not count."""
    events = await ask(dsn, _EVENTS)
    if events != drained.events:
        raise Failed(f"it stored {events} of {drained.events} events")
    if letters is not None and (kept := await ask(dsn, _LETTERS)) != letters:
        raise Failed(f"it kept {kept} of {letters} dead letters")

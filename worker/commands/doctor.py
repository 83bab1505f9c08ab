"""``penstock doctor``: reach every server, look at what matters, say what to do."""

from collections.abc import AsyncIterator, Iterator, Sequence
from difflib import get_close_matches
from enum import StrEnum

import asyncpg
import msgspec
from nats.aio.client import Client
from rich.console import Console

from penstock.schemas.catalogue import Catalogue
from penstock.worker import brokers, connections, migrate
from penstock.worker.difference import Difference
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.errors import translated
from penstock.worker.settings.keys import Settings

_OLDEST_POSTGRES = 15
_OLDEST_NATS = (2, 10)
_ATOMIC_NATS = (2, 12)


class Verdict(StrEnum):
    """How a finding looks."""

    GOOD = "ok"
    NOTE = "note"
    BAD = "problem"


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at; ``remedy`` says what to do about it."""

    verdict: Verdict
    text: str
    remedy: str = ""


async def examine(settings: Settings) -> int:
    """Print all findings; 0 if nothing needs a person, else 1."""
    console = Console(highlight=False)
    colours = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "red"}
    worst = 0
    async for finding in findings(settings):
        colour = colours[finding.verdict]
        console.print(f"[{colour}]{finding.verdict:8}[/] {finding.text}", soft_wrap=True)
        if finding.remedy:
            console.print(f"         -> {finding.remedy}", soft_wrap=True)
        worst = max(worst, int(finding.verdict is Verdict.BAD))
    return worst


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Everything there is to find, server by server."""
    for look in (_postgres, _schema, unknown_fields, _nats, _rabbitmq):
        try:
            async for finding in look(settings):
                yield finding
        except PenstockError as error:
            yield Finding(Verdict.BAD, str(error), "start the server or correct its address")


async def _postgres(settings: Settings) -> AsyncIterator[Finding]:
    async with connections.database(settings) as pool:
        with translated():
            version = await pool.fetchval("SHOW server_version")
            number = int(await pool.fetchval("SHOW server_version_num")) // 10_000
        if number < _OLDEST_POSTGRES:
            yield Finding(
                Verdict.BAD, f"PostgreSQL {version}", f"upgrade to {_OLDEST_POSTGRES} or newer"
            )
        else:
            yield Finding(Verdict.GOOD, f"PostgreSQL {version}")
        for name in ("fsync", "full_page_writes"):
            async for finding in _durable(pool, name):
                yield finding


async def _durable(pool: asyncpg.Pool, name: str) -> AsyncIterator[Finding]:
    with translated():
        value = await pool.fetchval("SELECT current_setting($1)", name)
    if value == "on":
        yield Finding(Verdict.GOOD, f"PostgreSQL {name} is on")
    else:
        yield Finding(
            Verdict.BAD,
            f"PostgreSQL {name} is {value}: a crash loses acknowledged events",
            f"set {name} = on in postgresql.conf",
        )


_RIGHTS = """
SELECT name, has_table_privilege(to_regclass(name), 'INSERT') AS may_insert,
       has_table_privilege(to_regclass(name), 'UPDATE') AS may_update
FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL
"""


async def _schema(settings: Settings) -> AsyncIterator[Finding]:
    catalogue = Catalogue.load(settings.event_packages)
    problems = await migrate.check(settings.postgres_dsn, settings.event_packages)
    for problem in problems:
        yield Finding(Verdict.BAD, f"schema: {problem}", "run `penstock migrate up`")
    if problems:
        return
    async with connections.database(settings) as pool:
        with translated():
            rights = await pool.fetch(
                _RIGHTS, [*catalogue.tables, "bus.dead_letter", "bus.position"]
            )
            letters = await pool.fetchval(
                "SELECT count(*) FROM bus.dead_letter WHERE status = 'kept'"
            )
    lacking = [name for name, may_insert, _ in rights if not may_insert]
    lacking += [name for name, _, may in rights if not may and name in catalogue.keys]
    if lacking:
        remedy = "grant INSERT and UPDATE on them to the worker's role"
        yield Finding(Verdict.BAD, f"no right to write {', '.join(lacking)}", remedy)
    else:
        yield Finding(Verdict.GOOD, f"{len(rights)} tables there and writable")
    if letters:
        remedy = "SELECT reason, count(*) FROM bus.dead_letter GROUP BY 1"
        yield Finding(Verdict.NOTE, f"{letters} dead letters are kept", remedy)


_SENT_FIELDS = """
SELECT event_type, array_agg(DISTINCT field) AS sent
FROM (SELECT event_type, data FROM events.log
      WHERE occurred_at > now() - interval '1 hour' AND jsonb_typeof(data) = 'object'
      LIMIT 1000) AS sample, jsonb_object_keys(data) AS field
GROUP BY event_type ORDER BY event_type
"""
_OMITTED = "omitted"
"""What stands for fields that a history leaves out."""


async def unknown_fields(settings: Settings) -> AsyncIterator[Finding]:
    """Fields that events of the last hour have beside those of their types, in a sample."""
    types = Catalogue.load(settings.event_packages).types
    async with connections.database(settings) as pool:
        with translated():
            found = await pool.fetch(_SENT_FIELDS)
    for name, sent in found:
        known = types[name].fields | {_OMITTED} if name in types else frozenset(sent)
        if unknown := sorted(set(sent) - known):
            near = [one for field in unknown for one in get_close_matches(field, known, 1, 0.6)]
            yield Finding(
                Verdict.NOTE,
                f"{name} comes with fields that it does not have: {', '.join(unknown)}",
                f"they go into no column; did you mean {', '.join(near)}?"
                if near
                else "they go into no column; `penstock events` lists the fields",
            )


async def _nats(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.needs_nats:
        return
    catalogue = Catalogue.load(settings.event_packages)
    found: list[Difference] = []
    async with connections.bus(settings) as nc:
        yield _nats_version(nc)
        if "nats" in settings.brokers:
            found += await brokers.NatsBroker(settings, catalogue, nc).provision(dry_run=True)
        if settings.kv:
            found += await brokers.ensure_bucket(nc, settings, dry_run=True)
    for finding in _compared(found, "NATS: streams, consumers and bucket"):
        yield finding


async def _rabbitmq(settings: Settings) -> AsyncIterator[Finding]:
    if "rabbitmq" not in settings.brokers:
        return
    catalogue = Catalogue.load(settings.event_packages)
    async with connections.rabbit(settings) as connection:
        broker = brokers.RabbitMqBroker(settings, catalogue, connection)
        found = await broker.provision(dry_run=True)
    for finding in _compared(found, "RabbitMQ: exchanges and queues"):
        yield finding


def _compared(found: Sequence[Difference], what: str) -> Iterator[Finding]:
    for difference in found:
        if difference.note:
            yield Finding(Verdict.NOTE, str(difference))
        else:
            yield Finding(Verdict.BAD, str(difference), "run `penstock provision`")
    if all(difference.note for difference in found):
        yield Finding(Verdict.GOOD, f"{what} are as they should be")


def _nats_version(nc: Client) -> Finding:
    version = nc.connected_server_version
    number = (version.major, version.minor)
    text = f"nats-server {version.major}.{version.minor}.{version.patch}"
    if number < _OLDEST_NATS:
        return Finding(Verdict.BAD, text, "upgrade to 2.10 or newer")
    if number < _ATOMIC_NATS:
        return Finding(
            Verdict.NOTE, text, "2.12 or newer writes batches atomically, about 4x faster"
        )
    return Finding(Verdict.GOOD, text)

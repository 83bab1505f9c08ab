"""``penstock doctor``: reach every server, look at what matters, say what to do."""

from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum

import asyncpg
import click
import msgspec
from nats.aio.client import Client

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
    colours = {Verdict.GOOD: "green", Verdict.NOTE: "yellow", Verdict.BAD: "red"}
    worst = 0
    async for finding in findings(settings):
        verdict = click.style(f"{finding.verdict:8}", fg=colours[finding.verdict])
        click.echo(f"{verdict} {finding.text}")
        if finding.remedy:
            click.echo(f"         -> {finding.remedy}")
        worst = max(worst, int(finding.verdict is Verdict.BAD))
    return worst


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Everything there is to find, server by server."""
    for look in (_postgres, _schema, _nats, _rabbitmq):
        try:
            async for finding in look(settings):
                yield finding
        except PenstockError as error:
            text, _, remedy = str(error).partition("; ")
            yield Finding(Verdict.BAD, text, remedy)


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
        remedy = "look at them: SELECT reason, count(*) FROM bus.dead_letter GROUP BY 1"
        yield Finding(Verdict.NOTE, f"{letters} dead letters are kept", remedy)


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

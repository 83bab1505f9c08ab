"""``penstock partitions``: what there is, what is due, and doing it."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.worker.archive import manifest as manifests
from penstock.worker.commands.partition_lines import Meter, as_one, line, table, told
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.importing import check, restore
from penstock.worker.postgres.life import Action, Ages, Life, Place, lives
from penstock.worker.postgres.making import Missing, make, missing, partitioned
from penstock.worker.postgres.pool import database
from penstock.worker.postgres.retention import Keeper, Taken, turn
from penstock.worker.postgres.stream_ages import stream_ages, too_short
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings

Span = tuple[datetime | None, datetime | None]


async def show(settings: Settings, tables: Sequence[str], *, gone: bool, as_json: bool) -> int:
    """Print all partitions, or those of ``tables``. Raises PenstockError."""
    ages = await _prepared(settings)
    async with database(settings) as pool:
        await _known(pool, tables)
        found = [life for life in await lives(pool, gone=gone) if not tables or life.of in tables]
    now = datetime.now(UTC)
    lines = [line(life, now, ages) for life in found]
    click.echo(as_one(lines) if as_json else table(lines, now), nl=as_json)
    return 0


async def ensure(
    settings: Settings, tables: Sequence[str], span: Span, *, dry_run: bool, as_json: bool
) -> int:
    """Make what is missing in ``span``. Exit code 1 if a period was detached, and stays so."""
    await _prepared(settings)
    async with database(settings) as pool:
        await _known(pool, tables)
        periods = await missing(pool, *span, tables)
        done = [await _made(pool, period, dry_run=dry_run) for period in periods]
    return told(done, dry_run=dry_run, as_json=as_json)


async def maintain(settings: Settings, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """All that is due for all tables. Raises PenstockError if a policy is refused."""
    ages = await _prepared(settings)
    async with database(settings) as pool, turn(settings, ages) as keeper:
        if wrong := await too_short(pool, ages):
            raise PenstockError("\n".join(wrong))
        plan = await _ours(keeper).plan()
        _agree(plan, yes=yes or dry_run)
        periods = [one for one in await missing(pool, None, None, ()) if not one.detached]
        done = [await _made(pool, period, dry_run=dry_run) for period in periods]
        done += await _carried_out(_ours(keeper), plan, dry_run=dry_run)
    return told(done, dry_run=dry_run, as_json=as_json)


async def archive(
    settings: Settings, names: Sequence[str], *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Take the named partitions out of their tables. Raises PenstockError if one is unknown."""
    ages = await _prepared(settings)
    async with turn(settings, ages) as keeper:
        found = {life.title: life for life in await lives(_ours(keeper).connection)}
        if unknown := [name for name in names if name not in found]:
            raise PenstockError(
                f"no partition {', '.join(unknown)}; `penstock partitions list` has their names"
            )
        now = datetime.now(UTC)
        if early := [one.title for one in found.values() if one.title in names and _open(one, now)]:
            raise PenstockError(
                f"{', '.join(early)}: events of this period still come; wait until it is over"
            )
        plan = await _ours(keeper).plan(names)
        _agree(plan, yes=yes or dry_run)
        done = await _carried_out(_ours(keeper), plan, dry_run=dry_run)
    return told(done, dry_run=dry_run, as_json=as_json)


async def bring_back(
    settings: Settings, files: Sequence[Path], keep: timedelta, *, dry_run: bool, as_json: bool
) -> int:
    """Import files. Each is checked before anything of it is done. Raises PenstockError."""
    ages = await _prepared(settings)
    done = []
    async with turn(settings, ages) as keeper:
        connection = _ours(keeper).connection
        found = [await asyncio.to_thread(manifests.read, path) for path in files]
        for manifest, _ in found:
            await check(connection, manifest)
        for manifest, file in found:
            if not dry_run:
                await restore(connection, manifest, file, keep, Meter())
            name = f"{manifest.schema}.{manifest.partition}"
            done.append(Taken(partition=name, action="import", note=f"{manifest.rows} rows"))
    return told(done, dry_run=dry_run, as_json=as_json)


async def _prepared(settings: Settings) -> Ages:
    """How long streams keep messages, by table. Raises MigrationError if the schema is older."""
    dsn = settings.postgres_owner_dsn or settings.postgres_dsn
    await check_schema(msgspec.structs.replace(settings, postgres_dsn=dsn), "partitions")
    return stream_ages(settings, Catalogue.load(settings.event_packages))


async def _known(pool: Any, tables: Sequence[str]) -> None:
    known = await partitioned(pool)
    if unknown := [table for table in tables if table not in known]:
        raise PenstockError(
            f"no table {', '.join(unknown)} in partitions.policy; it has {', '.join(known)}"
        )


async def _made(pool: Any, period: Missing, *, dry_run: bool) -> Taken:
    name, error = f"{period.schema}.{period.name}", ""
    if period.detached:
        error = "retention has detached it; `penstock partitions import` brings it back"
    elif not dry_run:
        try:
            await make(pool, period)
        except PenstockError as failure:
            error = str(failure)
    return Taken(partition=name, action="make", error=error)


def _open(life: Life, now: datetime) -> bool:
    return life.place is Place.ATTACHED and (life.upper is None or life.upper > now)


def _ours(keeper: Keeper | None) -> Keeper:
    if keeper is None:
        raise PenstockError(
            "another process is at the partitions now, a worker maybe; try again when it is done"
        )
    return keeper


Plan = list[tuple[Life, list[Action]]]


async def _carried_out(keeper: Keeper, plan: Plan, *, dry_run: bool) -> list[Taken]:
    if dry_run:
        steps = [(life.title, action) for life, actions in plan for action in actions]
        return [Taken(partition=title, action=action) for title, action in steps]
    done: list[Taken] = []
    keeper.told = Meter()
    for life, actions in plan:
        done += [taken async for taken in keeper.carry_out(life, actions)]
    return done


def _agree(plan: Plan, *, yes: bool) -> None:
    """Ask before rows are dropped. Raises PenstockError if nobody answers, or the answer is no."""
    dropped = [life for life, actions in plan if Action.DROP in actions]
    if yes or not dropped:
        return
    names = ", ".join(life.title for life in dropped)
    rows = sum(life.rows for life in dropped)
    if not sys.stdin.isatty():
        raise PenstockError(f"{names}: about {rows} rows would be dropped; give --yes to do it")
    if not click.confirm(f"Drop {names}, about {rows} rows?", err=True):
        raise PenstockError("nothing was done")

"""``penstock derive``: work derived values out anew, or say which are not right."""

from collections.abc import Iterator, Sequence

import click
import msgspec

from penstock.schemas.identity import entity_uuid
from penstock.worker.commands.columns import columns
from penstock.worker.commands.said import said
from penstock.worker.errors import PenstockError
from penstock.worker.postgres.jobs import KnownJob, derived, known_jobs
from penstock.worker.postgres.pool import database
from penstock.worker.schema import check_schema
from penstock.worker.settings.keys import Settings


class Derived(msgspec.Struct, frozen=True):
    """What of a job changed, or differs from what it should be."""

    name: str
    keys: Sequence[str]


async def run(
    settings: Settings,
    names: Sequence[str],
    keys: Sequence[str],
    *,
    check: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Work out what is named, or list what there is. With ``check``, 1 if something differs, and
    without a name all of it is looked at. Raises PenstockError.
    """
    if not names and not check:
        return await _show(settings, as_json=as_json)
    found = await _derive(settings, names, keys, undo=check or dry_run, as_json=as_json)
    return int(check and any(one.keys for one in found))


async def _show(settings: Settings, *, as_json: bool) -> int:
    jobs = await _jobs(settings, ())
    if as_json:
        click.echo(msgspec.json.encode(jobs).decode())
        return 0
    titles = ("name", "what", "every", "last run", "took", "error")
    click.echo(columns(titles, map(_row, jobs)), nl=False)
    return 0


async def _derive(
    settings: Settings, names: Sequence[str], keys: Sequence[str], *, undo: bool, as_json: bool
) -> list[Derived]:
    """Work out the jobs of these names, or all, for ``keys`` or for all there is, and print what
    changed; with ``undo`` what would have.
    """
    jobs = await _jobs(settings, names)
    if keys and len(jobs) != 1:
        raise PenstockError("--key belongs to one NAME; name the one that the keys are of")
    found = []
    for job in jobs:
        with said(job.name):
            changed = await derived(settings, job, _keys(job, keys) if keys else None, undo=undo)
        found.append(Derived(job.name, changed))
        if not as_json:
            click.echo("".join(_lines(found[-1], undo=undo)), nl=False)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    return found


async def _jobs(settings: Settings, names: Sequence[str]) -> list[KnownJob]:
    await check_schema(settings, "derive")
    async with database(settings) as pool:
        jobs = {job.name: job for job in await known_jobs(pool)}
    for name in names:
        if name not in jobs:
            known = ", ".join(jobs)
            raise PenstockError(f"nothing is derived under the name {name!r}; known are {known}")
    return [jobs[name] for name in names or jobs]


def _keys(job: KnownJob, keys: Sequence[str]) -> list[tuple[str, ...]]:
    kind = job.key_kind
    return [(key if kind is None else entity_uuid(kind, key),) for key in keys]


def _lines(found: Derived, *, undo: bool) -> Iterator[str]:
    count = len(found.keys)
    if undo:
        yield f"{found.name}: {f'{count} differ' if count else 'as it should be'}\n"
    else:
        yield f"{found.name}: {count} changed\n"
    for key in found.keys:
        yield f"  {key}\n"


def _row(job: KnownJob) -> tuple[str, ...]:
    every = "-" if job.every is None else f"{job.every:g} s"
    if not job.enabled:
        every = "disabled"
    last = "-" if job.last_run is None else f"{job.last_run:%Y-%m-%d %H:%M:%S}"
    took = "-" if job.last_ms is None else f"{job.last_ms} ms"
    return job.name, job.about, every, last, took, job.last_error or "-"

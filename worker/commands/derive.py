"""``penstock derive``: work derived values out anew, or say which are not right."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

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

HOUR = "hour"
"""The kind of the keys that are hours, by any moment in them."""
LEADERBOARD = "leaderboard"
"""The kind of the keys that are a category, a period, and a day of it."""


def boards(categories: Sequence[str], periods: Sequence[str], day: datetime | None) -> list[str]:
    """The names of leaderboards of the periods that ``day`` is in, which is today without one."""
    start = f"{day or datetime.now(UTC):%Y-%m-%d}"
    return [f"{category} {period} {start}" for category in categories for period in periods]


class Wanted(msgspec.Struct, frozen=True):
    """What of a job is wanted: some keys, the hours from ``since`` to ``until``, or leaderboards;
    else all.
    """

    keys: Sequence[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    boards: Sequence[str] = ()

    @property
    def everything(self) -> bool:
        return not (self.keys or self.since or self.until or self.boards)

    def of(self, job: KnownJob) -> list[tuple[str, ...]]:
        """The keys, as its function takes them. Raises PenstockError."""
        kind = job.key_kind
        if self.boards and kind != LEADERBOARD:
            raise PenstockError(f"{job.name} has no categories and periods; use --key")
        if kind == HOUR:
            return [(text,) for text in (*map(_hour, self.keys), *self._hours())]
        if self.since is not None or self.until is not None:
            raise PenstockError(f"{job.name} is not worked out by hours; use --key")
        if kind is None or kind == LEADERBOARD:
            return [(key,) for key in (*self.keys, *self.boards)]
        return [(entity_uuid(kind, key),) for key in self.keys]

    def _hours(self) -> Iterator[str]:
        if self.since is None:
            if self.until is not None:
                raise PenstockError("--to needs --from")
            return
        until = self.until or datetime.now(UTC)
        if until <= self.since:
            raise PenstockError(f"--from {self.since} is not before --to {until}")
        hour = self.since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        while hour < until:
            yield hour.isoformat()
            hour += timedelta(hours=1)


def _hour(key: str) -> str:
    try:
        found = datetime.fromisoformat(key)
    except ValueError:
        raise PenstockError(f"{key!r} is no hour, such as 2026-01-31T12:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).isoformat()


class Derived(msgspec.Struct, frozen=True):
    """What of a job changed, or differs from what it should be."""

    name: str
    keys: Sequence[str]


async def run(
    settings: Settings,
    names: Sequence[str],
    wanted: Wanted,
    *,
    check: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Work out what is named, or list what there is. With ``check``, 1 if something differs, and
    without a name all of it is looked at. Raises PenstockError.
    """
    if not names and not check and wanted.everything:
        return await _show(settings, as_json=as_json)
    work = partial(derived, settings, undo=check or dry_run, anew=check)
    found = await _derive(settings, names, wanted, work)
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        for one in found:
            click.echo("".join(_lines(one, undo=check or dry_run)), nl=False)
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
    settings: Settings,
    names: Sequence[str],
    wanted: Wanted,
    work: Callable[[KnownJob, list[tuple[str, ...]] | None], Awaitable[list[str]]],
) -> list[Derived]:
    """Do ``work`` with the jobs of these names, or with all."""
    jobs = await _jobs(settings, names)
    if not wanted.everything and len(jobs) != 1:
        raise PenstockError(
            "--key, --from and --category belong to one NAME; name the one they are of"
        )
    found = []
    for job in jobs:
        keys = None if wanted.everything else wanted.of(job)
        with said(job.name):
            found.append(Derived(job.name, await work(job, keys)))
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

"""What `penstock partitions` prints: partitions, and the steps that were taken."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from penstock.worker.commands.columns import columns
from penstock.worker.postgres.life import Ages, Life, upcoming
from penstock.worker.postgres.retention import Taken

_UNITS = (("GB", 2**30), ("MB", 2**20), ("kB", 2**10))
_TITLES = ("partition", "from", "until", "rows", "size", "place", "next", "when")


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of one partition. ``next`` happens at ``due``, both None if nothing ever does;
    ``file`` is what it was exported to.
    """

    partition: str
    table: str
    place: str
    lower: datetime | None
    upper: datetime | None
    rows: int
    bytes: int
    next: str | None
    due: datetime | None
    file: str | None


def line(life: Life, now: datetime, ages: Ages) -> Line:
    """A partition as the command shows it."""
    action, moment = upcoming(life, now, ages) or (None, None)
    return Line(
        partition=life.title,
        table=life.of,
        place=life.place,
        lower=life.lower,
        upper=life.upper,
        rows=life.rows,
        bytes=life.bytes or 0,
        next=action,
        due=moment,
        file=life.file,
    )


def as_one(found: Sequence[msgspec.Struct]) -> str:
    """One JSON array."""
    return msgspec.json.encode(found).decode()


def table(lines: Sequence[Line], now: datetime) -> str:
    """Columns for a terminal."""
    return columns(_TITLES, [_cells(found, now) for found in lines])


class Meter:
    """Rows on a terminal: how many of how many, how fast, how long it still takes."""

    def __init__(self) -> None:
        self._what = ""
        self._began = 0.0

    def __call__(self, what: str, rows: int, of: int) -> None:
        if not sys.stderr.isatty():
            return
        if what != self._what:
            self._what, self._began = what, time.monotonic()
        rate = rows / max(0.001, time.monotonic() - self._began)
        text = f"{what}: {rows:,} of {of:,} rows, {rate:,.0f}/s, {(of - rows) / rate:.0f} s left"
        click.echo(f"\r{text:79}", err=True, nl=rows >= of)


def told(done: Sequence[Taken], *, dry_run: bool, as_json: bool) -> int:
    """Print steps. Returns the exit code: 1 if one failed."""
    if as_json:
        click.echo(as_one(done))
    else:
        for taken in done:
            click.echo(_said(taken, dry_run=dry_run))
        if not done:
            click.echo("nothing is due")
    return int(any(taken.error for taken in done))


def _said(taken: Taken, *, dry_run: bool) -> str:
    if taken.error:
        return f"{taken.partition}: cannot {taken.action}: {taken.error}"
    return f"{'would be done: ' if dry_run else ''}{taken}"


def _cells(found: Line, now: datetime) -> tuple[str, ...]:
    due = "-" if found.due is None else "now" if found.due <= now else _day(found.due)
    bounds = _day(found.lower), _day(found.upper)
    size = _size(found.bytes)
    return found.partition, *bounds, str(found.rows), size, found.place, found.next or "-", due


def _day(moment: datetime | None) -> str:
    if moment is None:
        return "-"
    moment = moment.astimezone(UTC)
    midnight = (moment.hour, moment.minute, moment.second) == (0, 0, 0)
    return moment.strftime("%Y-%m-%d" if midnight else "%Y-%m-%d %H:%M:%S")


def _size(count: int) -> str:
    for unit, size in _UNITS:
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"

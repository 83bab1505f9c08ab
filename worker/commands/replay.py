"""``penstock replay``: bring what a broker, a file or PostgreSQL has kept into PostgreSQL again."""

import os
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from penstock.worker.brokers.registry import BROKERS
from penstock.worker.commands.advancing import advancing
from penstock.worker.errors import PenstockError
from penstock.worker.lifecycle import stop_on_signals
from penstock.worker.replay.asked import FILE, POSTGRES, Asked
from penstock.worker.replay.outcome import Cannot, Outcome
from penstock.worker.replayer import Replayer
from penstock.worker.settings.keys import Settings
from penstock.worker.wording import why

_TWICE = (("from_seq", "since"), ("to_seq", "until"))
_NOT_FOR = {
    FILE: ("stream", "since", "until"),
    POSTGRES: ("from_seq", "to_seq"),
    **{name: ("until",) for name, entry in BROKERS.items() if not entry.dates},
}
"""Options that have no meaning for a source."""


class Report(msgspec.Struct, kw_only=True):
    """What a replay did. ``replay`` is its row of bus.replay, ``went_on`` True if an earlier
    process had begun it; ``finished`` is False if it was stopped before the end, ``rate`` is in
    messages per second; see `Outcome` and `Account`.
    """

    replay: int | None
    source: str
    stream: str
    read: int
    inserted: int
    present: int
    differing: int
    differing_ids: Sequence[str]
    rejected: int
    mended: dict[str, int]
    cannot: Sequence[Cannot]
    dry_run: bool
    finished: bool
    went_on: bool
    seconds: float
    rate: int


async def replay(
    settings: Settings, *, into: str | None, dry_run: bool, as_json: bool, **options: Any
) -> int:
    """Read again, tell what became of it. Exit code: 1 if something differs, was rejected, or if it
    was stopped. Raises PenstockError if it cannot.
    """
    report = await read_again(settings, question(settings, **options), into=into, dry_run=dry_run)
    click.echo(msgspec.json.encode(report).decode() if as_json else _text(report))
    return int(bool(report.differing or report.rejected or not report.finished))


async def read_again(
    settings: Settings, asked: Asked, *, into: str | None = None, dry_run: bool = False
) -> Report:
    """Read again until the end, or until a signal. Raises PenstockError if it cannot."""
    with stop_on_signals() as stopping:
        async with (
            Replayer(settings, asked, stopping, into=into, dry_run=dry_run) as running,
            advancing("replaying", running.total, lambda: running.seen),
        ):
            outcome = await running.work()
    return _report(asked, outcome, dry_run=dry_run)


def question(
    settings: Settings, *, source: str | None, file: str | None, rebuild: str | None, **options: Any
) -> Asked:
    """What was asked for. Raises PenstockError if it contradicts itself."""
    if file is not None and source is not None:
        raise PenstockError("--file is a source of its own; leave --source out")
    source = FILE if file is not None else source or settings.brokers[0]
    for name in _NOT_FOR.get(source, ()):
        if options[name] is not None:
            raise PenstockError(f"{_flag(name)} does not go with {source}, which has no such thing")
    for one, other in _TWICE:
        if options[one] is not None and options[other] is not None:
            raise PenstockError(f"{_flag(one)} and {_flag(other)} contradict each other; give one")
    stream = file or options.pop("stream") or ""
    options.pop("stream", None)
    if not stream and source != POSTGRES:
        raise PenstockError("name what to read: --stream NAME, --file FILE or --source postgres")
    edition = _edition(file) if file else ""
    tables = tuple(rebuild.split(",")) if rebuild else ()
    return Asked(source=source, stream=stream, edition=edition, rebuild=tables, **options)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _edition(path: str) -> str:
    """Tells a file from another one under its name: what was read of that says nothing here."""
    try:
        found = os.stat(path)  # noqa: PTH116  (one call for both)
    except OSError as error:
        raise PenstockError(f"cannot read {path}: {why(error)}") from error
    return f"{found.st_size} {found.st_mtime_ns}"


def _report(asked: Asked, outcome: Outcome, *, dry_run: bool) -> Report:
    account = outcome.account
    return Report(
        replay=outcome.number,
        source=asked.source,
        stream=asked.stream,
        read=account.read,
        inserted=account.inserted,
        present=account.present,
        differing=account.differing,
        differing_ids=account.differing_ids,
        rejected=account.rejected,
        mended=outcome.mended,
        cannot=outcome.cannot,
        dry_run=dry_run,
        finished=outcome.finished,
        went_on=outcome.went_on,
        seconds=round(outcome.seconds, 3),
        rate=int(outcome.messages / outcome.seconds),
    )


def _text(report: Report) -> str:
    counts = (
        f"{report.read} messages of {report.stream or report.source}: "
        f"{report.inserted} {'would be ' if report.dry_run else ''}inserted, "
        f"{report.present} present, {report.differing} differing, {report.rejected} rejected; "
        f"{report.rate}/s"
    )
    lines = [counts, *(f"differing: {one}" for one in report.differing_ids)]
    lines += [f"{table}: sums of {count} rows mended" for table, count in report.mended.items()]
    lines += [_sentence(one) for one in report.cannot]
    if report.went_on:
        lines.append(f"went on with replay {report.replay}; the counts are of all of it")
    if not report.finished:
        lines.append("stopped before the end; the same command goes on from there")
    return "\n".join(lines)


def _sentence(one: Cannot) -> str:
    what = f"{one.events} events" if one.events else "events"
    place = f"; replay them from stream {one.stream}" if one.stream else ""
    return f"not rebuilt: {what} of {one.type}: {one.what}{place}"

"""``penstock partitions``: parsing only."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from penstock.worker.flags import SettingsCommand
from penstock.worker.settings.keys import Settings

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_YES = click.option("--yes", is_flag=True, help="Do not ask before rows are dropped.")
_DAY = click.DateTime(["%Y-%m-%d"])


class _Partitions(SettingsCommand):
    """One of the commands; all show the same settings."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, reads="partitions", extra="archive", **kwargs)


@click.group()
def partitions() -> None:
    """List, make, archive or bring back partitions of tables."""


@partitions.command("list", cls=_Partitions)
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--gone", is_flag=True, help="Also those that were dropped.")
@_JSON
def list_all(settings: Settings, tables: tuple[str, ...], *, gone: bool, as_json: bool) -> int:
    """List partitions: bounds, rows, size, and what happens to each next and when."""
    from penstock.worker.commands import partitions as keeping  # noqa: PLC0415

    return asyncio.run(keeping.show(settings, tables, gone=gone, as_json=as_json))


@partitions.command(cls=_Partitions)
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--since", type=_DAY, metavar="DAY", help="From this day on; today if not given.")
@click.option("--until", type=_DAY, metavar="DAY", help="To this day; if not given, by the policy.")
@_DRY_RUN
@_JSON
def ensure(
    settings: Settings,
    tables: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Make the partitions that are missing."""
    from penstock.worker.commands import partitions as keeping  # noqa: PLC0415

    span = since and since.replace(tzinfo=UTC), until and until.replace(tzinfo=UTC)
    return asyncio.run(keeping.ensure(settings, tables, span, dry_run=dry_run, as_json=as_json))


@partitions.command(cls=_Partitions)
@_DRY_RUN
@_YES
@_JSON
def maintain(settings: Settings, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Do all that is due: make, detach, archive, export and drop partitions."""
    from penstock.worker.commands import partitions as keeping  # noqa: PLC0415

    return asyncio.run(keeping.maintain(settings, dry_run=dry_run, yes=yes, as_json=as_json))


@partitions.command(cls=_Partitions)
@click.argument("names", nargs=-1, required=True, metavar="PARTITION...")
@_DRY_RUN
@_YES
@_JSON
def archive(
    settings: Settings, names: tuple[str, ...], *, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Take partitions out of their tables now, and do with them what the policy says."""
    from penstock.worker.commands import partitions as keeping  # noqa: PLC0415

    return asyncio.run(keeping.archive(settings, names, dry_run=dry_run, yes=yes, as_json=as_json))


@partitions.command("import", cls=_Partitions)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE..."
)
@click.option(
    "--keep",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="How long retention leaves them alone.",
)
@_DRY_RUN
@_JSON
def bring_back(
    settings: Settings, files: tuple[Path, ...], keep: float, *, dry_run: bool, as_json: bool
) -> int:
    """Bring exported partitions back into their tables."""
    from penstock.worker.commands import partitions as keeping  # noqa: PLC0415

    days = timedelta(days=keep)
    return asyncio.run(keeping.bring_back(settings, files, days, dry_run=dry_run, as_json=as_json))

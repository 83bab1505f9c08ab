"""``penstock dlq``: its commands and their arguments."""

import asyncio
from typing import Any

import click

from penstock.worker.commands.letter_filters import letter_filters, some, wanted
from penstock.worker.flags import SettingsCommand
from penstock.worker.settings.keys import Settings

_IDS = click.argument("ids", nargs=-1, type=click.IntRange(min=1), metavar="[ID]...")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON and nothing else.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say which letters are meant.")


@click.group()
def dlq() -> None:
    """List, show, requeue, discard or export dead letters."""


@dlq.command("list", cls=SettingsCommand, reads="dlq")
@letter_filters
@click.option("--limit", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option("--after", type=click.IntRange(min=0), default=0, metavar="ID", help="Next page.")
@_JSON
def list_letters(settings: Settings, limit: int, *, as_json: bool, **options: Any) -> int:
    """List dead letters, oldest first."""
    from penstock.worker.commands import dlq as letters  # noqa: PLC0415

    return asyncio.run(letters.show_list(settings, wanted(**options), limit, as_json=as_json))


@dlq.command("show", cls=SettingsCommand, reads="dlq")
@click.argument("letter_id", type=click.IntRange(min=1), metavar="ID")
@_JSON
def show_letter(settings: Settings, letter_id: int, *, as_json: bool) -> int:
    """Show a dead letter with its headers, its body decoded, and its history."""
    from penstock.worker.commands import dlq as letters  # noqa: PLC0415

    return asyncio.run(letters.show_one(settings, letter_id, as_json=as_json))


@dlq.command("requeue", cls=SettingsCommand, reads="dlq")
@_IDS
@letter_filters
@click.option("--edit", is_flag=True, help="Correct the body of one letter in $EDITOR first.")
@click.option("--body", metavar="FILE", type=click.Path(), help="Send this body instead.")
@click.option("--to", metavar="SUBJECT", help="Send on this subject instead.")
@click.option("--header", multiple=True, metavar="NAME=TEXT", help="Set; an empty TEXT removes.")
@click.option("--as-it-came", is_flag=True, help="Drop corrections of earlier requeues.")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for workers to answer.",
)
@_DRY_RUN
@_JSON
def requeue_letters(settings: Settings, ids: tuple[int, ...], **options: Any) -> int:
    """Send dead letters again, as they came or corrected, and say what became of them."""
    from penstock.worker.commands.requeue import correction, requeue  # noqa: PLC0415

    given = {name: options.pop(name) for name in ("wait", "dry_run", "as_json")}
    change = correction(*map(options.pop, ("edit", "body", "to", "header", "as_it_came")))
    return asyncio.run(requeue(settings, some(ids, **options), change, **given))


@dlq.command("discard", cls=SettingsCommand, reads="dlq")
@_IDS
@letter_filters
@click.option("--yes", is_flag=True, help="Do not ask.")
@_DRY_RUN
@_JSON
def discard_letters(settings: Settings, ids: tuple[int, ...], **options: Any) -> int:
    """Give dead letters up; they stay for letters_keep."""
    from penstock.worker.commands import dlq as letters  # noqa: PLC0415

    given = {name: options.pop(name) for name in ("yes", "dry_run", "as_json")}
    return asyncio.run(letters.discard(settings, some(ids, **options), **given))


@dlq.command("export", cls=SettingsCommand, reads="dlq")
@_IDS
@letter_filters
def export_letters(settings: Settings, ids: tuple[int, ...], **options: Any) -> int:
    """Write dead letters to standard output, one JSON object a line."""
    from penstock.worker.commands import dlq as letters  # noqa: PLC0415

    return asyncio.run(letters.export(settings, wanted(ids, **options)))

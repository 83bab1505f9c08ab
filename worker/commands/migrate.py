"""``penstock migrate``: prints each step when it ends."""

from pathlib import Path

import click

from penstock.worker import migrate
from penstock.worker.migrate import Step
from penstock.worker.settings.keys import Settings


async def up(settings: Settings, to: int | None) -> None:
    """Apply what is pending, up to version ``to`` if given."""
    steps = await migrate.up(settings.postgres_dsn, settings.event_packages, to, report=_print)
    if not steps:
        click.echo("nothing to apply: the schema is up to date")


async def down(settings: Settings, steps: int, package: str) -> None:
    """Revert the last ``steps`` migrations of ``package``."""
    if not await migrate.down(settings.postgres_dsn, steps, package, report=_print):
        click.echo(f"nothing to revert: no migration of {package} is applied")


async def status(settings: Settings) -> None:
    """Print the status of every migration."""
    for line in await migrate.status(settings.postgres_dsn, settings.event_packages):
        click.echo(line)


def new(name: str, folder: Path) -> None:
    """Create the two files of a new migration."""
    for path in migrate.new(name, folder):
        click.echo(path)


def _print(step: Step) -> None:
    name = f"{step.package}: {step.version:04d}_{step.name}"
    click.echo(f"{name} {step.direction}, {step.execution_ms} ms")

"""``penstock migrate``: prints each step when it ends."""

import asyncio
import time
from pathlib import Path

import click

from penstock.worker import migrate
from penstock.worker.lifecycle import patiently
from penstock.worker.migrate import Status, Step
from penstock.worker.settings.keys import Settings

_AGAIN_SECONDS = 1.0


async def up(settings: Settings, to: int | None) -> None:
    """Apply what is pending, up to version ``to`` if given."""
    steps = await migrate.up(settings.postgres_dsn, settings.event_packages, to, report=_print)
    if not steps:
        click.echo("nothing to apply: the schema is up to date")


async def down(settings: Settings, steps: int, package: str) -> None:
    """Revert the last ``steps`` migrations of ``package``."""
    if not await migrate.down(settings.postgres_dsn, steps, package, report=_print):
        click.echo(f"nothing to revert: no migration of {package} is applied")


async def status(settings: Settings, wait: float | None) -> int:
    """Print the status of every migration. With ``wait``, first wait so many seconds at most until
    all are applied, as another process does it. Exit code: 1 if they are not by then.
    """
    lines = await (_look(settings) if wait is None else _wait(settings, wait))
    for line in lines:
        click.echo(line)
    return int(wait is not None and any(line.state != "applied" for line in lines))


async def _look(settings: Settings) -> list[Status]:
    return await migrate.status(settings.postgres_dsn, settings.event_packages)


async def _wait(settings: Settings, seconds: float) -> list[Status]:
    """What is pending may be applied meanwhile; what contradicts its file will not."""
    over = time.monotonic() + seconds
    while True:
        lines = await patiently(lambda: _look(settings), settings.start_timeout)
        states = {line.state for line in lines}
        if states == {"applied"} or states - {"applied", "pending"} or time.monotonic() >= over:
            return lines
        await asyncio.sleep(_AGAIN_SECONDS)


def new(name: str, folder: Path) -> None:
    """Create the two files of a new migration."""
    for path in migrate.new(name, folder):
        click.echo(path)


def _print(step: Step) -> None:
    name = f"{step.package}: {step.version:04d}_{step.name}"
    click.echo(f"{name} {step.direction}, {step.execution_ms} ms")

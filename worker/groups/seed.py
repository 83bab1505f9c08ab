"""``penstock seed``: parsing only."""

import asyncio
from typing import Any

import click

from penstock.worker.flags import SettingsCommand, moment
from penstock.worker.settings.keys import Settings


@click.command(cls=SettingsCommand, reads="publish")
@click.option("--domains", default="all", metavar="NAME,...", help="Only of these domains.")
@click.option("--seed", default=7, show_default=True, help="Another number, another company.")
@click.option(
    "--days",
    type=click.IntRange(1, 25),
    default=7,
    show_default=True,
    help="How long before its end the story begins.",
)
@click.option(
    "--until",
    callback=moment,
    metavar="TIME",
    help="Its end: 25h, or 2026-03-01T12:00:00Z. Default: the full hour.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would be published.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def seed(settings: Settings, **how: Any) -> int:
    """Publish the events of a small, believable company of agents, to have something to look at."""
    from penstock.worker.commands import seed as seeding  # noqa: PLC0415

    return asyncio.run(seeding.publish(settings, **how))

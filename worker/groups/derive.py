"""``penstock derive``: parsing only."""

import asyncio
from typing import Any

import click

from penstock.worker.flags import SettingsCommand, moment
from penstock.worker.settings.keys import Settings

_CATEGORIES = ("overall", "tasks", "quality", "elo", "trust")
_PERIODS = ("daily", "weekly", "monthly", "all")


@click.command(cls=SettingsCommand)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--key", "keys", multiple=True, metavar="ID", help="Only this one; may be repeated.")
@click.option("--from", "since", callback=moment, metavar="TIME", help="Only the hours from then.")
@click.option("--to", "until", callback=moment, metavar="TIME", help="And only those before then.")
@click.option("--category", type=click.Choice(_CATEGORIES), help="Only these leaderboards.")
@click.option("--period", type=click.Choice(_PERIODS), help="Only leaderboards of such periods.")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DAY",
    help="Leaderboards of the periods that this day is in; without it, of today's.",
)
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if something differs.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def derive(settings: Settings, names: tuple[str, ...], **how: Any) -> int:
    """Work derived values out anew, or list what there is if none is named."""
    from penstock.worker.commands import derive as deriving  # noqa: PLC0415

    category, period, start = (how.pop(name) for name in ("category", "period", "start"))
    boards: list[str] = []
    if category or period or start:
        boards = deriving.boards(
            [category] if category else _CATEGORIES, [period] if period else _PERIODS, start
        )
    asked = {name: how.pop(name) for name in ("keys", "since", "until")}
    wanted = deriving.Wanted(**asked, boards=boards)
    return asyncio.run(deriving.run(settings, names, wanted, **how))

"""``penstock state``: its commands and their arguments."""

import asyncio
from collections.abc import Callable
from typing import Any

import click

from penstock.worker.flags import SettingsCommand
from penstock.worker.settings.keys import Settings

_AGENT = click.argument("agent")
_KEY = click.argument("key", required=False)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be published.")
_WAIT = click.option(
    "--wait",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a worker may take to store it.",
)


@click.group()
def state() -> None:
    """Look at an agent's state, keep it as a checkpoint, go back to one."""


def _command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    return state.command(name, cls=SettingsCommand, reads="state")


@_command("get")
@_AGENT
@_KEY
@_JSON
def get(settings: Settings, agent: str, key: str | None, *, as_json: bool) -> int:
    """Print what an agent holds, or the value of one key."""
    from penstock.worker.commands import state as states  # noqa: PLC0415

    return asyncio.run(states.get(settings, agent, key, as_json=as_json))


@_command("history")
@_AGENT
@_KEY
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="How many."
)
@_JSON
def history(settings: Settings, agent: str, key: str | None, limit: int, *, as_json: bool) -> int:
    """Print the last changes of an agent's keys, or of one key."""
    from penstock.worker.commands import state as states  # noqa: PLC0415

    return asyncio.run(states.history(settings, agent, key, limit, as_json=as_json))


@_command("checkpoint")
@_AGENT
@click.option("--name", metavar="TEXT", help="A name to find it by.")
@click.option("--list", "listing", is_flag=True, help="List the checkpoints there are.")
@_WAIT
@_DRY_RUN
@_JSON
def checkpoint(
    settings: Settings,
    agent: str,
    name: str | None,
    wait: float,
    *,
    listing: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Keep all keys of an agent as they are at one moment."""
    from penstock.worker.commands import state as states  # noqa: PLC0415

    if listing:
        return asyncio.run(states.checkpoints(settings, agent, as_json=as_json))
    return asyncio.run(
        states.checkpoint(settings, agent, name, wait, dry_run=dry_run, as_json=as_json)
    )


@_command("restore")
@_AGENT
@click.argument("checkpoint")
@click.argument("keys", nargs=-1)
@_WAIT
@_DRY_RUN
@click.option("--yes", is_flag=True, help="Do not ask.")
@_JSON
def restore(
    settings: Settings, agent: str, checkpoint: str, keys: tuple[str, ...], **options: Any
) -> int:
    """Go back to a checkpoint, by its id or name: all keys, or those that are named."""
    from penstock.worker.commands import state as states  # noqa: PLC0415

    return asyncio.run(states.restore(settings, agent, checkpoint, keys, **options))


@_command("diff")
@_AGENT
@click.argument("before", metavar="CHECKPOINT")
@click.argument("after", metavar="[CHECKPOINT]", required=False)
@_JSON
def diff(settings: Settings, agent: str, before: str, after: str | None, *, as_json: bool) -> int:
    """Compare a checkpoint with another, or with now; exit with 1 if they differ."""
    from penstock.worker.commands import state as states  # noqa: PLC0415

    return asyncio.run(states.diff(settings, agent, before, after, as_json=as_json))

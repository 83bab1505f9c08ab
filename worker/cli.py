"""The command line: parsing only. Each command calls a function of another module.

Imports are inside the commands, so that `penstock --help` does not load drivers.
"""

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from penstock import __version__
from penstock.worker.brokers.registry import BROKERS
from penstock.worker.flags import Command, SettingsCommand, configure_logs, moment, moment_as_typed
from penstock.worker.groups.audit import audit
from penstock.worker.groups.demo import demo
from penstock.worker.groups.derive import derive
from penstock.worker.groups.letters import dlq
from penstock.worker.groups.partitions import partitions
from penstock.worker.groups.seed import seed
from penstock.worker.groups.state import state
from penstock.worker.settings.keys import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="penstock")
def main() -> None:
    """Bring agent events from NATS or RabbitMQ into PostgreSQL, effectively once."""


@main.command(cls=SettingsCommand)
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="Stop once nothing is pending and nothing has arrived for this long.",
)
@click.option("--supervised", type=int, hidden=True, help="Socket to listen on, from our parent.")
def run(settings: Settings, until_idle: float | None, supervised: int | None) -> int:
    """Run the worker until SIGTERM, then finish the work in progress."""
    from penstock.worker.commands import run as running  # noqa: PLC0415

    return running.run(settings, until_idle, supervised)


@main.command(cls=SettingsCommand)
@click.argument("path", metavar="FILE|-", type=click.Path(allow_dash=True))
@click.option("--rate", type=click.FloatRange(min=0.1), metavar="N", help="Events per second.")
@click.option("--again", is_flag=True, help="Also send events that the streams saw recently.")
@click.option("--receipt", is_flag=True, help="Wait until workers tell what became of each.")
def publish(settings: Settings, path: str, **options: Any) -> int:
    """Publish CloudEvents in JSON, one a line or in arrays, from FILE or standard input."""
    from penstock.worker.commands import publish as publishing  # noqa: PLC0415

    return asyncio.run(publishing.publish_file(settings, path, **options))


@main.command(cls=SettingsCommand)
@click.option("--dry-run", is_flag=True, help="Only list what is missing or different.")
def provision(settings: Settings, *, dry_run: bool) -> int:
    """Create missing streams, queues and the KV bucket, and list what differs."""
    from penstock.worker.commands import provision as provisioning  # noqa: PLC0415

    return asyncio.run(provisioning.provision(settings, dry_run=dry_run))


@main.command(cls=SettingsCommand)
@click.option("--agent", metavar="ID", help="Only this agent.")
def hydrate(settings: Settings, agent: str | None) -> int:
    """Fill the KV bucket from PostgreSQL."""
    from penstock.worker.commands import hydrate as hydrating  # noqa: PLC0415

    return asyncio.run(hydrating.hydrate(settings, agent))


@main.command(cls=SettingsCommand)
def doctor(settings: Settings) -> int:
    """Connect to every server, check its setup, and say what to do."""
    from penstock.worker.commands.doctor import examine  # noqa: PLC0415

    return asyncio.run(examine(settings))


@main.command(cls=SettingsCommand)
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option(
    "--since",
    callback=moment,
    metavar="TIME",
    help="Only events since then: 25h, or 2026-03-01T12:00:00Z.",
)
@click.option(
    "--pause",
    type=click.FloatRange(min=0),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a difference must last that may be in flight.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def verify(settings: Settings, since: datetime | None, pause: float, **how: bool) -> int:
    """Compare what should agree; exit with 1 if it does not, with 2 if it cannot look."""
    from penstock.worker.commands import verify as verifying  # noqa: PLC0415

    configure_logs("warning", settings.log_format)
    return asyncio.run(verifying.verify(settings, since, pause, **how))


@main.command(cls=SettingsCommand)
@click.option("--stream", metavar="NAME", help="Stream or stream queue to read.")
@click.option(
    "--source",
    type=click.Choice([*BROKERS, "postgres"]),
    help="Where from: a broker (default: the first of the settings), or PostgreSQL's histories.",
)
@click.option("--file", metavar="FILE", type=click.Path(), help="Read JSON events, one a line.")
@click.option("--from-seq", type=click.IntRange(min=0), metavar="N", help="First offset.")
@click.option(
    "--since", callback=moment_as_typed, metavar="TIME", help="Nothing stored before this time."
)
@click.option("--to-seq", type=click.IntRange(min=0), metavar="N", help="Last offset.")
@click.option(
    "--until", callback=moment_as_typed, metavar="TIME", help="Nothing stored after this time."
)
@click.option("--subject", metavar="PATTERN", help="Only these subjects, as in tasks.*.created.")
@click.option("--type", metavar="TYPE", help="Only events of this type.")
@click.option("--agent", metavar="ID", help="Only events about this agent.")
@click.option("--into", metavar="URL", help="Write into this database, and into no bucket.")
@click.option(
    "--rebuild", metavar="TABLE,...", help="Set rows of these tables right by events known already."
)
@click.option("--dry-run", is_flag=True, help="Compare, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on the last line.")
def replay(settings: Settings, **options: Any) -> int:
    """Read a stream again, store what is missing, and name what differs."""
    from penstock.worker.commands import replay as replaying  # noqa: PLC0415

    configure_logs("warning", settings.log_format)
    return asyncio.run(replaying.replay(settings, **options))


@main.command("status", cls=SettingsCommand)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_status(settings: Settings, *, as_json: bool) -> int:
    """Show lag, workers, dead letters and partitions; exit with 1 if something needs a person."""
    from penstock.worker.commands import status as looking  # noqa: PLC0415

    return asyncio.run(looking.status(settings, as_json=as_json))


@main.command(cls=SettingsCommand)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json-schema", "asyncapi", "typescript"]),
    default="table",
    show_default=True,
    help="Output format.",
)
def events(settings: Settings, form: str) -> None:
    """Print the catalogue of events, including those of your own packages."""
    from penstock.worker.commands.events import show  # noqa: PLC0415

    click.echo(show(form, settings), nl=False)


@main.command(cls=SettingsCommand)
@click.option(
    "--format",
    "form",
    type=click.Choice(["effective", "example", "markdown"]),
    default="effective",
    show_default=True,
    help="The current values, the commented example file, or tables of all keys.",
)
def config(settings: Settings, form: str) -> None:
    """Print the settings in effect, secrets masked."""
    from penstock.worker.commands.config import show  # noqa: PLC0415

    click.echo(show(form, settings), nl=False)


for group in (audit, demo, derive, dlq, partitions, seed, state):
    main.add_command(group)


@main.group()
def migrate() -> None:
    """Apply, revert, list or start migrations of the database schema."""


@migrate.command(cls=SettingsCommand, reads="migrate")
@click.option("--to", type=click.IntRange(min=1), metavar="VERSION", help="Stop at this version.")
def up(settings: Settings, to: int | None) -> None:
    """Apply all pending migrations. Safe to run from many processes at once."""
    from penstock.worker.commands import migrate as migrating  # noqa: PLC0415

    asyncio.run(migrating.up(settings, to))


@migrate.command(cls=SettingsCommand, reads="migrate")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many migrations to revert.",
)
@click.option(
    "--package", default="penstock", show_default=True, help="penstock, or an event package."
)
def down(settings: Settings, steps: int, package: str) -> None:
    """Revert the last migrations. The data of their tables is lost."""
    from penstock.worker.commands import migrate as migrating  # noqa: PLC0415

    asyncio.run(migrating.down(settings, steps, package))


@migrate.command(cls=SettingsCommand, reads="migrate")
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Wait until all are applied; exit with 1 if that takes longer.",
)
def status(settings: Settings, wait: float | None) -> int:
    """List all migrations, and whether each is applied."""
    from penstock.worker.commands import migrate as migrating  # noqa: PLC0415

    return asyncio.run(migrating.status(settings, wait))


@migrate.command(cls=Command)
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="migrations",
    show_default=True,
    help="Where to create the files.",
)
def new(name: str, folder: Path) -> None:
    """Create the up and down files of a migration with the next free version."""
    from penstock.worker.commands import migrate as migrating  # noqa: PLC0415

    migrating.new(name, folder)

"""The command line: parsing only. Every command hands over to a function elsewhere.

Imports are inside the commands, so that `penstock --help` does not load drivers.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from penstock import __version__
from penstock.schemas.rows import MappingError
from penstock.worker.brokers.registry import BROKERS, check_names
from penstock.worker.errors import PenstockError
from penstock.worker.settings.keys import SETTINGS, Setting, Settings, load
from penstock.worker.settings.sources import flag
from penstock.worker.settings.text import effective, example, help_text, markdown

_SETTINGS_TITLE = "Settings (or PENSTOCK_<NAME> in the environment, or in penstock.toml)"


class Failure(click.ClickException):
    """An error of ours: its message on standard error, exit code 2, no traceback."""

    exit_code = 2


class SettingOption(click.Option):
    """An option made from a setting; --help shows these in a section of their own."""


class Command(click.Command):
    """A command whose errors end as messages, and whose result is the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            ctx.exit(super().invoke(ctx) or 0)
        except (PenstockError, MappingError) as error:
            raise Failure(str(error)) from error


class SettingsCommand(Command):
    """A command that takes every setting as a flag and is called with ``settings``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(_options())

    def invoke(self, ctx: click.Context) -> Any:
        taken = [option.name for option in self.params if isinstance(option, SettingOption)]
        flags = {name: _text(ctx.params.pop(name)) for name in taken}
        file = flags.pop("config")
        try:
            settings = load(flags, file=Path(file) if file else None)
            check_names(settings.brokers)
        except PenstockError as error:
            raise Failure(str(error)) from error
        _configure_logs(settings.log_level, settings.log_format)
        ctx.params["settings"] = settings
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options first, then all settings."""
        for title, ours in (("Options", False), (_SETTINGS_TITLE, True)):
            chosen = [o for o in self.get_params(ctx) if isinstance(o, SettingOption) is ours]
            records = [o.get_help_record(ctx) for o in chosen]
            with formatter.section(title):
                formatter.write_dl([record for record in records if record])


def _options() -> list[click.Option]:
    options: list[click.Option] = [
        SettingOption(["--config"], metavar="FILE", help="TOML file with settings.")
    ]
    for setting in SETTINGS.values():
        options.append(_option(setting))
        if setting.secret:
            about = f"File that holds {setting.key}."
            options.append(SettingOption([f"{flag(setting.key)}-file"], metavar="FILE", help=about))
    return options


def _option(setting: Setting) -> click.Option:
    name = flag(setting.key)
    if isinstance(setting.default, bool):
        both = f"{name}/{name.replace('--', '--no-', 1)}"
        return SettingOption([both], default=None, help=help_text(setting))
    return SettingOption([name], metavar="VALUE", help=help_text(setting))


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _configure_logs(level: str, form: str) -> None:
    from penstock.worker.ops import logs  # noqa: PLC0415

    logs.configure(level, form)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="penstock")
def main() -> None:
    """Bring agent events from NATS or RabbitMQ into PostgreSQL, once in effect."""


@main.command(cls=SettingsCommand)
@click.option(
    "--until-idle",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    help="End when nothing is pending and nothing came for that long.",
)
def run(settings: Settings, until_idle: float | None) -> int:
    """Run the worker until SIGTERM, then finish what is in work."""
    from penstock.worker import app  # noqa: PLC0415

    return asyncio.run(app.run(settings, until_idle))


@main.command(cls=Command)
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="How long the agents publish.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@click.option("--keep", is_flag=True, help="Leave the servers up.")
@click.option(
    "--agents",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Simulated agents.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    metavar="N",
    help="Events per second, all agents together.",
)
@click.option(
    "--broker",
    type=click.Choice([*BROKERS, "both"]),
    default="nats",
    show_default=True,
    help="What carries the events; RabbitMQ has to be installed.",
)
def demo(**options: Any) -> int:
    """Watch it work: embedded servers, simulated agents, a worker."""
    from penstock.worker import demo as show  # noqa: PLC0415

    _configure_logs("warning", "auto")
    return asyncio.run(show.demo(**options))


@main.command(cls=SettingsCommand)
@click.argument("path", metavar="FILE|-")
@click.option("--rate", type=click.FloatRange(min=0.1), metavar="N", help="Events per second.")
@click.option("--again", is_flag=True, help="Let streams take what they have seen just before.")
def publish(settings: Settings, path: str, rate: float | None, again: bool) -> int:  # noqa: FBT001
    """Publish CloudEvents, one JSON document a line, from FILE or standard input."""
    from penstock.worker.commands import publish as publishing  # noqa: PLC0415

    return asyncio.run(publishing.publish_file(settings, path, rate, again=again))


@main.command(cls=SettingsCommand)
@click.option("--dry-run", is_flag=True, help="Only list what is missing or differs.")
def provision(settings: Settings, *, dry_run: bool) -> int:
    """Create streams or queues and the KV bucket where missing, and list what differs."""
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
    """Reach every server, check what matters, and say what to do."""
    from penstock.worker.commands.doctor import examine  # noqa: PLC0415

    return asyncio.run(examine(settings))


@main.command(cls=SettingsCommand)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json-schema", "markdown"]),
    default="table",
    show_default=True,
    help="How to print it.",
)
def events(settings: Settings, form: str) -> None:
    """Print the catalogue of events, those of your own packages included."""
    from penstock.worker.commands.events import show  # noqa: PLC0415

    click.echo(show(form, settings.event_packages), nl=False)


@main.command(cls=SettingsCommand)
@click.option(
    "--format",
    "form",
    type=click.Choice(["effective", "example", "markdown"]),
    default="effective",
    show_default=True,
    help="What is in effect, the commented example file, or a table of all keys.",
)
def config(settings: Settings, form: str) -> None:
    """Print the settings in effect, secrets masked."""
    known = {
        "effective": lambda: effective(settings),
        "example": example,
        "markdown": markdown,
    }
    click.echo(known[form](), nl=False)


@main.group()
def migrate() -> None:
    """Bring the database schema up or down."""


@migrate.command(cls=SettingsCommand)
@click.option("--to", type=click.IntRange(min=1), metavar="VERSION", help="Stop at this version.")
def up(settings: Settings, to: int | None) -> None:
    """Apply all pending migrations. Any number of these may start at once."""
    from penstock.worker import migrate as migrations  # noqa: PLC0415

    steps = asyncio.run(migrations.up(settings.postgres_dsn, settings.event_packages, to))
    _list(map(_step, steps), nothing="nothing to apply: the schema is up to date")


@migrate.command(cls=SettingsCommand)
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many migrations to take back.",
)
@click.option(
    "--package", default="penstock", show_default=True, help="Whose: ours, or an event package."
)
def down(settings: Settings, steps: int, package: str) -> None:
    """Take the last migrations back. Their tables' data is gone with them."""
    from penstock.worker import migrate as migrations  # noqa: PLC0415

    taken = asyncio.run(migrations.down(settings.postgres_dsn, steps, package))
    _list(map(_step, taken), nothing="nothing to take back")


@migrate.command(cls=SettingsCommand)
def status(settings: Settings) -> None:
    """List all migrations and whether they are applied."""
    from penstock.worker import migrate as migrations  # noqa: PLC0415

    found = asyncio.run(migrations.status(settings.postgres_dsn, settings.event_packages))
    _list(map(str, found), nothing="no migrations")


@migrate.command(cls=Command)
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default="migrations",
    show_default=True,
    help="Where the files go.",
)
def new(name: str, folder: Path) -> None:
    """Start a migration: an up file and a down file with the next free version."""
    from penstock.worker import migrate as migrations  # noqa: PLC0415

    _list(map(str, migrations.new(name, folder)), nothing="nothing made")


def _step(step: Any) -> str:
    return (
        f"{step.package}: {step.version:04d}_{step.name} {step.direction}, {step.execution_ms} ms"
    )


def _list(lines: Iterable[str], *, nothing: str) -> None:
    click.echo("\n".join(lines) or nothing)

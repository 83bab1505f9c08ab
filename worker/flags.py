"""The settings as flags: parsing, help by section, shell completion."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from penstock.schemas.rows import MappingError
from penstock.worker.brokers.registry import BROKERS, check_names
from penstock.worker.errors import PenstockError
from penstock.worker.settings import moments
from penstock.worker.settings.declared import Setting
from penstock.worker.settings.keys import SETTINGS, load
from penstock.worker.settings.kinds import Kind, some_of
from penstock.worker.settings.sources import flag
from penstock.worker.settings.text import help_text, sections

_MORE = """\
Every setting is also PENSTOCK_<NAME> in the environment and a key of penstock.toml, and every
command accepts all of them as flags: `penstock config --help` lists them."""


class Failure(click.ClickException):
    """One of our own errors: its text on standard error, exit code 2, no traceback."""

    exit_code = 2


class Command(click.Command):
    """A command whose errors are printed as messages, and whose result is the exit code.

    ``extra`` names the optional dependencies that it needs.
    """

    def __init__(self, *args: Any, extra: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._extra = extra

    def invoke(self, ctx: click.Context) -> Any:
        try:
            ctx.exit(super().invoke(ctx) or 0)
        except (PenstockError, MappingError) as error:
            raise Failure(str(error)) from error
        except ModuleNotFoundError as error:
            if self._extra is None:
                raise
            raise Failure(
                f"`{ctx.command_path}` needs the Python module {error.name}, which is not "
                f"installed: pip install 'penstock[{self._extra}]'"
            ) from error


class SettingsCommand(Command):
    """A command that accepts every setting as a flag and is called with ``settings``.

    Its help shows the settings that are declared for this command, or for the one named ``reads``.
    """

    def __init__(self, *args: Any, reads: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reads = reads or self.name or ""
        self.params.extend(_options(self._reads))
        self.epilog = _MORE

    def invoke(self, ctx: click.Context) -> Any:
        taken = [option.name for option in self.params if isinstance(option, _SettingOption)]
        flags = {name: _text(ctx.params.pop(name)) for name in taken if name}
        file = ctx.params.pop("config")
        try:
            settings = load(flags, file=Path(file) if file else None)
            check_names(settings.brokers)
        except PenstockError as error:
            raise Failure(str(error)) from error
        configure_logs(settings.log_level, settings.log_format)
        ctx.params["settings"] = settings
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then its settings by section."""
        own = [option for option in self.get_params(ctx) if not isinstance(option, _SettingOption)]
        _write_section(ctx, formatter, "Options", own)
        for title, settings in sections():
            keys = {setting.key for setting in settings}
            options = [o for o in self.params if isinstance(o, _SettingOption) and o.key in keys]
            _write_section(ctx, formatter, title, options)


def configure_logs(level: str, form: str) -> None:
    """Set up logging. Imported only here, so that ``--help`` does not load it."""
    from penstock.worker.ops import logs  # noqa: PLC0415

    logs.configure(level, form)


def moment(_ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | None:
    """The callback of an option that is a point in time: RFC 3339 with its offset, or how long ago,
    such as ``25h``. Raises BadParameter.
    """
    if value is None:
        return None
    try:
        return moments.moment(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=param) from error


def moment_as_typed(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """As `moment`, but how long ago stays as it was typed, and a point in time is one text however
    it was typed: for what has to know the same question again.
    """
    found = moment(ctx, param, value)
    if value is None or found is None or moments.ago(value) is not None:
        return value
    return found.astimezone(UTC).isoformat()


class _Value(click.types.StringParamType):
    """The text as it was typed; `settings.keys.load` checks it together with all others."""

    name = "value"

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:  # noqa: ARG002  (click's signature)
        return self._kind.placeholder

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  (click's signature)
        param: click.Parameter,  # noqa: ARG002  (likewise)
        incomplete: str,
    ) -> list[CompletionItem]:
        if self._kind.placeholder == "FILE":
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(word) for word in self._kind.words if word.startswith(incomplete)]


class _SettingOption(click.Option):
    """The flag of the setting ``key``, or of the file that holds it."""

    def __init__(self, key: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.key = key


def _options(command: str) -> Iterator[click.Option]:
    """Flags of all settings; help and completion show those that ``command`` reads."""
    yield click.Option(
        ["--config"], metavar="FILE", type=click.Path(), help="TOML file with settings."
    )
    for setting in SETTINGS.values():
        hidden = not setting.shown_by(command)
        yield _option(setting, hidden=hidden)
        if setting.secret:
            yield _SettingOption(
                setting.key,
                [f"{flag(setting.key)}-file"],
                metavar="FILE",
                type=click.Path(),
                hidden=hidden,
                help=f"File that holds {setting.key}.",
            )


def _option(setting: Setting, *, hidden: bool) -> click.Option:
    name, about = flag(setting.key), help_text(setting)
    if isinstance(setting.default, bool):
        both = f"{name}/{name.replace('--', '--no-', 1)}"
        return _SettingOption(setting.key, [both], default=None, hidden=hidden, help=about)
    kind = some_of(*BROKERS) if setting.key == "brokers" else setting.kind
    return _SettingOption(setting.key, [name], type=_Value(kind), hidden=hidden, help=about)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _write_section(
    ctx: click.Context, formatter: click.HelpFormatter, title: str, options: list[Any]
) -> None:
    records = [record for option in options if (record := option.get_help_record(ctx))]
    if records:
        with formatter.section(title):
            formatter.write_dl(records)

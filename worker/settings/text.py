"""The settings as text: the example file, the tables for the documentation, the current values."""

import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from penstock.worker.settings.declared import Setting
from penstock.worker.settings.keys import SETTINGS, Settings
from penstock.worker.settings.sections import Section

_HEAD = """\
# Settings of Penstock. Copy this to penstock.toml and uncomment what you want to change.
# Every key is also an environment variable (batch_size: PENSTOCK_BATCH_SIZE) and a flag
# (--batch-size). Flags override the environment, which overrides this file.
# A secret may be read from a file instead: postgres_dsn_file = "/run/secrets/postgres_dsn".
"""

_LOGIN = re.compile(r"(?<=//).*@")
_PASSWORD = re.compile(r"(?<=password=)[^&\s]*")


def example() -> str:
    """The text of penstock.example.toml: every key, commented out, with its default."""
    return "\n".join([_HEAD.rstrip(), *_example_lines(), ""])


def markdown() -> str:
    """The tables of settings for the documentation, one per section."""
    return "\n".join(line for title, settings in sections() for line in _table(title, settings))


def sections() -> Iterator[tuple[Section, list[Setting]]]:
    """The settings by heading, in order."""
    for section, settings in groupby(SETTINGS.values(), lambda setting: setting.section):
        yield section, list(settings)


def _table(title: str, settings: list[Setting]) -> Iterator[str]:
    yield from (f"## {title}", "", "| setting | default | meaning |", "|---|---|---|")
    for setting in settings:
        default = f"`{setting.default_text}`" if setting.default_text else ""
        secret = " Also from a file." if setting.secret else ""
        yield f"| `{setting.key}` | {default} | {setting.about}{secret} |"
    yield ""


def effective(settings: Settings) -> str:
    """The current settings as TOML, with secrets masked; those that are not set are left out."""
    shown = [(setting, getattr(settings, setting.key)) for setting in SETTINGS.values()]
    return "".join(
        f"{setting.key} = {_literal(setting, masked(setting, value))}\n"
        for setting, value in shown
        if value is not None
    )


def masked(setting: Setting, value: Any) -> Any:
    """Hide a secret; of an address, only the login."""
    if not setting.secret or value is None:
        return value
    if "://" not in value:
        return "***"
    addresses = value.split(",") if setting.key == "nats_url" else [value]
    return ",".join(_PASSWORD.sub("***", _LOGIN.sub("***@", address)) for address in addresses)


def _example_lines() -> Iterator[str]:
    for title, settings in sections():
        yield f"\n# --- {title} ---"
        for setting in settings:
            yield f"\n# {setting.about}"
            if setting.default_text or isinstance(setting.default, tuple):
                yield f"# {setting.key} = {_literal(setting, setting.default)}"
            else:
                yield f'# {setting.key} = ""'


def _literal(setting: Setting, value: Any) -> str:
    """A value as TOML that the setting's kind can read back."""
    if isinstance(value, tuple):
        return json.dumps(list(value))
    text = setting.kind.text(value)
    bare = isinstance(value, bool) or (isinstance(value, int) and text == str(value))
    return text if bare else json.dumps(text)


def help_text(setting: Setting) -> str:
    """The text for ``--help``: meaning and default."""
    default = f"  [default: {setting.default_text}]" if setting.default_text else ""
    return f"{setting.about}{default}"

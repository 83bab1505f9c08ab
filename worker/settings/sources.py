"""Where settings come from: a TOML file, the environment and flags; secrets also from files.

This module knows names and texts only; `settings.keys` knows what a value means.
"""

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.worker.errors import SettingsError
from penstock.worker.wording import why

PREFIX = "PENSTOCK_"
CONFIG = "PENSTOCK_CONFIG"
DEFAULT_FILE = Path("penstock.toml")

_NOT_OURS = re.compile(r"PENSTOCK_(CONFIG|TEST_.*|SERVICE_HOST|SERVICE_PORT(_.*)?|PORT(_\d+_.*)?)")
"""Includes the variables that Kubernetes sets if there is a Service named penstock."""


class Given(msgspec.Struct, frozen=True):
    """A value as it was given, and where, for error messages."""

    raw: Any
    origin: str


class Layer(msgspec.Struct, frozen=True):
    """One source of settings. ``write`` turns a key into its name in this source."""

    place: str
    values: Mapping[str, Any]
    write: Callable[[str], str]

    def origin(self, key: str) -> str:
        """Where the value of ``key`` was found."""
        name = self.write(key)
        return self.place if name == key else f"{self.place}, {name}"


def collect(
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    file: Path | None,
    *,
    keys: Collection[str],
    secrets: Collection[str],
) -> tuple[dict[str, Given], list[str]]:
    """The value given for each key, where the strongest source wins, and a list of problems.

    ``<key>_file`` of a secret means the text in that file. An empty text counts as not given,
    because container tools cannot leave out a variable. Raises SettingsError if the TOML file
    cannot be read.
    """
    layers = [_toml(environ, file), _environment(environ), Layer("command line", flags, flag)]
    given: dict[str, Given] = {}
    problems: list[str] = []
    for layer in layers:
        found, wrong = _read(layer, keys, secrets)
        given |= found
        problems += wrong
    return given, problems


def flag(key: str) -> str:
    """The flag of a key: ``--batch-size``."""
    return "--" + key.replace("_", "-")


def variable(key: str) -> str:
    """The environment variable of a key: ``PENSTOCK_BATCH_SIZE``."""
    return PREFIX + key.upper()


def _toml(environ: Mapping[str, str], file: Path | None) -> Layer:
    named = file or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    path = named or DEFAULT_FILE
    if named is None and not path.exists():
        return Layer(str(path), {}, str)
    try:
        return Layer(str(path), tomllib.loads(path.read_text("utf-8")), str)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: cannot read the settings: {why(error)}") from error


def _environment(environ: Mapping[str, str]) -> Layer:
    found = {
        name.removeprefix(PREFIX).lower(): text
        for name, text in environ.items()
        if name.startswith(PREFIX) and not _NOT_OURS.fullmatch(name)
    }
    return Layer("environment", found, variable)


def _read(
    layer: Layer, keys: Collection[str], secrets: Collection[str]
) -> tuple[dict[str, Given], list[str]]:
    given: dict[str, Given] = {}
    problems: list[str] = []
    known = [*keys, *(f"{key}_file" for key in secrets)]
    values = {name: raw for name, raw in layer.values.items() if raw not in (None, "")}
    for name, raw in values.items():
        written = layer.write(name)
        key = name.removesuffix("_file")
        if name not in known:
            problems.append(_unknown(layer, name, known))
        elif name in keys:
            given[name] = Given(raw, layer.origin(name))
        elif key in values:
            both = f"{layer.write(key)} and {written}"
            problems.append(f"{both} ({layer.place}): give only one of them")
        else:
            try:
                given[key] = Given(_secret(raw), f"file {raw}")
            except (OSError, TypeError, ValueError) as error:
                problems.append(f"{written} = {raw!r} ({layer.place}): cannot use it: {why(error)}")
    return given, problems


def _secret(path: str) -> str:
    """Read a secret, without the trailing newline that editors add."""
    text = Path(path).read_text("utf-8").rstrip("\r\n")
    if not text:
        raise ValueError("the file is empty")
    return text


def _unknown(layer: Layer, name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {layer.write(near[0])}?" if near else "`penstock config --help` lists all"
    return f"{layer.write(name)} ({layer.place}): unknown setting; {hint}"

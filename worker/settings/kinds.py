"""How the text of a setting becomes a value, and a value becomes text again.

A kind says in words what it expects, for the error message. Values are text in the environment and
in flags, and typed in a TOML file; both forms are accepted.
"""

import math
import os
import re
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from typing import Any

import msgspec

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


class Kind(msgspec.Struct, frozen=True):
    """``expected`` is in words; ``parse`` raises ValueError; ``text`` writes what ``parse`` reads.

    ``placeholder`` stands for the value in help; ``words`` are the completions for a shell.
    """

    expected: str
    parse: Callable[[Any], Any]
    text: Callable[[Any], str] = str
    placeholder: str = "TEXT"
    words: tuple[str, ...] = ()


def duration(least: float = 0, most: float = 10 * 365 * 86400.0) -> Kind:
    """Seconds as a float, written ``250ms``, ``5s``, ``2h``, ``90d`` or a plain number."""

    def parse(raw: Any) -> float:
        number, unit = _quantity(raw)
        return _within(number * _SECONDS[unit or "s"], least, most)

    span = f"a duration from {duration_text(least)} to {duration_text(most)}"
    expected = f"{span}, such as 250ms, 5s, 2h or 90d"
    return Kind(expected, _strictly(parse), duration_text, "DURATION")


def size(least: int = 0, most: int = 2**50) -> Kind:
    """Bytes as an int, written ``8MiB``, ``512KiB`` or a plain number."""

    def parse(raw: Any) -> int:
        number, unit = _quantity(raw)
        return int(_within(number * _BYTES[unit], least, most))

    span = f"a size from {size_text(least)} to {size_text(most)}"
    return Kind(f"{span}, such as 512KiB or 8MiB", _strictly(parse), size_text, "SIZE")


def whole(least: int, most: int) -> Kind:
    """An int between two bounds, inclusive."""

    def parse(raw: Any) -> int:
        if isinstance(raw, bool | float):
            raise TypeError(raw)
        return int(_within(int(raw), least, most))

    return Kind(f"a whole number from {least} to {most}", _strictly(parse), placeholder="N")


def choice(*words: str) -> Kind:
    """One of some words."""

    def parse(raw: Any) -> str:
        return _one_of(raw, words)

    expected = "one of " + ", ".join(words)
    return Kind(expected, _strictly(parse), str, f"[{'|'.join(words)}]", words)


def word_or(kind: Kind, *words: str) -> Kind:
    """One of some words, or a value of ``kind``."""

    def parse(raw: Any) -> Any:
        return raw if raw in words else kind.parse(raw)

    def text(value: Any) -> str:
        return value if isinstance(value, str) else kind.text(value)

    expected = f"{', '.join(words)}, or {kind.expected}"
    placeholder = f"[{'|'.join((*words, kind.placeholder))}]"
    return Kind(expected, _strictly(parse), text, placeholder, words)


def matching(pattern: str, expected: str, placeholder: str = "TEXT") -> Kind:
    """A text that fully matches a regular expression."""

    def parse(raw: Any) -> str:
        if not isinstance(raw, str) or not re.fullmatch(pattern, raw):
            raise ValueError(raw)
        return raw

    return Kind(expected, parse, placeholder=placeholder)


def some_of(*words: str) -> Kind:
    """A tuple of some words, separated by commas, or a list in TOML."""
    listed = names("|".join(words), f"one or more of {', '.join(words)}, separated by commas")
    together = (*words, ",".join(words))
    return msgspec.structs.replace(listed, placeholder=f"[{'|'.join(words)}],...", words=together)


def names(pattern: str, expected: str) -> Kind:
    """A tuple of texts, separated by commas, or a list in TOML."""

    def parse(raw: Any) -> tuple[str, ...]:
        items = raw.split(",") if isinstance(raw, str) else raw
        found = tuple(item.strip() for item in items if item.strip())
        if not all(re.fullmatch(pattern, item) for item in found):
            raise ValueError(raw)
        return found

    return Kind(expected, _strictly(parse), ",".join, "NAME,...")


def offset_or_time() -> Kind:
    """An offset in a stream as an int, or a time with an offset from UTC as its text."""

    def parse(raw: Any) -> int | str:
        if isinstance(raw, int) or raw.isdigit():
            return int(_within(int(raw), 0, 2**63 - 1))
        if datetime.fromisoformat(raw).tzinfo is None:
            raise ValueError(raw)
        return str(raw)

    expected = "an offset such as 1200, or a time such as 2026-11-01T00:00:00Z"
    return Kind(expected, _strictly(parse), placeholder="OFFSET|TIME")


def modules() -> Kind:
    """A tuple of names of modules that Python can find."""
    dotted = names(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", "")

    def parse(raw: Any) -> Any:
        found = dotted.parse(raw)
        try:
            absent = [name for name in found if find_spec(name) is None]
        except ImportError as error:
            raise ValueError(raw) from error
        if absent:
            raise ValueError(raw)
        return found

    expected = "modules that Python finds (installed or on PYTHONPATH), separated by commas"
    return Kind(expected, parse, ",".join, "MODULE,...")


def readable_file() -> Kind:
    """The path of a file that exists and is readable."""

    def parse(raw: Any) -> str:
        if not isinstance(raw, str) or not os.access(raw, os.R_OK):
            raise ValueError(raw)
        return raw

    return Kind("the path of a readable file", parse, placeholder="FILE")


def truth() -> Kind:
    """A bool."""

    def parse(raw: Any) -> bool:
        return raw if isinstance(raw, bool) else _TRUTH[raw.lower()]

    return Kind("true or false", _strictly(parse), lambda value: str(value).lower())


def duration_text(seconds: float) -> str:
    """The shortest way to write a duration: 300.0 is ``5m``."""
    for unit, factor in reversed(_SECONDS.items()):
        count = round(seconds / factor)
        if count and math.isclose(count * factor, seconds):
            return f"{count}{unit}"
    return f"{seconds:g}s"


def size_text(count: int) -> str:
    """The shortest way to write a size: 8388608 is ``8MiB``."""
    for unit, factor in reversed(_BYTES.items()):
        if unit and count and count % factor == 0:
            return f"{count // factor}{unit}"
    return str(count)


def _strictly(parse: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Turn every error of ``parse``, such as for a wrong type, into ValueError."""

    def checked(raw: Any) -> Any:
        try:
            return parse(raw)
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(raw) from error

    return checked


def _quantity(raw: Any) -> tuple[float, str]:
    if isinstance(raw, bool):
        raise TypeError(raw)
    found = _QUANTITY.fullmatch(str(raw).strip())
    if not found:
        raise ValueError(raw)
    return float(found[1]), found[2]


def _within(value: float, least: float, most: float) -> float:
    if not least <= value <= most:
        raise ValueError(value)
    return value


def _one_of(raw: str, words: tuple[str, ...]) -> str:
    if raw not in words:
        raise ValueError(raw)
    return raw

"""Checks of what event types have worked out anew: that each function can be called."""

import re
from collections.abc import Iterable

from penstock.schemas.fields import field_types, value_kind
from penstock.schemas.mapping import Derive, EventSpec
from penstock.schemas.rows import MappingError

_named = re.compile(r"[a-z_][a-z0-9_]*\.[a-z_][a-z0-9_]*").fullmatch


def functions_of(specs: Iterable[EventSpec]) -> dict[str, int]:
    """Every function that is declared, and how many arrays it takes. Raises MappingError."""
    found: dict[str, int] = {}
    for spec in specs:
        for one in spec.derive:
            _check(spec, one)
            count = found.setdefault(one.function, len(one.columns))
            if count != len(one.columns):
                raise MappingError(
                    f"{spec.name}: {one.function} gets {len(one.columns)} columns, but {count} "
                    "from another type; a function takes the same from all"
                )
    return found


def _check(spec: EventSpec, one: Derive) -> None:
    if not _named(one.function):
        raise MappingError(
            f"{spec.name}: Derive names {one.function!r}; a function is named with its schema, in "
            "small letters, as in collab.settle"
        )
    if not one.columns:
        raise MappingError(
            f"{spec.name}: Derive({one.function!r}) names no column; name the fields that say "
            "what is to be worked out anew"
        )
    fields = field_types(spec.struct)
    for column in one.columns:
        if value_kind(fields[column]) not in {"id", "text"}:
            raise MappingError(
                f"{spec.name}: Derive names {column!r}, which is neither an id nor a text; name "
                "fields that are"
            )

"""The catalogue for people and tools, in each of its forms."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from penstock.schemas.catalogue import Catalogue
from penstock.worker.commands.asyncapi import asyncapi
from penstock.worker.commands.columns import columns
from penstock.worker.commands.event_schemas import json_schema
from penstock.worker.commands.typescript import typescript
from penstock.worker.settings.keys import Settings

_TITLES = ("type", "subject", "stream", "history", "state", "what it says")


def show(form: str, settings: Settings) -> str:
    """The catalogue in one of the forms that ``penstock events --format`` has."""
    forms: Mapping[str, Callable[[Catalogue], str]] = {
        "table": table,
        "markdown": markdown,
        "json-schema": json_schema,
        "asyncapi": partial(asyncapi, settings=settings),
        "typescript": typescript,
    }
    return forms[form](Catalogue.load(settings.event_packages))


def _rows(catalogue: Catalogue) -> Iterator[tuple[str, ...]]:
    for kind in catalogue.types.values():
        history = kind.history.table if kind.history else "-"
        domain = getattr(kind.spec.history, "domain", None)
        states = dict.fromkeys(state.table for state in kind.states)
        yield (
            kind.name,
            f"{kind.prefix}{{{kind.spec.key}}}{kind.suffix}",
            kind.stream,
            f"{history} ({domain})" if domain else history,
            ", ".join(states) or "-",
            kind.spec.summary,
        )


def table(catalogue: Catalogue) -> str:
    """Aligned columns, for a terminal and for tools that work line by line."""
    return columns(_TITLES, _rows(catalogue))


def markdown(catalogue: Catalogue) -> str:
    """The table of events in the documentation."""
    lines = [f"| {' | '.join(_TITLES)} |", f"|{'---|' * len(_TITLES)}"]
    for name, subject, *rest in _rows(catalogue):
        lines.append(f"| `{name}` | `{subject}` | {' | '.join(rest)} |")
    return "\n".join(lines) + "\n"

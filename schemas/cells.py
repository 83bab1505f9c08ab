"""Functions that make rows of many events at once, which costs a fraction of one call each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from penstock.schemas.event import Event

Cell = tuple[Any, ...]

NO_ITEMS: Iterable[Any] = repeat(None)
"""The elements for events that do not fan out."""


class Cells(msgspec.Struct, frozen=True):
    """Makes the cells of a row from an event and, for a fan-out, the element of its list.

    ``rows`` does so for many events, and as many elements.
    """

    rows: Callable[[Sequence[Event], Iterable[Any]], list[Cell]]

    def __call__(self, e: Event, item: Any) -> Cell:
        """The cells of one row."""
        return self.rows((e,), (item,))[0]


class Column(msgspec.Struct, frozen=True):
    """A column that ``make`` gives for all events at once, of what ``access`` gives for each."""

    make: Callable[[Sequence[Any]], Sequence[Any]]
    access: str


def compile_cells(parts: Sequence[str | Column], names: Mapping[str, Any]) -> Cells:
    """Cells of these expressions of ``e``, an event, ``d``, its data, and ``item``. ``names`` has
    what else stands in them.
    """
    columns = {n: part for n, part in enumerate(parts) if isinstance(part, Column)}
    drawn = {f"cell{n}": f"column{n}" for n in columns}
    lines = [
        f"column{n} = make{n}([{column.access} for e in events for d in (e.data,)])"
        for n, column in columns.items()
    ]
    if len(drawn) == len(parts):
        lines.append(f"return list(zip({', '.join(drawn.values())}))")
    else:
        cells = [f"cell{n}" if n in columns else part for n, part in enumerate(parts)]
        lines.append(_rows(cells, drawn))
    found = {**names, **{f"make{n}": column.make for n, column in columns.items()}}
    source = "\n    ".join(("def rows(events, items):", *lines))
    exec(source, found)  # noqa: S102  (the text is made of the declarations, never of input)
    return Cells(found["rows"])


def _rows(cells: Sequence[Any], drawn: Mapping[str, str]) -> str:
    """The statement that makes tuples of these expressions."""
    row = "".join(f"{cell}, " for cell in cells)
    along = {"e": "events", **({"item": "items"} if "item" in row else {}), **drawn}
    names, lists = ", ".join(along), ", ".join(along.values())
    which = f"{names} in zip({lists})" if len(along) > 1 else "e in events"
    return f"return [({row}) for {which} for d in (e.data,)]"

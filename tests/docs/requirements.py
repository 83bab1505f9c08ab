"""docs/requirements.md: each demand, and where it is fulfilled."""

from collections import Counter

from tests.docs.places import Line, Place, Places, lines, shown, table
from tests.docs.schema import Schema


def page(schema: Schema) -> str:
    """The generated part of the page: how many there are, then each of them."""
    places = Places(schema)
    found = [(line, [places.find(place) for place in line.places]) for line in lines(LIST)]
    counts = Counter(state(where) for _, where in found)
    total = ", ".join(f"{counts[name]} {name}" for name in STATES)
    rows = [_row(line, where) for line, where in found]
    return f"{len(rows)} demands: {total}.\n\n{table(('id', 'demand', 'state', 'where'), rows)}"


LIST = "requirements.txt"
STATES = ("there", "partly there", "missing", "for others")


def state(where: list[Place]) -> str:
    """In words, from what was found of its places."""
    found = {place.state for place in where}
    if found == {"out"}:
        return "for others"
    if "missing" not in found:
        return "there"
    return "partly there" if "here" in found else "missing"


def _row(line: Line, where: list[Place]) -> tuple[str, ...]:
    number, _, demand = line.head.partition(" ")
    note = f"; {line.note}" if line.note else ""
    return number, demand, state(where), shown(where) + note

"""SQL that finds rows which say less, or something else, than events that are stored.

An event is folded into its rows in the transaction that stored it. So in one snapshot each row is
at least as far as any event of its history, whatever other events, older or newer, are no longer
there. ``t`` is the row, ``s`` what an event says; NULL always means "not stated".
"""

from collections.abc import Mapping, Sequence

from penstock.schemas.event_type import Group
from penstock.worker.postgres import statements
from penstock.worker.postgres.statements import ColumnTypes, quoted


def contradicted(
    table: str,
    key: Sequence[str],
    groups: Mapping[Group, Sequence[str]],
    types: ColumnTypes,
) -> str:
    """Takes one array per column: of the key, and of each group its guard and those of its columns
    that are given. Gives the key as text, whether the row is missing, whether it passes for a stub,
    and for each group whether it says otherwise.
    """
    names = [*key, *(name for group, kept in groups.items() for name in (*group.guard, *kept))]
    joined = " AND ".join(f"t.{quoted(name)} = s.{quoted(name)}" for name in key)
    missing = f"t.{quoted(key[0])} IS NULL"
    stub = "t.is_stub" if "is_stub" in types else "false"
    wrong = [f"coalesce({_wrong(group, kept, types)}, false)" for group, kept in groups.items()]
    keys = ", ".join(f"s.{quoted(name)}::text" for name in key)
    return (
        f"SELECT {', '.join([keys, missing, stub, *wrong])} "
        f"FROM {statements.unnest(names, types)} AS s ({', '.join(map(quoted, names))}) "
        f"LEFT JOIN {quoted(table)} AS t ON {joined} "
        f"WHERE {' OR '.join([missing, stub, *wrong])}"
    )


def _wrong(group: Group, kept: Sequence[str], types: ColumnTypes) -> str:
    if group.guard:
        return _outdone(group, kept, types)
    if group.kind == "rank":
        return f"{statements.ranked('s', group)} > {statements.ranked('t', group)}"
    form = _FORMS.get(group.kind)
    if form is None or not kept:
        return "false"
    return " OR ".join(
        form.format(quoted(name), statements.collation(types[name])) for name in kept
    )


_FORMS = {
    "max": "(s.{0} IS NOT NULL AND (t.{0} IS NULL OR s.{0}{1} > t.{0}{1}))",
    "min": "(s.{0} IS NOT NULL AND (t.{0} IS NULL OR s.{0}{1} < t.{0}{1}))",
    "once": "(s.{0} IS NOT NULL AND t.{0} IS NULL)",
}
"""Sums are another matter: see `postgres.sums`."""


def _outdone(group: Group, kept: Sequence[str], types: ColumnTypes) -> str:
    """The row does not know the event, or has its version and other columns."""
    head, sign = quoted(group.guard[0]), ">" if group.kind == "last" else "<"
    said, held = statements.row("s", group.guard), statements.row("t", group.guard)
    behind = f"t.{head} IS NULL OR {said} {sign} {held}"
    if not kept:
        return behind
    other = " OR ".join(_other(quoted(name), types[name]) for name in kept)
    return f"{behind} OR ({said} = {held} AND ({other}))"


def _other(name: str, kind: str) -> str:
    cast = "::text" if kind == "json" else ""
    return f"t.{name}{cast} IS DISTINCT FROM s.{name}{cast}"

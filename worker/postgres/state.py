"""Folding a batch into the rows of state tables, and making the parents that it refers to.

Tables come by the depth of their references, parents before children, then by name, each in one
pass over its keys in their order, so that two transactions never wait for each other in a circle.
An upsert does for any rows. Where a batch says of every row how it began (a message that was sent,
a task that was created), or no other event may change it, the rows are probably not there yet, and
COPY costs a third of it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event_type import Group
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.plan import Plan, StateRows
from penstock.worker.postgres import made_rows, statements
from penstock.worker.postgres.copy import FEW_ROWS, OptimisticCopy, Rows
from penstock.worker.postgres.parts import Part
from penstock.worker.postgres.transaction import SAVEPOINT, Connection

Parent = tuple[str, str]
"""The key of a row that is referred to, and the text that it was made from."""

_KNOWN_PARENTS = 200_000
"""Parents remembered as present; above that the memory is emptied."""


class StateWriter:
    """Writes state rows within a transaction.

    ``types`` maps a table to its columns' types. Rows of the tables ``restated`` are set right
    where they contradict the event that they name.
    """

    def __init__(
        self,
        types: Mapping[str, statements.ColumnTypes],
        catalogue: Catalogue,
        *,
        restated: Collection[str] = (),
    ) -> None:
        self._restated = restated
        self._types = types
        self._keys = catalogue.keys
        self._depths = catalogue.depths
        self._made = catalogue.made
        self._copying = OptimisticCopy()
        self._upserts: dict[tuple[str, tuple[Group, ...]], str] = {}
        self._stubs: dict[str, tuple[str, str]] = {}
        self._known: set[tuple[str, Parent]] = set()

    def part(self, _batch: Batch) -> Part:
        """The batch's state rows and parents."""
        return _StatePart(self)

    async def write(self, connection: Connection, plan: Plan) -> list[tuple[str, Parent]]:
        """Write the rows of a plan and the parents that may be missing. Returns these with their
        tables, to `remember` once this is committed.
        """
        states = {state.table: state for state in plan.states}
        missing = {table: self._missing(table, pairs) for table, pairs in plan.stubs.items()}
        for table in sorted({*states, *missing}, key=self._place):
            state, parents = states.get(table), _single(missing.get(table, ()))
            if state is not None:
                parents = await self._write_state(connection, state, parents)
            if parents:
                await self._make_parents(connection, table, parents)
        return [(table, parent) for table, parents in missing.items() for parent in parents]

    def _place(self, table: str) -> tuple[int, str]:
        return self._depths[table], table

    async def _make_parents(
        self, connection: Connection, table: str, parents: Sequence[Parent]
    ) -> None:
        insert, complete = self._stub(table)
        keys, texts = [key for key, _ in parents], list(map(_text, parents))
        await connection.execute(insert, keys, texts)
        if complete and any(texts):
            await connection.execute(complete, keys, texts)

    def forget(self) -> bool:
        """Take no parent for granted any more: the database may be another one than it was. False
        if none was.
        """
        known = bool(self._known)
        self._known.clear()
        return known

    def remember(self, parents: Sequence[tuple[str, Parent]]) -> None:
        """They are there; no need to make them again."""
        if len(self._known) > _KNOWN_PARENTS:
            self._known.clear()
        self._known.update(parents)

    def _missing(self, table: str, parents: Sequence[Parent]) -> list[Parent]:
        return [parent for parent in parents if (table, parent) not in self._known]

    async def _write_state(
        self, connection: Connection, state: StateRows, parents: Sequence[Parent]
    ) -> Sequence[Parent]:
        """Insert the rows, or fold them into those that are there, and make parents in the same
        pass. Returns the parents that do not fit into it.
        """
        types = self._types[state.table]
        columns = statements.state_columns(self._keys[state.table], state.groups, types)
        rows = [(*row, False) for row in state.rows] if columns[-1] == "is_stub" else state.rows
        written = {row[0] for row in rows} if parents else set()
        texts = [parent for parent in parents if parent[0] in written and _text(parent)]
        parents = [parent for parent in parents if parent[0] not in written]
        left: Sequence[Parent] = []
        if "external_id" in types and "external_id" not in columns:
            left, parents = [*parents, *texts], left
        elif texts and "external_id" in types:
            rows = _named(rows, columns.index("external_id"), dict(texts))
        if parents:
            rows = sorted([*rows, *[_stub_row(parent, columns) for parent in parents]])
        if not parents and await self._copied(connection, state, Rows(state.table, columns, rows)):
            return left
        await connection.execute(self._upsert(state), *zip(*rows, strict=True))
        return left

    async def _copied(self, connection: Connection, state: StateRows, rows: Rows) -> bool:
        """Whether the rows were new and are in."""
        begun = state.begun or state.table in self._made
        if not begun or len(state.rows) <= FEW_ROWS:
            return False
        if self._copying.worth_trying([state.table]):
            await connection.execute(SAVEPOINT)
            return await self._copying.write(connection, [rows])
        self._copying.seen(state.table, duplicate=False)
        return False

    def _upsert(self, state: StateRows) -> str:
        shape = (state.table, state.groups)
        if shape not in self._upserts:
            self._upserts[shape] = self._statement(*shape)
        return self._upserts[shape]

    def _statement(self, table: str, groups: tuple[Group, ...]) -> str:
        key, types = self._keys[table], self._types[table]
        if table in self._made:
            columns = statements.state_columns(key, groups, types)
            return made_rows.insert(table, key, columns, types)
        return statements.upsert(table, key, groups, types, restate=table in self._restated)

    def _stub(self, table: str) -> tuple[str, str]:
        """The statements that make parents, and that complete those which are there."""
        if table not in self._stubs:
            (key,), types = self._keys[table], self._types[table]
            complete = statements.stub_texts(table, key, types) if "external_id" in types else ""
            self._stubs[table] = statements.stubs(table, key, types), complete
        return self._stubs[table]


class _StatePart(Part):
    """Makes the parents known once they are committed."""

    def __init__(self, writer: StateWriter) -> None:
        self._writer = writer
        self._parents: list[tuple[str, Parent]] = []

    async def write(self, connection: Connection, fresh: Plan) -> Plan:
        self._parents = await self._writer.write(connection, fresh)
        return fresh

    def committed(self) -> None:
        self._writer.remember(self._parents)


def _text(parent: Parent) -> str | None:
    """The text that the key was made from; None if it is the key."""
    key, text = parent
    return None if key == text.lower() else text


def _named(
    rows: Sequence[tuple[Any, ...]], place: int, texts: Mapping[str, str]
) -> list[tuple[Any, ...]]:
    """The rows with the texts by which others name them, where they state none themselves."""
    return [
        (*row[:place], texts[row[0]], *row[place + 1 :])
        if row[place] is None and row[0] in texts
        else row
        for row in rows
    ]


def _single(parents: Sequence[Parent]) -> Sequence[Parent]:
    """Each key once, with its text if one names it by text."""
    if len({key for key, _ in parents}) == len(parents):
        return parents
    named = {key: text for key, text in parents if key != text.lower()}
    return sorted({key: named.get(key, text) for key, text in parents}.items())


def _stub_row(parent: Parent, columns: Sequence[str]) -> tuple[Any, ...]:
    """A row that states nothing but that it is there."""
    stated = {columns[0]: parent[0], "external_id": _text(parent), "is_stub": True}
    return tuple([stated.get(column) for column in columns])

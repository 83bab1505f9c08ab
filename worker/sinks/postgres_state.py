"""Folding a batch into the rows of state tables, in the way that costs least.

An upsert does for any rows. Where a batch says of every row how it began (a message that was sent,
a task that was created), the rows are probably not there yet, and COPY costs a third of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from schemas.catalogue import Group
from worker.plan import StateRows
from worker.sinks import statements
from worker.sinks.postgres_copy import FEW_ROWS, Connection, HopefulCopy, Rows


class StateWriter:
    """Writes state rows within a transaction.

    ``types`` maps a table to its columns' types, ``keys`` to the columns of its key.
    """

    def __init__(
        self, types: Mapping[str, statements.ColumnTypes], keys: Mapping[str, Sequence[str]]
    ) -> None:
        self._types = types
        self._keys = keys
        self._copying = HopefulCopy()
        self._upserts: dict[tuple[str, tuple[Group, ...]], str] = {}

    async def write(self, connection: Connection, state: StateRows) -> None:
        """Insert the rows, or fold them into those that are there."""
        hopeful = len(state.columns[0]) > FEW_ROWS and _begins(self._keys[state.table], state)
        if hopeful and self._copying.worth_trying([state.table]):
            if await self._copying.write(connection, [self._rows(state)]):
                return
        elif hopeful:
            self._copying.seen(state.table, duplicate=False)
        await connection.execute(self._upsert(state), *state.columns)

    def _rows(self, state: StateRows) -> Rows:
        columns = [*self._keys[state.table], *chain(*map(statements.group_columns, state.groups))]
        cells: Iterator[tuple[Any, ...]] = zip(*state.columns, strict=True)
        if "is_stub" in self._types[state.table]:
            columns.append("is_stub")
            cells = zip(*state.columns, repeat(False), strict=False)  # noqa: FBT003  (a cell)
        return Rows(state.table, columns, cells)

    def _upsert(self, state: StateRows) -> str:
        shape = (state.table, state.groups)
        if shape not in self._upserts:
            self._upserts[shape] = statements.upsert(
                state.table, self._keys[state.table], state.groups, self._types[state.table]
            )
        return self._upserts[shape]


def _begins(key: Sequence[str], state: StateRows) -> bool:
    """Whether every row states its ``first`` group: the batch has the beginning of each."""
    place = len(key)
    for group in state.groups:
        if group.kind == "first":
            return None not in state.columns[place]
        place += len(group.guard) + len(group.columns)
    return False

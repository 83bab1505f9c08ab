"""One event type, compiled: from its declaration to the functions that make its rows.

`penstock.schemas.catalogue` holds all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.cells import Cells
from penstock.schemas.event import Event
from penstock.schemas.fields import field_types, floats, free_fields, moments
from penstock.schemas.generic import AUDIT_COLUMNS, LOG_COLUMNS, audit_row, log_row
from penstock.schemas.mapping import (
    EVENT_ID,
    OCCURRED_AT,
    AuditLog,
    EventSpec,
    Field,
    History,
    Log,
    Upsert,
)
from penstock.schemas.policies import check_upsert
from penstock.schemas.references import One, Several, compile_references
from penstock.schemas.rows import MappingError, RowCompiler
from penstock.schemas.streams import STREAM_OF
from penstock.schemas.wire import check_rule, strict, wire_struct


class Group(msgspec.Struct, frozen=True, cache_hash=True):
    """Columns of a state table that are decided together.

    ``kind`` is a policy of `penstock.schemas.mapping`; ``guard`` the columns that hold the winner's
    guard; ``order`` the ranks of a ``rank`` column.
    """

    table: str
    kind: str
    columns: tuple[str, ...]
    guard: tuple[str, ...] = ()
    order: tuple[str, ...] = ()


Touch = tuple[str, tuple[str, ...], bool]
"""A hydrated view, the columns that its rows are asked by, and whether that may wait."""


class State(msgspec.Struct, frozen=True):
    """An `Upsert`, compiled: how an event changes one row, or one row per element of ``items``."""

    table: str
    key_columns: tuple[str, ...]
    key: Cells
    groups: tuple[tuple[Group, Cells], ...]
    items: Callable[[Event], Sequence[Any]] | None


class Rows(msgspec.Struct, frozen=True):
    """A history table's columns and the function that makes its row.

    ``key`` tells an event that is stored already; ``relation`` is the table itself, or that part of
    it which is partitioned by time.
    """

    table: str
    relation: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    row: Cells


class EventType(msgspec.Struct, frozen=True):
    """One event type, compiled.

    ``decode`` reads its data and ignores fields that it does not have; ``decode_known`` refuses
    them. ``prefix`` + key + ``suffix`` is its subject. ``references`` gives for each parent table
    the parent's key and text, ``listed_references`` those that a list names; ``touches`` the rows
    to hydrate; ``derives`` the functions that work out what follows, with their keys;
    ``partition_fields`` the times, beside ``occurred_at``, that pick a partition. ``fields`` are
    those it knows, ``moments`` the times among them, ``required_moments`` those that cannot be
    absent. ``free`` are any JSON, which is stored as sent; with ``keeps_raw`` the whole data is.
    ``floats`` are or hold some.
    """

    name: str
    spec: EventSpec
    decode: Callable[[Raw | bytes], Any]
    decode_known: Callable[[Raw | bytes], Any]
    prefix: str
    suffix: str
    stream: str
    history: Rows | None
    states: tuple[State, ...]
    references: tuple[tuple[str, One], ...]
    listed_references: tuple[tuple[str, Several], ...]
    touches: tuple[tuple[Touch, Cells], ...]
    derives: tuple[tuple[str, Cells], ...]
    partition_fields: tuple[str, ...]
    requires_sequence: bool
    fields: frozenset[str]
    moments: tuple[str, ...]
    required_moments: tuple[str, ...]
    free: tuple[str, ...]
    floats: tuple[str, ...]
    keeps_raw: bool

    def __repr__(self) -> str:
        return f"EventType({self.name!r})"

    @property
    def tables(self) -> tuple[str, ...]:
        """Every table that the event writes, the history first."""
        history = (self.history.table,) if self.history else ()
        return history + tuple(dict.fromkeys(state.table for state in self.states))

    def unknown_fields(self, raw: Raw) -> list[str]:
        """The fields of ``raw``, a JSON object, that this type does not have, in their order."""
        sent = msgspec.json.decode(raw, type=dict[str, Raw])
        return [name for name in sent if name not in self.fields]


def compile_type(spec: EventSpec) -> EventType:
    """Compile one declaration. Raises MappingError."""
    compiler = RowCompiler(spec.name, spec.struct, spec.key)
    check_rule(spec.name, spec.struct, spec.key)
    wire = wire_struct(spec.struct, spec.key)
    references, listed = compile_references(spec)
    states = tuple(_state(spec, upsert, compiler) for upsert in spec.states)
    return EventType(
        name=spec.name,
        spec=spec,
        decode=msgspec.json.Decoder(wire).decode,
        decode_known=msgspec.json.Decoder(strict(wire)).decode,
        prefix=f"{spec.domain}.",
        suffix=f".{spec.verb}",
        stream=_stream(spec),
        history=_history(spec, compiler),
        states=states,
        references=references,
        listed_references=listed,
        touches=tuple(
            ((rule.view, rule.columns, rule.lazy), compiler.key_cells(rule.columns))
            for rule in spec.kv
        ),
        derives=tuple((one.function, compiler.key_cells(one.columns)) for one in spec.derive),
        partition_fields=_time_keys(spec, wire),
        requires_sequence=bool(getattr(spec.struct, "requires_sequence", False)),
        fields=frozenset(field_types(spec.struct)),
        moments=moments(wire),
        required_moments=moments(wire, required=True),
        free=free_fields(spec.struct),
        floats=floats(spec.struct),
        keeps_raw=isinstance(spec.history, Log | AuditLog),
    )


def _stream(spec: EventSpec) -> str:
    stream = spec.stream or STREAM_OF.get(spec.domain)
    if not spec.verb or stream is None:
        raise MappingError(
            f"{spec.name}: the type must be domain.verb, and a domain that Penstock does not know "
            f"needs stream=...; it knows {', '.join(STREAM_OF)}"
        )
    if STREAM_OF.get(spec.domain, stream) != stream:
        raise MappingError(f"{spec.name}: {spec.domain}.> belongs to {STREAM_OF[spec.domain]}")
    return stream


def _time_keys(spec: EventSpec, wire: type[msgspec.Struct]) -> tuple[str, ...]:
    """Key columns that are times sent in the data: they pick a partition of a state table."""
    sources = [upsert.source(column) for upsert in spec.states for column in upsert.key]
    names = {source.name for source in sources if isinstance(source, Field)}
    return tuple(
        name
        for name, kind in field_types(wire).items()
        if name in names and isinstance(kind, msgspec.inspect.DateTimeType)
    )


def _history(spec: EventSpec, compiler: RowCompiler) -> Rows | None:
    history = spec.history
    if history is None:
        return None
    key = (*(("domain",) if isinstance(history, Log) else ()), "event_id", "occurred_at")
    return Rows(history.table, history.relation, key, *_row(spec, history, compiler))


def _row(
    spec: EventSpec, history: History | Log | AuditLog, compiler: RowCompiler
) -> tuple[tuple[str, ...], Cells]:
    if isinstance(history, Log):
        return LOG_COLUMNS, log_row(spec.name, history)
    if isinstance(history, AuditLog):
        return AUDIT_COLUMNS, audit_row(spec, history, compiler)
    columns = ("event_id", "occurred_at", *history.columns)
    values = {"event_id": EVENT_ID, "occurred_at": OCCURRED_AT, **history.values}
    return columns, compiler.cells(columns, values)


def _state(spec: EventSpec, upsert: Upsert, compiler: RowCompiler) -> State:
    def cells(columns: Sequence[str], *, optional: bool = False) -> Cells:
        return compiler.state_cells(upsert, columns, optional=optional)

    check_upsert(spec, upsert)
    groups: list[tuple[Group, Cells]] = []
    if upsert.last:
        group = Group(upsert.table, "last", upsert.last, _guard(upsert.guard))
        groups.append((group, cells(upsert.last, optional=True)))
    if upsert.first:
        group = Group(upsert.table, "first", upsert.first, ("created_at", "created_event"))
        groups.append((group, cells(upsert.first)))
    for kind, columns in (("max", upsert.max), ("min", upsert.min), ("add", upsert.add)):
        if columns:
            groups.append((Group(upsert.table, kind, columns), cells(columns)))
    for column, order in upsert.rank.items():
        groups.append((Group(upsert.table, "rank", (column,), order=order), cells((column,))))
    if upsert.once:
        groups.append((Group(upsert.table, "once", upsert.once), cells(upsert.once)))
    items = compiler.items(upsert)
    return State(
        table=upsert.table,
        key_columns=upsert.key,
        key=cells(upsert.key),
        groups=tuple(groups),
        items=None if items is None else items.of,
    )


def _guard(prefix: str) -> tuple[str, str, str]:
    if prefix:
        return f"{prefix}_version", f"{prefix}_at", f"{prefix}_event"
    return "version", "version_at", "version_event"

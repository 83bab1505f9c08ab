"""The catalogue: every event type, built-in and the user's own, ready to use.

Built once at start from modules. Decoder, rows, subjects, JSON Schema and the table of events in
the README all follow from it.
"""

import importlib
from collections.abc import Iterator, Sequence
from functools import cache
from types import ModuleType

import msgspec

from penstock.schemas.derive import functions_of
from penstock.schemas.event import EventData
from penstock.schemas.event_type import EventType, Group, State, compile_type
from penstock.schemas.recall import check_sums
from penstock.schemas.references import parents_of
from penstock.schemas.rows import MappingError
from penstock.schemas.streams import STREAMS

BUILT_IN = (
    "penstock.schemas.agents",
    "penstock.schemas.tasks",
    "penstock.schemas.messages",
    "penstock.schemas.votes",
    "penstock.schemas.merit",
    "penstock.schemas.battles",
    "penstock.schemas.trust",
    "penstock.schemas.penalties",
    "penstock.schemas.workflows",
    "penstock.schemas.ideas",
    "penstock.schemas.mentorships",
    "penstock.schemas.knowledge",
    "penstock.schemas.learning",
    "penstock.schemas.threads",
    "penstock.schemas.conversations",
    "penstock.schemas.spans",
    "penstock.schemas.organizations",
    "penstock.schemas.accounts",
    "penstock.schemas.access",
    "penstock.schemas.sessions",
    "penstock.schemas.config",
    "penstock.schemas.audit",
    "penstock.schemas.sdlc",
    "penstock.schemas.telemetry",
    "penstock.schemas.monitoring",
    "penstock.schemas.recovery",
)


class HydratedView(msgspec.Struct, frozen=True):
    """A view that a bucket mirrors, and the columns that its rows are asked by."""

    name: str
    bucket: str
    lookups: tuple[tuple[str, ...], ...]

    @property
    def identity(self) -> tuple[str, ...]:
        """The columns that name one row: the longest lookup."""
        return max(self.lookups, key=len)


class Catalogue:
    """All event types of some modules. Raises MappingError if declarations contradict each other.

    ``types`` maps a CloudEvents type to its `EventType`; ``streams`` a stream to the subjects that
    it captures; ``keys`` a state table to its key columns; ``hydrated`` is every view that a bucket
    mirrors, by name; ``derived`` maps every function that works out what follows to the number of
    arrays it takes; ``depths`` a state table to the length of the longest chain of references from
    it, so that parents have less than their children; ``made`` the tables whose rows one event
    makes and none changes.
    """

    def __init__(self, structs: Sequence[type[EventData]]) -> None:
        self.types: dict[str, EventType] = {}
        for struct in structs:
            compiled = compile_type(struct.spec)
            if compiled.name in self.types:
                raise MappingError(f"{compiled.name} is declared twice")
            self.types[compiled.name] = compiled
        self.keys = self._key_columns()
        self._check_histories()
        self._check_groups()
        self._check_policies()
        self._check_references()
        check_sums(self.types.values())
        self.depths = self._depths()
        self.made = self._made()
        self.streams = self._subjects()
        self.hydrated = self._hydrated()
        self.derived = functions_of(kind.spec for kind in self.types.values())

    @classmethod
    def load(cls, packages: Sequence[str] = ()) -> "Catalogue":
        """The built-in types and those of the user's ``packages`` (names of modules)."""
        return _of_modules((*BUILT_IN, *packages)) if packages else _built_in()

    @property
    def tables(self) -> list[str]:
        """Every table that any event writes."""
        return list(dict.fromkeys(table for kind in self.types.values() for table in kind.tables))

    def _states(self) -> Iterator[tuple[EventType, State]]:
        for kind in self.types.values():
            for state in kind.states:
                yield kind, state

    def _key_columns(self) -> dict[str, tuple[str, ...]]:
        keys: dict[str, tuple[str, ...]] = {}
        for kind, state in self._states():
            if keys.setdefault(state.table, state.key_columns) != state.key_columns:
                raise MappingError(
                    f"{kind.name}: {state.table} has the key {keys[state.table]}, "
                    f"not {state.key_columns}"
                )
        return keys

    def _made(self) -> frozenset[str]:
        upserts = [upsert for kind in self.types.values() for upsert in kind.spec.states]
        changing = {upsert.table for upsert in upserts if not upsert.made}
        parents = {ref.table for kind in self.types.values() for ref in kind.spec.refs}
        return frozenset(self.keys) - changing - parents

    def _check_histories(self) -> None:
        """All rows of a table go in by one COPY, so they must have the same columns."""
        columns: dict[str, tuple[str, ...]] = {}
        for kind in self.types.values():
            if kind.history is None:
                continue
            table, own = kind.history.table, kind.history.columns
            if columns.setdefault(table, own) != own:
                raise MappingError(
                    f"{kind.name}: writes {own} to the history {table}, "
                    f"but another type writes {columns[table]}"
                )

    def _check_groups(self) -> None:
        """An event states a whole guard group, or arrival order would decide the rest."""
        groups: dict[tuple[str, tuple[str, ...]], Group] = {}
        for kind, state in self._states():
            for group, _ in state.groups:
                if group.guard and groups.setdefault((state.table, group.guard), group) != group:
                    raise MappingError(
                        f"{kind.name}: states {group.columns} of {state.table}, but the group "
                        f"{group.guard} is {groups[state.table, group.guard].columns}"
                    )

    def _check_policies(self) -> None:
        """A column is decided by one policy and one order, or arrival would choose between them."""
        policies: dict[tuple[str, str], tuple[str, str]] = {}
        for kind, state in self._states():
            found = [(column, "key") for column in state.key_columns]
            for group, _ in state.groups:
                found += [(column, describe(group)) for column in group.columns]
                found += [(column, f"guard of {describe(group)}") for column in group.guard]
            for column, policy in found:
                known, other = policies.setdefault((state.table, column), (policy, kind.name))
                if known != policy or found.count((column, policy)) > 1:
                    raise MappingError(
                        f"{kind.name}: {state.table}.{column} is under {policy}, but also under "
                        f"{known} (in {other}); a column has one policy"
                    )

    def _check_references(self) -> None:
        for kind in self.types.values():
            for ref in kind.spec.refs:
                if len(self.keys.get(ref.table, ())) != 1:
                    raise MappingError(
                        f"{kind.name}: Ref to {ref.table}, which no event writes by a single key "
                        "column"
                    )

    def _hydrated(self) -> dict[str, HydratedView]:
        found: dict[str, HydratedView] = {}
        for kind in self.types.values():
            for rule in kind.spec.kv:
                known = found.get(rule.view) or HydratedView(rule.view, rule.bucket, ())
                if known.bucket != rule.bucket:
                    raise MappingError(
                        f"{kind.name}: {rule.view} fills bucket {rule.bucket!r}, but another type "
                        f"says {known.bucket!r}; a view fills one bucket"
                    )
                lookups = tuple(dict.fromkeys((*known.lookups, rule.columns)))
                found[rule.view] = HydratedView(rule.view, rule.bucket, lookups)
        return found

    @property
    def buckets(self) -> tuple[str, ...]:
        """Every bucket that a view fills."""
        return tuple(dict.fromkeys(view.bucket for view in self.hydrated.values()))

    def _depths(self) -> dict[str, int]:
        """Raises MappingError for a circle: no table of it could be written first."""
        parents: dict[str, set[str]] = {table: set() for table in self.keys}
        for kind in self.types.values():
            for upsert in kind.spec.states:
                parents[upsert.table] |= set(parents_of(kind.spec, upsert))
        depths: dict[str, int] = {}

        def depth(table: str, path: tuple[str, ...]) -> int:
            if table in path:
                circle = " -> ".join((*path[path.index(table) :], table))
                raise MappingError(f"references go in a circle: {circle}; drop one of these Refs")
            if table not in depths:
                below = [depth(parent, (*path, table)) for parent in sorted(parents[table])]
                depths[table] = max(below, default=-1) + 1
            return depths[table]

        for table in parents:
            depth(table, ())
        return depths

    def _subjects(self) -> dict[str, tuple[str, ...]]:
        domains: dict[str, list[str]] = {name: list(known) for name, known in STREAMS.items()}
        chosen: dict[str, str] = {}
        for kind in self.types.values():
            if chosen.setdefault(kind.spec.domain, kind.stream) != kind.stream:
                raise MappingError(
                    f"{kind.name}: stream={kind.stream!r}, but other events of the domain travel "
                    f"on {chosen[kind.spec.domain]!r}; a subject belongs to one stream"
                )
            own = domains.setdefault(kind.stream, [])
            if kind.spec.domain not in own:
                own.append(kind.spec.domain)
        return {name: tuple(f"{domain}.>" for domain in own) for name, own in domains.items()}


def describe(group: Group) -> str:
    """The policy in words, with what tells it from others of its kind."""
    if group.kind == "rank":
        return f"rank {group.order}"
    return f"{group.kind} by {group.guard[0]}" if group.guard else group.kind


def declared_in(module: ModuleType) -> list[type[EventData]]:
    """The event structs that ``module`` itself declares, in order."""
    return [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, EventData)
        and "spec" in vars(found)
        and found.__module__ == module.__name__
    ]


def _of_modules(names: Sequence[str]) -> Catalogue:
    modules = [importlib.import_module(name) for name in names]
    return Catalogue([struct for module in modules for struct in declared_in(module)])


@cache
def _built_in() -> Catalogue:
    """It never changes, and takes a tenth of a second to make."""
    return _of_modules(BUILT_IN)

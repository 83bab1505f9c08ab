"""How an event type becomes rows: the declarations that everything else is derived from.

An event type is one struct with one decorator::

    @event(
        "tasks.deleted",
        key="task_id",
        history=Log("tasks"),
        states=(Upsert("tasks.task", key=("task_id",), max=("deleted_at",),
                       values={"deleted_at": OCCURRED_AT}),),
    )
    class TaskDeleted(EventData):
        task_id: TaskId
        reason: str | None = None

Column policies converge: whatever the order, the duplication and the cut into batches, the same
events leave the same row.

==========  =======================================================================================
``last``    a guard group: the event with the greatest (version, time, id) states all of it. A
            column that the struct does not have is stated as NULL
``first``   a guard group the other way round: the event with the least (time, id) states all of it
``max``     the greatest value wins; ``min`` the least
``rank``    the value that comes later in a declared order wins
``add``     the sum over events, each counted once (needs a history)
``once``    a fact that is the same in all events of the row, like the text its key was made from
==========  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar

import msgspec

from penstock.schemas.event import Event, EventData

Data = TypeVar("Data", bound=EventData)


class Attribute(Enum):
    """A value that comes from the envelope, or from the element of a fan-out, not from a field."""

    OCCURRED_AT = "e.time"
    EVENT_ID = "e.id"
    VERSION = "e.version"
    ACTOR = "e.actor"
    SOURCE = "e.source"
    CORR = "e.corr"
    CAUSE = "e.cause"
    KEY_TEXT = "key_text(e.entity)"
    PROJECT = "(None if e.project is None else entity_uuid('project', e.project))"
    OCCURRED_DAY = "day(e.time)"
    ENTITY = "e.entity"
    ITEM = "item"
    INDEX = "item[0]"


OCCURRED_AT = Attribute.OCCURRED_AT
EVENT_ID = Attribute.EVENT_ID
VERSION = Attribute.VERSION
ACTOR = Attribute.ACTOR
SOURCE = Attribute.SOURCE
CORR = Attribute.CORR
CAUSE = Attribute.CAUSE
KEY_TEXT = Attribute.KEY_TEXT
"""The text the key was made from; NULL if it is a UUID itself."""
PROJECT = Attribute.PROJECT
"""The key of the project that the envelope names; NULL if it names none."""
OCCURRED_DAY = Attribute.OCCURRED_DAY
"""The day on which it occurred, in UTC."""
ITEM = Attribute.ITEM
"""The element of the list that ``each`` names: an id as its key, a struct or a list as jsonb."""
INDEX = Attribute.INDEX
"""The place of the element in that list, from 0."""


AGENT_STATE = "AGENT_STATE"
"""The bucket of the agents' state; the setting ``kv_bucket`` may give it another name."""


class Field(msgspec.Struct, frozen=True):
    """A value that comes from the field of another name than the column."""

    name: str


class Item(msgspec.Struct, frozen=True):
    """A value that comes from this field of the element of the list that ``each`` names."""

    name: str


class Computed(msgspec.Struct, frozen=True):
    """A value that ``make`` computes of the event, and of nothing else: no clock, no state.

    What it returns is stored as a field of the annotated type would be, so ``make`` states one. The
    fields are in ``event.data``, but for the key, which is ``event.entity``.
    """

    make: Callable[[Event], Any]


class History(msgspec.Struct, frozen=True):
    """An append-only, range-partitioned table with the primary key (event_id, occurred_at).

    ``columns`` are written beside these two, from the fields of the same names unless ``values``
    says otherwise.
    """

    table: str
    columns: tuple[str, ...]
    values: Mapping[str, Any] = {}

    @property
    def relation(self) -> str:
        """The table that is partitioned by time."""
        return self.table


class Log(msgspec.Struct, frozen=True):
    """The generic history: the whole event with its data as jsonb, without own columns.

    ``domain`` picks the partition of ``events.log``. Data above ``data_limit`` bytes is kept as the
    fields named in ``keep`` and the size and SHA-256 of the rest.
    """

    domain: str
    table: str = "events.log"
    data_limit: int | None = None
    keep: tuple[str, ...] = ()

    @property
    def relation(self) -> str:
        """The partition of the domain, which is partitioned by time in turn."""
        return f"{self.table}_{self.domain}"


class AuditLog(msgspec.Struct, frozen=True):
    """The generic history of administrative events, ``audit.log``.

    ``values`` say where more of its columns come from: ``action`` (else the verb), ``resource_id``
    (else the key), ``old_values``, ``new_values``, ``changed``, ``ip``, ``user_agent``,
    ``session_id``.
    """

    resource_type: str | Field
    values: Mapping[str, Any] = {}
    table: str = "audit.log"

    @property
    def relation(self) -> str:
        """The table that is partitioned by time."""
        return self.table


class Upsert(msgspec.Struct, frozen=True):
    """One row of ``table`` that the event changes; with ``each``, one per element of that list.

    ``guard`` prefixes the columns of the ``last`` group's guard: ``<guard>_version``,
    ``<guard>_at``, ``<guard>_event``; without one they are ``version``, ``version_at``,
    ``version_event``. The ``first`` group's guard is ``created_at``, ``created_event``. All events
    that state a group of a table must list the same columns for it. Rows that state nothing but
    ``once``, under a key with `EVENT_ID`, are made by one event and never change.
    """

    table: str
    key: tuple[str, ...]
    last: tuple[str, ...] = ()
    first: tuple[str, ...] = ()
    max: tuple[str, ...] = ()
    min: tuple[str, ...] = ()
    rank: Mapping[str, tuple[str, ...]] = {}
    add: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    guard: str = ""
    values: Mapping[str, Any] = {}
    each: str | None = None

    @property
    def placed(self) -> Sequence[tuple[str, str]]:
        """The policy of each column that is named, or "key", and the column."""
        return [(policy, column) for policy in _POLICIES for column in getattr(self, policy)]

    def source(self, column: str) -> Any:
        """Where its value comes from: `Field`, `Item`, `Attribute`, `Computed`, or the value."""
        return self.values.get(column, Field(column))

    @property
    def made(self) -> bool:
        """True if one event alone makes the row."""
        sources = map(self.source, self.key)
        return Attribute.EVENT_ID in sources and {p for p, _ in self.placed} == {"key", "once"}


_POLICIES = ("key", "last", "first", "max", "min", "rank", "add", "once")


class Ref(msgspec.Struct, frozen=True):
    """``field`` names a row of ``table``. If that row is not there yet, a stub is made for it.

    A list of ids names several, and ``ranking.agent_id`` those in a field of a list's elements.
    """

    field: str
    table: str


class Hydrate(msgspec.Struct, frozen=True):
    """After the commit, mirror the rows of ``view`` whose ``columns`` equal the event's fields.

    The view has the columns (bucket, key, live, guard, value) and ``columns``; see
    migrations/0009_hydration.up.sql. ``bucket`` is what its first column says. Of all the
    ``columns`` that types ask a view by, the longest should name one row.

    ``lazy`` is for what comes often and matters little, like a sign of life: the rows may follow up
    to ``kv_status_interval`` later, once for all. What another event changes goes at once.
    """

    view: str
    columns: tuple[str, ...]
    bucket: str = AGENT_STATE
    lazy: bool = False


class Derive(msgspec.Struct, frozen=True):
    """After the commit, have ``function`` work out anew what follows from the event's rows.

    The function belongs to the database, and is named with its schema. It takes an array for each
    of ``columns``, fields that every event of the type has, and returns the names of what it
    changed. What it must promise is in docs/derived-values.md.
    """

    function: str
    columns: tuple[str, ...]


class EventSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the catalogue. Built by `event`; completed by `penstock.schemas.catalogue`."""

    name: str
    key: str
    struct: type[EventData]
    history: History | Log | AuditLog | None
    states: tuple[Upsert, ...]
    refs: tuple[Ref, ...]
    kv: tuple[Hydrate, ...]
    derive: tuple[Derive, ...]
    stream: str | None

    @property
    def domain(self) -> str:
        """The first token of the subject."""
        return self.name.partition(".")[0]

    @property
    def verb(self) -> str:
        """The last token of the subject."""
        return self.name.partition(".")[2]

    @property
    def summary(self) -> str:
        """The first line of the struct's docstring."""
        return (self.struct.__doc__ or "").strip().partition("\n")[0]


def event(
    name: str,
    *,
    key: str,
    history: History | Log | AuditLog | None = None,
    states: tuple[Upsert, ...] = (),
    refs: tuple[Ref, ...] = (),
    kv: tuple[Hydrate, ...] = (),
    derive: tuple[Derive, ...] = (),
    stream: str | None = None,
) -> Callable[[type[Data]], type[Data]]:
    """Make a struct the data of the event type ``name``, which is ``domain.verb``.

    ``key`` is the field that travels as the CloudEvents subject. ``stream`` is needed only for a
    domain that Penstock does not know.
    """

    def decorate(struct: type[Data]) -> type[Data]:
        struct.spec = EventSpec(
            name=name,
            key=key,
            struct=struct,
            history=history,
            states=states,
            refs=refs,
            kv=kv,
            derive=derive,
            stream=stream,
        )
        return struct

    return decorate

"""Events about threads: the checkpoints that a graph of agents goes on from. The key is the thread.

Checkpoints, values and writes are rows that one event makes and none changes, so partitions of
them can be dropped when they are old. What was deleted is told by later rows, and hidden by
`threads.v_checkpoint`.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from penstock.schemas.event import Count, EventData, Json, Name, Text
from penstock.schemas.identity import ThreadId
from penstock.schemas.mapping import (
    EVENT_ID,
    INDEX,
    KEY_TEXT,
    OCCURRED_AT,
    History,
    Item,
    Log,
    Upsert,
    event,
)
from penstock.schemas.rows import is_given

Namespace = Annotated[str, Meta(max_length=8192)]
"""Where in nested graphs it belongs; empty for the outermost."""

Place = Annotated[int, Meta(ge=-(2**15), le=2**31 - 1)]
"""The place of a write in its task; below 0 for errors, interrupts and the like."""

MADE = ("event_id", "n", "occurred_at")
MAKING = {"event_id": EVENT_ID, "n": INDEX, "occurred_at": OCCURRED_AT}


class ChannelValue(msgspec.Struct, frozen=True):
    """A channel's value at a version, or one of several ``parts`` of it, from 1.

    ``encoding`` says how to read ``data``; a ``digest`` tells the parts of one value from those of
    another that was stored for the same version.
    """

    channel: Name
    version: Name
    encoding: Name
    data: bytes
    digest: Text = ""
    part: Count = 1
    parts: Count = 1


class ChannelWrite(msgspec.Struct, frozen=True):
    """What a task has written to a channel, before it is part of a checkpoint."""

    place: Place
    channel: Name
    encoding: Name
    data: bytes


class CheckpointName(msgspec.Struct, frozen=True):
    """One checkpoint of a thread."""

    namespace: Namespace
    checkpoint_id: Name


THREAD = Upsert(
    table="threads.thread",
    key=("thread_id",),
    min=("first_at",),
    max=("last_at",),
    once=("external_id",),
    values={"external_id": KEY_TEXT, "first_at": OCCURRED_AT, "last_at": OCCURRED_AT},
)
VALUES = Upsert(
    table="threads.value",
    key=MADE,
    each="values",
    once=(
        "thread_id",
        "namespace",
        "channel",
        "value_version",
        "encoding",
        "data",
        "digest",
        "part",
        "parts",
    ),
    values={
        **MAKING,
        "channel": Item("channel"),
        "value_version": Item("version"),
        "encoding": Item("encoding"),
        "data": Item("data"),
        "digest": Item("digest"),
        "part": Item("part"),
        "parts": Item("parts"),
    },
)


@event(
    "threads.checkpointed",
    key="thread_id",
    history=History(
        "threads.checkpoint",
        (
            "thread_id",
            "namespace",
            "checkpoint_id",
            "parent_id",
            "run_id",
            "checkpoint",
            "metadata",
        ),
    ),
    states=(THREAD, VALUES),
)
class ThreadCheckpointed(EventData, frozen=True, kw_only=True):
    """A graph has come to a point from which it can go on.

    ``checkpoint`` is the checkpoint without its values; ``values`` are those that are new in it,
    as far as `threads.values_stored` has not stored them before.
    """

    thread_id: ThreadId
    namespace: Namespace = ""
    checkpoint_id: Name
    parent_id: Text | None = None
    run_id: Text | None = None
    checkpoint: Json
    metadata: Json = None
    values: list[ChannelValue] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        """The checkpoint is there: null is none."""
        if not is_given(self.checkpoint):
            raise ValueError("the checkpoint is null; send it as the saver describes it")


@event("threads.values_stored", key="thread_id", states=(THREAD, VALUES))
class ThreadValuesStored(EventData, frozen=True, kw_only=True):
    """Values, or parts of them, that do not fit into the event of their checkpoint."""

    thread_id: ThreadId
    namespace: Namespace = ""
    values: list[ChannelValue]


@event(
    "threads.written",
    key="thread_id",
    states=(
        THREAD,
        Upsert(
            table="threads.write",
            key=MADE,
            each="writes",
            once=(
                "thread_id",
                "namespace",
                "checkpoint_id",
                "task_id",
                "task_path",
                "place",
                "channel",
                "encoding",
                "data",
            ),
            values={
                **MAKING,
                "place": Item("place"),
                "channel": Item("channel"),
                "encoding": Item("encoding"),
                "data": Item("data"),
            },
        ),
    ),
)
class ThreadWritten(EventData, frozen=True, kw_only=True):
    """A task has finished its part of a step, on from a checkpoint."""

    thread_id: ThreadId
    namespace: Namespace = ""
    checkpoint_id: Name
    task_id: Name
    task_path: Namespace = ""
    writes: list[ChannelWrite]


@event(
    "threads.pruned",
    key="thread_id",
    history=Log("threads"),
    states=(
        Upsert(
            table="threads.removal",
            key=MADE,
            each="checkpoints",
            once=("thread_id", "namespace", "checkpoint_id"),
            values={
                **MAKING,
                "namespace": Item("namespace"),
                "checkpoint_id": Item("checkpoint_id"),
            },
        ),
    ),
)
class ThreadPruned(EventData, frozen=True, kw_only=True):
    """Some checkpoints of a thread are deleted, with their writes."""

    thread_id: ThreadId
    checkpoints: list[CheckpointName]


@event(
    "threads.deleted",
    key="thread_id",
    history=Log("threads"),
    states=(
        Upsert(
            table="threads.thread",
            key=("thread_id",),
            max=("deleted_at",),
            once=("external_id",),
            values={"external_id": KEY_TEXT, "deleted_at": OCCURRED_AT},
        ),
    ),
)
class ThreadDeleted(EventData, frozen=True, kw_only=True):
    """All that a thread has stored so far is deleted; it may begin again."""

    thread_id: ThreadId

"""Checkpoints of LangGraph as events, and back from what a worker reads."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from hashlib import sha256
from itertools import groupby
from random import SystemRandom
from typing import Any, cast

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from penstock.integrations.texts import storable_document
from penstock.schemas import (
    ChannelValue,
    ChannelWrite,
    ThreadCheckpointed,
    ThreadValuesStored,
    ThreadWritten,
)

PART_BYTES = 384 * 1024
"""A part of a value; in base64, with its event around it, it fits into a message of 1 MiB."""

_chance = SystemRandom().random
"""Not `random.random`: a graph that seeds that would give two branches the same versions."""


class StoredWrite(ChannelWrite, frozen=True, kw_only=True):
    """A write as a worker reads it."""

    task_id: str
    task_path: str = ""


class Stored(msgspec.Struct, frozen=True):
    """A checkpoint as a worker reads it, with its values and the writes after it."""

    thread: str
    namespace: str
    checkpoint_id: str
    checkpoint: dict[str, Any]
    parent_id: str | None = None
    run_id: str | None = None
    metadata: dict[str, Any] | None = None
    values: list[ChannelValue] = []
    writes: list[StoredWrite] = []


def place_of(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Thread, namespace and checkpoint that ``config`` names."""
    named = config["configurable"]
    return str(named["thread_id"]), named.get("checkpoint_ns", ""), named.get("checkpoint_id")


def config_of(thread: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    """The other way round."""
    return {
        "configurable": {
            "thread_id": thread,
            "checkpoint_ns": namespace,
            "checkpoint_id": checkpoint_id,
        }
    }


def next_version(current: float | None) -> float:
    """A greater version, which no other branch has: those that begin at one checkpoint count on
    from the same version, and each has values of its own. Whole numbers, as of other savers, count
    too.
    """
    return int(current or 0) + 1 + _chance()


def values_of(
    serde: SerializerProtocol, checkpoint: Checkpoint, channels: Iterable[str]
) -> Iterator[ChannelValue]:
    """The values of ``channels``, those that have one, in parts that fit into messages."""
    for channel in channels:
        if channel in checkpoint["channel_values"]:
            encoding, data = serde.dumps_typed(checkpoint["channel_values"][channel])
            version = _named(checkpoint["channel_versions"][channel])
            yield from _parts(channel, version, encoding, data)


def _named(version: str | float) -> str:
    """A version as PostgreSQL reads it from the checkpoint: numbers are written out."""
    return f"{Decimal(repr(version)):f}" if isinstance(version, float) else str(version)


def _parts(channel: str, version: str, encoding: str, data: bytes) -> Iterator[ChannelValue]:
    count = max(1, -(-len(data) // PART_BYTES))
    digest = sha256(data).hexdigest() if count > 1 else ""
    for number in range(count):
        piece = data[number * PART_BYTES : (number + 1) * PART_BYTES]
        yield ChannelValue(channel, version, encoding, piece, digest, number + 1, count)


def checkpointed(
    config: RunnableConfig,
    checkpoint: Checkpoint,
    metadata: CheckpointMetadata,
    values: Iterable[ChannelValue],
) -> Sequence[ThreadValuesStored | ThreadCheckpointed]:
    """The events of a checkpoint: the last one is the checkpoint itself."""
    thread, namespace, parent_id = place_of(config)
    *before, fitting = _batches(values)
    document = {name: value for name, value in checkpoint.items() if name != "channel_values"}
    about = storable_document({**get_serializable_checkpoint_metadata(config, metadata)})
    run_id = about.get("run_id")
    stored = [ThreadValuesStored(thread_id=thread, namespace=namespace, values=v) for v in before]
    last = ThreadCheckpointed(
        thread_id=thread,
        namespace=namespace,
        checkpoint_id=checkpoint["id"],
        parent_id=parent_id,
        run_id=None if run_id is None else str(run_id),
        checkpoint=document,
        metadata=about,
        values=fitting,
    )
    return [*stored, last]


def again(stored: Stored, thread: str, values: Iterable[ChannelValue]) -> list[Any]:
    """The events that make of a checkpoint one of another thread."""
    *before, fitting = _batches(values)
    here = {"thread_id": thread, "namespace": stored.namespace}
    written = [
        ThreadWritten(
            **here,
            checkpoint_id=stored.checkpoint_id,
            task_id=task_id,
            task_path=task_path,
            writes=[ChannelWrite(w.place, w.channel, w.encoding, w.data) for w in writes],
        )
        for (task_id, task_path), writes in groupby(
            stored.writes, lambda w: (w.task_id, w.task_path)
        )
    ]
    last = ThreadCheckpointed(
        **here,
        checkpoint_id=stored.checkpoint_id,
        parent_id=stored.parent_id,
        run_id=stored.run_id,
        checkpoint=stored.checkpoint,
        metadata=stored.metadata,
        values=fitting,
    )
    return [*(ThreadValuesStored(**here, values=v) for v in before), *written, last]


def _batches(values: Iterable[ChannelValue]) -> list[list[ChannelValue]]:
    """Values that fit into one event each; at least one batch, if an empty one."""
    batches: list[list[ChannelValue]] = [[]]
    room = PART_BYTES
    for value in values:
        if len(value.data) > room:
            batches.append([])
            room = PART_BYTES
        batches[-1].append(value)
        room -= len(value.data)
    return batches


def written(
    serde: SerializerProtocol,
    config: RunnableConfig,
    writes: Sequence[tuple[str, Any]],
    task_id: str,
    task_path: str,
) -> ThreadWritten:
    """The event of what a task has written."""
    thread, namespace, checkpoint_id = place_of(config)
    if checkpoint_id is None:
        raise ValueError("put_writes needs the checkpoint_id of a checkpoint in its config")
    found = [
        ChannelWrite(WRITES_IDX_MAP.get(channel, n), channel, *serde.dumps_typed(value))
        for n, (channel, value) in enumerate(writes)
    ]
    return ThreadWritten(
        thread_id=thread,
        namespace=namespace,
        checkpoint_id=checkpoint_id,
        task_id=task_id,
        task_path=task_path,
        writes=found,
    )


def tuple_of(serde: SerializerProtocol, stored: Stored) -> CheckpointTuple:
    """A checkpoint as LangGraph knows it."""
    here = (stored.thread, stored.namespace)
    values = {channel: serde.loads_typed(typed) for channel, typed in _whole(stored.values).items()}
    parent = stored.parent_id
    return CheckpointTuple(
        config=config_of(*here, stored.checkpoint_id),
        checkpoint=cast(Checkpoint, {**stored.checkpoint, "channel_values": values}),
        metadata=cast(CheckpointMetadata, stored.metadata or {}),
        parent_config=None if parent is None else config_of(*here, parent),
        pending_writes=[
            (w.task_id, w.channel, serde.loads_typed((w.encoding, w.data))) for w in stored.writes
        ],
    )


def _whole(values: Sequence[ChannelValue]) -> Mapping[str, tuple[str, bytes]]:
    """Each channel's value; a worker gives one for each, with all its parts in order."""
    return {
        channel: (parts[0].encoding, b"".join(part.data for part in parts))
        for channel, group in groupby(values, lambda value: value.channel)
        if (parts := list(group))
    }

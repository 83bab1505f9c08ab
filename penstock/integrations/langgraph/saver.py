"""`PenstockSaver`: what it stores is in PostgreSQL when its methods return."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import msgspec
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from penstock import Asked
from penstock.integrations.langgraph.documents import (
    Stored,
    again,
    checkpointed,
    config_of,
    next_version,
    place_of,
    tuple_of,
    values_of,
    written,
)
from penstock.integrations.langgraph.pruning import superseded
from penstock.integrations.link import Link, store
from penstock.schemas import CheckpointName, EventData, ThreadDeleted, ThreadPruned

_PAGE = 100
_NAMES = 1000
_RESTATED_EVERY = timedelta(days=7)
_REMEMBERED = 10_000

_decode = msgspec.json.Decoder(Stored).decode
Page = tuple[list[Stored], str | None]


class PenstockSaver(BaseCheckpointSaver[float]):
    """Checkpoints go over the bus into PostgreSQL, and are read over the bus: a graph needs no
    address of a database. ``options`` are those of `penstock.Publisher`.

    Open it with ``async with`` or with ``with``; both give all methods, with ``a`` and without.
    Those without must not be called in the loop of ``async with``. Methods raise what
    `penstock.Publisher.publish` and `penstock.Reader` raise.
    """

    def __init__(
        self,
        server: str = "nats://127.0.0.1:4222",
        *,
        source: str = "/langgraph",
        serde: SerializerProtocol | None = None,
        **options: Any,
    ) -> None:
        super().__init__(serde=serde)
        self._link = Link(server, source=source, **options)
        self._restated: OrderedDict[tuple[str, str], datetime] = OrderedDict()

    @classmethod
    def from_url(cls, server: str, **options: Any) -> Self:
        """The same, by its usual name."""
        return cls(server, **options)

    async def __aenter__(self) -> Self:
        await self._link.open_here()
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._link.close_here(*failure)

    def __enter__(self) -> Self:
        self._link.open_apart()
        return self

    def __exit__(self, *failure: object) -> None:
        self._link.close_apart()

    def get_next_version(self, current: float | None, channel: None) -> float:  # noqa: ARG002
        """One that no other branch has, see `next_version`."""
        return next_version(current)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint. It can be read only once all its values can."""
        thread, namespace, _ = place_of(config)
        channels = self._stated(thread, namespace, checkpoint, new_versions)
        values = values_of(self.serde, checkpoint, channels)
        *before, last = checkpointed(config, checkpoint, metadata, values)
        await self._store(*before)
        await self._store(last)
        self._note(thread, namespace, checkpoint, channels)
        return config_of(thread, namespace, checkpoint["id"])

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `aput`."""
        return self._link.run(lambda _: self.aput(config, checkpoint, metadata, new_versions))

    def _stated(
        self, thread: str, namespace: str, checkpoint: Checkpoint, new: ChannelVersions
    ) -> Iterable[str]:
        """The channels whose values go with a checkpoint: what is new, and from time to time all,
        so that no value is much older than the checkpoints that need it, and dropped before them.
        """
        last = self._restated.get((thread, namespace))
        if last is not None and datetime.now(UTC) - last < _RESTATED_EVERY:
            return list(new)
        return list(checkpoint["channel_versions"])

    def _note(
        self, thread: str, namespace: str, checkpoint: Checkpoint, stated: Iterable[str]
    ) -> None:
        if set(stated) >= set(checkpoint["channel_versions"]):
            self._restated[thread, namespace] = datetime.now(UTC)
            self._restated.move_to_end((thread, namespace))
            if len(self._restated) > _REMEMBERED:
                self._restated.popitem(last=False)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task has written after a checkpoint."""
        await self._store(written(self.serde, config, writes, task_id, task_path))

    def put_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """See `aput_writes`."""
        self._link.run(lambda _: self.aput_writes(config, writes, task_id, task_path))

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that ``config`` names, or the newest of its thread and namespace."""
        thread, namespace, checkpoint_id = place_of(config)
        where = {"namespace": namespace, "checkpoint_id": checkpoint_id}
        found, _ = await self._page(thread, Asked(where=where, limit=1))
        return tuple_of(self.serde, found[0]) if found else None

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `aget_tuple`."""
        return self._link.run(lambda _: self.aget_tuple(config))

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  (its name in the base class)
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[CheckpointTuple]:
        """Checkpoints of a thread, or of all, the newest first."""
        thread, where = _chosen(config, filter, before)
        after, left = None, limit
        while left is None or left > 0:
            asked = Asked(where=where, after=after, limit=min(left or _PAGE, _PAGE))
            found, after = await self._page(thread, asked)
            for stored in found:
                yield tuple_of(self.serde, stored)
            left = None if left is None else left - len(found)
            if after is None:
                return

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002  (its name in the base class)
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """See `alist`."""
        found = self.alist(config, filter=filter, before=before, limit=limit)
        try:
            while (one := self._link.run(lambda _: anext(found, None))) is not None:
                yield one
        finally:
            self._link.run(lambda _: found.aclose())

    async def adelete_thread(self, thread_id: str) -> None:
        """Nothing that the thread has stored so far can be read any more. The rows stay until
        their partitions are dropped.
        """
        await self._store(ThreadDeleted(thread_id=thread_id))
        for place in [place for place in self._restated if place[0] == thread_id]:
            self._restated.pop(place, None)

    def delete_thread(self, thread_id: str) -> None:
        """See `adelete_thread`."""
        self._link.run(lambda _: self.adelete_thread(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints of these runs, with their writes."""
        if run_ids:
            await self._remove([one async for one in self._all(None, {"run_ids": [*run_ids]})])

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """See `adelete_for_runs`."""
        self._link.run(lambda _: self.adelete_for_runs(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints with their values and writes, under their own ids."""
        copied = set[tuple[str, ...]]()
        async for stored in self._all(source_thread_id, {}):
            place = stored.namespace
            values = [
                value
                for value in stored.values
                if (place, value.channel, value.version, value.digest, str(value.part))
                not in copied
            ]
            copied.update((place, v.channel, v.version, v.digest, str(v.part)) for v in values)
            for event in again(stored, target_thread_id, values):
                await self._store(event)

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """See `acopy_thread`."""
        self._link.run(lambda _: self.acopy_thread(source_thread_id, target_thread_id))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Delete all checkpoints of these threads, or with ``keep_latest`` all that the newest one
        of each namespace does not need.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"strategy {strategy!r}: there are keep_latest and delete")
        for thread in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread)
            else:
                await self._remove(superseded([one async for one in self._all(thread, {})]))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """See `aprune`."""
        self._link.run(lambda _: self.aprune(thread_ids, strategy=strategy))

    async def _remove(self, found: Sequence[Stored]) -> None:
        threads: dict[str, list[CheckpointName]] = {}
        for one in found:
            named = CheckpointName(one.namespace, one.checkpoint_id)
            threads.setdefault(one.thread, []).append(named)
        for thread, names in threads.items():
            for start in range(0, len(names), _NAMES):
                event = ThreadPruned(thread_id=thread, checkpoints=names[start : start + _NAMES])
                await self._store(event)

    async def _store(self, *events: EventData) -> None:
        await self._link.call(lambda bus: store(bus, *events))

    async def _all(self, thread: str | None, where: dict[str, Any]) -> AsyncIterator[Stored]:
        after = None
        while True:
            found, after = await self._page(thread, Asked(where=where, after=after))
            for stored in found:
                yield stored
            if after is None:
                return

    async def _page(self, thread: str | None, asked: Asked) -> Page:
        name = "threads" if thread is None else "thread"
        page = await self._link.call(lambda bus: bus.read.page(name, thread or "all", asked))
        return [_decode(item) for item in page.items], page.next


def _chosen(
    config: RunnableConfig | None, metadata: dict[str, Any] | None, before: RunnableConfig | None
) -> tuple[str | None, dict[str, Any]]:
    """The thread, and what is wanted of it."""
    where: dict[str, Any] = {"metadata": metadata or {}}
    if before is not None:
        where["before"] = place_of(before)[2]
    named = config["configurable"] if config else {}
    where |= {
        name: named[key]
        for name, key in (("namespace", "checkpoint_ns"), ("checkpoint_id", "checkpoint_id"))
        if named.get(key) is not None
    }
    return (str(named["thread_id"]) if "thread_id" in named else None), where

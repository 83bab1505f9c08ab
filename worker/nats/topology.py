"""Streams, consumers and buckets: what Penstock needs on JetStream, and how it is created.

Nothing is ever deleted or recreated, because that would lose messages or offsets. What cannot be
changed in place without a loss is reported, with what a person can do.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from nats.aio.client import Client

from penstock.worker.difference import Difference
from penstock.worker.errors import TopologyError
from penstock.worker.nats.api import ApiRefused, call
from penstock.worker.nats.rules import (
    BUCKET_RULES,
    CONSUMER_RULES,
    STREAM_RULES,
    Rule,
    compare,
    nanoseconds,
)

_ATOMIC_SINCE = (2, 12)
_DUPLICATE_WINDOW_SECONDS = 120
_RACE_ROUNDS = 5
_IN_USE = frozenset({10058, 10148, 10013})
"""Another process has created it meanwhile, with other settings: compare again."""


class StreamPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of events. ``max_age`` (in seconds) and ``max_bytes`` are unlimited if 0.

    A full stream with ``max_bytes`` refuses new messages, so that the publisher notices; one with
    only ``max_age`` drops the oldest messages.
    """

    name: str
    subjects: tuple[str, ...]
    replicas: int = 1
    max_age: float = 0.0
    max_bytes: int = 0
    deny_delete: bool = False
    deny_purge: bool = False

    def config(self, *, atomic: bool) -> dict[str, Any]:
        """The configuration for the server."""
        config = {
            "name": self.name,
            "subjects": list(self.subjects),
            "retention": "limits",
            "storage": "file",
            "discard": "new" if self.max_bytes else "old",
            "max_age": nanoseconds(self.max_age),
            "max_bytes": self.max_bytes or -1,
            "max_msgs": -1,
            "max_msgs_per_subject": -1,
            "max_msg_size": -1,
            "max_consumers": -1,
            "num_replicas": self.replicas,
            "duplicate_window": nanoseconds(
                min(_DUPLICATE_WINDOW_SECONDS, self.max_age or _DUPLICATE_WINDOW_SECONDS)
            ),
            "compression": "none",
            "allow_direct": True,
            "deny_delete": self.deny_delete,
            "deny_purge": self.deny_purge,
        }
        return config | ({"allow_atomic": True} if atomic else {})


class ConsumerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The durable consumer of every stream; ``ack_wait`` is in seconds."""

    durable: str
    ack_wait: float
    max_ack_pending: int

    @property
    def config(self) -> dict[str, Any]:
        """The configuration for the server."""
        return {
            "name": self.durable,
            "durable_name": self.durable,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(self.ack_wait),
            "max_ack_pending": self.max_ack_pending,
            # With a limit, the consumer would drop messages, with an advisory as the only trace.
            "max_deliver": -1,
            "replay_policy": "instant",
        }


async def provision(
    nc: Client,
    plans: Sequence[StreamPlan],
    consumer: ConsumerPlan,
    *,
    dry_run: bool = False,
) -> list[Difference]:
    """Create and correct streams and consumers, as far as that loses nothing.

    Returns what was done and what still differs. With ``dry_run`` nothing is changed. May run in
    many processes at once. Raises SourceUnavailable, or TopologyError if the server refuses.
    """
    found: list[Difference] = []
    for plan in plans:
        stream = plan.config(atomic=knows_atomic(nc))
        changes = await _settle(nc, _StreamObject(plan.name), stream, STREAM_RULES, dry_run)
        found += changes
        if not any(change.missing and not change.fixed for change in changes):
            target = _ConsumerObject(plan.name, consumer.durable)
            found += await _settle(nc, target, consumer.config, CONSUMER_RULES, dry_run)
        else:
            found.append(_ConsumerObject(plan.name, consumer.durable).absent(fixed=False))
    return found


async def check(
    nc: Client, plans: Sequence[StreamPlan], consumer: ConsumerPlan
) -> list[Difference]:
    """What differs, for a worker that may not change anything.

    Raises TopologyError if something is missing or cannot work, or SourceUnavailable.
    """
    found = await provision(nc, plans, consumer, dry_run=True)
    fatal = [str(difference) for difference in found if difference.fatal]
    if fatal:
        raise TopologyError(
            f"{'; '.join(fatal)}. Run `penstock provision` as a user who may create and change it"
        )
    return found


async def ensure_bucket(
    nc: Client,
    bucket: str,
    *,
    history: int = 5,
    max_age: float = 0.0,
    replicas: int = 1,
    asynchronous: bool = False,
    dry_run: bool = False,
) -> list[Difference]:
    """Create the stream of a key-value bucket, as nats-py and the ``nats`` command expect it.

    ``max_age`` is in seconds, and unlimited if 0.
    A stream can have either atomic batches (the default) or asynchronous persistence
    (``asynchronous``), which requires a single replica. Raises as `provision` does.
    """
    name = f"KV_{bucket}"
    config: dict[str, Any] = {
        "name": name,
        "subjects": [f"$KV.{bucket}.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": nanoseconds(max_age),
        "max_bytes": -1,
        "max_msgs": -1,
        "max_msgs_per_subject": history,
        "max_msg_size": -1,
        "max_consumers": -1,
        "num_replicas": replicas,
        "duplicate_window": nanoseconds(_DUPLICATE_WINDOW_SECONDS),
        "compression": "none",
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "deny_purge": False,
    }
    if knows_atomic(nc):
        config |= {"persist_mode": "async"} if asynchronous else {"allow_atomic": True}
    return await _settle(nc, _StreamObject(name), config, BUCKET_RULES, dry_run)


def knows_atomic(nc: Client) -> bool:
    """True if the server has atomic batches and asynchronous persistence (2.12)."""
    version = nc.connected_server_version
    return (version.major, version.minor) >= _ATOMIC_SINCE


class _StreamObject:
    """How to read, create and change a stream."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = f"stream {name}"

    async def read(self, nc: Client) -> dict[str, Any] | None:
        return await _config(nc, f"STREAM.INFO.{self.name}")

    async def create(self, nc: Client, config: Mapping[str, Any]) -> None:
        await call(nc, f"STREAM.CREATE.{self.name}", config)

    async def update(self, nc: Client, config: Mapping[str, Any]) -> None:
        await call(nc, f"STREAM.UPDATE.{self.name}", config)

    def absent(self, *, fixed: bool) -> Difference:
        return Difference.absence(self.title, fixed=fixed)


class _ConsumerObject:
    """How to read, create and change a durable consumer."""

    def __init__(self, stream: str, durable: str) -> None:
        self.title = f"consumer {durable} of stream {stream}"
        self._stream = stream
        self._path = f"{stream}.{durable}"

    async def read(self, nc: Client) -> dict[str, Any] | None:
        return await _config(nc, f"CONSUMER.INFO.{self._path}")

    async def create(self, nc: Client, config: Mapping[str, Any]) -> None:
        await self._send(nc, config, "create")

    async def update(self, nc: Client, config: Mapping[str, Any]) -> None:
        await self._send(nc, config, "update")

    def absent(self, *, fixed: bool) -> Difference:
        return Difference.absence(self.title, fixed=fixed)

    async def _send(self, nc: Client, config: Mapping[str, Any], action: str) -> None:
        request = {"stream_name": self._stream, "config": config, "action": action}
        await call(nc, f"CONSUMER.CREATE.{self._path}", request)


async def _config(nc: Client, request: str) -> dict[str, Any] | None:
    try:
        answer = await call(nc, request)
    except ApiRefused as exc:
        if exc.not_found:
            return None
        raise TopologyError(str(exc)) from exc
    config: dict[str, Any] = answer["config"]
    return config


async def _settle(
    nc: Client,
    target: _StreamObject | _ConsumerObject,
    wanted: Mapping[str, Any],
    rules: Sequence[Rule],
    dry_run: bool,  # noqa: FBT001  (handed through)
) -> list[Difference]:
    """Read, then create or change; retry if another process does the same at this moment."""
    for attempt in range(_RACE_ROUNDS):
        present = await target.read(nc)
        try:
            if present is None:
                if not dry_run:
                    await target.create(nc, wanted)
                return [target.absent(fixed=not dry_run)]
            differences, changed = compare(target.title, wanted, present, rules)
            if changed is None or dry_run:
                return differences
            await target.update(nc, changed)
            return [d.done() if d.safe else d for d in differences]
        except ApiRefused as exc:
            if exc.code not in _IN_USE or attempt == _RACE_ROUNDS - 1:
                raise TopologyError(f"{target.title}: {exc.description}") from exc
            await asyncio.sleep(0.05 * (attempt + 1))
    raise AssertionError  # the last round returns or raises

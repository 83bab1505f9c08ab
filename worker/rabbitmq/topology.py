"""Exchanges and queues: what Penstock needs on RabbitMQ, and making it so.

Nothing is ever deleted or made anew: that would lose messages. The server compares arguments only
when a queue is declared, so what differs is what it refuses, one argument at a time.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import aio_pika
import aiormq
import msgspec
from aiormq.abc import AbstractChannel

from penstock.worker.difference import Difference
from penstock.worker.errors import TopologyError
from penstock.worker.rabbitmq.arguments import adopt, unlike
from penstock.worker.rabbitmq.connection import open_channel, translated
from penstock.worker.sending.reads import PATIENCE_SECONDS, SUBJECT

EXCHANGE = "events"
DEAD_QUEUE = "penstock.dead"
READ_QUEUE = "penstock.read"
"""Requests of agents that read; see `rabbitmq.service`."""

_READS: Mapping[str, Any] = {
    "x-queue-type": "classic",
    "x-message-ttl": round(PATIENCE_SECONDS * 1000),  # then whoever asked has gone
    "x-max-length": 10_000,
}
RETRY_SECONDS = (1, 10, 60)
"""How long retry queues keep a message. Of each its own: in one queue with a time per message, one
that waits long would keep back all behind it."""

DELIVERY_LIMIT = 1000
"""Far above ours: what is delivered too often becomes a dead letter in the database, with its
reason. The server's limit is for a worker that dies before it can count."""

Kind = Literal["quorum", "classic", "stream"]
_ARGUMENTS = 16
"""More than a queue has: so often may the server name a difference."""


_FORBIDDEN = (
    "this user has no right to configure it: run `penstock provision` as one who has, or grant it "
    "with `rabbitmqctl set_permissions`"
)
_NOT_COMPARED = Difference(
    what="rights of the RabbitMQ user",
    found="none to configure",
    wanted="some, to compare arguments",
    remedy="a worker does without; `penstock provision` needs another user",
    note=True,
)


class QueuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A queue of events; ``subjects`` are as those of a stream: ``agents.>``.

    ``max_age`` in seconds and ``max_bytes`` are unlimited if 0, and only for stream queues: a work
    queue drops nothing.
    """

    name: str
    subjects: tuple[str, ...]
    kind: Kind = "quorum"
    exchange: str = EXCHANGE
    max_age: float = 0.0
    max_bytes: int = 0

    @property
    def keys(self) -> tuple[str, ...]:
        """The patterns of routing keys that the queue is bound by."""
        return tuple(re.sub(r">$", "#", subject) for subject in self.subjects)

    @property
    def arguments(self) -> dict[str, Any]:
        """As the server wants them."""
        if self.kind == "stream":
            limits = {
                "x-max-age": f"{self.max_age:.0f}s" if self.max_age else None,
                "x-max-length-bytes": self.max_bytes or None,
            }
            given = {name: limit for name, limit in limits.items() if limit is not None}
            return {"x-queue-type": "stream", **given}
        dead = {"x-dead-letter-exchange": dead_exchange(self.exchange)}
        if self.kind == "classic":
            return {"x-queue-type": "classic", **dead}
        return {**QUORUM, **dead, "x-delivery-limit": DELIVERY_LIMIT}


QUORUM: Mapping[str, Any] = {
    "x-queue-type": "quorum",
    # Otherwise a message may be lost on its way to where it is dead-lettered.
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def dead_exchange(exchange: str) -> str:
    """Where the server puts what it gives up."""
    return f"{exchange}.dlx"


def retry_queue(queue: str, seconds: int) -> str:
    """The queue that keeps messages of ``queue`` for so long and then gives them back."""
    return f"penstock.retry.{queue}.{seconds}s"


class _Object(msgspec.Struct, frozen=True):
    """An exchange or a queue: ``look`` fails if it is not there, ``make`` if it has not just these
    arguments.
    """

    title: str
    look: Callable[[AbstractChannel], Awaitable[Any]]
    make: Callable[[AbstractChannel, dict[str, Any]], Awaitable[Any]]
    arguments: Mapping[str, Any] = {}
    needed: bool = True


async def provision(
    connection: aio_pika.RobustConnection, plans: Sequence[QueuePlan], *, dry_run: bool = False
) -> list[Difference]:
    """Make exchanges, queues and bindings as planned, as far as that loses nothing; say what was
    done.

    With ``dry_run`` nothing is changed, and bindings, which the server does not show, are taken for
    granted; so they are for a user without the right to bind. May run in many processes at once.
    Raises SourceUnavailable, or TopologyError if something is needed that this user may not make.
    """
    found: list[Difference] = []
    for target in _objects(plans):
        found += await _settle(connection, target, dry_run=dry_run)
    forbidden = [difference.what for difference in found if difference.remedy == _FORBIDDEN]
    if any(difference.fatal and difference.remedy == _FORBIDDEN for difference in found):
        raise TopologyError(f"missing: {', '.join(forbidden)}; {_FORBIDDEN}")
    if not dry_run:
        await _bind(connection, plans)
    return list(dict.fromkeys(found))  # one note, however many there are


async def check(
    connection: aio_pika.RobustConnection, plans: Sequence[QueuePlan]
) -> list[Difference]:
    """What differs, for a worker that may not change anything.

    Raises TopologyError if something is missing or cannot work, or SourceUnavailable.
    """
    found = await provision(connection, plans, dry_run=True)
    fatal = [str(difference) for difference in found if difference.fatal]
    if fatal:
        raise TopologyError(f"{'; '.join(fatal)}. Run `penstock provision` with the right to")
    return found


def _objects(plans: Sequence[QueuePlan]) -> Iterator[_Object]:
    for exchange in dict.fromkeys(plan.exchange for plan in plans):
        yield _exchange(exchange, "topic")
        if any(plan.kind != "stream" for plan in plans):
            yield _exchange(dead_exchange(exchange), "fanout", needed=False)
    if any(plan.kind != "stream" for plan in plans):
        yield _queue(DEAD_QUEUE, {"x-queue-type": "quorum"}, needed=False)
    yield _queue(READ_QUEUE, dict(_READS), needed=False)
    for plan in plans:
        yield _queue(plan.name, plan.arguments)
        if plan.kind != "stream":
            yield from (_retry(plan.name, seconds) for seconds in RETRY_SECONDS)


def _retry(queue: str, seconds: int) -> _Object:
    back = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}
    arguments = {**QUORUM, **back, "x-message-ttl": seconds * 1000}
    return _queue(retry_queue(queue, seconds), arguments, needed=False)


def _exchange(name: str, kind: str, *, needed: bool = True) -> _Object:
    return _Object(
        f"exchange {name}",
        lambda channel: channel.exchange_declare(name, passive=True),
        lambda channel, _: channel.exchange_declare(name, exchange_type=kind, durable=True),
        needed=needed,
    )


def _queue(name: str, arguments: dict[str, Any], *, needed: bool = True) -> _Object:
    return _Object(
        f"queue {name}",
        lambda channel: channel.queue_declare(name, passive=True),
        lambda channel, given: channel.queue_declare(name, durable=True, arguments=given),
        arguments,
        needed=needed,
    )


async def _settle(
    connection: aio_pika.RobustConnection, target: _Object, *, dry_run: bool
) -> list[Difference]:
    """Look, then declare: that makes what is missing and compares what is there."""
    there = await _succeeds(connection, target.title, target.look)
    if not there and dry_run:
        return [_absence(target, fixed=False)]
    found: list[Difference] = []
    arguments = dict(target.arguments)
    while len(found) < _ARGUMENTS:
        refusal = await _refusal(connection, target, arguments)
        if isinstance(refusal, aiormq.ChannelAccessRefused):
            return [_NOT_COMPARED if there else _absence(target, fixed=False, remedy=_FORBIDDEN)]
        if refusal is None:
            break
        found.append(unlike(target.title, str(refusal)))
        if not adopt(arguments, str(refusal)):
            return found
    return found if there else [_absence(target, fixed=True)]


async def is_stream(connection: aio_pika.RobustConnection, queue: str) -> bool:
    """Whether a queue that is there is a stream, as far as one may ask; nothing is read for it.
    Raises SourceUnavailable.
    """
    target = _queue(queue, {"x-queue-type": "stream"})
    arguments = dict(target.arguments)
    for _ in range(_ARGUMENTS):
        refusal = await _refusal(connection, target, arguments)
        if refusal is None or not adopt(arguments, str(refusal)):
            break
    return arguments.get("x-queue-type") == "stream"


async def _refusal(
    connection: aio_pika.RobustConnection, target: _Object, arguments: dict[str, Any]
) -> aiormq.AMQPError | None:
    """What the server says against these arguments. Raises SourceUnavailable."""
    with translated(target.title):
        try:
            async with open_channel(connection) as channel:
                await target.make(channel, arguments)
        except (aiormq.ChannelPreconditionFailed, aiormq.ChannelAccessRefused) as exc:
            return exc
    return None


async def _bind(connection: aio_pika.RobustConnection, plans: Sequence[QueuePlan]) -> None:
    """As far as we may: a user without the right to bind cannot learn either what is bound."""
    if any(plan.kind != "stream" for plan in plans):
        for exchange in dict.fromkeys(dead_exchange(plan.exchange) for plan in plans):
            await _succeeds(connection, f"queue {DEAD_QUEUE}", _binding(DEAD_QUEUE, exchange, "#"))
    for exchange in dict.fromkeys(plan.exchange for plan in plans):
        binding = _binding(READ_QUEUE, exchange, f"{SUBJECT}.#")
        await _succeeds(connection, f"queue {READ_QUEUE}", binding)
    for plan in plans:
        for key in plan.keys:
            binding = _binding(plan.name, plan.exchange, key)
            await _succeeds(connection, f"queue {plan.name}", binding)


def _binding(queue: str, exchange: str, key: str) -> Callable[[AbstractChannel], Awaitable[Any]]:
    return lambda channel: channel.queue_bind(queue, exchange, routing_key=key)


async def _succeeds(
    connection: aio_pika.RobustConnection,
    title: str,
    action: Callable[[AbstractChannel], Awaitable[Any]],
) -> bool:
    """False if it is not there, or not ours to touch. Raises SourceUnavailable."""
    with translated(title):
        try:
            async with open_channel(connection) as channel:
                await action(channel)
        except (aiormq.ChannelNotFoundEntity, aiormq.ChannelAccessRefused):
            return False
    return True


def _absence(target: _Object, *, fixed: bool, remedy: str | None = None) -> Difference:
    """What only makes things better may be missing: the worker does without."""
    found = Difference.absence(target.title, fixed=fixed)
    return msgspec.structs.replace(
        found, fatal=found.fatal and target.needed, remedy=remedy or found.remedy
    )

"""The rights that a worker's user needs on RabbitMQ, found out by asking what the server refuses
everybody: those without the right for want of it, all others for something else.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import aio_pika
import aiormq
import msgspec
from aiormq.abc import AbstractChannel

from penstock.worker.finding import Finding, Verdict
from penstock.worker.rabbitmq.connection import open_channel, translated

_NO_PRIORITY: dict[str, Any] = {"x-priority": "none"}
"""No number: whoever may consume is refused for it, and takes no message."""

_NO_QUEUE = "penstock.doctor"
"""A routing key that leads nowhere."""


class Needed(msgspec.Struct, frozen=True):
    """A queue to read, and what goes wrong without the right; ``verdict`` says how badly."""

    queue: str
    without: str
    verdict: Verdict = Verdict.BAD


async def findings(
    connection: aio_pika.RobustConnection, queues: Iterable[Needed], outlet: str | None = None
) -> list[Finding]:
    """One for each right that is missing, else that all are there. ``outlet`` is the exchange that
    the outbox publishes to, if it does. What does not exist yet is left to provisioning. Raises
    SourceUnavailable.
    """
    missing = [
        _missing("read", f"queue {one.queue}", one.without, one.verdict)
        for one in queues
        if await _forbidden(connection, f"queue {one.queue}", _consuming(one.queue))
    ]
    writes = {"": ("amq.default", "no receipt and no read is answered")}
    if outlet is not None:
        writes[outlet] = (outlet, "nothing of the outbox is sent (or set outbox = false)")
    for exchange, (name, without) in writes.items():
        if await _forbidden(connection, f"exchange {name}", _publishing(exchange)):
            missing.append(_missing("write", f"exchange {name}", without))
    return missing or [Finding(Verdict.GOOD, "RabbitMQ: every right that a worker needs")]


def _consuming(queue: str) -> Callable[[AbstractChannel], Coroutine[Any, Any, Any]]:
    async def nothing(_: Any) -> None: ...

    return lambda channel: channel.basic_consume(queue, nothing, arguments=_NO_PRIORITY)


def _publishing(exchange: str) -> Callable[[AbstractChannel], Coroutine[Any, Any, Any]]:
    return lambda channel: channel.basic_publish(b"", exchange=exchange, routing_key=_NO_QUEUE)


async def _forbidden(
    connection: aio_pika.RobustConnection,
    what: str,
    action: Callable[[AbstractChannel], Coroutine[Any, Any, Any]],
) -> bool:
    with translated(what):
        try:
            async with open_channel(connection, confirms=True) as channel:
                await action(channel)
        except aiormq.ChannelAccessRefused:
            return True
        except (aiormq.ChannelNotFoundEntity, aiormq.ChannelPreconditionFailed):
            return False
    return False


def _missing(verb: str, what: str, without: str, verdict: Verdict = Verdict.BAD) -> Finding:
    text = f"RabbitMQ: no right to {verb} {what}: {without}"
    return Finding(verdict, text, "grant it as deploy/rabbitmq/users.sh does")

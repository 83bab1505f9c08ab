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
"""A routing key of the default exchange that leads nowhere."""


class Needed(msgspec.Struct, frozen=True):
    """A queue to read, and what goes wrong without the right; ``verdict`` says how badly."""

    queue: str
    without: str
    verdict: Verdict = Verdict.BAD


async def findings(
    connection: aio_pika.RobustConnection, queues: Iterable[Needed]
) -> list[Finding]:
    """One for each right that is missing, else that all are there. What does not exist yet is left
    to provisioning. Raises SourceUnavailable.
    """
    missing = [
        _missing("read", f"queue {one.queue}", one.without, one.verdict)
        for one in queues
        if await _forbidden(connection, f"queue {one.queue}", _consuming(one.queue))
    ]
    if await _forbidden(connection, "the default exchange", _answering):
        without = "no receipt and no read is answered"
        missing.append(_missing("write", "exchange amq.default", without))
    return missing or [Finding(Verdict.GOOD, "RabbitMQ: every right that a worker needs")]


def _consuming(queue: str) -> Callable[[AbstractChannel], Coroutine[Any, Any, Any]]:
    async def nothing(_: Any) -> None: ...

    return lambda channel: channel.basic_consume(queue, nothing, arguments=_NO_PRIORITY)


def _answering(channel: AbstractChannel) -> Coroutine[Any, Any, Any]:
    return channel.basic_publish(b"", exchange="", routing_key=_NO_QUEUE)


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

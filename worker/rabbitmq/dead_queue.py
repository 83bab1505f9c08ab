"""The queue of what RabbitMQ itself gave up: it is read, and every message is a dead letter."""

from collections.abc import Sequence
from typing import Any

import aio_pika
import msgspec

from penstock.worker.errors import TopologyError
from penstock.worker.pipeline.decode.diagnosis import dead_letter
from penstock.worker.pipeline.ports import Backlog, DeadLetter, Message
from penstock.worker.rabbitmq.backlog import given_up, ready
from penstock.worker.rabbitmq.message import RabbitMqMessage, before_retry, message_of
from penstock.worker.rabbitmq.source import RabbitMqSource
from penstock.worker.rabbitmq.topology import DEAD_QUEUE
from penstock.worker.rabbitmq.wire import Delivery

REASON = "broker_gave_up"
_decode = msgspec.json.Decoder(list[dict[str, Any]]).decode


async def is_there(connection: aio_pika.RobustConnection) -> bool:
    """Whether there is such a queue that we may look at. Raises SourceUnavailable."""
    try:
        await ready(connection, DEAD_QUEUE)
    except TopologyError:
        return False
    return True


class DeadQueueSource(RabbitMqSource):
    """A message that came back from a retry queue is given as it was before it went there."""

    async def backlog(self) -> Backlog:
        """``pending`` are those that nobody has been given."""
        count = await given_up(self._connection)
        held = self._tags.unsettled(self._last_tag)
        return Backlog(pending=count, ack_pending=held, given_up=count)

    def _messages(self, deliveries: Sequence[Delivery]) -> Sequence[RabbitMqMessage]:
        found = []
        for delivery in deliveries:
            message = message_of(delivery, self._generation)
            if _last_death(message).get("exchange") == "":  # it had come from the default exchange
                subject, _, header = before_retry(message.subject, message.header)
                message = msgspec.structs.replace(message, subject=subject, header=header)
            found.append(message)
        return found


class Judge:
    """Whatever it is, RabbitMQ has given it up, and says why."""

    def decode(self, messages: Sequence[Message]) -> list[DeadLetter]:
        return [dead_letter(message, REASON, _why(message)) for message in messages]


def _why(message: Message) -> str:
    death = _last_death(message)
    if not death:
        return "RabbitMQ gave it up and does not say why"
    return (
        f"queue {death.get('queue')} gave it up: {death.get('reason')} "
        f"({death.get('count')} times, since {death.get('time')})"
    )


def _last_death(message: Message) -> dict[str, Any]:
    """The first entry of the header ``x-death``, which the server writes."""
    try:
        deaths = _decode(message.headers.get("x-death", "[]"))
    except msgspec.MsgspecError:
        return {}
    return deaths[0] if deaths else {}

"""Dead letters on their way back: with the properties that they came with, byte by byte."""

import asyncio
import contextlib
import re
from collections.abc import Mapping, Sequence

import aio_pika
import aiormq
from pamqp.commands import Basic
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_fixed

from penstock.worker.brokers.ports import Copy
from penstock.worker.errors import PenstockError, SourceUnavailable
from penstock.worker.rabbitmq.connection import (
    ANSWER_SECONDS,
    ENDED,
    FAILURES,
    open_channel,
    translated,
)
from penstock.worker.rabbitmq.message import LETTER_HEADER
from penstock.worker.rabbitmq.properties import (
    CONTENT_TYPE,
    DELIVERY_MODE,
    EXPIRATION,
    FLAGS_AT,
    HEADERS,
    MESSAGE_ID,
    USER_ID,
    Field,
    cut,
    entry,
    fields,
    joined,
    short_text,
)
from penstock.worker.sending.outgoing import PublishFailed, PublishRefused
from penstock.worker.wording import why

_AT_ONCE = 200
_PAUSE_SECONDS = 0.2
_LEFT_OUT = re.compile(f"CC|BCC|x-death|x-(first|last)-death-.*|{LETTER_HEADER}").fullmatch
"""Headers that would send it to others once more, that the server wrote when it gave it up, and the
mark of an earlier requeue."""


async def resend(
    connection: aio_pika.RobustConnection, exchange: str, copies: Sequence[Copy]
) -> list[PenstockError | None]:
    """See `Broker.resend`."""
    outcomes: list[PenstockError | None] = []
    for first in range(0, len(copies), _AT_ONCE):
        outcomes += await _resend(connection, exchange, copies[first : first + _AT_ONCE])
    return outcomes


async def _resend(
    connection: aio_pika.RobustConnection, exchange: str, copies: Sequence[Copy]
) -> list[PenstockError | None]:
    """What the server has against one of them ends the channel, and does not say which one it was.
    A message that comes after that ends the connection. Then what is left goes alone.
    """
    told: list[PenstockError | None] = [_ChannelEnded()] * len(copies)
    with contextlib.suppress(SourceUnavailable):
        told = await _together(connection, exchange, copies)
    if not any(isinstance(one, _ChannelEnded) for one in told):
        return told
    again = AsyncRetrying(
        retry=retry_if_exception_type(SourceUnavailable),
        wait=wait_fixed(_PAUSE_SECONDS),
        stop=stop_after_delay(ANSWER_SECONDS),
        reraise=True,
    )
    for place, copy in enumerate(copies):
        if told[place] is not None:
            [told[place]] = await again.copy()(_together, connection, exchange, [copy])
    return told


async def _together(
    connection: aio_pika.RobustConnection, exchange: str, copies: Sequence[Copy]
) -> list[PenstockError | None]:
    """On a channel of their own. Raises SourceUnavailable."""
    with translated("RabbitMQ"):
        async with open_channel(connection, confirms=True) as channel:
            return await asyncio.gather(*(_publish(channel, exchange, copy) for copy in copies))


class _ChannelEnded(PublishRefused):
    """The server has ended the channel, over this message or another one."""


def headers_with(properties: bytes, changes: Mapping[str, str]) -> bytes:
    """See `Broker.headers_with`; ``content-type`` is the property. Raises PublishRefused."""
    found, table = _cut(properties)
    named = {name.lower() for name in changes}
    kept = [field.raw for field in table if field.name.lower() not in named]
    try:
        for name, text in changes.items():
            if name.lower() == "content-type":
                found[CONTENT_TYPE] = short_text(text)
            elif text:
                kept.append(entry(name, text))
    except OverflowError as error:
        raise PublishRefused("names of headers, and content types, have 255 bytes") from error
    if found.get(CONTENT_TYPE) == short_text(""):
        del found[CONTENT_TYPE]
    return joined(found, kept)


async def _publish(channel: aiormq.Channel, exchange: str, copy: Copy) -> PenstockError | None:
    try:
        outcome = await channel.basic_publish(
            copy.body,
            exchange=exchange,
            routing_key=copy.subject,
            properties=_Properties(copy),
            mandatory=True,
            timeout=ANSWER_SECONDS,
        )
    except aiormq.PublishError:
        text = f"no queue takes {copy.subject!r}: give another with --to"
        return PublishRefused(text)
    except ENDED as error:
        return _ChannelEnded(f"{copy.subject!r}: {why(error)}")
    except ValueError as error:
        return PublishRefused(f"{copy.subject!r}: {why(error)}")
    except FAILURES as error:
        return PublishFailed(f"{copy.subject!r} was not confirmed: {why(error)}")
    if isinstance(outcome, Basic.Ack):
        return None
    return PublishFailed(f"{copy.subject!r} was not confirmed: RabbitMQ could not store it")


class _Properties(Basic.Properties):
    """Those that a letter came with, as bytes: aiormq never reads them. What would keep it from
    arriving is left out.
    """

    def __init__(self, copy: Copy) -> None:
        super().__init__(message_id=copy.requeue_id)
        found, table = _cut(copy.headers)
        for flag in (EXPIRATION, USER_ID):
            found.pop(flag, None)
        found[DELIVERY_MODE] = b"\x02"
        found[MESSAGE_ID] = short_text(copy.requeue_id)
        kept = [field.raw for field in table if not _LEFT_OUT(field.name)]
        self._sent = joined(found, [*kept, entry(LETTER_HEADER, copy.requeue_id)])

    def marshal(self) -> bytes:
        """As aiormq puts them into a frame."""
        return self._sent


def _cut(properties: bytes) -> tuple[dict[int, bytes], list[Field]]:
    """The properties by their flags, and the headers; what cannot be read cannot be sent either."""
    found, _ = cut(bytes(FLAGS_AT) + (properties or b"\0\0"))
    return found, list(fields(found.get(HEADERS, b"")))

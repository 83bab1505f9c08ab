"""A message as RabbitMQ delivers it, read no further than somebody asks."""

import re
import struct
from collections.abc import Mapping

from penstock.schemas.identity import canonical
from penstock.worker.pipeline.decode.spellings import attributes_among
from penstock.worker.pipeline.ports import NO_HEADERS, Message
from penstock.worker.rabbitmq.properties import (
    CONTENT_TYPE,
    DELIVERY_COUNT,
    FLAGS_AT,
    HEADERS,
    STREAM_OFFSET,
    Field,
    as_sent,
    content_type_of,
    headers_of,
    moment_text,
    named,
    number,
    seconds_of,
    text_of,
    timestamp_of,
)
from penstock.worker.rabbitmq.wire import Delivery

PROPERTIES_HEADER = "x-penstock-properties"
"""All that a message was published with, in the copy that waits in a retry queue. This header and
the next two are only believed of what the default exchange delivers, as a retry queue does: nobody
may publish there without the right to write to any queue."""

SUBJECT_HEADER = "x-penstock-subject"
"""Its routing key."""

DELIVERIES_HEADER = "x-penstock-deliveries"
"""How often it had been delivered."""

LETTER_HEADER = "x-penstock-letter"
"""The id of the requeue, in a dead letter that is sent again."""

MOST_DELIVERIES = 2**31 - 1
"""Nobody has counted that far: who says more is not to be believed."""

_deliver = struct.Struct(">QBB").unpack_from
_changes_reading = re.compile(rb"cloudevents[:_]|[\x04-\x1f]ce[-_]", re.IGNORECASE).search
"""The byte before a name is its length; so ``service_name`` is none that begins with ``ce_``."""

_LETTER = LETTER_HEADER.encode()
_STRUCTURED = frozenset((b"application/cloudevents+json", b"application/json"))
_TEXTS, _VOID = frozenset(b"Sx"), ord("V")
_HAS_CONTENT_TYPE, _HAS_HEADERS = CONTENT_TYPE >> 8, HEADERS >> 8


class RabbitMqMessage(Message, kw_only=True, gc=False):
    """``tag`` settles it on the channel of ``generation``; ``header`` is the content header that it
    was published with.

    Quorum queues count ``deliveries``; others only tell the first from a later one.
    """

    tag: int
    generation: int
    redelivered: bool
    header: bytes
    deliveries: int = 1

    @property
    def headers(self) -> Mapping[str, str]:
        """Application properties as sent, as text, and the content type as ``content-type``."""
        found = {
            field.name: text_of(field.kind, field.value)
            for field in headers_of(self.header)
            if field.name not in (DELIVERY_COUNT, STREAM_OFFSET)
        }
        if (content_type := self.content_type) is not None:
            found["content-type"] = content_type
        return found or NO_HEADERS

    @property
    def attributes(self) -> Mapping[str, str]:
        """Of any type; void says nothing. Nothing is percent-encoded. The property timestamp is the
        time of an event that has no other.

        https://github.com/cloudevents/spec/blob/main/cloudevents/bindings/amqp-protocol-binding.md
        """
        sent = [(one.name, one) for one in headers_of(self.header) if one.kind != _VOID]
        found = {name: _text(name, one) for name, one in attributes_among(sent).items()}
        if found and "time" not in found and (stamped := timestamp_of(self.header)) is not None:
            found["time"] = moment_text(stamped)
        return found

    @property
    def content_type(self) -> str | None:
        if not self.header[FLAGS_AT] & _HAS_CONTENT_TYPE:
            return None
        return content_type_of(self.header).decode("utf-8", "replace")

    @property
    def raw_headers(self) -> bytes:
        """The properties, flags first, as the publisher sent them; its headers sorted."""
        return as_sent(self.header)

    @property
    def requeue_id(self) -> str | None:
        if _LETTER not in self.header:
            return None
        found = named(self.header, LETTER_HEADER)
        text = "" if found is None else found.value.decode("ascii", "replace")
        return text if canonical(text) else None

    @property
    def stored_at(self) -> float | None:
        """The property timestamp, which the publisher sets, in whole seconds."""
        return timestamp_of(self.header)

    @property
    def size(self) -> int:
        """Bytes of body and header."""
        return len(self.body) + len(self.header)


class StreamMessage(RabbitMqMessage, kw_only=True, gc=False):
    """A message of a stream queue, which has a place of its own: ``offset``."""

    offset: int


def _text(attribute: str, field: Field) -> str:
    """The value of an attribute. A time may be a timestamp, or the milliseconds of AMQP 1.0."""
    if attribute == "time" and (seconds := seconds_of(field)) is not None:
        return moment_text(seconds)
    return field.value.decode() if field.kind in _TEXTS else text_of(field.kind, field.value)


def message_of(delivery: Delivery, generation: int) -> RabbitMqMessage:
    """The message of a delivery."""
    method, header, body = delivery
    at = method[4] + 5
    tag, redelivered, length = _deliver(method, at)
    at += 11 + length
    subject = method[at:].decode("utf-8", "backslashreplace")
    counted = number(named(header, DELIVERY_COUNT)) if redelivered else 0
    before = 1 if counted is None else max(counted, 0)
    if not length and header[FLAGS_AT] & _HAS_HEADERS:
        subject, earlier, header = before_retry(subject, header)
        before += earlier
    return RabbitMqMessage(
        subject=subject,
        body=body,
        plain=is_plain(header),
        tag=tag,
        generation=generation,
        begun_before=counted is None,
        redelivered=bool(redelivered),
        header=header,
        deliveries=min(before + 1, MOST_DELIVERIES),
    )


def before_retry(subject: str, header: bytes) -> tuple[str, int, bytes]:
    """Subject, deliveries and header as they were before the message went to a retry queue."""
    found = {field.name: field for field in headers_of(header)}
    said, properties = found.get(SUBJECT_HEADER), found.get(PROPERTIES_HEADER)
    if said is not None:
        subject = said.value.decode("utf-8", "replace")
    if properties is not None and len(properties.value) >= len(b"\0\0"):
        header = header[:FLAGS_AT] + properties.value
    return subject, max(number(found.get(DELIVERIES_HEADER)) or 0, 0), header


def stream_message_of(delivery: Delivery, generation: int) -> StreamMessage:
    """The message of a delivery from a stream queue. Raises ValueError if it has no offset."""
    method, header, body = delivery
    at = method[4] + 5
    tag, _, length = _deliver(method, at)
    return StreamMessage(
        subject=method[at + 11 + length :].decode("utf-8", "backslashreplace"),
        body=body,
        plain=is_plain(header),
        tag=tag,
        generation=generation,
        redelivered=False,
        header=header,
        offset=offset_of(header),
    )


def offset_of(header: bytes) -> int:
    """Where a message stands in its stream. Raises ValueError if that is not said."""
    offset = number(named(header, STREAM_OFFSET))
    if offset is None:
        raise ValueError("a delivery without x-stream-offset: the queue is no stream")
    return offset


def is_plain(header: bytes) -> bool:
    """False if a property or header may change how the body is read."""
    flags = header[FLAGS_AT]
    if flags & _HAS_HEADERS and (_LETTER in header or _changes_reading(header) is not None):
        return False
    return not flags & _HAS_CONTENT_TYPE or content_type_of(header) in _STRUCTURED

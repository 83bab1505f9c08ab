"""One event in every form that it can travel in, as the messages that both brokers deliver."""

import base64
import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Raw
from pamqp.commands import Basic
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.pipeline.ports import NO_HEADERS, Message
from penstock.worker.rabbitmq.message import message_of

STRUCTURED = "application/cloudevents+json"
PACKED = "application/cloudevents+msgpack"
_REPLY = b"$JS.ACK.S.penstock.1.7.7.1700000000000000000.0"
_FRAME = slice(7, -1)
_long = re.compile(rb"[0-9]{19}|[eE][+-]?[0-9]{3}")


def on_nats(subject: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> Message:
    """The message of a frame with these headers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    block = f"NATS/1.0\r\n{lines}\r\n".encode() if headers else None
    return JetStreamMessages([(subject.encode(), _REPLY, block, body)])[0]


def on_rabbitmq(
    subject: str,
    body: bytes,
    headers: Mapping[str, Any] = NO_HEADERS,
    content_type: str | None = None,
    timestamp: datetime | None = None,
) -> Message:
    """The message of a delivery with these properties."""
    properties = Basic.Properties(
        headers=dict(headers) or None, content_type=content_type, timestamp=timestamp
    )
    header = marshal(ContentHeader(body_size=len(body), properties=properties), 1)[_FRAME]
    method = marshal(Basic.Deliver("me", 1, exchange="events", routing_key=""), 1)[_FRAME]
    key = subject.encode()[:255]
    return message_of((method[:-1] + bytes([len(key)]) + key, header, body), 1)


def forms(
    subject: str, attributes: Mapping[str, Any], data: bytes
) -> Iterator[tuple[str, Message]]:
    """Every form of the event whose data is the JSON text ``data``, with a name.

    What a form cannot say is left out: only text stands in headers, MessagePack has no long numbers
    and no broken text.
    """
    plain = _object(attributes, b'"data":' + data)
    based = _object(attributes, b'"data_base64":"' + base64.b64encode(data) + b'"')
    escaped = _object({**attributes, "note": "é"}, b'"data":' + data)
    for name, body in (("plain", plain), ("base64", based), ("escaped", escaped)):
        yield f"nats {name}", on_nats(subject, body)
        yield f"rabbitmq {name}", on_rabbitmq(subject, body)
    yield "nats typed", on_nats(subject, plain, {"Content-Type": STRUCTURED})
    yield "rabbitmq typed", on_rabbitmq(subject, plain, content_type=f"{STRUCTURED}; charset=utf-8")
    yield from _binary(subject, attributes, data, "application/json")
    packed = packable(data)
    if packed is not None:
        body = msgspec.msgpack.encode({**attributes, "data": packed})
        yield "nats packed", on_nats(subject, body, {"content-type": PACKED})
        yield "rabbitmq packed", on_rabbitmq(subject, body, content_type=PACKED)
        yield from _binary(
            subject, attributes, msgspec.msgpack.encode(packed), "application/msgpack"
        )


def _object(attributes: Mapping[str, Any], more: bytes) -> bytes:
    return json.dumps(dict(attributes)).encode()[:-1] + b"," + more + b"}"


def _binary(
    subject: str, attributes: Mapping[str, Any], data: bytes, content_type: str
) -> Iterator[tuple[str, Message]]:
    texts = {name: value for name, value in attributes.items() if value is not None}
    if not all(isinstance(value, str) or type(value) is int for value in texts.values()):
        return
    if any(type(value) is int and name != "sequence" for name, value in texts.items()):
        return
    texts = {name: str(value) for name, value in texts.items()}
    quoted = {f"ce-{name}": quote(value, safe="/:") for name, value in texts.items()}
    yield (
        f"nats binary {content_type}",
        on_nats(subject, data, {**quoted, "Content-Type": content_type}),
    )
    for prefix in ("cloudEvents:", "cloudEvents_", "ce-", "ce_"):
        headers = {f"{prefix}{name}": value for name, value in texts.items()}
        yield f"{prefix} {content_type}", on_rabbitmq(subject, data, headers, content_type)


def packable(data: bytes) -> Any:
    """The document as MessagePack can say it, None if it cannot."""
    if _long.search(data):
        return None
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return None
    return found if found is not None else None


def rows(cells: Sequence[Any]) -> list[Any]:
    """Cells of a row with its documents read, so that only their meaning counts."""
    return [_read(cell) for cell in cells]


def _read(cell: Any) -> Any:
    if isinstance(cell, Raw | bytes):
        with contextlib.suppress(ValueError):  # or it is no document but bytes of an event's own
            return json.loads(bytes(cell), parse_float=float)
    return cell

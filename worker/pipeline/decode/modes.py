"""From a body to an envelope: JSON as it is, and the rarer encodings (binary mode, MessagePack)."""

import base64
import binascii
import math
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec import Raw

from penstock.schemas.event import Envelope
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.ports import Message

_decode_envelope = msgspec.json.Decoder(Envelope).decode


def _utf8(body: bytes) -> bytes:
    """``body``, checked: msgspec does not look at text that it leaves undecoded."""
    if not body.isascii():
        body.decode()
    return body


def structured(body: bytes) -> Envelope:
    """The envelope of a JSON body. Raises msgspec's errors, UnicodeDecodeError, RecursionError."""
    return _decode_envelope(_utf8(body))


def data_of(envelope: Envelope) -> Raw:
    """Data that is not JSON in place: base64 in ``data_base64``, or none at all."""
    if envelope.data_base64 is None:
        return Raw(b"{}")
    try:
        body = base64.b64decode(envelope.data_base64, validate=True)
    except binascii.Error as error:
        raise Reject("invalid_data", f"data_base64 is not base64: {error}") from error
    return _payload(body, envelope.datacontenttype or "application/json")


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _payload(body: bytes, content_type: str) -> Raw:
    """The data as JSON, from JSON or MessagePack."""
    media = _media_type(content_type)
    if media.endswith(("/json", "+json")):
        return Raw(_utf8(body) or b"{}")
    if media in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        return Raw(_to_json(msgspec.msgpack.decode(body)))
    raise Reject("bad_content_type", f"data in {content_type!r}; send JSON or MessagePack")


def other_mode(message: Message) -> Envelope:
    """An event in binary mode, or structured in an encoding that the content type names."""
    headers = {name.lower(): value for name, value in message.headers.items()}
    attributes = _binary_attributes(headers)
    content_type = headers.get("content-type", "application/cloudevents+json")
    if attributes:
        data = bytes(_payload(message.body, headers.get("content-type", "application/json")))
        fields = {**attributes, "data": Raw(data)}
        return _decode_envelope(msgspec.json.encode(fields))
    media = _media_type(content_type)
    if media == "application/cloudevents+msgpack":
        return _decode_envelope(_to_json(msgspec.msgpack.decode(message.body)))
    if media.endswith(("/json", "+json")):
        return structured(message.body)
    raise Reject("bad_content_type", f"{content_type!r}; send application/cloudevents+json")


def _binary_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """CloudEvents attributes in headers: ``ce-*`` on NATS, ``cloudEvents:*`` or ``_*`` on AMQP."""
    return {
        name[len(prefix) :]: unquote(value)
        for name, value in headers.items()
        for prefix in ("ce-", "cloudevents:", "cloudevents_")
        if name.startswith(prefix)
    }


def _to_json(document: Any) -> bytes:
    for found in leaves(document):
        if isinstance(found, float) and not math.isfinite(found):
            raise Reject("out_of_range", f"{found} has no JSON form")
    return msgspec.json.encode(document)


def leaves(document: Any) -> Iterator[Any]:
    """Every key and every scalar of a document, without recursion."""
    waiting = [document]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend(found)
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
        else:
            yield found

"""From a body to an envelope: JSON as it is, and the rarer encodings (binary mode, MessagePack).

An event without ``subject`` has the one that its subject on the bus carries.
"""

import base64
import binascii
import contextlib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from penstock.schemas.event import Envelope
from penstock.schemas.identity import carried
from penstock.worker.pipeline.decode.reasons import Reject
from penstock.worker.pipeline.ports import Message

_CLOUDEVENT = "application/cloudevents"
_document = msgspec.json.Decoder(Raw).decode
"""The document as it stands, if it is one."""

_attributes = msgspec.json.Decoder(dict[str, Raw]).decode
_read_text = msgspec.json.Decoder(str).decode
_NULL = Raw(b"null")

read_envelope = msgspec.json.Decoder(Envelope).decode


def utf8(body: bytes) -> bytes:
    """``body``, checked: msgspec does not look at text that it leaves undecoded."""
    if not body.isascii():
        body.decode()
    return body


def envelope_of(message: Message) -> Envelope:
    """The envelope of a message in any mode, the careful way. Raises Reject, msgspec's errors,
    UnicodeDecodeError, RecursionError.
    """
    return _structured(message.body, message.subject) if message.plain else _other_mode(message)


def _structured(body: bytes, bus_subject: str) -> Envelope:
    checked = utf8(body)
    try:
        return read_envelope(checked)
    except msgspec.ValidationError:
        addressed = _with_subject(checked, bus_subject)
        if addressed is None:
            raise
    return read_envelope(addressed)


def _with_subject(body: bytes, bus_subject: str) -> bytes | None:
    """The same event with the subject that it lacks; None if it lacks none, or nothing tells it."""
    with contextlib.suppress(msgspec.ValidationError):
        sent = _attributes(body)
        if sent.get("subject", _NULL) == _NULL and "type" in sent:
            told = carried(bus_subject, _read_text(sent["type"]))
            return msgspec.json.encode({**sent, "subject": told}) if told else None
    return None


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
        return _document(utf8(body) or b"{}")
    if media in ("application/msgpack", "application/x-msgpack", "application/vnd.msgpack"):
        return Raw(_to_json(body))
    raise Reject("bad_content_type", f"data in {content_type!r}; send JSON or MessagePack")


def _other_mode(message: Message) -> Envelope:
    """An event in binary mode, or structured in an encoding that the content type names."""
    attributes = message.attributes
    declared = message.content_type
    media = _media_type(declared or _CLOUDEVENT)
    if attributes and (declared is None or not media.startswith(_CLOUDEVENT)):
        content_type = declared or attributes.get("datacontenttype") or "application/json"
        return _binary(attributes, _payload(message.body, content_type), message.subject)
    if media == "application/cloudevents+msgpack":
        return _structured(_to_json(message.body), message.subject)
    if media == _CLOUDEVENT or media.endswith(("/json", "+json")):
        return _structured(message.body, message.subject)
    raise Reject("bad_content_type", f"{declared!r}; send application/cloudevents+json")


def _binary(attributes: Mapping[str, str], data: Raw, bus_subject: str) -> Envelope:
    named = {name: text for name, text in attributes.items() if not name.startswith("data")}
    if "subject" not in named and (told := carried(bus_subject, named.get("type", ""))):
        named["subject"] = told
    return msgspec.structs.replace(msgspec.convert(named, Envelope), data=data)


def _to_json(body: bytes) -> bytes:
    document = msgspec.msgpack.decode(body)
    for found in leaves(document):
        if isinstance(found, float) and not math.isfinite(found):
            raise Reject("out_of_range", f"{found} has no JSON form")
    try:
        return msgspec.json.encode(document)
    except TypeError as error:  # a key that is no text, an extension type
        raise Reject("invalid_data", f"MessagePack that has no JSON form: {error}") from error


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

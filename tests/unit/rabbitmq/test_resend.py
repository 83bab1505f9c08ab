"""Properties of a letter that is sent again: as they came, with their types."""

import struct
from datetime import UTC, datetime
from typing import Any

from pamqp.commands import Basic
from pamqp.header import ContentHeader

from penstock.worker.brokers.ports import Copy
from penstock.worker.rabbitmq.message import LETTER_HEADER
from penstock.worker.rabbitmq.resend import _Properties, headers_with

TOKEN = "0190f5a4-6f0e-7c3a-9b1d-2f5e8a7c6b4d"
TYPED: dict[str, Any] = {
    "cloudEvents:sequence": 7,
    "flag": True,
    "at": datetime(2026, 11, 1, tzinfo=UTC),
    "nested": {"a": [1, "x"]},
    "ratio": 0.5,
    "none": None,
    "bytes": bytearray(b"\xff"),
}


def raw(**properties: Any) -> bytes:
    return Basic.Properties(**properties).marshal()


def read(properties: bytes) -> Any:
    header = ContentHeader()
    header.unmarshal(struct.pack(">HHQ", 60, 0, 0) + properties)
    return header.properties


def test_types_are_kept_and_nothing_keeps_it_from_arriving() -> None:
    came = raw(
        content_type="application/json",
        headers={**TYPED, "CC": ["other"], "x-death": [{"reason": "expired"}]},
        expiration="1",
        user_id="somebody",
        message_id="m-1",
        correlation_id="c-1",
        timestamp=datetime(2026, 11, 1, tzinfo=UTC),
    )
    sent = read(_Properties(Copy("agents.a.heartbeat", came, b"", TOKEN)).marshal())
    assert sent.headers == {**read(raw(headers=TYPED)).headers, LETTER_HEADER: TOKEN}
    assert (sent.message_id, sent.delivery_mode) == (TOKEN, 2)
    assert (sent.content_type, sent.correlation_id) == ("application/json", "c-1")
    assert (sent.expiration, sent.user_id) == (None, None)
    assert sent.timestamp == datetime(2026, 11, 1, tzinfo=UTC)


def test_a_letter_without_properties_can_be_sent() -> None:
    for nothing in (b"", b"\0\0"):
        sent = read(_Properties(Copy("s", nothing, b"", TOKEN)).marshal())
        assert sent.headers == {LETTER_HEADER: TOKEN}


def test_headers_are_changed_by_name() -> None:
    came = raw(content_type="text/xml", headers={"cloudEvents:type": "x", "n": 7, "gone": "y"})
    changes = {"Content-Type": "application/json", "cloudevents:type": "z", "gone": "", "new": "ü"}
    changed = read(headers_with(came, changes))
    assert changed.content_type == "application/json"
    assert changed.headers == {"n": 7, "cloudevents:type": "z", "new": "ü"}
    assert read(headers_with(came, {"content-type": ""})).content_type is None

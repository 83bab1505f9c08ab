"""Whatever a publisher writes into properties: nothing fails, nothing is lost, nobody is fooled."""

import json
import random
import struct

import pytest
from pamqp.commands import Basic
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader

from penstock.worker.pipeline.ports import DeadLetter
from penstock.worker.postgres.letters import letter_cells
from penstock.worker.rabbitmq.message import RabbitMqMessage, message_of
from penstock.worker.rabbitmq.properties import as_sent
from penstock.worker.rabbitmq.retry import copied
from penstock.worker.rabbitmq.shelter import Shelter, unsheltered
from tests.support.amqp import broken, field, hostile, properties, short, sized, table

BROKEN = 3_000
INT8 = struct.Struct(">q").pack


def delivered(
    sent: bytes, *, redelivered: bool = False, exchange: str = "events", body: bytes = b"{}"
) -> RabbitMqMessage:
    method = marshal(Basic.Deliver("me", 1, redelivered, exchange, "agents.a-1.heartbeat"), 1)
    return message_of((method[7:-1], struct.pack(">HHQ", 60, 0, len(body)) + sent, body), 7)


def examined(message: RabbitMqMessage) -> None:
    """Ask for all that the worker asks for."""
    assert 1 <= message.deliveries < 2**31
    assert message.stored_at is None or message.stored_at >= 0
    assert len(message.digest) == 32
    cells = letter_cells(DeadLetter(message=message, reason="not_json", error="x"))
    assert not any("\0" in cell for cell in cells if isinstance(cell, str))
    [headers] = [cell for cell in cells if isinstance(cell, str) and cell.startswith("{")]
    assert all(isinstance(value, str) for value in json.loads(headers).values())


def after_a_retry(message: RabbitMqMessage) -> RabbitMqMessage:
    copy = copied(message).marshal()
    return delivered(copy, exchange="", body=message.body)


@pytest.mark.parametrize("redelivered", [False, True])
def test_properties_of_every_kind(*, redelivered: bool) -> None:
    for sent in hostile():
        first = delivered(sent, redelivered=redelivered)
        examined(first)
        again = after_a_retry(first)
        examined(again)
        assert again.raw_headers == first.raw_headers
        assert (again.digest, again.headers) == (first.digest, first.headers)
        assert (again.subject, again.plain) == (first.subject, first.plain)
        assert again.deliveries == min(first.deliveries + 1, 2**31 - 1)


def test_properties_that_no_server_lets_through() -> None:
    chosen = random.Random(10)
    for _ in range(BROKEN):
        first = delivered(broken(chosen), redelivered=chosen.random() < 0.5)
        examined(first)
        again = after_a_retry(first)
        assert (again.digest, again.headers) == (first.digest, first.headers)


def test_nothing_is_lost_of_what_was_sent() -> None:
    for sent in hostile():
        raw = as_sent(bytes(12) + sent)
        added = (b"x-delivery-count", b"x-stream-offset")
        if not any(name in sent for name in added) and sent != properties(headers=table()):
            assert sorted(raw) == sorted(sent), "the same bytes, though headers are sorted"


def test_what_the_server_adds_and_sorts_makes_no_other_message() -> None:
    a, z = field(b"a", b"I", bytes(4)), field(b"z", b"S", sized(b"x"))
    first = delivered(properties(headers=table(z, a), message_id=short(b"m")))
    count = field(b"x-delivery-count", b"l", INT8(3))
    again = delivered(properties(headers=table(a, count, z), message_id=short(b"m")))
    assert again.digest == first.digest
    bare = delivered(properties(message_id=short(b"m")))
    counted = delivered(properties(headers=table(count), message_id=short(b"m")), redelivered=True)
    assert counted.digest == bare.digest != first.digest
    assert counted.deliveries == 4


@pytest.mark.parametrize(
    "other",
    [
        properties(headers=table(field(b"a", b"i", bytes(4)))),
        properties(headers=table(field(b"a", b"I", b"\0\0\0\1"))),
        properties(headers=table(field(b"b", b"I", bytes(4)))),
        properties(headers=table(*[field(b"a", b"I", bytes(4))] * 2)),
        properties(headers=table(field(b"a", b"I", bytes(4))), delivery_mode=b"\2"),
    ],
    ids=["type", "value", "name", "twice", "property"],
)
def test_any_difference_makes_another_message(other: bytes) -> None:
    one = delivered(properties(headers=table(field(b"a", b"I", bytes(4)))))
    assert delivered(other).digest != one.digest


def test_a_count_of_deliveries_is_the_servers_or_none() -> None:
    def counting(value: int, *, redelivered: bool) -> int:
        count = field(b"x-delivery-count", b"l", INT8(value))
        return delivered(properties(headers=table(count)), redelivered=redelivered).deliveries

    assert counting(2**62, redelivered=False) == 1, "nobody but the publisher can have set it"
    assert counting(2**62, redelivered=True) == 2**31 - 1
    assert counting(-5, redelivered=True) == 1
    text = properties(headers=table(field(b"x-delivery-count", b"S", sized(b"9"))))
    assert delivered(text, redelivered=True).deliveries == 2


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_aiormq_sees_nothing_that_it_could_fail_on(size: int) -> None:
    def frame(kind: int, payload: bytes) -> bytes:
        return struct.pack(">BHI", kind, 1, len(payload)) + payload + b"\xce"

    method = marshal(Basic.Deliver("me", 1, exchange="events", routing_key="a" * 9), 1)
    method = method.replace(b"a" * 9, b"a\xff\xc3\x28aaaaa")
    for sent in hostile():
        frames = method + frame(2, struct.pack(">HHQ", 60, 0, 2) + sent) + frame(3, b"{}")
        shelter = Shelter()
        shown = b"".join(shelter.feed(frames[at : at + size]) for at in range(0, len(frames), size))
        assert read_back(shown) == struct.pack(">HHQ", 60, 0, 2) + sent


def read_back(frames: bytes) -> bytes:
    """The content header after pamqp has read it."""
    found = b""
    while frames:
        size, _, frame = unmarshal(frames)
        frames = frames[size:]
        if isinstance(frame, ContentHeader):
            found = unsheltered(frame.properties, frame.body_size)
    return found


def test_what_is_no_amqp_is_left_to_aiormq() -> None:
    assert Shelter().feed(b"AMQP\x00\x00\x09\x01") == b"AMQP\x00\x00\x09\x01"


def test_a_message_that_was_returned_is_shown_as_it_is() -> None:
    header = ContentHeader(body_size=1, properties=Basic.Properties(message_id="m-1"))
    returned = marshal(Basic.Return(312, "NO_ROUTE", "", "k"), 1) + marshal(header, 1)
    assert Shelter().feed(returned) == returned

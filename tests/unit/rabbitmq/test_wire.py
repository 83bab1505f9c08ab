"""Cutting deliveries out of what the socket gives, however it is cut."""

import struct
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.commands import Basic
from pamqp.frame import marshal, unmarshal
from pamqp.header import ContentHeader
from pamqp.heartbeat import Heartbeat

from penstock.worker.rabbitmq.connection import HEARTBEAT
from penstock.worker.rabbitmq.message import RabbitMqMessage, message_of, stream_message_of
from penstock.worker.rabbitmq.tags import Tags
from penstock.worker.rabbitmq.wire import Deliveries, Delivery, acks, requeues

MINE, OTHER = 1, 2
FRAME_MAX = 100


def delivered(
    body: bytes,
    *,
    tag: int = 1,
    channel: int = MINE,
    key: str = "agents.a-1.heartbeat",
    exchange: str = "events",
    redelivered: bool = False,
    properties: Basic.Properties | None = None,
) -> list[bytes]:
    """The frames of a delivery, the body cut as the server does."""
    deliver = Basic.Deliver("me", tag, redelivered, exchange, key)
    header = ContentHeader(body_size=len(body), properties=properties or Basic.Properties())
    bodies = [body[at : at + FRAME_MAX] for at in range(0, len(body), FRAME_MAX)]
    return [
        marshal(deliver, channel),
        marshal(header, channel),
        *(marshal(ContentBody(part), channel) for part in bodies),
    ]


def fed(*chunks: bytes) -> tuple[list[RabbitMqMessage], bytes]:
    deliveries = Deliveries()
    taken: list[Delivery] = []
    deliveries.watch(MINE, taken.extend)
    rest = b"".join(deliveries.feed(chunk) for chunk in chunks)
    return [message_of(delivery, 7) for delivery in taken], rest


BODIES = st.lists(st.binary(max_size=350), max_size=6)


@given(BODIES, st.lists(st.integers(0, 3000), max_size=12), st.booleans())
def test_any_cut_gives_the_same_messages_and_leaves_the_other_frames(
    bodies: list[bytes],
    cuts: list[int],
    others: bool,  # noqa: FBT001  (hypothesis gives it)
) -> None:
    frames: list[bytes] = []
    foreign: list[bytes] = []
    for number, body in enumerate(bodies, 1):
        for frame in delivered(body, tag=number):
            frames.append(frame)
            if others:
                between = [marshal(Heartbeat(), 0), *delivered(body, tag=number, channel=OTHER)]
                frames += between
                foreign += between
    stream = b"".join(frames)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    messages, rest = fed(*chunks)
    assert [message.body for message in messages] == bodies
    assert [message.tag for message in messages] == list(range(1, len(bodies) + 1))
    assert rest == b"".join(foreign)


def test_before_a_channel_is_watched_everything_is_left() -> None:
    stream = b"".join(delivered(b"early"))
    assert Deliveries().feed(stream) == stream


def test_other_methods_of_the_channel_are_left() -> None:
    ok = marshal(Basic.ConsumeOk("me"), MINE)
    messages, rest = fed(ok + b"".join(delivered(b"x")) + ok)
    assert [message.body for message in messages] == [b"x"]
    assert rest == ok + ok


@pytest.mark.parametrize(
    "garbage",
    [b"AMQP\x00\x00\x09\x01", b"HTTP/1.1 400 Bad Request", b"\x01\x00\x01\xff\xff\xff\xff0"],
    ids=["another version", "another protocol", "impossible size"],
)
def test_what_is_no_amqp_is_left_to_the_stock_reader_from_there_on(garbage: bytes) -> None:
    good = b"".join(delivered(b"good"))
    messages, rest = fed(good + garbage, good)
    assert [message.body for message in messages] == [b"good"]
    assert rest == garbage + good


def test_a_frame_without_its_end_is_left_to_the_stock_reader() -> None:
    good = b"".join(delivered(b"good"))
    messages, rest = fed(good[:-1] + b"\x00" + good)
    assert messages == []
    assert rest.endswith(good)


def test_the_heartbeat_is_the_one_that_pamqp_writes() -> None:
    assert marshal(Heartbeat(), 0) == HEARTBEAT


def test_acknowledgements_say_what_pamqp_would() -> None:
    frames = acks(3, 9, [11, 12]) + requeues(3, [13])
    found: list[tuple[object, ...]] = []
    while frames:
        size, channel, frame = unmarshal(frames)
        assert channel == 3
        assert isinstance(frame, commands.Basic.Ack | commands.Basic.Nack)
        requeue = getattr(frame, "requeue", None)
        found.append((frame.name, frame.delivery_tag, frame.multiple, requeue))
        frames = frames[size:]
    assert found == [
        ("Basic.Ack", 11, False, None),
        ("Basic.Ack", 12, False, None),
        ("Basic.Ack", 9, True, None),
        ("Basic.Nack", 13, False, True),
    ]


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_each_tag_is_settled_once_and_never_before_its_time(count: int, random: object) -> None:
    shuffle, randint = random.shuffle, random.randint  # type: ignore[attr-defined]
    order = list(range(1, count + 1)) + [randint(1, count) for _ in range(5)]
    shuffle(order)
    tags, asked, told = Tags(), set[int](), set[int]()
    while order:
        part = {order.pop() for _ in range(min(len(order), randint(1, 7)))}
        requeued = {tag for tag in part if tags.open(tag)} if randint(1, 4) == 1 else set[int]()
        asked |= part
        told |= requeued
        through = tags.settle(part, told=bool(requeued))
        if through is not None:
            assert through not in told, "the server ends the channel of who settles a tag twice"
            told |= set(range(1, through + 1))
        assert told <= asked
        assert len(asked - told) == tags.kept_back
        if randint(1, 4) == 1:
            singly = tags.tell()
            assert told.isdisjoint(singly)
            told |= set(singly)
            assert told == asked
    assert tags.floor == count
    assert told == set(range(1, count + 1)), "nothing is kept back once all are settled"
    assert tags.unsettled(count) == tags.kept_back == 0


def one(**delivery: object) -> RabbitMqMessage:
    [message], _ = fed(b"".join(delivered(b"{}", **delivery)))  # type: ignore[arg-type]
    return message


def with_headers(headers: dict[str, object], **more: object) -> RabbitMqMessage:
    return one(properties=Basic.Properties(headers=headers), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("properties", "plain"),
    [
        (Basic.Properties(), True),
        (Basic.Properties(content_type="application/cloudevents+json", message_id="m"), True),
        (Basic.Properties(content_type="application/json"), True),
        (Basic.Properties(content_type="application/cloudevents+msgpack"), False),
        (Basic.Properties(headers={"trace": "x"}), True),
        (Basic.Properties(headers={"cloudEvents:type": "x"}), False),
        (Basic.Properties(headers={"cloudEvents_type": "x"}), False),
        (Basic.Properties(content_type="application/json", headers={"CLOUDEVENTS:ID": "x"}), False),
    ],
)
def test_plain_is_what_no_property_can_change(properties: Basic.Properties, plain: bool) -> None:  # noqa: FBT001
    assert one(properties=properties).plain is plain


def test_application_properties_become_text() -> None:
    moment = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    properties = Basic.Properties(
        content_type="application/json",
        content_encoding="identity",
        headers={"t": "ä", "n": -5, "yes": True, "at": moment, "deep": {"a": [1, "b"]}, "f": 1.5},
        timestamp=moment,
    )
    message = one(properties=properties)
    assert message.headers == {
        "t": "ä",
        "n": "-5",
        "yes": "true",
        "at": "2026-03-04T05:06:07+00:00",
        "deep": '{"a":[1,"b"]}',
        "f": "1.5",
        "content-type": "application/json",
    }
    assert message.stored_at == moment.timestamp()


@given(st.binary(max_size=60))
def test_no_table_of_headers_makes_reading_fail(table: bytes) -> None:
    header = struct.pack(">HHQH", 60, 0, 2, 0x2000) + struct.pack(">I", len(table)) + table
    method = marshal(Basic.Deliver("me", 1, redelivered=True, routing_key="k"), 1)[7:-1]
    message = message_of((method, header, b"{}"), 1)
    assert message.deliveries >= 1
    assert isinstance(dict(message.headers), dict)
    assert message.stored_at is None


def test_deliveries_count_returns_and_retries() -> None:
    assert one().deliveries == 1
    assert one(redelivered=True).deliveries == 2
    assert with_headers({"x-delivery-count": 4}, redelivered=True).deliveries == 5
    assert retried(3).deliveries == 4
    assert retried(-9).deliveries == 1
    assert retried("many").deliveries == 1
    assert with_headers({"x-penstock-deliveries": 3}).deliveries == 1, "anybody could say that"


def retried(deliveries: object) -> RabbitMqMessage:
    return with_headers({"x-penstock-deliveries": deliveries}, exchange="")


def test_the_subject_of_a_retry_is_believed_of_the_default_exchange_alone() -> None:
    headers: dict[str, object] = {"x-penstock-subject": "agents.a-2.heartbeat"}
    assert with_headers(headers, exchange="", key="AGENT_STATE").subject == "agents.a-2.heartbeat"
    assert with_headers(headers, exchange="events").subject == "agents.a-1.heartbeat"


def test_the_offset_of_a_stream_is_the_field_and_no_text_that_looks_like_it() -> None:
    deliveries = Deliveries()
    taken: list[Delivery] = []
    deliveries.watch(MINE, taken.extend)
    headers: dict[str, Any] = {
        "a": "\x0fx-stream-offsetl\0\0\0\0\0\0\0\x09",
        "x-stream-offset": 2**40,
    }
    deliveries.feed(b"".join(delivered(b"", properties=Basic.Properties(headers=headers))))
    assert stream_message_of(taken[0], 1).offset == 2**40
    deliveries.feed(b"".join(delivered(b"")))
    with pytest.raises(ValueError, match="no stream"):
        stream_message_of(taken[1], 1)

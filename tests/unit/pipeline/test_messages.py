"""Columns and objects are two views of the same messages."""

from typing import Any

from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.pipeline.messages import Messages, as_columns

REPLY = b"$JS.ACK.S.penstock.%d.%d.%d.1700000000000000000.0"
PLAIN = b"NATS/1.0\r\nNats-Msg-Id: 1\r\n\r\n"
TYPED = b"NATS/1.0\r\nContent-Type: application/json\r\n\r\n"
FRAMES = [
    (b"agents.a-1.heartbeat", REPLY % (1, 7, 7), None, b"{}"),
    (b"agents.\xff.heartbeat", REPLY % (2, 9, 9), PLAIN, b""),
    (b"x\x0b", REPLY % (1, 10, 10), TYPED, b"[]"),
]


def columns(messages: Messages) -> list[list[Any]]:
    found = (messages.subjects, messages.bodies, messages.deliveries, messages.offsets)
    return [*map(list, found), sorted(messages.special), sorted(messages.doubtful)]


def test_columns_of_frames_are_those_of_their_messages() -> None:
    delivered = JetStreamMessages(FRAMES)
    assert columns(delivered) == columns(as_columns(list(delivered)))
    assert sorted(delivered.special) == [2]
    assert delivered.subjects == ["agents.a-1.heartbeat", "agents.\\xff.heartbeat", "x\x0b"]


def test_a_message_is_made_once_and_only_when_it_is_asked_for() -> None:
    delivered = JetStreamMessages(FRAMES)
    assert not delivered._made
    last = delivered[-1]
    assert delivered._made.keys() == {2}
    assert last is delivered[2] is delivered[1:][1] is [*delivered][2]
    assert (last.plain, last.header, last.size) == (False, TYPED, len(TYPED) + 2)

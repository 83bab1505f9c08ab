"""Our cutter of deliveries and pamqp, with any bytes in every field: the same, or a clean end."""

import random

import pytest

from tests.support.amqp_frames import MINE, compare, delivery, framed, ours
from tests.support.encodings import on_rabbitmq


def test_five_thousand_frames_are_read_as_they_were_sent() -> None:
    tally = compare(5_000, seed=1)
    assert tally["as pamqp"] > 50
    assert tally["where pamqp fails"] > 500
    assert tally["refused"] > 500


@pytest.mark.parametrize("where", ["header", "body", "before the body", "after"])
def test_what_interrupts_a_delivery_ends_the_connection(where: str) -> None:
    tries = (delivery(random.Random(seed), 1).frames for seed in range(100))
    method, header, *bodies = next(frames for frames in tries if len(frames) > 3)
    other = framed(1, MINE, b"\x00\x3c\x00\x3c" + b"\0" * 12)
    streams = {
        "header": [method, other, header, *bodies],
        "before the body": [method, header, header, *bodies],
        "body": [method, header, other, *bodies],
        "after": [method, header, *bodies[:-1], framed(3, MINE, b"x" * 400)],
    }
    messages, _, broken = ours([b"".join(streams[where])])
    assert broken
    assert messages == []


def test_attributes_are_text_as_sent_whatever_their_type() -> None:
    headers = {"cloudEvents:id": "50%25 off", "CLOUDEVENTS_sequence": 7, "cloudEvents:actor": None}
    message = on_rabbitmq("a.b.c", b"{}", headers)
    assert message.attributes == {"id": "50%25 off", "sequence": "7"}

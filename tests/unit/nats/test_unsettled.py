"""What is out is known by batch, and by reply once a part of a batch is settled."""

from collections.abc import Sequence

from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.nats.unsettled import Unsettled
from penstock.worker.pipeline.messages import as_columns


def delivered(*offsets: int) -> JetStreamMessages:
    reply = b"$JS.ACK.S.penstock.1.%d.%d.1700000000000000000.0"
    return JetStreamMessages([(b"a.b", reply % (n, n), None, b"{}") for n in offsets])


def offsets(replies: Sequence[bytes]) -> list[int]:
    return [int(reply.split(b".")[5]) for reply in replies]


def test_a_batch_is_settled_once_without_an_object_of_any_message() -> None:
    unsettled, first, second = Unsettled(), delivered(1, 2), delivered(3)
    unsettled.add(first)
    unsettled.add(second)
    assert offsets(list(unsettled)) == [1, 2, 3]
    assert offsets(unsettled.take(first)) == [1, 2]
    assert not first._made
    assert offsets(unsettled.take(first)) == []
    assert offsets(list(unsettled)) == [3]


def test_parts_are_settled_each_by_itself_beside_whole_batches() -> None:
    unsettled, split, whole = Unsettled(), delivered(1, 2, 3), delivered(4, 5)
    unsettled.add(split)
    unsettled.add(whole)
    assert offsets(unsettled.take(as_columns(split[1:2]))) == [2]
    assert offsets(unsettled.take(as_columns([*split[1:], split[2]]))) == [3]
    assert offsets(list(unsettled)) == [1, 4, 5]
    assert offsets(unsettled.take(whole)) == [4, 5]
    assert offsets(unsettled.take(split)) == [1]
    assert list(unsettled) == []


def test_what_an_older_epoch_handed_out_is_not_out() -> None:
    unsettled, old = Unsettled(), delivered(1, 2)
    unsettled.add(old)
    unsettled.clear()
    assert offsets(unsettled.take(old)) == []
    unsettled.add(delivered(1))
    assert offsets(unsettled.take(as_columns(old[:1]))) == [1]

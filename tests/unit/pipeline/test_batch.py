"""A batch: planned once, halved without loss, settled once."""

import pytest

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import Event
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.ports import DeadLetter, Message
from tests.support.batches import Nobody, batch_of, message

CATALOGUE = Catalogue.load()


def broken() -> Message:
    return Message(subject="agents.x.heartbeat", body=b"{")


def decoded(*messages: Message) -> list[Event | DeadLetter]:
    decoder = Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20)
    return decoder.decode(messages)


def test_the_plan_is_of_the_events_and_made_once() -> None:
    messages = [message(1), broken(), message(2)]
    batch = batch_of(messages, decoded(*messages))
    assert [e.entity for e in batch.plan.events] == ["a-1", "a-2"]
    assert batch.plan is batch.plan
    assert [letter.reason for letter in batch.letters] == ["not_json"]
    assert batch.letters[0].message is messages[1]


def test_the_origin_has_the_offsets_sorted_and_each_once() -> None:
    places = [9, 3, None, 3, 4]
    batch = batch_of([message(n, place=place) for n, place in enumerate(places)])
    assert batch.origin.offsets == [3, 4, 9]
    assert (batch.origin.transport, batch.origin.stream) == ("test", "test")


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_halves_hold_everything_in_order(count: int) -> None:
    messages = [message(n) for n in range(count)]
    batch = batch_of(messages, decoded(*messages))
    batch.epoch, batch.watched = "e", True
    first, second = batch.halves()
    assert [*first.messages, *second.messages] == messages
    assert [*first.outcomes, *second.outcomes] == list(batch.outcomes)
    assert first.size + second.size == batch.size
    assert abs(len(first) - len(second)) <= 1
    assert {(half.epoch, half.watched) for half in (first, second)} == {("e", True)}


def test_halves_of_what_is_not_decoded_are_not_decoded() -> None:
    assert [half.outcomes for half in batch_of([message(1), message(2)]).halves()] == [(), ()]


def test_a_single_message_has_no_halves() -> None:
    assert not batch_of([message(1)]).halves()


def test_what_is_refused_keeps_what_is_known_of_the_event() -> None:
    messages = [message(1), broken()]
    batch = batch_of(messages, decoded(*messages))
    refused = batch.refused("row_rejected", "23514: no")
    assert refused.refused_whole
    assert not batch.refused_whole
    known, unknown = refused.letters
    [event] = batch.plan.events
    assert (known.reason, known.event_id, known.occurred_at) == (
        "row_rejected",
        event.id,
        event.time,
    )
    assert (unknown.message, unknown.event_id) == (messages[1], None)
    assert not refused.plan.events


def test_what_was_never_decoded_can_be_refused() -> None:
    [letter] = batch_of([message(1)]).refused("crashes_workers", "2 workers").letters
    assert (letter.event_id, letter.error) == (None, "2 workers")


def test_nothing_decoded_is_not_taken_for_refused() -> None:
    assert not batch_of([message(1)]).refused_whole


async def test_a_batch_and_its_parts_settle_once() -> None:
    source = Nobody()
    messages = [message(n) for n in range(4)]
    batch = batch_of(messages, source=source)
    first, second = batch.halves()
    await first.ack()
    await first.nack(1.0)
    await first.ack()
    await second.part(second.messages[:1]).nack(0.0)
    await second.part(second.messages[1:]).ack()
    bodies = [one.body for one in messages]
    assert source.acked == [*bodies[:2], bodies[3]]
    assert source.nacked == [bodies[2]]

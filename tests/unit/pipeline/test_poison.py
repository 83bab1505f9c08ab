"""Poison messages: taken apart by the crashes they are marked with, and kept at last."""

from collections.abc import Sequence

import pytest

from penstock.worker.errors import SinkUnavailable
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.ports import Message
from tests.support.batches import batch_of
from tests.support.markers import Markers


class Delivered(Message, kw_only=True):
    times: int = 1

    @property
    def deliveries(self) -> int:
        return self.times


def watch(markers: Markers) -> PoisonWatch:
    return PoisonWatch(markers, watch_after=2, max_crashes=3)


def batch(*messages: tuple[bytes, int]) -> Batch:
    return batch_of([Delivered(subject="", body=body, times=times) for body, times in messages])


def bodies(parts: Sequence[Batch]) -> list[list[bytes]]:
    return [[message.body for message in part.messages] for part in parts]


async def test_what_came_seldom_stays_together_and_is_not_marked() -> None:
    markers = Markers({b"b": 2})
    whole = batch((b"a", 1), (b"b", 2))
    assert await watch(markers).parts(whole) == [whole]
    async with watch(markers).handling(whole):
        pass
    assert markers.done == []


async def test_what_workers_crashed_at_goes_alone_after_the_others_the_worst_last() -> None:
    markers = Markers({b"twice": 2, b"once": 1})
    whole = batch((b"twice", 5), (b"good", 9), (b"once", 4), (b"new", 1))
    parts = await watch(markers).parts(whole)
    assert bodies(parts) == [[b"good", b"new"], [b"once"], [b"twice"]]
    assert all(part.watched and not part.outcomes for part in parts)
    for half in parts[0].halves():
        async with watch(markers).handling(half):
            pass
    assert [done for done, _ in markers.done] == ["begin", "forget"] * 2


async def test_what_reached_the_limit_is_kept_unread_and_then_forgotten() -> None:
    markers = Markers({b"worst": 3})
    [part] = await watch(markers).parts(batch((b"worst", 8)))
    [letter] = part.letters
    assert letter.reason == "crashes_workers"
    assert letter.error.startswith("3 workers")
    async with watch(markers).handling(part):
        assert markers.done == [], "it is not looked into"
    assert markers.done == [("forget", [b"worst"])]


async def test_what_could_not_be_kept_is_not_forgotten() -> None:
    markers = Markers({b"worst": 3})
    [part] = await watch(markers).parts(batch((b"worst", 8)))
    with pytest.raises(SinkUnavailable):
        async with watch(markers).handling(part):
            raise SinkUnavailable("away")
    assert markers.done == []


async def test_where_deliveries_are_not_counted_it_counts_that_somebody_began() -> None:
    markers = Markers({b"a": 1})
    whole = batch_of(
        [Message(subject="", body=b"a", begun_before=True), Message(subject="", body=b"b")]
    )
    assert bodies(await watch(markers).parts(whole)) == [[b"b"], [b"a"]]

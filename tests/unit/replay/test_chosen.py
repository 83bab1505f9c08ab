"""What a replay takes of a log: each message once, whatever comes again, and suspects marked."""

from typing import Self

from penstock.schemas.catalogue import Catalogue
from penstock.worker.pipeline.batch import Batch
from penstock.worker.replay.asked import Asked
from penstock.worker.replay.choice import Choice
from penstock.worker.replay.chosen import ChosenSource
from penstock.worker.replay.offsets import OffsetSet
from penstock.worker.replay.standing import Standing
from penstock.worker.replay.suspects import Suspects
from tests.support.batches import Nobody, Placed, batch_of, message

CHOICE = Choice(Asked(source="nats", stream="S"), Catalogue.load())


class Listed(Nobody):
    """A log that delivers these batches, one after the other."""

    total = 0
    last: int | None = None
    epoch = ""

    def __init__(self, *batches: list[Placed]) -> None:
        super().__init__()
        self._batches = [batch_of(messages, source=self) for messages in batches]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        return

    async def fetch(self) -> Batch:
        return self._batches.pop(0) if self._batches else batch_of([], source=self)

    def stop(self) -> None:
        return

    async def over(self, passed: int | None) -> bool:  # noqa: ARG002
        return True


def reading(
    log: Listed, *, done: OffsetSet | None = None, suspects: Suspects | None = None
) -> ChosenSource:
    return ChosenSource(
        log,
        None,
        CHOICE,
        suspects or Suspects((), 0),
        done=done or OffsetSet(),
        standing=Standing(),
    )


async def test_what_comes_again_while_it_is_in_work_waits() -> None:
    one, two, three = (message(n, place=n) for n in (1, 2, 3))
    log = Listed([one, two], [two, three], [one, two], [two])
    source = reading(log, done=OffsetSet([(1, 2)]))
    first = await source.fetch()
    assert (list(first.messages), log.acked) == ([two], [one.body])
    second = await source.fetch()
    assert (list(second.messages), log.nacked) == ([three], [two.body])
    await first.nack(0)
    again = await source.fetch()
    assert list(again.messages) == [two]
    await again.ack()
    assert not await source.fetch()
    assert log.acked == [one.body, one.body, two.body, two.body]
    assert source.wanted == 3


async def test_the_first_ones_and_those_that_ended_workers_are_marked() -> None:
    sent = [message(n, place=n) for n in range(1, 7)]
    source = reading(Listed(sent[:2], sent[2:]), suspects=Suspects({sent[4].digest}, 3))
    found = [*(await source.fetch()).messages, *(await source.fetch()).messages]
    assert [one.begun_before for one in found] == [True, True, True, False, True, False]

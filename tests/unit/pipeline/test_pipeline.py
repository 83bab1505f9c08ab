"""The way of a batch when something goes wrong: every message is settled once, and none is lost."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from penstock.schemas.catalogue import Catalogue
from penstock.worker.errors import NoRoomForLetters, RowRejected, SinkUnavailable
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.commit import Committer
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.hydrate import NotMirrored
from penstock.worker.pipeline.metrics import Metrics
from penstock.worker.pipeline.pipeline import Pipeline
from penstock.worker.pipeline.poison import PoisonWatch
from penstock.worker.pipeline.ports import Message, Written
from tests.support.accounts import check_metrics
from tests.support.batches import Nobody, batch_of, message
from tests.support.markers import Markers

CATALOGUE = Catalogue.load()


class Given(Nobody):
    """A source with one batch."""

    pipeline: Pipeline

    def __init__(self, messages: Sequence[Message]) -> None:
        super().__init__()
        self._waiting = [batch_of(messages, source=self)]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None: ...

    async def fetch(self) -> Batch:
        return self._waiting.pop() if self._waiting else batch_of([], source=self)

    def stop(self) -> None: ...


class Memory:
    """A sink that keeps what it is given, unless ``refuses`` raises."""

    def __init__(self, refuses: Callable[[list[str]], None]) -> None:
        self._refuses = refuses
        self.stored: list[str] = []
        self.reasons: list[str] = []

    async def write(self, batch: Batch) -> Written:
        named = [e.entity for e in batch.plan.events]
        self._refuses(named)
        self.stored += named
        self.reasons += [letter.reason for letter in batch.letters]
        again = len(batch) - len(named) - len(batch.letters)
        return Written(new=len(named), duplicate=again, letters=batch.letters)


async def worked(
    sent: int | Sequence[Message],
    refuses: Callable[[list[str]], None],
    kind: type[Memory] = Memory,
) -> tuple[Given, Memory]:
    """What became of messages, or of so many, ``a-0`` and so on."""
    messages = [message(n) for n in range(sent)] if isinstance(sent, int) else sent
    source, sink, metrics = Given(messages), kind(refuses), Metrics()
    pipeline = source.pipeline = Pipeline(
        source,
        Decoder(CATALOGUE, Window(CATALOGUE, {}, past="unlimited"), max_bytes=1 << 20),
        Committer(sink, name="test", retry_for=0, stopping=asyncio.Event()),
        NotMirrored(),
        metrics,
        name="test",
        in_flight=2,
        poison=PoisonWatch(Markers(), watch_after=3, max_crashes=3),
        nack_delay=0,
    )
    await pipeline.run()
    settled = source.acked + source.nacked
    assert sorted(settled) == sorted(one.body for one in messages), "each once"
    check_metrics(metrics.registry)
    return source, sink


async def test_the_usual_batch_is_stored_at_once() -> None:
    source, sink = await worked(5, lambda _: None)
    assert sink.stored == [f"a-{n}" for n in range(5)]
    assert not source.nacked


async def test_a_refused_row_costs_one_message() -> None:
    def refuses(named: list[str]) -> None:
        if "a-3" in named:
            raise RowRejected("22003", "too large", "out_of_range")

    source, sink = await worked(7, refuses)
    assert sink.stored == [f"a-{n}" for n in range(7) if n != 3]
    assert sink.reasons == ["out_of_range"]
    assert len(source.acked) == 7


async def test_an_error_of_our_own_costs_one_message() -> None:
    def refuses(named: list[str]) -> None:
        if "a-3" in named:
            raise ZeroDivisionError

    source, sink = await worked(7, refuses)
    assert sink.stored == [f"a-{n}" for n in range(7) if n != 3]
    assert sink.reasons == ["internal_error"]
    assert len(source.acked) == 7


async def test_a_fault_of_one_type_leaves_the_others_flowing_and_the_stream_full() -> None:
    """One message may be poison; forty of one type are a fault of ours, and wait for its end."""

    def refuses(named: list[str]) -> None:
        if any(name in broken for name in named):
            raise KeyError("no_such_column")

    broken = {f"a-{n}" for n in range(60)}
    others = [message(n, kind="agents.activity") for n in range(100, 140)]
    source, sink = await worked([message(n) for n in range(60)] + others, refuses)
    assert sink.stored == [f"a-{n}" for n in range(100, 140)]
    assert sink.reasons == ["internal_error"] * 10
    assert len(source.nacked) == 50
    trouble = source.pipeline.faults.trouble
    assert trouble is not None
    assert "agents.heartbeat (50 times): KeyError('no_such_column')" in trouble


async def test_few_of_many_may_fail_for_ever() -> None:
    def refuses(named: list[str]) -> None:
        if any(int(name[2:]) % 150 == 0 for name in named):
            raise ZeroDivisionError

    source, sink = await worked([message(n) for n in range(6000)], refuses)
    assert sink.reasons == ["internal_error"] * 40
    assert not source.nacked
    assert source.pipeline.faults.trouble is None


async def test_what_cannot_be_stored_now_is_returned() -> None:
    def refuses(_: list[str]) -> None:
        raise SinkUnavailable("away")

    source, sink = await worked(4, refuses)
    assert len(source.nacked) == 4
    assert not sink.stored


async def test_what_was_stored_before_the_server_went_away_is_not_returned() -> None:
    def refuses(named: list[str]) -> None:
        if len(named) > 2:
            raise ZeroDivisionError
        if "a-2" in named:
            raise SinkUnavailable("away")

    source, sink = await worked(8, refuses)
    assert sink.stored == ["a-0", "a-1"]
    assert len(source.acked) == 2
    assert len(source.nacked) == 6


async def test_what_not_even_a_dead_letter_can_hold_is_returned() -> None:
    def refuses(named: list[str]) -> None:
        if "a-1" in named or not named:
            raise ZeroDivisionError

    source, sink = await worked(4, refuses)
    assert sink.stored == ["a-0"]
    assert len(source.nacked) == 3


async def test_letters_without_room_go_back_and_the_rest_is_stored() -> None:
    """Those that found room before are kept; good events never wait for the others."""

    class Full(Memory):
        async def write(self, batch: Batch) -> Written:
            room = 2 - len(self.reasons)
            if over := [letter.message for letter in batch.letters[room:]]:
                raise NoRoomForLetters(over, 2)
            return await super().write(batch)

    bad = [Message(subject="agents.a.heartbeat", body=b"no %d" % number) for number in range(5)]
    source, sink = await worked([*bad, *map(message, range(3))], lambda _: None, Full)
    assert sink.stored == ["a-0", "a-1", "a-2"]
    assert sink.reasons == ["not_json"] * 2
    assert source.nacked == [one.body for one in bad[2:]]

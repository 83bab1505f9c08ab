"""``python -m benchmarks.stages``: what each stage of a batch costs in memory, without any server.

Processor time in microseconds an event, the least of many rounds, so that it means something on a
busy machine too. To compare two versions, run them in turn.
"""

import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from benchmarks.workloads import WORKLOADS, Made
from penstock.schemas.catalogue import Catalogue
from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.nats.wire import Frame, publishes
from penstock.worker.pipeline.batch import Batch
from penstock.worker.pipeline.decode import Decoder, Window
from penstock.worker.pipeline.messages import Messages

_MIB = 1 << 20


class _Nowhere:
    """A source that settles nothing."""

    name = transport = "memory"

    async def ack(self, batch: Batch) -> None: ...

    async def nack(self, batch: Batch, delay: float) -> None: ...


def batches(made: Sequence[Made], size: int) -> Iterator[Sequence[Frame]]:
    """The frames of each stream, as many as a batch takes."""
    streams: dict[str, list[Frame]] = defaultdict(list)
    for number, one in enumerate(made, start=1):
        reply = b"$JS.ACK.STREAM.penstock.1.%d.%d.1700000000500000000.17" % (number, number)
        header = f"NATS/1.0\r\nNats-Msg-Id: {one.event_id}\r\n\r\n".encode()
        streams[one.stream].append((one.subject.encode(), reply, header, one.body))
    for frames in streams.values():
        yield from (frames[at : at + size] for at in range(0, len(frames), size))


class _Clock:
    """The least processor time of each stage."""

    def __init__(self) -> None:
        self.least: dict[str, float] = {}
        self._sums: dict[str, float] = defaultdict(float)

    def time(self, stage: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` and count it for ``stage``."""
        begun = time.process_time()
        found = work()
        self._sums[stage] += time.process_time() - begun
        return found

    def end(self) -> None:
        """A round is over."""
        for stage, seconds in self._sums.items():
            self.least[stage] = min(seconds, self.least.get(stage, seconds))
        self._sums.clear()


def measure(made: Sequence[Made], rounds: int, size: int) -> Mapping[str, float]:
    """Microseconds an event of each stage."""
    catalogue = Catalogue.load()
    window = Window(catalogue, {}, past="unlimited")
    decoder, clock = Decoder(catalogue, window, max_bytes=_MIB), _Clock()
    frames = list(batches(made, size))
    for _ in range(rounds):
        for some in frames:
            _drain(some, decoder, clock)
        clock.end()
    return {stage: round(least / len(made) * 1e6, 2) for stage, least in clock.least.items()}


def _drain(frames: Sequence[Frame], decoder: Decoder, clock: _Clock) -> None:
    messages: JetStreamMessages = clock.time("messages", lambda: JetStreamMessages(frames))
    batch = Batch(messages, 0, _Nowhere())
    batch.outcomes = clock.time("decode", lambda: decoder.decode(_whole(batch.messages)))
    clock.time("plan", lambda: batch.plan)
    clock.time("settle", lambda: (batch.origin, publishes(messages.replies, b"+ACK")))


def _whole(messages: Messages) -> Messages:
    """The same; what poison watching asks of them is part of the stage."""
    _ = max(messages.deliveries), messages.doubtful
    return messages


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", type=click.IntRange(1), default=30, show_default=True)
@click.option("--count", type=click.IntRange(1), default=10_000, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=1_000, show_default=True)
@click.option("--only", type=click.Choice(list(WORKLOADS)), multiple=True)
def main(rounds: int, count: int, batch_size: int, only: tuple[str, ...]) -> None:
    """Microseconds of processor time an event, by stage, as one JSON object."""
    gc.set_threshold(200_000, 20, 100)  # as `penstock run`
    found = {
        name: measure(list(WORKLOADS[name].make(count)), rounds, batch_size)
        for name in only or ("heartbeats", "mix")
    }
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()

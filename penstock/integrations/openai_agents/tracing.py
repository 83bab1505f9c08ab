"""`PenstockTracingProcessor`: traces of the Agents SDK become events."""

import logging
import os
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agents.tracing import Span, Trace, TracingProcessor

import penstock.sync
from penstock import PenstockError, Publisher
from penstock.integrations.openai_agents.reading import activity_of, ended_of, ended_trace_of
from penstock.schemas import EventData

log = logging.getLogger("penstock.openai_agents")

_MOST_PENDING = 10_000


class PenstockTracingProcessor(TracingProcessor):
    """Publishes spans as `spans.ended`, and runs of agents as `agents.activity` too.

    What users, models and tools said goes along only with ``content``. No run waits for the bus,
    and nothing here raises: what cannot be published is logged, and left out. ``bus`` is open, and
    stays so.
    """

    def __init__(self, bus: penstock.sync.Publisher, *, content: bool = False) -> None:
        self._bus = bus
        self._content = content
        self._process = os.getpid()
        self._pending = set[Future[None]]()
        self._begun: dict[str, datetime] = {}

    def on_trace_start(self, trace: Trace) -> None:
        """Remember when it began."""
        self._begun[trace.trace_id] = datetime.now(UTC)

    def on_trace_end(self, trace: Trace) -> None:
        """Publish the trace as its outermost span."""
        end = datetime.now(UTC)
        begun = self._begun.pop(trace.trace_id, end)
        self._publish(trace.trace_id, end, ended_trace_of(trace, begun, end))

    def on_span_start(self, span: Span[Any]) -> None:
        """Nothing is known yet."""

    def on_span_end(self, span: Span[Any]) -> None:
        """Publish it."""
        try:
            end, ended = ended_of(span, content=self._content)
        except Exception:  # a trace must never disturb the run that it is of
            log.exception("a span of type %s cannot be read", span.span_data.type)
            return
        self._publish(span.span_id, end, ended)
        if (active := activity_of(ended)) is not None:
            self._publish(span.span_id, end, active)

    def _publish(self, name: str, end: datetime, event: EventData) -> None:
        pending = self._unconfirmed()
        if len(pending) >= _MOST_PENDING:
            log.warning("%d spans wait for the bus: one more is left out", len(pending))
            return
        work = partial(_published, event=event, id=f"{name}-{event.spec.verb}", time=end)
        try:
            sent = self._bus.start(work)
        except (PenstockError, RuntimeError) as error:
            log.warning("a span was not published: %s", error)
            return
        pending.add(sent)
        sent.add_done_callback(self._done)

    def _done(self, sent: Future[None]) -> None:
        self._pending.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            log.warning("a span was not published: %s", error)

    def _unconfirmed(self) -> set[Future[None]]:
        """After a fork, what began before is the parent's to wait for."""
        if self._process != os.getpid():
            self._process, self._pending = os.getpid(), set()
        return self._pending

    def force_flush(self, timeout: float | None = 30.0) -> None:
        """Wait until the stream has all that was published so far, at most ``timeout`` seconds
        (None: for ever). What it has not then is logged, and goes on its way.
        """
        left = wait(self._unconfirmed().copy(), timeout).not_done
        if left:
            log.warning(
                "%d spans are not confirmed after %.3g s: the bus is away, or slow; the Publisher "
                "goes on sending them until it is closed",
                len(left),
                timeout,
            )

    def shutdown(self, timeout: float | None = 5.0) -> None:
        """As `force_flush`; the Publisher is its owner's to close."""
        self.force_flush(timeout)


async def _published(bus: Publisher, *, event: EventData, id: str, time: datetime) -> None:  # noqa: A002
    await bus.publish(event, id=id, time=time)

"""`PenstockTracingProcessor`: traces of the Agents SDK become events."""

import logging
import threading
from concurrent.futures import Future, wait
from datetime import UTC, datetime
from functools import partial
from typing import Any

from agents.tracing import Span, Trace, TracingProcessor

import penstock.sync
from penstock import Publisher
from penstock.integrations.openai_agents.reading import activity_of, ended_of, ended_trace_of
from penstock.schemas import EventData

log = logging.getLogger("penstock.openai_agents")

_MOST_PENDING = 10_000


class PenstockTracingProcessor(TracingProcessor):
    """Publishes spans as `spans.ended`, and runs of agents as `agents.activity` too.

    What users, models and tools said goes along only with ``content``. Nothing here waits for the
    bus, or raises: what cannot be published is logged, and left out. ``bus`` is open, and stays so.
    """

    def __init__(self, bus: penstock.sync.Publisher, *, content: bool = False) -> None:
        self._bus = bus
        self._content = content
        self._lock = threading.Lock()
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
        with self._lock:
            if len(self._pending) >= _MOST_PENDING:
                log.warning("%d spans wait for the bus: one more is left out", len(self._pending))
                return
        work = partial(_published, event=event, id=f"{name}-{event.spec.verb}", time=end)
        try:
            sent = self._bus.start(work)
        except RuntimeError as error:
            log.warning("a span was not published: %s", error)
            return
        with self._lock:
            self._pending.add(sent)
        sent.add_done_callback(self._done)

    def _done(self, sent: Future[None]) -> None:
        with self._lock:
            self._pending.discard(sent)
        if not sent.cancelled() and (error := sent.exception()) is not None:
            log.warning("a span was not published: %s", error)

    def force_flush(self) -> None:
        """Wait until the stream has all that was published so far."""
        with self._lock:
            pending = set(self._pending)
        wait(pending)

    def shutdown(self) -> None:
        """As `force_flush`; the Publisher is its owner's to close."""
        self.force_flush()


async def _published(bus: Publisher, *, event: EventData, id: str, time: datetime) -> None:  # noqa: A002
    await bus.publish(event, id=id, time=time)

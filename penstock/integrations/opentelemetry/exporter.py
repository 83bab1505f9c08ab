"""`PenstockSpanExporter`: spans of agents, models and tools become events."""

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from penstock import EventInvalid, PenstockError
from penstock.integrations.opentelemetry.reading import events_of, moment, speaks_of_agents
from penstock.schemas import AgentActivity, SpanEnded
from penstock.sync import Publisher

log = logging.getLogger("penstock.opentelemetry")


class PenstockSpanExporter(SpanExporter):
    """Publishes spans as `spans.ended`, and runs of agents as `agents.activity` too.

    Spans that say nothing of agents, models or tools are left out, unless ``every`` is set. What
    users, models and tools said goes along only with ``content``. A batch is exported when the
    stream has it all, within ``timeout`` seconds; a span that is exported again is stored once.
    ``options`` are those of `penstock.Publisher`. It connects with the first spans.
    """

    def __init__(
        self,
        server: str = "nats://127.0.0.1:4222",
        *,
        source: str = "/opentelemetry",
        content: bool = False,
        every: bool = False,
        timeout: float = 10.0,
        **options: Any,
    ) -> None:
        self._bus = Publisher(server, source=source, give_up=timeout, **options).prepare()
        self._content = content
        self._every = every
        self._timeout = timeout
        self._closed = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Publish them. A span that can be no event is logged, and counts as failed."""
        chosen = [span for span in spans if self._every or speaks_of_agents(span)]
        if not chosen or self._closed:
            return SpanExportResult.FAILURE if chosen else SpanExportResult.SUCCESS
        try:
            self._connect()
            sent = [future for span in chosen for future in self._publish(span)]
            whole = _all_confirmed(sent, self._timeout)
        except (PenstockError, RuntimeError) as error:
            log.warning("spans were not exported: %s", error)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS if whole else SpanExportResult.FAILURE

    def _connect(self) -> None:
        self._bus.open()
        if self._closed:  # `shutdown` came in between
            self._bus.close()

    def _publish(self, span: ReadableSpan) -> Iterator[Future[Any]]:
        for event in events_of(span, content=self._content):
            name = f"{span.context.trace_id:032x}-{span.context.span_id:016x}-{event.spec.verb}"
            yield self._send(event, name, span)

    def _send(self, event: SpanEnded | AgentActivity, name: str, span: ReadableSpan) -> Future[Any]:
        try:
            return self._bus.publish_soon(event, id=name, time=moment(span.end_time or 0))
        except EventInvalid as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002  (as declared)
        """Nothing to do: `export` waits."""
        return True

    def shutdown(self) -> None:
        """Close the connection. What is exported later fails."""
        self._closed = True
        self._bus.close()


def _all_confirmed(sent: Sequence[Future[Any]], timeout: float) -> bool:
    """Whether the stream has them all; what it has not is logged."""
    whole, deadline = True, time.monotonic() + timeout
    for future in sent:
        try:
            future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            log.warning("a span was not confirmed in %g s", timeout)
            return False
        except PenstockError as error:
            log.warning("a span was not exported: %s", error)
            whole = False
    return whole

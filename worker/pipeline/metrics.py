"""Metrics for Prometheus: methods that are called once per batch, for the names of `families`."""

import time
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from penstock.worker.pipeline.families import FAMILIES, Family
from penstock.worker.pipeline.messages import Messages
from penstock.worker.pipeline.ports import Backlog, Written


class Metrics:
    """The metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._made = {family.name: _make(family, self.registry) for family in FAMILIES}
        self._oldest: dict[str, float] = {}

    def batch(self, source: str, messages: Messages, written: Written) -> None:
        """Count a settled batch."""
        self._count("penstock_received_total", len(messages), source)
        self._count("penstock_events_total", written.new, source, "written")
        self._count("penstock_events_total", written.duplicate, source, "duplicate")
        self._count("penstock_events_total", len(written.letters), source, "rejected")
        for reason, count in Tally(letter.reason for letter in written.letters).items():
            self._count("penstock_rejected_total", count, source, reason)
        self._observe("penstock_batch_messages", len(messages), source)
        self._observe("penstock_batch_bytes", sum(map(len, messages.bodies)), source)
        if messages and (stored := messages[0].stored_at) is not None:
            self._oldest[source] = stored
            self.age(source)

    def letters_refused(self, source: str, messages: int) -> None:
        """Count messages that may not be kept as dead letters now."""
        self._count("penstock_dead_letters_refused_total", messages, source)

    def letters(self, status: str, count: int) -> None:
        """Tell how many letters of a status there are."""
        self._set("penstock_dead_letters", count, status)

    def unknown_fields(self, event_type: str) -> None:
        """Count an event with fields that its type does not have."""
        self._count("penstock_unknown_fields_total", 1, event_type)

    def receipts(self, source: str, outcome: str, messages: int) -> None:
        """Count receipts."""
        self._count("penstock_receipts_total", messages, source, outcome)

    def redelivered(self, source: str, messages: int) -> None:
        """Count messages that the broker had delivered before."""
        self._count("penstock_redelivered_total", messages, source)

    def stage(self, stage: str, seconds: float) -> None:
        """Record how long a stage of a batch took."""
        self._observe("penstock_stage_seconds", seconds, stage)

    def batch_retried(self, source: str) -> None:
        """Count one retry of a batch."""
        self._count("penstock_batch_retries_total", 1, source)

    def in_flight(self, source: str, batches: int) -> None:
        """Set how many batches are in work."""
        self._set("penstock_in_flight_batches", batches, source)

    def lag(self, source: str, backlog: Backlog) -> None:
        """Set what a source still holds."""
        self._set("penstock_lag_pending", backlog.pending, source)
        self._set("penstock_lag_ack_pending", backlog.ack_pending, source)
        if backlog.pending or backlog.ack_pending:
            self._oldest.setdefault(source, time.time())
        else:
            self._oldest.pop(source, None)
        self.age(source)

    def waits(self, source: str, stored: float | None) -> None:
        """A message that was stored at ``stored`` (Unix seconds, where known) is in work."""
        if source not in self._oldest:
            self._oldest[source] = time.time() if stored is None else stored

    def broker_dead_letters(self, transport: str, messages: int) -> None:
        """Tell what a broker has put aside itself."""
        self._set("penstock_broker_dead_letters", messages, transport)

    def kv_puts(self, bucket: str, keys: int) -> None:
        """Count keys written."""
        self._count("penstock_kv_puts_total", keys, bucket)

    def kv_conflicts(self, bucket: str, keys: int) -> None:
        """Count keys that another worker wrote at the same time."""
        self._count("penstock_kv_conflicts_total", keys, bucket)

    def kv_left_out(self, bucket: str, keys: int) -> None:
        """Count keys that cannot be mirrored."""
        self._count("penstock_kv_left_out_total", keys, bucket)

    def memory(self, used: Callable[[], int], limit: int) -> None:
        """Serve what all streams use together, asked at each scrape, and the limit."""
        self._series("penstock_memory_bytes", ("used",)).set_function(used)
        self._set("penstock_memory_bytes", limit, "limit")

    def outbox_relayed(self, published: int, refused: int) -> None:
        """Count rows of the outbox."""
        self._count("penstock_outbox_rows_total", published, "published")
        self._count("penstock_outbox_rows_total", refused, "refused")

    def outbox_backlog(self, waiting: int, refused: int, oldest_age: float) -> None:
        """Tell what the outbox holds."""
        self._set("penstock_outbox_waiting_rows", waiting)
        self._set("penstock_outbox_refused_rows", refused)
        self._set("penstock_outbox_oldest_age_seconds", oldest_age)

    def derived(self, function: str, keys: int) -> None:
        """Count keys that a function worked out."""
        self._count("penstock_derived_keys_total", keys, function)

    def derive_failed(self, function: str) -> None:
        """Count a key that a function failed for."""
        self._count("penstock_derive_failures_total", 1, function)

    def job_ran(self, job: str, *, failed: bool) -> None:
        """Count a run of a job."""
        self._count("penstock_jobs_total", 1, job, "failed" if failed else "done")

    def source_healthy(self, source: str, *, healthy: bool) -> None:
        """Set whether a source's server answers."""
        self._set("penstock_source_healthy", int(healthy), source)

    def server_healthy(self, server: str, *, healthy: bool) -> None:
        """Tell whether a server answers, by the name of its check."""
        self._set("penstock_server_healthy", int(healthy), server)

    def age(self, source: str) -> None:
        """Let the age of what waits grow."""
        stored = self._oldest.get(source)
        age = 0.0 if stored is None else max(0.0, time.time() - stored)
        self._set("penstock_oldest_age_seconds", age, source)

    def _count(self, name: str, amount: float, *labels: str) -> None:
        self._series(name, labels).inc(amount)

    def _set(self, name: str, value: float, *labels: str) -> None:
        self._series(name, labels).set(value)

    def _observe(self, name: str, value: float, *labels: str) -> None:
        self._series(name, labels).observe(value)

    def _series(self, name: str, labels: tuple[str, ...]) -> Any:
        return self._made[name].labels(*labels) if labels else self._made[name]


def _make(family: Family, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    if family.kind is Histogram:
        return Histogram(
            family.name, family.about, family.labels, registry=registry, buckets=family.buckets
        )
    return family.kind(family.name, family.about, family.labels, registry=registry)

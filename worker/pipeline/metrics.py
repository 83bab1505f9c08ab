"""Metrics for Prometheus: a closed list of names, and methods that are called once per batch.

Label values come from small sets (streams, stages, reasons, buckets), so the number of series is
bounded, whatever agents send.
"""

import time
from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)

from penstock.worker.pipeline.messages import Messages
from penstock.worker.pipeline.ports import Backlog, Written

_MESSAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 50_000)
_BYTES = tuple(4**power for power in range(4, 14))
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Family(msgspec.Struct, frozen=True):
    """One metric: its name, which ends in its unit, its kind, labels and meaning."""

    name: str
    kind: type[Counter | Gauge | Histogram]
    labels: tuple[str, ...]
    about: str
    buckets: tuple[float, ...] = ()


FAMILIES = (
    Family(
        "penstock_received_total",
        Counter,
        ("source",),
        "Messages settled, including redelivered ones.",
    ),
    Family(
        "penstock_events_total",
        Counter,
        ("source", "outcome"),
        "Outcomes of messages: written, duplicate or rejected.",
    ),
    Family(
        "penstock_rejected_total",
        Counter,
        ("source", "reason"),
        "Messages kept as dead letters, by reason.",
    ),
    Family(
        "penstock_dead_letters_refused_total",
        Counter,
        ("source",),
        "Messages returned to the broker: letters_max dead letters are open.",
    ),
    Family("penstock_dead_letters", Gauge, ("status",), "Open dead letters, by status."),
    Family(
        "penstock_unknown_fields_total",
        Counter,
        ("type",),
        "Events with fields that their type does not have; one a second and type is looked at.",
    ),
    Family(
        "penstock_redelivered_total",
        Counter,
        ("source",),
        "Messages that the broker had delivered before.",
    ),
    Family(
        "penstock_batch_messages", Histogram, ("source",), "Messages of a batch.", buckets=_MESSAGES
    ),
    Family(
        "penstock_batch_bytes", Histogram, ("source",), "Payload bytes of a batch.", buckets=_BYTES
    ),
    Family(
        "penstock_batch_retries_total",
        Counter,
        ("source",),
        "Retries of batches because PostgreSQL was away.",
    ),
    Family(
        "penstock_stage_seconds",
        Histogram,
        ("stage",),
        "Time of a batch in fetch, decode, plan, write, kv and ack.",
        buckets=_SECONDS,
    ),
    Family("penstock_in_flight_batches", Gauge, ("source",), "Batches between fetch and ack."),
    Family(
        "penstock_lag_pending", Gauge, ("source",), "Messages not yet delivered to any replica."
    ),
    Family(
        "penstock_lag_ack_pending",
        Gauge,
        ("source",),
        "Messages delivered and not acknowledged, all replicas together.",
    ),
    Family(
        "penstock_broker_dead_letters",
        Gauge,
        ("transport",),
        "Messages that the broker itself gave up, and no worker will get.",
    ),
    Family(
        "penstock_oldest_age_seconds",
        Gauge,
        ("source",),
        "How long the oldest message waits, about: since the last batch's first; 0 if none waits.",
    ),
    Family("penstock_kv_puts_total", Counter, ("bucket",), "Keys written to the KV bucket."),
    Family(
        "penstock_kv_conflicts_total",
        Counter,
        ("bucket",),
        "Keys tried again because another worker wrote them at the same time.",
    ),
    Family(
        "penstock_kv_left_out_total",
        Counter,
        ("bucket",),
        "Failures to mirror a key into its bucket; the log names the key.",
    ),
    Family(
        "penstock_memory_bytes",
        Gauge,
        ("kind",),
        "Bytes of messages that all streams use together (used), and memory_limit (limit).",
    ),
    Family(
        "penstock_outbox_rows_total",
        Counter,
        ("outcome",),
        "Rows of the outbox that this worker settled: published or refused.",
    ),
    Family(
        "penstock_outbox_waiting_rows", Gauge, (), "Rows of the outbox to be published, to 100,000."
    ),
    Family(
        "penstock_outbox_refused_rows", Gauge, (), "Rows of the outbox that cannot be published."
    ),
    Family(
        "penstock_outbox_oldest_age_seconds",
        Gauge,
        (),
        "Age of the oldest row of the outbox to be published, since its insert; 0 if none waits.",
    ),
    Family("penstock_source_healthy", Gauge, ("source",), "1 while the stream's server answers."),
    Family(
        "penstock_server_healthy",
        Gauge,
        ("server",),
        "1 while PostgreSQL, or a KV bucket, answers.",
    ),
)

NAMES = tuple(family.name for family in FAMILIES)
"""All names, in the order of the table in the documentation."""


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

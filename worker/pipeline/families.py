"""The closed list of metrics for Prometheus.

Label values come from small sets (streams, stages, reasons, buckets), so the number of series is
bounded, whatever agents send.
"""

import msgspec
from prometheus_client import Counter, Gauge, Histogram

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
        "Time of a batch in fetch, decode, plan, write, derive, kv and ack.",
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
    Family(
        "penstock_receipts_total",
        Counter,
        ("source", "outcome"),
        "Receipts sent: stored, duplicate or rejected; unsent: the broker was away, or forbids it.",
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
    Family(
        "penstock_derived_keys_total",
        Counter,
        ("function",),
        "Keys whose derived values this worker worked out anew.",
    ),
    Family(
        "penstock_derive_failures_total",
        Counter,
        ("function",),
        "Keys put off because their function failed; the log names them.",
    ),
    Family(
        "penstock_jobs_total",
        Counter,
        ("job", "outcome"),
        "Runs of the jobs of bus.job by this worker: done or failed.",
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

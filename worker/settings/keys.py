"""The settings: every key with its type, section, default and meaning, in one frozen struct.

Help, completion, example file and the documentation's tables are made from this class, nowhere
else. Where values come from is `settings.sources`.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec

from penstock.worker.errors import SettingsError
from penstock.worker.settings.contradictions import contradictions
from penstock.worker.settings.declared import SECRET, Setting, declared
from penstock.worker.settings.kinds import (
    duration,
    matching,
    modules,
    names,
    offset_or_time,
    readable_file,
    size,
    whole,
    word_or,
)
from penstock.worker.settings.sections import (
    ALL,
    RUN,
    TUNING,
    USE_BUCKET,
    USE_CATALOGUE,
    USE_LAZY,
    USE_NATS,
    USE_PARTITIONS,
    USE_POSTGRES,
    USE_RABBITMQ,
    USE_STREAMS,
    Commands,
    Section,
)
from penstock.worker.settings.sources import Given, collect

TEXT = matching(r"[^\x00-\x1f]+", "a text")
NAME = matching(r"[A-Za-z0-9_-]{1,64}", "up to 64 letters, digits, - and _", "NAME")
BUS = matching(
    r"(nats|tls|wss?)://[^\s,]+(,\s*(nats|tls|wss?)://[^\s,]+)*", "nats://host:port", "URL,..."
)
RABBIT = matching(r"amqps?://\S+", "amqp://user:password@host:port/vhost", "URL")
BROKERS = names(r"[a-z][a-z0-9_-]*", "names of brokers separated by commas")
OFFSET = offset_or_time()
DATABASE = matching(r"postgres(ql)?://\S+", "postgresql://user@host:port/database", "URL")
INBOXES = names(
    r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", "beginnings of subjects separated by commas, as _INBOX"
)
STREAMS = names(r"[A-Za-z0-9_-]+", "stream names separated by commas")
FILE = readable_file()
WORKER_NAME = matching(r"[A-Za-z0-9._-]{0,64}", "up to 64 letters, digits, ., - and _", "NAME")
COUNT = whole(1, 1_000_000)
PORT = word_or(whole(-1, 65535), "auto")
NATS, RABBITMQ, POSTGRES = Section.NATS, Section.RABBITMQ, Section.POSTGRES
QUEUES, BATCHES, EVENTS = Section.STREAMS, Section.BATCHES, Section.EVENTS


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings. Durations are in seconds, sizes in bytes; texts that are not set are None.

    An annotation has the type, the kind of value (unless the type says it all), the section, the
    commands whose help shows the setting, and its meaning.
    """

    nats_url: Annotated[str, BUS, SECRET, NATS, USE_NATS, "NATS servers, separated by commas."] = (
        "nats://127.0.0.1:4222"
    )
    nats_credentials: Annotated[
        str | None, FILE, NATS, USE_NATS, "File with the user's JWT and key (.creds)."
    ] = None
    nats_nkey: Annotated[str | None, FILE, NATS, USE_NATS, "File with the user's NKey seed."] = None
    nats_user: Annotated[str | None, TEXT, NATS, USE_NATS, "User name for NATS."] = None
    nats_password: Annotated[str | None, TEXT, SECRET, NATS, USE_NATS, "Password of nats_user."] = (
        None
    )
    nats_token: Annotated[str | None, TEXT, SECRET, NATS, USE_NATS, "Token for NATS."] = None
    nats_tls_ca: Annotated[
        str | None, FILE, NATS, USE_NATS, "CA of the NATS servers' certificates (PEM)."
    ] = None
    nats_tls_cert: Annotated[
        str | None, FILE, NATS, USE_NATS, "Client certificate for NATS (PEM)."
    ] = None
    nats_tls_key: Annotated[
        str | None, FILE, NATS, USE_NATS, "Private key of nats_tls_cert (PEM)."
    ] = None
    nats_tls_first: Annotated[
        bool, NATS, TUNING, "Start TLS before the NATS greeting; the server must expect it."
    ] = False

    rabbitmq_url: Annotated[
        str, RABBIT, SECRET, RABBITMQ, USE_RABBITMQ, "RabbitMQ; the path is the virtual host."
    ] = "amqp://guest:guest@127.0.0.1:5672/"
    rabbitmq_user: Annotated[
        str | None, TEXT, RABBITMQ, USE_RABBITMQ, "User name for RabbitMQ."
    ] = None
    rabbitmq_password: Annotated[
        str | None, TEXT, SECRET, RABBITMQ, USE_RABBITMQ, "Password of rabbitmq_user."
    ] = None
    rabbitmq_tls_ca: Annotated[
        str | None, FILE, RABBITMQ, USE_RABBITMQ, "CA of RabbitMQ's certificate (PEM), for amqps."
    ] = None
    rabbitmq_tls_cert: Annotated[
        str | None, FILE, RABBITMQ, USE_RABBITMQ, "Client certificate for RabbitMQ (PEM)."
    ] = None
    rabbitmq_tls_key: Annotated[
        str | None, FILE, RABBITMQ, USE_RABBITMQ, "Private key of rabbitmq_tls_cert (PEM)."
    ] = None

    postgres_dsn: Annotated[
        str, DATABASE, SECRET, POSTGRES, USE_POSTGRES, "The PostgreSQL database."
    ] = "postgresql://127.0.0.1:5432/penstock"
    pool_size: Annotated[
        int,
        whole(4, 1000),
        POSTGRES,
        RUN,
        "Most connections to PostgreSQL; three of them are never used for batches.",
    ] = 8
    statement_timeout: Annotated[
        float, duration(0.1), POSTGRES, TUNING, "Longest time that one SQL statement may take."
    ] = 30
    lock_timeout: Annotated[
        float, duration(0.01), POSTGRES, TUNING, "Longest wait for a lock in PostgreSQL."
    ] = 5
    migrate: Annotated[bool, POSTGRES, RUN, "Apply pending migrations at start."] = False

    brokers: Annotated[
        tuple[str, ...],
        BROKERS,
        QUEUES,
        USE_RABBITMQ,
        "Brokers that events come from; `publish` and the outbox take the first.",
    ] = ("nats",)
    streams: Annotated[
        tuple[str, ...], STREAMS, QUEUES, USE_STREAMS, "Streams to read; empty: all of them."
    ] = ()
    consumer: Annotated[
        str, NAME, QUEUES, USE_STREAMS, "Durable consumer that all workers share."
    ] = "penstock"
    source_path: Annotated[
        Literal["fast", "client"],
        QUEUES,
        TUNING,
        "fast: Penstock's own parser; client: the one of the broker's client library.",
    ] = "fast"
    ack_wait: Annotated[
        float, duration(1), QUEUES, RUN, "A message not acknowledged in this time is redelivered."
    ] = 30
    max_ack_pending: Annotated[
        int, COUNT, QUEUES, TUNING, "Most unacknowledged messages of a stream, over all workers."
    ] = 50_000
    heartbeat: Annotated[
        float,
        duration(0.1),
        QUEUES,
        TUNING,
        "How often NATS sends a sign of life on an idle stream.",
    ] = 5
    provision: Annotated[
        bool,
        QUEUES,
        Commands(["run", "publish"]),
        "Create missing streams, consumers, queues and the KV bucket at start.",
    ] = True
    stream_replicas: Annotated[
        int, whole(1, 5), QUEUES, USE_STREAMS, "Replicas of streams that are created."
    ] = 1
    stream_max_age: Annotated[
        float,
        duration(),
        QUEUES,
        Commands([*USE_STREAMS, "partitions"]),
        "How long streams keep messages; 0: forever.",
    ] = 7 * 86400
    stream_max_bytes: Annotated[
        int, size(), QUEUES, USE_STREAMS, "Largest size of a stream; 0: unlimited."
    ] = 0
    rabbitmq_exchange: Annotated[
        str, NAME, QUEUES, USE_RABBITMQ, "Topic exchange that agents publish to."
    ] = "events"
    rabbitmq_queue_type: Annotated[
        Literal["quorum", "classic", "stream"],
        QUEUES,
        USE_STREAMS,
        "Type of queues that are created; a stream can be replayed, but has one worker only.",
    ] = "quorum"
    rabbitmq_stream_from: Annotated[
        str | int | None,
        OFFSET,
        QUEUES,
        RUN,
        "Read stream queues from this offset or time instead of where the last worker stopped.",
    ] = None

    batch_size: Annotated[int, whole(1, 50_000), BATCHES, RUN, "Most messages in a batch."] = 5000
    batch_bytes: Annotated[int, size(1024), BATCHES, RUN, "Most bytes in a batch."] = 8 * 2**20
    memory_limit: Annotated[
        int, size(2**20), BATCHES, RUN, "Most bytes of messages in memory, all streams together."
    ] = 256 * 2**20
    linger: Annotated[
        float,
        duration(0, 60),
        BATCHES,
        RUN,
        "How long to wait for more messages while other batches are in progress.",
    ] = 0.005
    in_flight: Annotated[
        int, whole(1, 64), BATCHES, RUN, "Batches of a stream in progress at once."
    ] = 4
    retry_for: Annotated[
        float, duration(), BATCHES, RUN, "How long a batch is retried while PostgreSQL is away."
    ] = 60
    nack_delay: Annotated[
        float, duration(), BATCHES, RUN, "Delay before a returned batch is delivered again."
    ] = 10
    watch_after: Annotated[
        int, COUNT, BATCHES, TUNING, "Deliveries after which a message gets a crash marker."
    ] = 3
    max_crashes: Annotated[
        int,
        whole(2, 1_000_000),
        BATCHES,
        TUNING,
        "Worker crashes after which a poison message becomes a dead letter.",
    ] = 5

    receipts: Annotated[
        bool,
        EVENTS,
        Commands(["run", "doctor"]),
        "Tell publishers who ask what became of an event.",
    ] = True
    nats_inboxes: Annotated[
        tuple[str, ...],
        INBOXES,
        EVENTS,
        TUNING,
        "What the subjects that receipts go to on NATS begin with, up to a dot.",
    ] = ("_INBOX",)
    reads: Annotated[
        bool,
        EVENTS,
        Commands(["run", "doctor"]),
        "Answer agents that read state, history and checkpoints over the bus.",
    ] = True
    reads_pool: Annotated[
        int,
        whole(1, 100),
        EVENTS,
        TUNING,
        "Most connections to PostgreSQL for reads, beside others; so many are answered at once.",
    ] = 4
    reads_timeout: Annotated[
        float, duration(0.1), EVENTS, TUNING, "Longest time that one read may take."
    ] = 5
    max_event_bytes: Annotated[
        int, size(256), EVENTS, RUN, "Largest event; a larger one becomes a dead letter."
    ] = 2**20
    window_future: Annotated[
        float, duration(), EVENTS, RUN, "How far in the future an event's time may be."
    ] = 300
    window_past: Annotated[
        str | float,
        word_or(duration(), "retention", "unlimited"),
        EVENTS,
        RUN,
        "How old an event may be; retention: as long as the table keeps its rows.",
    ] = "retention"
    letters_max: Annotated[
        int,
        whole(0, 100_000_000),
        EVENTS,
        Commands(["run", "doctor"]),
        "Most open dead letters; what is wrong beyond them waits at the broker. 0: unlimited.",
    ] = 100_000
    letters_keep: Annotated[
        float, duration(), EVENTS, RUN, "How long dead letters stay once stored or discarded."
    ] = 30 * 86400
    event_packages: Annotated[
        tuple[str, ...], modules(), EVENTS, USE_CATALOGUE, "Modules with event types of your own."
    ] = ()

    kv: Annotated[
        bool, Section.KV, USE_STREAMS, "Mirror agents' state into a KV bucket; needs NATS."
    ] = True
    kv_bucket: Annotated[
        str, NAME, Section.KV, USE_BUCKET, "KV bucket that holds the agents' state."
    ] = "AGENT_STATE"
    kv_reconcile: Annotated[
        float, duration(1), Section.KV, TUNING, "How often the bucket is compared with PostgreSQL."
    ] = 600
    kv_status_interval: Annotated[
        float,
        duration(0, 600),
        Section.KV,
        USE_LAZY,
        "How long a mere heartbeat may wait before the bucket shows it; 0: not at all.",
    ] = 5

    outbox: Annotated[
        bool,
        Section.OUTBOX,
        Commands(["run", "doctor"]),
        "Publish the rows of bus.outbox; one connection more to PostgreSQL.",
    ] = True
    outbox_keep: Annotated[
        float, duration(), Section.OUTBOX, RUN, "How long rows of bus.outbox stay once published."
    ] = 86400

    retention: Annotated[
        bool,
        Section.PARTITIONS,
        Commands(["run", "doctor"]),
        "Detach, archive, export and drop old partitions, as partitions.policy says.",
    ] = True
    postgres_owner_dsn: Annotated[
        str | None,
        DATABASE,
        SECRET,
        Section.PARTITIONS,
        USE_PARTITIONS,
        "The same database as the owner of its tables, for retention; empty: postgres_dsn.",
    ] = None
    archive_folder: Annotated[
        str | None,
        TEXT,
        Section.PARTITIONS,
        USE_PARTITIONS,
        "Folder that partitions are exported to, as Parquet files.",
    ] = None

    http_host: Annotated[
        str, TEXT, Section.HTTP, RUN, "Address of /livez, /readyz and /metrics."
    ] = "127.0.0.1"
    http_port: Annotated[
        int | str,
        PORT,
        Section.HTTP,
        RUN,
        "auto: 8080, or any free port if it is in use; 0: any free port; -1: no HTTP.",
    ] = "auto"
    stalled_after: Annotated[
        float,
        duration(1),
        Section.HTTP,
        RUN,
        "/readyz turns red if something waits and nothing is settled for so long.",
    ] = 30

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Section.LOGS,
        ALL,
        "Lowest level that is logged.",
    ] = "info"
    log_format: Annotated[
        Literal["auto", "console", "json"],
        Section.LOGS,
        ALL,
        "auto: console on a terminal, JSON elsewhere.",
    ] = "auto"

    start_timeout: Annotated[
        float, duration(), Section.WORKER, RUN, "Longest wait for a server at start."
    ] = 30
    drain_timeout: Annotated[
        float, duration(), Section.WORKER, RUN, "Longest time for finishing work when stopping."
    ] = 20
    processes: Annotated[
        int, whole(1, 64), Section.WORKER, RUN, "Worker processes; they share the HTTP port."
    ] = 1
    worker_id: Annotated[
        str, WORKER_NAME, Section.WORKER, RUN, "Name in logs and rows; empty: host and process id."
    ] = ""


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {found.key: found for found in declared(Settings)}
)
"""Every setting by its key, in the order of `Settings`."""


def load(
    flags: Mapping[str, str | None] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """The settings from a TOML file, the environment and flags; later ones override earlier ones.

    ``flags`` maps keys to texts, or to None if not given. Raises one SettingsError that names
    everything that is wrong.
    """
    secrets = frozenset(key for key, setting in SETTINGS.items() if setting.secret)
    given, problems = collect(flags, environ, file, keys=SETTINGS.keys(), secrets=secrets)
    values: dict[str, Any] = {}
    for key, value in given.items():
        try:
            values[key] = SETTINGS[key].kind.parse(value.raw)
        except ValueError:
            problems.append(_refusal(SETTINGS[key], value))
    if not problems:
        settings = _named(Settings(**values))
        problems.extend(contradictions(settings, _written))
    if problems:
        raise SettingsError("\n".join(problems))
    return settings


def _refusal(setting: Setting, given: Given) -> str:
    shown = "(hidden)" if setting.secret else repr(given.raw)
    return f"{setting.key} = {shown} ({given.origin}): expected {setting.kind.expected}"


def _named(settings: Settings) -> Settings:
    if settings.worker_id:
        return settings
    return msgspec.structs.replace(settings, worker_id=f"{socket.gethostname()}-{os.getpid()}")


def _written(settings: Settings, key: str) -> str:
    return f"{key} = {SETTINGS[key].kind.text(getattr(settings, key))}"

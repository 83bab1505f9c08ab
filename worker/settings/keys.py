"""The settings: every key with its type, default and meaning, in one frozen struct.

Help, example file and README's table are made from this class, nowhere else. Where values come
from is `settings.sources`.
"""

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_type_hints

import msgspec

from penstock.worker.errors import SettingsError
from penstock.worker.settings.kinds import (
    Kind,
    choice,
    duration,
    duration_or,
    matching,
    modules,
    names,
    offset_or_time,
    readable_file,
    size,
    truth,
    whole,
)
from penstock.worker.settings.sources import Given, collect

_HEARTBEATS = 3
"""An acknowledgement may be extended late twice before the broker delivers again."""


class _Secret:
    """Marks a setting that is never shown and may be read from a file, ``<key>_file``."""


SECRET = _Secret()
TEXT = matching(r"[^\x00-\x1f]+", "a text")
NAME = matching(r"[A-Za-z0-9_-]{1,64}", "up to 64 letters, digits, - and _")
BUS = matching(r"(nats|tls|wss?)://[^\s,]+(,\s*(nats|tls|wss?)://[^\s,]+)*", "nats://host:port")
RABBIT = matching(r"amqps?://\S+", "amqp://user:password@host:port/vhost")
BROKERS = names(r"[a-z][a-z0-9_-]*", "names of brokers with commas in between")
OFFSET = offset_or_time()
DATABASE = matching(r"postgres(ql)?://\S+", "postgresql://user@host:port/database")
STREAMS = names(r"[A-Za-z0-9_-]+", "stream names with commas in between")
FILE = readable_file()
WORKER = matching(r"[A-Za-z0-9._-]{0,64}", "up to 64 letters, digits, ., - and _")
COUNT = whole(1, 1_000_000)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decides. Durations are seconds, sizes are bytes, absent texts are None."""

    nats_url: Annotated[str, BUS, SECRET, "NATS servers, with commas in between."] = (
        "nats://127.0.0.1:4222"
    )
    nats_credentials: Annotated[str | None, FILE, "File with a user's JWT and key (.creds)."] = None
    nats_nkey: Annotated[str | None, FILE, "File with a user's NKey seed."] = None
    nats_user: Annotated[str | None, TEXT, "User name for NATS."] = None
    nats_password: Annotated[str | None, TEXT, SECRET, "Password of nats_user."] = None
    nats_token: Annotated[str | None, TEXT, SECRET, "Token for NATS."] = None
    nats_tls_ca: Annotated[str | None, FILE, "CA that signed the NATS servers (PEM)."] = None
    nats_tls_cert: Annotated[str | None, FILE, "Client certificate for NATS (PEM)."] = None
    nats_tls_key: Annotated[str | None, FILE, "Key of nats_tls_cert (PEM)."] = None
    nats_tls_first: Annotated[bool, truth(), "TLS before the NATS greeting."] = False

    brokers: Annotated[tuple[str, ...], BROKERS, "Where events come from."] = ("nats",)
    rabbitmq_url: Annotated[str, RABBIT, SECRET, "RabbitMQ; the path is the virtual host."] = (
        "amqp://guest:guest@127.0.0.1:5672/"
    )
    rabbitmq_user: Annotated[str | None, TEXT, "User name for RabbitMQ."] = None
    rabbitmq_password: Annotated[str | None, TEXT, SECRET, "Password of rabbitmq_user."] = None
    rabbitmq_tls_ca: Annotated[str | None, FILE, "CA that signed RabbitMQ (PEM), for amqps."] = None
    rabbitmq_tls_cert: Annotated[str | None, FILE, "Client certificate for RabbitMQ."] = None
    rabbitmq_tls_key: Annotated[str | None, FILE, "Key of rabbitmq_tls_cert."] = None
    rabbitmq_exchange: Annotated[str, NAME, "Topic exchange that agents publish to."] = "events"
    rabbitmq_queue_type: Annotated[
        Literal["quorum", "classic", "stream"],
        choice("quorum", "classic", "stream"),
        "Kind of the queues; a stream can be read again, by one worker.",
    ] = "quorum"
    rabbitmq_stream_from: Annotated[
        str | int | None, OFFSET, "Read streams from this offset or time, not where it stopped."
    ] = None

    postgres_dsn: Annotated[str, DATABASE, SECRET, "The database."] = (
        "postgresql://127.0.0.1:5432/penstock"
    )
    pool_size: Annotated[
        int, whole(4, 1000), "Connections to PostgreSQL, at most; three are not for batches."
    ] = 8
    statement_timeout: Annotated[float, duration(0.1), "Longest that one statement may take."] = 30
    lock_timeout: Annotated[float, duration(0.01), "Longest that a lock is waited for."] = 5

    streams: Annotated[tuple[str, ...], STREAMS, "Streams to work on; none: all of them."] = ()
    consumer: Annotated[str, NAME, "Durable consumer that all replicas share."] = "penstock"
    source_path: Annotated[
        Literal["fast", "stock"], choice("fast", "stock"), "Own batch parser, or nats-py's fetch."
    ] = "fast"
    ack_wait: Annotated[float, duration(1), "Unacknowledged this long: delivered again."] = 30
    max_ack_pending: Annotated[int, COUNT, "Delivered and not acknowledged, all replicas."] = 50_000
    heartbeat: Annotated[
        float, duration(0.1), "How often NATS shows that it is there while idle."
    ] = 5
    provision: Annotated[bool, truth(), "Create streams, consumers and bucket at start."] = True
    stream_replicas: Annotated[int, whole(1, 5), "Copies of a stream that is created."] = 1
    stream_max_age: Annotated[float, duration(), "How long streams keep messages; 0: for ever."] = (
        7 * 86400
    )
    stream_max_bytes: Annotated[int, size(), "Largest size of a stream; 0: no limit."] = 0

    batch_size: Annotated[int, whole(1, 50_000), "Messages in a batch, at most."] = 5000
    batch_bytes: Annotated[int, size(1024), "Bytes in a batch, at most."] = 8 * 2**20
    memory_limit: Annotated[
        int, size(2**20), "Bytes of messages in memory, all streams together."
    ] = 256 * 2**20
    linger: Annotated[float, duration(0, 60), "Wait for more while others are in work."] = 0.005
    in_flight: Annotated[int, whole(1, 64), "Batches of a stream in work at once."] = 4
    watch_after: Annotated[int, COUNT, "Delivered more often: attempts are written down first."] = 3
    max_crashes: Annotated[
        int, whole(2, 1_000_000), "Workers that may die on a message till it is kept."
    ] = 5
    retry_for: Annotated[float, duration(), "How long a batch waits for PostgreSQL."] = 60
    nack_delay: Annotated[float, duration(), "When a batch given back is delivered again."] = 10

    max_event_bytes: Annotated[int, size(256), "Larger events become dead letters."] = 2**20
    window_future: Annotated[float, duration(), "How far ahead an event's time may be."] = 300
    window_past: Annotated[
        str | float,
        duration_or("retention", "unlimited"),
        "How old an event may be; retention: as long as its table keeps rows.",
    ] = "retention"
    event_packages: Annotated[tuple[str, ...], modules(), "Modules with events of your own."] = ()

    migrate: Annotated[bool, truth(), "Apply pending migrations at start."] = False
    kv: Annotated[bool, truth(), "Mirror agents' state into a KV bucket; needs NATS."] = True
    kv_bucket: Annotated[str, NAME, "KV bucket that holds the agents' state."] = "AGENT_STATE"
    kv_reconcile: Annotated[float, duration(1), "How often KV is compared with PostgreSQL."] = 600

    http_host: Annotated[str, TEXT, "Address of /livez, /readyz and /metrics."] = "127.0.0.1"
    http_port: Annotated[int, whole(-1, 65535), "Their port; 0: any free one, -1: none."] = 8080
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        choice("debug", "info", "warning", "error"),
        "Least level that is logged.",
    ] = "info"
    log_format: Annotated[
        Literal["auto", "console", "json"],
        choice("auto", "console", "json"),
        "auto: console on a terminal, JSON elsewhere.",
    ] = "auto"
    drain_timeout: Annotated[float, duration(), "Longest that stopping may take."] = 20
    worker_id: Annotated[str, WORKER, "Name in logs and rows; none: host and process."] = ""


class Setting(msgspec.Struct, frozen=True):
    """One key, as `Settings` declares it."""

    key: str
    kind: Kind
    default: Any
    about: str
    secret: bool

    @property
    def default_text(self) -> str:
        """The default as it would be written, empty if there is none."""
        return "" if self.default is None else self.kind.text(self.default)


def _declared() -> Iterator[Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    for field in msgspec.structs.fields(Settings):
        _, kind, *rest = get_args(hints[field.name])
        yield Setting(field.name, kind, field.default, rest[-1], secret=SECRET in rest)


SETTINGS: Mapping[str, Setting] = MappingProxyType({found.key: found for found in _declared()})
"""Every setting by its key, in the order of `Settings`."""


def load(
    flags: Mapping[str, str | None] = MappingProxyType({}),
    environ: Mapping[str, str] = os.environ,
    file: Path | None = None,
) -> Settings:
    """The settings from a TOML file, the environment and flags, each stronger than the former.

    ``flags`` maps keys to texts, None where not given. Raises one SettingsError that names
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
        problems.extend(_contradictions(settings))
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


def _contradictions(s: Settings) -> Iterator[str]:
    """What is wrong between settings that are each right by themselves."""

    def text(key: str) -> str:
        return f"{key} = {SETTINGS[key].kind.text(getattr(s, key))}"

    if s.batch_size * s.in_flight > s.max_ack_pending:
        yield (
            f"{text('max_ack_pending')} is less than {text('batch_size')} times "
            f"{text('in_flight')}: the broker would stop delivering before the batches are full"
        )
    if s.heartbeat * _HEARTBEATS > s.ack_wait:
        yield (
            f"{text('ack_wait')} is less than {_HEARTBEATS} times {text('heartbeat')}: "
            "a batch in work would be delivered again"
        )
    if s.max_event_bytes > s.batch_bytes:
        yield f"{text('max_event_bytes')} is more than {text('batch_bytes')}: it fits no batch"
    if s.batch_bytes > s.memory_limit:
        yield f"{text('batch_bytes')} is more than {text('memory_limit')}: it would never be full"
    if s.lock_timeout > s.statement_timeout:
        yield f"{text('lock_timeout')} is more than {text('statement_timeout')}: it has no effect"
    yield from _credentials(s)


_PAIRS = (
    ("nats_user", "nats_password"),
    ("nats_tls_cert", "nats_tls_key"),
    ("rabbitmq_user", "rabbitmq_password"),
    ("rabbitmq_tls_cert", "rabbitmq_tls_key"),
)


def _credentials(s: Settings) -> Iterator[str]:
    ways = ("nats_credentials", "nats_nkey", "nats_user", "nats_token")
    used = [way for way in ways if getattr(s, way) is not None]
    if len(used) > 1:
        yield f"{' and '.join(used)} are given: NATS takes one way to log in"
    for one, other in _PAIRS:
        if (getattr(s, one) is None) != (getattr(s, other) is None):
            yield f"{one} and {other} are needed together, only one of them is given"

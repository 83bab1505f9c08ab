"""Where a setting is shown: under which heading, and in the help of which commands."""

from enum import StrEnum


class Section(StrEnum):
    """A heading, in the order in which help, example file and documentation show them."""

    NATS = "NATS"
    RABBITMQ = "RabbitMQ"
    POSTGRES = "PostgreSQL"
    STREAMS = "Streams and queues"
    BATCHES = "Batches"
    EVENTS = "Events"
    KV = "KV bucket"
    OUTBOX = "Outbox"
    PARTITIONS = "Partitions"
    HTTP = "HTTP"
    LOGS = "Logs"
    WORKER = "Worker"


class Commands(frozenset[str]):
    """The commands whose ``--help`` shows a setting. Every command accepts every setting."""


LISTS_ALL = "config"
"""The command whose ``--help`` shows every setting."""

RUN = Commands(["run"])
TUNING = Commands()
"""For settings that are rarely changed: only the command that lists all settings shows them."""
USE_NATS = Commands(
    [
        *("run", "provision", "hydrate", "doctor", "verify", "status", "replay", "publish"),
        *("dlq", "state"),
    ],
)
USE_RABBITMQ = Commands(
    ["run", "provision", "doctor", "verify", "status", "replay", "publish", "dlq", "state"],
)
USE_POSTGRES = Commands(
    [
        *("run", "hydrate", "doctor", "verify", "status", "replay", "migrate"),
        *("dlq", "partitions", "state", "derive", "audit"),
    ],
)
USE_PARTITIONS = Commands(["run", "doctor", "partitions"])
USE_STREAMS = Commands(["run", "provision", "doctor", "verify", "status"])
USE_CATALOGUE = Commands(
    [
        *("run", "provision", "doctor", "verify", "status", "replay", "publish", "events"),
        *("migrate", "dlq", "partitions", "derive", "audit"),
    ],
)
USE_BUCKET = Commands(["run", "provision", "hydrate", "doctor", "verify"])
USE_LAZY = Commands(["run", "replay", "verify"])
ALL = Commands(
    [
        "run",
        "provision",
        "hydrate",
        "doctor",
        "verify",
        "status",
        "replay",
        "publish",
        "dlq",
        "state",
        "events",
        "config",
        "migrate",
        "partitions",
        "derive",
        "audit",
    ],
)

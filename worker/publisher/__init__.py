"""Publishing events and reading one's own state. Agents import it as `penstock`."""

from penstock.worker.errors import (
    PenstockError,
    SettingsError,
    SourceUnavailable,
    StateStoreUnavailable,
    Unavailable,
)
from penstock.worker.nats.connection import NatsOptions
from penstock.worker.publisher.client import Publisher
from penstock.worker.publisher.encoding import Attributes, EventInvalid, encode, subject_of, uuid7
from penstock.worker.publisher.nats import Sender
from penstock.worker.publisher.outgoing import Confirmation, PublishFailed, PublishRefused
from penstock.worker.publisher.state import StateMissing, StateValue
from penstock.worker.rabbitmq.connection import RabbitOptions

__all__ = [
    "Attributes",
    "Confirmation",
    "EventInvalid",
    "NatsOptions",
    "PenstockError",
    "PublishFailed",
    "PublishRefused",
    "Publisher",
    "RabbitOptions",
    "Sender",
    "SettingsError",
    "SourceUnavailable",
    "StateMissing",
    "StateStoreUnavailable",
    "StateValue",
    "Unavailable",
    "encode",
    "subject_of",
    "uuid7",
]

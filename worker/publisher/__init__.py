"""Publishing events and reading one's own state. Agents import it as `penstock`."""

from penstock.worker.errors import (
    PenstockError,
    SettingsError,
    SourceUnavailable,
    StateStoreUnavailable,
    Unavailable,
)
from penstock.worker.publisher.client import Publisher
from penstock.worker.publisher.encoding import Attributes, EventInvalid, encode, subject_of, uuid7
from penstock.worker.publisher.reading import (
    CheckpointItem,
    ConversationItem,
    Reader,
    StateChange,
    StateItem,
)
from penstock.worker.publisher.states import StateNotReached
from penstock.worker.sending.outgoing import Confirmation, PublishFailed, PublishRefused
from penstock.worker.sending.ports import Sender
from penstock.worker.sending.reads import Asked, ReadRefused, ReadUnavailable
from penstock.worker.sending.receipts import EventRejected, OutcomeUnknown, Receipt
from penstock.worker.sending.state import StateMissing, StateValue

__all__ = [
    "Asked",
    "Attributes",
    "CheckpointItem",
    "Confirmation",
    "ConversationItem",
    "EventInvalid",
    "EventRejected",
    "OutcomeUnknown",
    "PenstockError",
    "PublishFailed",
    "PublishRefused",
    "Publisher",
    "ReadRefused",
    "ReadUnavailable",
    "Reader",
    "Receipt",
    "Sender",
    "SettingsError",
    "SourceUnavailable",
    "StateChange",
    "StateItem",
    "StateMissing",
    "StateNotReached",
    "StateStoreUnavailable",
    "StateValue",
    "Unavailable",
    "encode",
    "subject_of",
    "uuid7",
]

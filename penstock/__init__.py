"""What an agent imports to publish events and to read its own state.

::

    from penstock import Publisher
    from penstock.schemas import TaskStatus, TaskUpdated

    async with Publisher("nats://127.0.0.1:4222", source="/agents/a-7") as bus:
        await bus.publish(TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING), sequence=3)
        cursor = await bus.state("a-7", "cursor")

The events themselves are in `penstock.schemas`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.worker.nats.options import NatsOptions
    from penstock.worker.publisher import (
        Asked,
        Attributes,
        CheckpointItem,
        Confirmation,
        ConversationItem,
        EventInvalid,
        EventRejected,
        OutcomeUnknown,
        PenstockError,
        Publisher,
        PublishFailed,
        PublishRefused,
        Reader,
        ReadRefused,
        ReadUnavailable,
        Receipt,
        SettingsError,
        SourceUnavailable,
        StateChange,
        StateItem,
        StateMissing,
        StateNotReached,
        StateStoreUnavailable,
        StateValue,
        Unavailable,
        uuid7,
    )
    from penstock.worker.rabbitmq.options import RabbitOptions

__version__ = "0.1.0"

__all__ = [
    "Asked",
    "Attributes",
    "CheckpointItem",
    "Confirmation",
    "ConversationItem",
    "EventInvalid",
    "EventRejected",
    "NatsOptions",
    "OutcomeUnknown",
    "PenstockError",
    "PublishFailed",
    "PublishRefused",
    "Publisher",
    "RabbitOptions",
    "ReadRefused",
    "ReadUnavailable",
    "Reader",
    "Receipt",
    "SettingsError",
    "SourceUnavailable",
    "StateChange",
    "StateItem",
    "StateMissing",
    "StateNotReached",
    "StateStoreUnavailable",
    "StateValue",
    "Unavailable",
    "uuid7",
]

_ROOMS = {
    "NatsOptions": "penstock.worker.nats.options",
    "RabbitOptions": "penstock.worker.rabbitmq.options",
}
"""Where a name comes from that is not of the publisher."""


if not TYPE_CHECKING:  # checkers would take any name for good

    def __getattr__(name: str) -> Any:
        """Load the publisher when it is first asked for: the command does without it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        room = import_module(_ROOMS.get(name, "penstock.worker.publisher"))
        found = globals()[name] = getattr(room, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

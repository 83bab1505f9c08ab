"""What an agent imports to publish events and to read its own state.

::

    from penstock import Publisher
    from penstock.schemas import TaskStatus, TaskUpdated

    async with Publisher("nats://127.0.0.1:4222", source="/agents/a-7") as bus:
        await bus.publish(TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING), sequence=3)
        cursor = await bus.state("a-7", "cursor")
"""

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.worker.errors import (
        PenstockError,
        SourceUnavailable,
        StateStoreUnavailable,
        Unavailable,
    )
    from penstock.worker.publisher import (
        Confirmation,
        EventInvalid,
        Publisher,
        PublishFailed,
        PublishRefused,
        StateMissing,
        StateValue,
    )

__all__ = [
    "Confirmation",
    "EventInvalid",
    "PenstockError",
    "PublishFailed",
    "PublishRefused",
    "Publisher",
    "SourceUnavailable",
    "StateMissing",
    "StateStoreUnavailable",
    "StateValue",
    "Unavailable",
]


def __getattr__(name: str) -> Any:
    """Load the publisher when it is first asked for: the command does without it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for module in ("penstock.worker.publisher", "penstock.worker.errors"):
        found = import_module(module)
        if hasattr(found, name):
            return getattr(found, name)
    raise AssertionError(name)

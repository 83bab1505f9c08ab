"""What an agent imports to publish events and to read its own state.

::

    async with Publisher("nats://127.0.0.1:4222", source="/agents/a-7") as bus:
        await bus.publish(TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING), sequence=3)
        cursor = await bus.state("a-7", "cursor")
"""

from penstock.worker.publisher.client import Publisher
from penstock.worker.publisher.encoding import Attributes, EventInvalid, encode, subject_of, uuid7
from penstock.worker.publisher.nats import Sender
from penstock.worker.publisher.outgoing import Confirmation, PublishFailed, PublishRefused
from penstock.worker.publisher.state import StateMissing, StateValue

__all__ = [
    "Attributes",
    "Confirmation",
    "EventInvalid",
    "PublishFailed",
    "PublishRefused",
    "Publisher",
    "Sender",
    "StateMissing",
    "StateValue",
    "encode",
    "subject_of",
    "uuid7",
]

"""The Publisher for plain scripts and notebooks, without ``async``.

::

    from penstock.sync import Publisher

    with Publisher("nats://127.0.0.1:4222", source="/agents/a-7") as bus:
        bus.publish(TaskUpdated(task_id="t-1", status=TaskStatus.RUNNING), sequence=3, receipt=True)
"""

from penstock.worker.publisher.sync import Publisher

__all__ = ["Publisher"]

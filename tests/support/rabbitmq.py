"""What tests have to know about RabbitMQ."""

import asyncio


async def stream_queues_on_disk() -> None:
    """Return once a stream queue that was just made outlives a kill of its server.

    RabbitMQ 3.10 writes down three seconds late that it has stream queues at all; killed before
    that it never finds them again. Nothing shows when it has, so this is the one fixed wait.
    """
    await asyncio.sleep(4)

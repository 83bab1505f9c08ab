"""What tests have to know about RabbitMQ."""

import asyncio


async def stream_queues_on_disk() -> None:
    """Return once a new stream queue survives a kill of its server.

    RabbitMQ 3.10 records its stream queues with a delay of three seconds; killed before that, it
    never finds them again. Nothing shows when it is done, so this is the one fixed wait.
    """
    await asyncio.sleep(4)

"""All keys of a bucket in one pass."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from penstock.worker.nats.kv.guard import OPERATION, held_guard
from penstock.worker.nats.permissions import permitted
from penstock.worker.nats.requests import Call
from penstock.worker.pipeline.ports import KvEntry

_PAGE = 1_000


async def bucket_entries(nc: Client, bucket: str, timeout: float) -> AsyncGenerator[KvEntry, None]:
    """All existing keys, read by a short-lived consumer.

    A key that changes meanwhile may appear again; the later entry is newer. Raises TimeoutError,
    the client's errors, and SourceUnavailable for a right that is missing.
    """
    prefix = f"$KV.{bucket}."
    async with (
        _consumer(nc, f"KV_{bucket}", f"{prefix}>", timeout) as consumer,
        aclosing(_deliveries(nc, consumer, timeout)) as messages,
    ):
        async for message in messages:
            headers = message.headers or {}
            if OPERATION not in headers:
                yield KvEntry(
                    key=message.subject.removeprefix(prefix),
                    revision=message.metadata.sequence.stream,
                    guard=held_guard(headers, message.data),
                    value=message.data,
                )


@asynccontextmanager
async def _consumer(
    nc: Client, stream: str, subjects: str, timeout: float
) -> AsyncIterator[ConsumerInfo]:
    js = nc.jetstream(timeout=timeout)
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        filter_subject=subjects,
        mem_storage=True,
        inactive_threshold=60.0,
    )
    making = js.add_consumer(stream, config)
    consumer = await permitted(nc, f"$JS.API.CONSUMER.CREATE.{stream}", making)
    yield consumer
    # Not in a finally: after an error the server may be away, and it deletes idle consumers itself.
    await js.delete_consumer(stream, consumer.name)


def _is_status(message: Msg) -> bool:
    """Whether this is a status of the server: a delivery always has a reply subject."""
    return not message.reply


async def _deliveries(
    nc: Client, consumer: ConsumerInfo, timeout: float
) -> AsyncGenerator[Msg, None]:
    """What was in the stream when the consumer was created, page by page."""
    page: Call[Msg] = Call(0, _is_status)

    async def take(message: Msg) -> None:
        page.take(0, message)

    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox, cb=take)
    request = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream_name}.{consumer.name}"
    pending = consumer.num_pending or 0
    try:
        while pending > 0:
            count = min(pending, _PAGE)
            page = Call(count, _is_status)
            body = msgspec.json.encode({"batch": count, "no_wait": True})
            await nc.publish(request, body, reply=inbox)
            await asyncio.wait_for(page.done.wait(), timeout)
            for _, message in page.answers:
                if _is_status(message):  # fewer than announced: the rest was overwritten
                    return
                yield message
            pending -= count
    finally:
        await subscription.unsubscribe()

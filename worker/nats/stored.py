"""What a stream holds, looked at by sequence, beside its consumers."""

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nats.aio.client import Client

from penstock.worker.errors import Cause, SourceUnavailable
from penstock.worker.nats.api import ApiRefused, call
from penstock.worker.nats.message import JetStreamMessages
from penstock.worker.nats.wire import Frame
from penstock.worker.pipeline.ports import Message, Settled


async def settled(nc: Client, stream: str, durable: str) -> Settled:
    """How far ``durable`` has acknowledged, and what the stream has lost since. The consumer is
    asked first: what it has acknowledged before is committed. Raises SourceUnavailable.
    """
    try:
        consumer = await call(nc, f"CONSUMER.INFO.{stream}.{durable}")
        found = await call(nc, f"STREAM.INFO.{stream}", {"deleted_details": True})
    except ApiRefused as error:
        hint = "; run `penstock provision`" if error.not_found else ""
        cause = Cause.MISSING if error.not_found else Cause.OTHER
        raise SourceUnavailable(f"{error}{hint}", cause=cause) from error
    state = found["state"]
    return Settled(
        epoch=found["created"],
        first=state["first_seq"],
        upto=consumer["ack_floor"]["stream_seq"],
        gone=frozenset(state.get("deleted") or ()),
    )


async def again(nc: Client, stream: str, offsets: Sequence[int]) -> Sequence[Message]:
    """The messages at ``offsets`` that are still there. Raises SourceUnavailable."""
    frames = [frame for offset in offsets if (frame := await _frame(nc, stream, offset))]
    return JetStreamMessages(frames) if frames else ()


async def _frame(nc: Client, stream: str, offset: int) -> Frame | None:
    try:
        answer = await call(nc, f"STREAM.MSG.GET.{stream}", {"seq": offset})
    except ApiRefused as error:
        if error.not_found:
            return None
        raise SourceUnavailable(str(error)) from error
    message = answer["message"]
    header = base64.b64decode(message["hdrs"]) if message.get("hdrs") else None
    body = base64.b64decode(message.get("data", ""))
    return message["subject"].encode(), _reply(message), header, body


def _reply(message: dict[str, Any]) -> bytes:
    """As a consumer would deliver it for the first time; nobody answers to it."""
    stored = datetime.fromisoformat(message["time"]).timestamp() * 1e9
    return b"$JS.ACK.-.-.1.%d.0.%d.0" % (message["seq"], stored)

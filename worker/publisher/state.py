"""An agent's own state, read from the bucket that the worker keeps."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from penstock.schemas.identity import entity_uuid, kv_key
from penstock.worker.errors import PenstockError, StateStoreUnavailable
from penstock.worker.wording import why

_TIMEOUT_SECONDS = 5.0


class StateMissing(PenstockError):
    """There is no such key, it was deleted, or it has expired. The message names it."""


class StateValue(msgspec.Struct, frozen=True):
    """A value as last committed: ``version`` is the event's sequence, ``updated`` its time.

    ``omitted`` is 0, or the size of a value that the bucket could not take.
    """

    value: Any = msgspec.field(name="val", default=None)
    version: int = msgspec.field(name="v", default=0)
    updated: datetime | None = msgspec.field(name="t", default=None)
    expires: datetime | None = msgspec.field(name="exp", default=None)
    checksum: str | None = msgspec.field(name="sum", default=None)
    omitted: int = 0


_decode = msgspec.json.Decoder(StateValue).decode


async def read_state(nc: Client, bucket: str, agent_id: str, key: str | None) -> StateValue:
    """Read one key by JetStream Direct Get. Raises StateMissing or StateStoreUnavailable."""
    subject = f"$KV.{bucket}.{kv_key(entity_uuid('agent', agent_id), key)}"
    name = f"{key or '_status'!r} of agent {agent_id!r}"
    try:
        found = await nc.request(
            f"$JS.API.DIRECT.GET.KV_{bucket}.{subject}", timeout=_TIMEOUT_SECONDS
        )
    except nats.errors.NoRespondersError as exc:
        raise StateStoreUnavailable(
            f"{name}: no bucket {bucket} answers; the worker makes it, or `penstock provision`"
        ) from exc
    except (nats.errors.Error, TimeoutError, OSError) as exc:
        raise StateStoreUnavailable(f"{name}: bucket {bucket} does not answer: {why(exc)}") from exc
    return _value(found, name, bucket)


def _value(found: Msg, name: str, bucket: str) -> StateValue:
    headers = found.headers or {}
    if "Nats-Sequence" not in headers or "KV-Operation" in headers:
        raise StateMissing(f"{name}: not in bucket {bucket}")
    try:
        state = _decode(found.data)
    except (ValueError, RecursionError) as exc:
        raise StateMissing(f"{name}: bucket {bucket} holds something else there: {exc}") from exc
    if state.omitted:
        raise StateMissing(
            f"{name}: its {state.omitted} bytes do not fit into bucket {bucket}; "
            "read it from agents.state in PostgreSQL"
        )
    if state.expires is not None and state.expires <= datetime.now(UTC):
        raise StateMissing(f"{name}: expired at {state.expires.isoformat()}")
    return state

"""An agent's own state, read from the bucket that the worker keeps."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.identity import entity_uuid, escape
from worker.errors import PenstockError, StateStoreUnavailable

_TIMEOUT_SECONDS = 5.0


class StateMissing(PenstockError):
    """There is no such key, it was deleted, or it has expired. The message names it."""


class StateValue(msgspec.Struct, frozen=True):
    """A value as last committed: ``version`` is the event's sequence, ``updated`` its time."""

    value: Any = msgspec.field(name="val", default=None)
    version: int = msgspec.field(name="v", default=0)
    updated: datetime | None = msgspec.field(name="t", default=None)
    expires: datetime | None = msgspec.field(name="exp", default=None)
    checksum: str | None = msgspec.field(name="sum", default=None)


_decode = msgspec.json.Decoder(StateValue).decode


def state_key(agent_id: str, key: str | None) -> str:
    """The bucket's key of an agent's ``key``, or of its status if that is None.

    The same as the worker writes: a leading underscore is escaped, which keeps ``_status`` apart.
    """
    token = "_status" if key is None else escape(key)
    if key is not None and token.startswith("_"):
        token = f"=5F{token[1:]}"
    return f"{entity_uuid('agent', agent_id)}.{token}"


async def read_state(nc: Client, bucket: str, agent_id: str, key: str | None) -> StateValue:
    """Read one key by JetStream Direct Get. Raises StateMissing or StateStoreUnavailable."""
    subject = f"$KV.{bucket}.{state_key(agent_id, key)}"
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
        raise StateStoreUnavailable(f"{name}: bucket {bucket} does not answer: {exc!r}") from exc
    return _value(found, name, bucket)


def _value(found: Msg, name: str, bucket: str) -> StateValue:
    headers = found.headers or {}
    if "Nats-Sequence" not in headers or "KV-Operation" in headers:
        raise StateMissing(f"{name}: not in bucket {bucket}")
    try:
        state = _decode(found.data)
    except (ValueError, RecursionError) as exc:
        raise StateMissing(f"{name}: bucket {bucket} holds something else there: {exc}") from exc
    if state.expires is not None and state.expires <= datetime.now(UTC):
        raise StateMissing(f"{name}: expired at {state.expires.isoformat()}")
    return state

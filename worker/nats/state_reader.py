"""An agent's own state, read from the bucket that the worker maintains."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from penstock.schemas.identity import entity_uuid, kv_key
from penstock.worker.errors import StateStoreUnavailable
from penstock.worker.sending.state import StateMissing, StateValue
from penstock.worker.wording import why

_TIMEOUT_SECONDS = 5.0

_decode = msgspec.json.Decoder(StateValue).decode


class BucketReader:
    """Reads single keys of ``bucket`` by JetStream Direct Get."""

    def __init__(self, nc: Client, bucket: str) -> None:
        self._nc = nc
        self._bucket = bucket

    async def read(self, agent_id: str, key: str | None) -> StateValue:
        bucket = self._bucket
        subject = f"$KV.{bucket}.{kv_key(entity_uuid('agent', agent_id), key)}"
        name = f"{key or '_status'!r} of agent {agent_id!r}"
        try:
            found = await self._nc.request(
                f"$JS.API.DIRECT.GET.KV_{bucket}.{subject}", timeout=_TIMEOUT_SECONDS
            )
        except nats.errors.NoRespondersError as exc:
            raise StateStoreUnavailable(
                f"{name}: there is no bucket {bucket}; a worker or `penstock provision` creates it"
            ) from exc
        except (nats.errors.Error, TimeoutError, OSError) as exc:
            raise StateStoreUnavailable(
                f"{name}: bucket {bucket} does not answer: {why(exc)}"
            ) from exc
        return _value(found, name, bucket)

    @asynccontextmanager
    async def changes(self, agent_id: str, key: str) -> AsyncIterator[asyncio.Event]:
        """Every put is a message on the key's subject, which anybody with the right may hear."""
        changed = asyncio.Event()

        async def heard(_: Msg) -> None:
            changed.set()

        subject = f"$KV.{self._bucket}.{kv_key(entity_uuid('agent', agent_id), key)}"
        try:
            listening = await self._nc.subscribe(subject, cb=heard)
        except nats.errors.Error as exc:
            raise StateStoreUnavailable(f"cannot watch {key!r}: {why(exc)}") from exc
        try:
            yield changed
        finally:
            with suppress(nats.errors.Error):  # the connection may have ended
                await listening.unsubscribe()


def _value(found: Msg, name: str, bucket: str) -> StateValue:
    headers = found.headers or {}
    if "Nats-Sequence" not in headers or "KV-Operation" in headers:
        raise StateMissing(f"{name}: not in bucket {bucket}")
    try:
        state = _decode(found.data)
    except (ValueError, RecursionError) as exc:
        raise StateMissing(f"{name}: bucket {bucket} has no valid state there: {exc}") from exc
    if state.omitted:
        raise StateMissing(
            f"{name}: its {state.omitted} bytes do not fit into bucket {bucket}; "
            "read it from agents.state in PostgreSQL"
        )
    if state.expires is not None and state.expires <= datetime.now(UTC):
        raise StateMissing(f"{name}: expired at {state.expires.isoformat()}")
    return state

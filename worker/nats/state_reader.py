"""An agent's own state, read from the bucket that the worker maintains."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

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

    def changes(self, agent_id: str, key: str) -> "_Changes":
        subject = f"$KV.{self._bucket}.{kv_key(entity_uuid('agent', agent_id), key)}"
        return _Changes(self._nc, subject, key)


class _Changes:
    """Every put is a message on the key's subject, which anybody with the right may hear.

    No generator: a loop closes all generators at once when it ends, also one within another.
    """

    def __init__(self, nc: Client, subject: str, key: str) -> None:
        self._nc = nc
        self._subject = subject
        self._key = key
        self._changed = asyncio.Event()
        self._listening: Subscription | None = None

    async def __aenter__(self) -> asyncio.Event:
        try:
            self._listening = await self._nc.subscribe(self._subject, cb=self._heard)
        except nats.errors.Error as exc:
            raise StateStoreUnavailable(f"cannot watch {self._key!r}: {why(exc)}") from exc
        return self._changed

    async def __aexit__(self, *failure: object) -> None:
        if self._listening is not None:
            with suppress(nats.errors.Error):  # the connection may have ended
                await self._listening.unsubscribe()

    async def _heard(self, _: Msg) -> None:
        self._changed.set()


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

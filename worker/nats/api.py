"""JetStream's management requests, as far as Penstock needs them.

Answers stay plain dictionaries, so that a configuration that is read, changed and sent back keeps
the fields that this version does not know.
"""

from datetime import datetime
from typing import Any

import msgspec
import nats.errors
from nats.aio.client import Client

from penstock.worker.brokers.ports import Waiting
from penstock.worker.errors import Cause, PenstockError, SourceUnavailable
from penstock.worker.nats.permissions import denials, permitted
from penstock.worker.nats.requests import Refusal
from penstock.worker.pipeline.ports import Backlog
from penstock.worker.wording import why

_NOT_FOUND = 404


class ApiRefused(PenstockError):
    """JetStream answered with an error. ``code`` is its ``err_code``, ``status`` is as in HTTP.

    The codes: https://github.com/nats-io/nats-server/blob/main/server/errors.json
    """

    def __init__(self, subject: str, error: Refusal) -> None:
        self.status = error.code
        self.code = error.err_code
        self.description = error.description
        super().__init__(f"{subject}: {self.description} (error {self.code})")

    @property
    def not_found(self) -> bool:
        """True if the stream or consumer does not exist."""
        return self.status == _NOT_FOUND


async def call(
    nc: Client, request: str, payload: object = None, *, timeout: float = 5.0
) -> dict[str, Any]:
    """Send ``$JS.API.<request>`` and return the decoded answer.

    Raises ApiRefused, or SourceUnavailable if nothing answered within ``timeout`` seconds.
    """
    subject = f"$JS.API.{request}"
    body = b"" if payload is None else msgspec.json.encode(payload)
    try:
        reply = await permitted(nc, subject, nc.request(subject, body, timeout=timeout))
    except nats.errors.NoRespondersError as exc:
        raise SourceUnavailable(f"{subject}: no JetStream answers; is it enabled?") from exc
    except TimeoutError as exc:
        raise SourceUnavailable(
            f"{subject}: no answer in {timeout:g} s; see whether the server hangs"
        ) from exc
    except (nats.errors.Error, OSError) as exc:
        raise SourceUnavailable(f"{subject}: {why(exc)}") from exc
    answer: dict[str, Any] = msgspec.json.decode(reply.data)
    if "error" in answer:
        raise ApiRefused(subject, msgspec.convert(answer["error"], Refusal))
    return answer


def _held_up(consumer: dict[str, Any]) -> str:
    """Why a consumer delivers nothing, if that is by its configuration."""
    if consumer.get("paused"):
        seconds = consumer.get("pause_remaining", 0) / 1e9
        return f"the consumer is paused for another {seconds:.0f} s"
    most, count = consumer["config"].get("max_ack_pending", 0), consumer["num_ack_pending"]
    if 0 < most <= count:
        return f"max_ack_pending = {most} is reached: as many messages are not acknowledged yet"
    return ""


class Epochs(msgspec.Struct, frozen=True):
    """The epochs of a stream and its consumer: when they were created, as the server writes it.

    Offsets and acknowledgements are valid only while neither changes.
    """

    stream: str
    consumer: str


class Consumer:
    """A durable consumer, as the server describes it."""

    def __init__(self, nc: Client, stream: str, durable: str) -> None:
        self.nc = nc
        self.stream = stream
        self.durable = durable

    async def info(self, timeout: float = 5.0) -> dict[str, Any]:
        """The server's description. Raises SourceUnavailable, also if there is no such consumer."""
        return await self._ask(f"CONSUMER.INFO.{self.stream}.{self.durable}", timeout)

    async def epochs(self, timeout: float = 5.0) -> Epochs:
        """The epochs of the stream and the consumer. Raises SourceUnavailable."""
        stream = await self._ask(f"STREAM.INFO.{self.stream}", timeout)
        consumer = await self.info(timeout)
        return Epochs(stream["created"], consumer["created"])

    @property
    def lacking(self) -> str | None:
        """The right to read or to acknowledge that was found to be missing lately."""
        path, known = f"{self.stream}.{self.durable}", denials(self.nc)
        return known.of(f"$JS.API.CONSUMER.MSG.NEXT.{path}") or known.of(f"$JS.ACK.{path}.")

    async def backlog(self) -> Backlog:
        """What is left, for all replicas together. Raises SourceUnavailable."""
        if not self.nc.is_connected:
            raise SourceUnavailable(f"stream {self.stream}: not connected")
        if self.lacking:
            raise SourceUnavailable(self.lacking, cause=Cause.RIGHT)
        info = await self.info()
        return Backlog(
            pending=info["num_pending"],
            ack_pending=info["num_ack_pending"],
            redelivered=info["num_redelivered"],
            held_up=_held_up(info),
        )

    async def waiting(self) -> Waiting:
        """What is left, with the age of its first message. Raises SourceUnavailable."""
        info = await self.info()
        pending, ack_pending = info["num_pending"], info["num_ack_pending"]
        oldest = None
        if pending or ack_pending:
            oldest = await self._stored_at(info["ack_floor"]["stream_seq"] + 1)
        return Waiting(pending=pending, ack_pending=ack_pending, oldest=oldest)

    async def _stored_at(self, offset: int) -> float | None:
        """Unix time of the first message from ``offset`` on; None if the server does not tell."""
        first = {"seq": offset, "next_by_subj": ">"}
        try:
            found = await self._ask(f"STREAM.MSG.GET.{self.stream}", 5.0, first)
        except SourceUnavailable:
            return None
        return datetime.fromisoformat(found["message"]["time"]).timestamp()

    async def _ask(self, request: str, timeout: float, payload: object = None) -> dict[str, Any]:
        try:
            return await call(self.nc, request, payload, timeout=timeout)
        except ApiRefused as exc:
            hint = "; run `penstock provision`" if exc.not_found else ""
            cause = Cause.MISSING if exc.not_found else Cause.OTHER
            raise SourceUnavailable(f"{exc}{hint}", cause=cause) from exc

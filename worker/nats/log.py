"""A stream of JetStream read again, by a consumer of its own that goes when reading ends."""

import contextlib
from datetime import UTC, datetime
from typing import Any, Self

from nats.aio.client import Client

from penstock.worker.errors import Cause, SourceUnavailable, TopologyError, Unavailable
from penstock.worker.nats.api import ApiRefused, call
from penstock.worker.nats.options import ReadingOptions
from penstock.worker.nats.rules import nanoseconds
from penstock.worker.nats.source import JetStreamSource
from penstock.worker.pipeline.budget import Share
from penstock.worker.pipeline.source import Span

_FORGOTTEN_SECONDS = 300.0
"""How long after its reader the server forgets the consumer, if nobody deleted it."""


class JetStreamLog(JetStreamSource):
    """A `Log` over a stream. The consumer is named as ``reading`` says, and nobody else has it.

    The consumer acknowledges like a worker's, so what was not settled comes again after a
    reconnect. If the server loses it, another one begins at the same place.
    """

    def __init__(
        self, nc: Client, stream: str, span: Span, reading: ReadingOptions, share: Share
    ) -> None:
        super().__init__(nc, stream, reading, share)
        self._span = span
        self._config = {
            "name": reading.durable,
            "ack_policy": "explicit",
            "ack_wait": nanoseconds(reading.ack_wait),
            "max_ack_pending": -1,
            "max_deliver": -1,
            "replay_policy": "instant",
            "inactive_threshold": nanoseconds(_FORGOTTEN_SECONDS),
            **_start(span),
        }
        if span.subjects:
            self._config["filter_subjects"] = list(span.subjects)
        self.total = -1
        self.last: int | None = None

    async def __aenter__(self) -> Self:
        state = await self._state()
        last = state["last_seq"]
        self.last = last if self._span.to_offset is None else min(last, self._span.to_offset)
        try:
            await super().__aenter__()
        except BaseException:
            await self._delete()
            raise
        if not self.total:
            await self.__aexit__()
            raise TopologyError(f"stream {self.name}: no message matches; {_has(state)}")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await super().__aexit__(*exc)
        await self._delete()

    async def _delete(self) -> None:
        with contextlib.suppress(Unavailable, ApiRefused):  # then the server forgets it in a while
            await call(self._nc, f"CONSUMER.DELETE.{self.name}.{self._config['name']}")

    @property
    def epoch(self) -> str:
        return self._epochs.stream if self._epochs else ""

    async def over(self, passed: int | None) -> bool:
        """By what the server says: what it sent over a connection that broke never came here.

        A stream that was made anew has this consumer too for a moment, until `_begin` sees it.
        """
        info = await self._consumer.info()
        left = info["num_pending"] or info["num_ack_pending"]
        if left and (passed is None or info["ack_floor"]["stream_seq"] < passed):
            return False
        return (await self._consumer.epochs()).stream == self.epoch

    async def _begin(self) -> None:
        request = {"stream_name": self.name, "config": self._config, "action": ""}
        path = f"{self.name}.{self._config['name']}"
        try:
            made = await call(self._nc, f"CONSUMER.CREATE.{path}", request)
        except ApiRefused as error:
            cause = Cause.MISSING if error.not_found else Cause.OTHER
            raise SourceUnavailable(str(error), cause=cause) from error
        if self.epoch and (await self._consumer.epochs()).stream != self.epoch:
            raise TopologyError(f"stream {self.name}: it was deleted and created again")
        if self.total < 0:  # before anything is asked for
            self.total = made["num_pending"]
        await super()._begin()

    async def _state(self) -> dict[str, Any]:
        """The stream's state. Raises TopologyError unless the span is in it."""
        try:
            state: dict[str, Any] = (await call(self._nc, f"STREAM.INFO.{self.name}"))["state"]
        except ApiRefused as error:
            raise await self._no_stream(error) from error
        if gone := _gone(self._span, state):
            raise TopologyError(f"stream {self.name}: {gone}")
        return state

    async def _no_stream(self, error: ApiRefused) -> TopologyError:
        if not error.not_found:
            return TopologyError(f"stream {self.name}: {error}")
        names = (await call(self._nc, "STREAM.NAMES")).get("streams") or []
        known = ", ".join(name for name in names if not name.startswith("KV_")) or "none"
        return TopologyError(
            f"stream {self.name}: no such stream; the server has {known}", cause=Cause.MISSING
        )


def _start(span: Span) -> dict[str, Any]:
    if span.from_offset is not None:
        return {"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, span.from_offset)}
    if span.since is not None:
        since = span.since.astimezone(UTC).isoformat()
        return {"deliver_policy": "by_start_time", "opt_start_time": since}
    return {"deliver_policy": "all"}


def _gone(span: Span, state: dict[str, Any]) -> str:
    """Why what was asked for is not there; empty if it may be."""
    first, last = state["first_seq"], state["last_seq"]
    if not state["messages"]:
        return "it has no messages"
    if span.from_offset is not None and span.from_offset < first:
        return (
            f"messages before {first} are gone, so it cannot be read from {span.from_offset}; "
            f"{_has(state)}, so say --from-seq {first}"
        )
    if span.since is not None and first > 1 and span.since < _moment(state["first_ts"]):
        return (
            f"messages before {state['first_ts']} are gone, so it cannot be read since "
            f"{span.since.isoformat()}; say --from-seq {first} for all that it has"
        )
    if (span.from_offset or 0) > last or (span.to_offset is not None and span.to_offset < first):
        return f"nothing is in the range; {_has(state)}"
    if span.until is not None and span.until < _moment(state["first_ts"]):
        return f"nothing is as old as {span.until.isoformat()}; {_has(state)}"
    return ""


def _has(state: dict[str, Any]) -> str:
    first, last = state["first_seq"], state["last_seq"]
    return f"it has {first} to {last}, from {state['first_ts']} to {state['last_ts']}"


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)

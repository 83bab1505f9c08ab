"""Reads on NATS: a service by the protocol of NATS services, so that ``nats micro`` lists it.

https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, cast

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.micro import add_service
from nats.micro.request import Request, ServiceError
from nats.micro.service import EndpointConfig, ServiceConfig

from penstock.worker.nats.reading import PART_HEADER, parts_of
from penstock.worker.replay.choice import unescaped
from penstock.worker.sending.answering import ReadFailed, answered
from penstock.worker.sending.reads import SUBJECT, Answering
from penstock.worker.wording import why

log = structlog.get_logger()

SERVICE = "penstock-reads"
_LONGEST_TEXT = 2000
_Handle = Callable[[Msg], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(nc: Client, reads: Answering) -> AsyncIterator[None]:
    """Answer reads. All workers share the work; one of them answers each."""
    about = "State, history, checkpoints and threads of agents"
    several = _SeveralAtOnce(nc, reads.at_once)
    config = ServiceConfig(SERVICE, version("penstock"), about)
    service = await add_service(cast(Client, several), config)
    for name in reads.names:
        handler = partial(_handle, nc, reads, name)
        subject = f"{SUBJECT}.{name}.*"
        await service.add_endpoint(EndpointConfig(name=name, handler=handler, subject=subject))
    try:
        yield
    finally:
        if nc.is_connected:
            await service.stop()
        await several.ended()


class _SeveralAtOnce:
    """The connection of a service that answers up to ``most`` requests at once. By itself nats-py
    begins none before the one before is answered; what waits here stays in its queue.
    """

    def __init__(self, nc: Client, most: int) -> None:
        self._nc = nc
        self._room = asyncio.Semaphore(most)
        self._begun: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._nc, name)

    async def subscribe(self, subject: str, queue: str = "", *, cb: _Handle) -> Subscription:
        """As nats-py's. Requests come by a queue group, questions about the service do not."""
        return await self._nc.subscribe(
            subject, queue, cb=partial(self._begin, cb) if queue else cb
        )

    async def _begin(self, handle: _Handle, message: Msg) -> None:
        await self._room.acquire()
        task = asyncio.create_task(handle(message), name=f"read {message.subject}")
        self._begun.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._begun.discard(task)
        self._room.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("read_unanswered", error=why(error))

    async def ended(self) -> None:
        """Return when all that have begun are answered."""
        if self._begun:
            await asyncio.wait(self._begun)


async def _handle(nc: Client, reads: Answering, name: str, request: Request) -> None:
    """Answer in parts that fit; an error is one of the protocol of services."""
    token = request.subject.rpartition(".")[2]
    if not token.isascii():
        raise ServiceError("400", f"{token!r} is no agent, escaped as in subjects")
    try:
        answer = await answered(reads, name, unescaped(token), request.data)
    except ReadFailed as error:
        raise ServiceError(str(error.code), _header(str(error))) from error
    parts = parts_of(answer, nc.max_payload)
    for number, part in enumerate(parts, 1):
        whole = {PART_HEADER: f"{number}/{len(parts)}"} if len(parts) > 1 else None
        await request.respond(part, whole)


def _header(text: str) -> str:
    """A text as a header can hold it."""
    return " ".join(text.split())[:_LONGEST_TEXT]

"""Reads on NATS: a service by the protocol of NATS services, so that ``nats micro`` lists it.

https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

import structlog
from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request, ServiceError
from nats.micro.service import EndpointConfig, ServiceConfig

from penstock.worker.errors import Unavailable
from penstock.worker.nats.reading import PART_HEADER, parts_of
from penstock.worker.replay.choice import unescaped
from penstock.worker.sending.reads import SUBJECT, Answering, ReadRefused

log = structlog.get_logger()

SERVICE = "penstock-reads"


@asynccontextmanager
async def serving(nc: Client, reads: Answering) -> AsyncIterator[None]:
    """Answer reads. All workers share the work; one of them answers each."""
    about = "State, history, checkpoints and threads of agents"
    service = await add_service(nc, ServiceConfig(SERVICE, version("penstock"), about))
    for name in reads.names:
        handler = partial(_handle, nc, reads, name)
        subject = f"{SUBJECT}.{name}.*"
        await service.add_endpoint(EndpointConfig(name=name, handler=handler, subject=subject))
    try:
        yield
    finally:
        if nc.is_connected:
            await service.stop()


async def _handle(nc: Client, reads: Answering, name: str, request: Request) -> None:
    """Answer in parts that fit; an error is one of the protocol of services."""
    try:
        agent = unescaped(request.subject.rpartition(".")[2])
        answer = await reads.answer(name, agent, request.data)
    except ReadRefused as error:
        raise ServiceError(str(error.code), str(error)) from error
    except ValueError as error:
        raise ServiceError("400", f"the agent is not escaped as in subjects: {error}") from error
    except Unavailable as error:
        log.warning("read_failed", read=name, error=str(error))
        raise ServiceError("503", str(error)) from error
    parts = parts_of(answer, nc.max_payload)
    for number, part in enumerate(parts, 1):
        whole = {PART_HEADER: f"{number}/{len(parts)}"} if len(parts) > 1 else None
        await request.respond(part, whole)

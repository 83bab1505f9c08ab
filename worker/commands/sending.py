"""Events that a command publishes: the same way as an agent's."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from penstock.schemas.catalogue import Catalogue
from penstock.schemas.event import EventData
from penstock.schemas.identity import event_uuid
from penstock.worker.brokers.scope import Scope
from penstock.worker.errors import PenstockError
from penstock.worker.publisher.encoding import encode, now, subject_of, uuid7
from penstock.worker.settings.keys import Settings

_POLL_SECONDS = 0.1


class Draft(msgspec.Struct, frozen=True):
    """An event that is encoded and not sent yet. ``what`` names it in messages."""

    what: str
    subject: str
    payload: bytes
    event_id: str


def drafted(settings: Settings, what: str, event: EventData, sequence: int = 0) -> Draft:
    """Encode. Raises EventInvalid, and PenstockError if a worker would refuse the size."""
    source, event_id = "/penstock", uuid7()
    payload = encode(event, id=event_id, time=now(), source=source, sequence=sequence)
    if len(payload) > settings.max_event_bytes:
        raise PenstockError(
            f"{what}: the event has {len(payload)} bytes, above max_event_bytes = "
            f"{settings.max_event_bytes}; raise that for the workers and for this command"
        )
    return Draft(what, subject_of(event), payload, event_uuid(source, event_id))


async def send(settings: Settings, drafts: Sequence[Draft]) -> None:
    """Send to the first broker, and wait until its streams have stored all.

    Raises Unavailable, PublishRefused or PublishFailed.
    """
    async with Scope(settings, Catalogue.load(settings.event_packages)) as scope:
        broker = await scope.broker(settings.brokers[0])
        async with broker.outlet() as outlet:
            sent = [await outlet.sender.send(d.subject, d.payload, d.event_id) for d in drafts]
            await asyncio.gather(*sent)


async def arrived(seen: Callable[[], Awaitable[bool]], seconds: float) -> bool:
    """Ask ``seen`` until it is true, for at most ``seconds``. Returns what it said last."""
    try:
        async with asyncio.timeout(seconds):
            while not await seen():  # noqa: ASYNC110  (PostgreSQL tells nobody what it stores)
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        return False
    return True

"""Opening a connection for sending, with patience if asked for."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from penstock.worker.brokers import registry
from penstock.worker.errors import Cause, SourceUnavailable
from penstock.worker.logger import Logger
from penstock.worker.sending.ports import Outlet, Sending

log = Logger(__name__)

_PAUSES = (0.5, 1.0, 2.0, 5.0)
_HOPELESS = (Cause.LOGIN, Cause.RIGHT)


async def open_outlet(
    stack: AsyncExitStack, broker: str, server: Any, sending: Sending, *, wait: bool
) -> Outlet:
    """The broker, opened; with ``wait`` it may be away for any time, and the log says so.

    Raises SourceUnavailable, at once if the broker refuses our login; SettingsError.
    """
    room = registry.sender_module(broker)
    attempt = 0
    while True:
        try:
            outlet = await stack.enter_async_context(room.open_sender(server, sending))
        except SourceUnavailable as error:
            if not wait or error.cause in _HOPELESS:
                raise
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            attempt += 1
            log.warning(
                "publisher_waits", name=sending.name, error=str(error), attempt=attempt, again=pause
            )
            await asyncio.sleep(pause)
        else:
            log.info("publisher_open", name=sending.name, broker=registry.title(broker))
            return outlet

"""What one command or one worker opens; each connection is opened once."""

import difflib
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar

from penstock.schemas.catalogue import Catalogue
from penstock.worker.brokers.ports import Broker, Bucket
from penstock.worker.brokers.registry import broker_module, bucket_module
from penstock.worker.errors import SettingsError
from penstock.worker.settings.keys import Settings

Opened = TypeVar("Opened")


class Scope:
    """Settings, catalogue and shared connections, which are closed in reverse order.

    ``reconnected`` is called each time a connection is back; ``lost`` is called with the server's
    name when the server has ended a connection for good.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        *,
        reconnected: Callable[[], None] = lambda: None,
        lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.reconnected = reconnected
        self.lost = lost
        self._stack = AsyncExitStack()
        self._opened: dict[Callable[..., Any], Any] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams to read. Raises SettingsError if the catalogue has no such stream."""
        return stream_names(self.settings, self.catalogue)

    async def broker(self, name: str) -> Broker:
        """The named broker, connected. Raises SourceUnavailable, SettingsError."""
        return await broker_module(name).open_broker(self)

    async def buckets(self) -> Mapping[str, Bucket]:
        """Every bucket that a mapping declares, by its declared name.

        Raises SourceUnavailable, SettingsError.
        """
        return await bucket_module().open_buckets(self)

    async def once(
        self, opener: Callable[["Scope"], AbstractAsyncContextManager[Opened]]
    ) -> Opened:
        """What ``opener`` opens: opened on the first call, closed with the scope."""
        if opener not in self._opened:
            self._opened[opener] = await self._stack.enter_async_context(opener(self))
        found: Opened = self._opened[opener]
        return found


def stream_names(settings: Settings, catalogue: Catalogue) -> tuple[str, ...]:
    """The streams to read. Raises SettingsError if the catalogue has no such stream."""
    for name in settings.streams:
        if name not in catalogue.streams:
            near = difflib.get_close_matches(name, catalogue.streams, n=1, cutoff=0)
            raise SettingsError(
                f"streams = {name!r}: the catalogue has {', '.join(catalogue.streams)}; "
                f"did you mean {near[0]}?"
            )
    return settings.streams or tuple(catalogue.streams)

"""What one command or one worker opens, each connection once."""

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
    """Settings, catalogue, and the connections that whoever needs them shares; closed in reverse.

    ``reconnected`` is called after a connection came back; ``lost``, with the server's name, when
    one has ended for good without having been closed.
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
        """The streams to work on. Raises SettingsError for one that no event travels on."""
        return stream_names(self.settings, self.catalogue)

    async def broker(self, name: str) -> Broker:
        """A broker by its name, connected. Raises SourceUnavailable, SettingsError."""
        return await broker_module(name).open_broker(self)

    async def buckets(self) -> Mapping[str, Bucket]:
        """Every bucket that a mapping declares, by the name that it has there.

        Raises SourceUnavailable, SettingsError.
        """
        return await bucket_module().open_buckets(self)

    async def once(
        self, opener: Callable[["Scope"], AbstractAsyncContextManager[Opened]]
    ) -> Opened:
        """What ``opener`` opens, however many ask for it; it is closed with the scope."""
        if opener not in self._opened:
            self._opened[opener] = await self._stack.enter_async_context(opener(self))
        found: Opened = self._opened[opener]
        return found


def stream_names(settings: Settings, catalogue: Catalogue) -> tuple[str, ...]:
    """The streams to work on. Raises SettingsError for one that no event travels on."""
    for name in settings.streams:
        if name not in catalogue.streams:
            near = difflib.get_close_matches(name, catalogue.streams, n=1, cutoff=0)
            raise SettingsError(
                f"streams = {name!r}: the catalogue has {', '.join(catalogue.streams)}; "
                f"did you mean {near[0]}?"
            )
    return settings.streams or tuple(catalogue.streams)

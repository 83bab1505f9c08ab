"""The suite of `tests.contract.test_source`, on a broker that is one room and one entry."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from penstock.worker.embedded import ServerFailed
from penstock.worker.pipeline.source import WatchedSource
from tests.contract.features import Features
from tests.contract.test_source import *  # noqa: F403  (the tests themselves, and their fixtures)
from tests.support.memory_broker import MemorySource
from tests.support.memory_server import MemoryServer

STREAM = "contract"


class MemoryBus:
    """One empty stream on a server of its own."""

    def __init__(
        self,
        features: Features,
        url: MemoryServer,
        stack: AsyncExitStack,
        ack_wait: float,  # noqa: ARG002  (it waits as long as the reader lives)
    ) -> None:
        self.features = features
        self._server = url
        self._stack = stack

    async def open(self) -> None:
        self._server.make(STREAM, ["c.>"])

    async def remove(self) -> None:
        """It goes with the test."""

    async def remake(self) -> None:
        self._server.make(STREAM, ["c.>"])

    async def publish(self, bodies: Sequence[bytes], headers: dict[str, str] | None = None) -> None:
        for number, body in enumerate(bodies):
            self._server.publish(f"c.{number}", body, headers or {})

    async def open_source(self, **options: Any) -> WatchedSource:
        given = {"batch_size": 100, "batch_bytes": 1 << 20, "linger": 0.02, **options}
        return MemorySource(self._server, STREAM, **given)

    async def ready(self, source: WatchedSource) -> WatchedSource:
        return await self._stack.enter_async_context(source)

    async def cut(self, source: WatchedSource) -> None:
        assert isinstance(source, MemorySource)
        source.cut()

    async def deafen(self, source: WatchedSource) -> None:
        assert isinstance(source, MemorySource)
        self._server.streams[STREAM].readers.remove(source)


class Killable:
    """A server as the suite kills and stops one."""

    def __init__(self) -> None:
        self.url = MemoryServer()

    @property
    def pid(self) -> int:
        if not self.url.up:
            raise ServerFailed("it is down")
        return 0

    def kill(self) -> None:
        self.url.go_down()

    pause = kill

    def resume(self) -> None:
        self.url.come_back()

    async def restart(self) -> None:
        self.url.come_back()


@pytest.fixture(name="features")
def memory_features() -> Features:
    return Features(
        name="memory", make=MemorySource, bus=MemoryBus, address="memory", server="killable"
    )


@pytest.fixture
def memory() -> MemoryServer:
    return MemoryServer()


@pytest.fixture
def killable() -> Killable:
    return Killable()

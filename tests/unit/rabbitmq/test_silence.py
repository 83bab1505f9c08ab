"""When a server that says nothing is taken for dead."""

import asyncio
from typing import Any, cast

import pytest

from penstock.worker.rabbitmq.options import RabbitOptions, ReadingOptions
from penstock.worker.rabbitmq.source import RabbitMqSource
from tests.support.waiting import PATIENCE

READING = ReadingOptions(batch_size=10, batch_bytes=1 << 20, linger=0.01)
LOOKS = 4
"""In a heartbeat."""


class Seldom:
    """A link that hears something at every ``nth`` look, and is lost after ``looks`` of them."""

    def __init__(self, nth: int, looks: int) -> None:
        self.lost = asyncio.Event()
        self.looked = 0
        self._nth = nth
        self._looks = looks

    @property
    def heard(self) -> bool:
        self.looked += 1
        if self.looked == self._looks:
            self.lost.set()
        return self.looked % self._nth == 0

    @heard.setter
    def heard(self, _: bool) -> None:
        """Taken back by itself."""

    async def ack(self, through: int | None, tags: Any) -> None:
        """Nothing was delivered."""


@pytest.mark.parametrize(
    ("nth", "looked"), [(LOOKS, 60), (2 * LOOKS - 1, 60), (2 * LOOKS + 1, 2 * LOOKS)]
)
async def test_two_heartbeats_without_a_sign_of_life(nth: int, looked: int) -> None:
    """A server at work may be quiet for nearly one, and be late."""
    source = RabbitMqSource(cast("Any", None), RabbitOptions(heartbeat=1), "S", READING)
    source._tick_seconds = 0.001
    link = Seldom(nth, 60)
    source._link = cast("Any", link)
    await asyncio.wait_for(source._until_lost(), PATIENCE)
    assert link.looked == looked

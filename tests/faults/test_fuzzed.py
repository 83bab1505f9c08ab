"""A million fuzzed frames for each parser, and 200,000 mutated events in all forms."""

import resource
import time
from collections.abc import Mapping

import pytest

from penstock.schemas.catalogue import Catalogue
from tests.support import amqp_frames, nats_frames
from tests.support.alike import census

pytestmark = pytest.mark.faults

_FRAMES = 1_000_000
_EVENTS = 200_000


def _report(what: str, begun: float, counts: Mapping[str, int]) -> None:
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{what}: {dict(counts)}, {time.perf_counter() - begun:.0f} s, {megabytes:.0f} MB peak")


async def test_a_million_frames_of_nats() -> None:
    begun = time.perf_counter()
    tally = await nats_frames.compare(_FRAMES, seed=2)
    _report("NATS", begun, tally)


def test_a_million_frames_of_amqp() -> None:
    begun = time.perf_counter()
    tally = amqp_frames.compare(_FRAMES, seed=2)
    _report("AMQP", begun, tally)


def test_two_hundred_thousand_mutated_events() -> None:
    begun = time.perf_counter()
    found = census(Catalogue.load(), _EVENTS, seed=2)
    _report(f"{found.forms} messages of {_EVENTS} events", begun, found.outcomes)
    assert found.different == []

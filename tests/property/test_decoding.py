"""The fast way of decoding and the careful way say the same of every message."""

import resource
import time

import pytest

from penstock.schemas.catalogue import Catalogue
from tests.support.two_ways import compare

CATALOGUE = Catalogue.load(("shop_events", "league_events"))


def test_both_ways_of_decoding_say_the_same() -> None:
    tally = compare(CATALOGUE, 15_000, seed=1)
    assert tally.different == []
    assert tally.fast > 5_000
    assert len(tally.alike) > 12


@pytest.mark.faults
def test_both_ways_say_the_same_of_a_million_messages() -> None:
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tally = compare(CATALOGUE, 1_000_000, seed=2)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(  # noqa: T201  (with -s)
        f"{dict(tally.alike)}, {tally.fast} of them the fast way, "
        f"{time.perf_counter() - begun:.0f} s, {(after - before) / 1024:.1f} MB more at the peak"
    )
    assert tally.different == []

"""Processes whose clock is wrong by some seconds, by Debian's package libfaketime."""

from pathlib import Path

import pytest

NO_CLOCK = "libfaketime is missing"
_LIBRARIES = "/usr/lib/*/faketime/libfaketime.so.1"


def ahead(seconds: float) -> dict[str, str]:
    """What to put into the environment of a process whose clock shall be ahead; how time passes in
    it stays as it is. Skips the test if that cannot be done here.
    """
    found = sorted(Path("/").glob(_LIBRARIES.lstrip("/")))
    if not found:
        pytest.skip(NO_CLOCK)
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+f}",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }

"""Where the servers of tests keep their files: in memory, if the machine has enough of it.

What fsync, and creating and removing thousands of small files cost is most of what these servers
do. The long fault runs keep to the disk.
"""

import os
import shutil
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]

_MEMORY = Path("/dev/shm")
_NAME = "penstock-tests-"
_ENOUGH_BYTES = 8 << 30


def use_memory() -> Path | None:
    """Let this process and those it starts put temporary files there; None where it does not fit.

    What `pytest` itself keeps for whoever looks at a failure stays on the disk.
    """
    if "TMPDIR" in os.environ or not os.access(_MEMORY, os.W_OK):
        return None
    free = min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available)
    if free < _ENOUGH_BYTES:
        return None
    _remove_what_ended_runs_left()
    folder = _MEMORY / f"{_NAME}{os.getpid()}"
    folder.mkdir()
    folder.chmod(0o755)  # PostgreSQL runs as another user
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None
    return folder


def _remove_what_ended_runs_left() -> None:
    for folder in _MEMORY.glob(f"{_NAME}*"):
        if not psutil.pid_exists(int(folder.name.removeprefix(_NAME))):
            shutil.rmtree(folder, ignore_errors=True)

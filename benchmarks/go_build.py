"""Builds the rival that is written in Go, where Go is installed."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

_SOURCE = Path(__file__).parent / "go_worker"
_PROGRAM = Path(__file__).parents[1] / "build" / "go_worker"
_BUILD_SECONDS = 300.0


@cache
def built() -> Path | str:
    """The program, or in one sentence why there is none. Its modules come from Go's proxy."""
    go = shutil.which("go")
    if go is None:
        return "Go is not on the PATH"
    try:
        subprocess.run(
            [go, "build", "-o", str(_PROGRAM), "."],
            cwd=_SOURCE,
            check=True,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        return f"`go build` failed: {error.stderr.strip()[-200:]}"
    except subprocess.TimeoutExpired:
        return f"`go build` took longer than {_BUILD_SECONDS:g} s"
    return _PROGRAM

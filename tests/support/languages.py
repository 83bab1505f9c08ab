"""The example programs in other languages, installed once into .venv.

``python -m tests.support.languages`` installs all that can be; `make test` does so first.
"""

import fcntl
import json
import shutil
import subprocess
import sys
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
INSTALLED = ROOT / ".venv" / "languages"


class NoPackages(Exception):
    """The registry is away or lacks something, or the client is too old; it says what."""


def javascript() -> Path:
    """The folder of the JavaScript program with its packages. Raises NoPackages."""
    return _installed("javascript", _npm)


def go() -> Path:
    """The folder with the Go program, as ``agent``. Raises NoPackages, CalledProcessError."""
    return _installed("go", _build)


def missing(program: str) -> bool:
    """Whether the machine has no such command."""
    return shutil.which(program) is None


async def said(command: Sequence[str | Path], given: Any = None) -> Any:
    """What a program prints as JSON, given JSON on standard input."""
    process = await create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    out, error = await process.communicate(json.dumps(given).encode())
    assert process.returncode == 0, error.decode()
    return json.loads(out)


def _installed(name: str, install: Callable[[Path], None]) -> Path:
    """A copy of the example, by the contents of its files: installed by one process, once."""
    source = EXAMPLES / name
    files = sorted(file for file in source.iterdir() if file.is_file())
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = INSTALLED / f"{name}-{digest}"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".installed").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for file in files:
                shutil.copy(file, folder)
            install(folder)
            (folder / ".installed").touch()
    return folder


def _npm(folder: Path) -> None:
    options = ("--no-audit", "--no-fund", "--ignore-scripts", "--fetch-retries=1")
    _fetch(["npm", "ci", *options], folder, ours="EUSAGE")


def _build(folder: Path) -> None:
    _fetch(["go", "mod", "download"], folder, ours="go.sum")
    subprocess.run(["go", "build", "-o", "agent", "."], cwd=folder, check=True, stdout=sys.stderr)


def _fetch(command: Sequence[str], folder: Path, *, ours: str) -> None:
    """Get packages. What has ``ours`` in its error is a mistake of the example itself."""
    done = subprocess.run(
        command, cwd=folder, stdout=sys.stderr, stderr=PIPE, text=True, check=False
    )
    if done.returncode and ours in done.stderr:
        raise AssertionError(done.stderr)
    if done.returncode:
        raise NoPackages(done.stderr.strip()[:300])


if __name__ == "__main__":
    for program, install in (("npm", javascript), ("go", go)):
        if not missing(program):
            try:
                install()
            except NoPackages as error:
                sys.stderr.write(f"!!! {install.__name__}: no packages: {error}\n")

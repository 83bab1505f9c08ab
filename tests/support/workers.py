"""Worker processes, run as an operator runs them."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.support.accounts import balance_of
from tests.support.roles import of_worker

_ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """One ``penstock run`` in its own process; its log goes to ``log``."""

    def __init__(
        self,
        environ: Mapping[str, str],
        log: Path,
        program: Sequence[str] = ("-m", "penstock"),
    ) -> None:
        self._program = program
        self._environ = {
            **{name: value for name, value in os.environ.items() if "PENSTOCK" not in name},
            "PYTHONPATH": f"{_ROOT}:{_ROOT / 'examples'}",
            **environ,
        }
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._log_before = 0

    async def start(self, *arguments: str) -> None:
        with self._log.open("ab") as log:
            self._log_before = log.tell()
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._program,
                "run",
                *arguments,
                env=self._environ,
                stderr=log,
                stdout=log,
            )

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def peak_mb(self) -> float:
        """The largest resident memory so far; 0 if it has ended."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text("ascii", "replace")
        except OSError:
            return 0.0
        found = re.search(r"^VmHWM:\s+(\d+)", status, re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def said(self, word: str) -> bool:
        """True if ``word`` is in its log since the last start."""
        with self._log.open("rb") as log:
            log.seek(self._log_before)
            return word.encode() in log.read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, failure: object, *exc: object) -> None:
        await self.kill()
        if failure is None:
            balance_of(self._log)

    async def kill(self) -> None:
        """Kill it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self, seconds: float = 30) -> int:
        """Ask it to drain. Returns its exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
        return await asyncio.wait_for(self._process.wait(), seconds)

    async def wait(self, seconds: float) -> int:
        """Wait until it ends by itself. Returns its exit code."""
        assert self._process is not None
        return await asyncio.wait_for(self._process.wait(), seconds)


def environment(nats_url: str, dsn: str, **more: str) -> dict[str, str]:
    """Settings of a worker under test as environment variables, with a worker's rights."""
    settings = {
        "nats_url": nats_url,
        "postgres_dsn": of_worker(dsn),
        "http_port": "-1",
        "ack_wait": "3s",
        "heartbeat": "500ms",
        "window_past": "unlimited",
        "kv_status_interval": "500ms",
        **more,
    }
    return {f"PENSTOCK_{name.upper()}": value for name, value in settings.items()}

"""Workers and rivals as processes that run until they are stopped."""

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec

from benchmarks.go_build import built
from benchmarks.rival import GO, Job

_STOP_SECONDS = 30.0


class Failed(Exception):
    """A way did not do its job, so its figures are not reported."""


class Running:
    """A process under measurement. ``born`` is when it was started, in Unix seconds."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path, born: float) -> None:
        self._process = process
        self._log = log
        self.born = born

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Raise Failed with the end of its log if it has ended."""
        if self._process.returncode is not None:
            raise Failed(f"it ended with {self._process.returncode}: {self._end_of_log()}")

    async def line(self) -> str:
        """The next line that it prints. Raises Failed if it ends first."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            await self._process.wait()
            self.check()
        return line.decode().strip()

    async def done(self) -> None:
        """Wait until it has ended by itself. Raises Failed if its exit code is not 0."""
        if await self._process.wait():
            self.check()

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Stop it. Returns its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(sign)
        return await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)

    def _end_of_log(self) -> str:
        return self._log.read_text("utf-8", "replace")[-2000:]


@contextlib.asynccontextmanager
async def running(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    program: str = sys.executable,
) -> AsyncIterator[Running]:
    """``python ARGUMENTS`` with the code of this tree; killed at the end if it is still running.
    ``program`` is another program than Python.
    """
    inherited = {name: text for name, text in os.environ.items() if "PENSTOCK_" not in name}
    paths = os.pathsep.join(filter(None, sys.path))
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(program, *arguments),
                env={**inherited, "PYTHONPATH": paths, **(environment or {})},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        found = Running(process, log, time.time())
        try:
            yield found
        finally:
            await found.stop(signal.SIGKILL)


def worker(
    settings: Mapping[str, str], command: str = "run"
) -> contextlib.AbstractAsyncContextManager[Running]:
    """``penstock run`` with these settings and defaults for the rest."""
    given = {"http_port": "-1", "log_format": "json", **settings}
    environment = {f"PENSTOCK_{name.upper()}": text for name, text in given.items()}
    return running("-m", "penstock", command, environment=environment)


def rival(job: Job) -> contextlib.AbstractAsyncContextManager[Running]:
    """A rival, doing ``job``."""
    text = msgspec.json.encode(job).decode()
    if job.way == GO:
        return running(text, program=str(built()))
    return running("-m", "benchmarks.rival", text)

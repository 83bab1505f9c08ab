"""A server process and its folder: starting, watching and stopping it."""

import asyncio
import contextlib
import ctypes
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

from penstock.worker.errors import PenstockError

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.02
_LOOK_SECONDS = 0.001
_STILL = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}


class ServerFailed(PenstockError):
    """An embedded server is not installed, did not start, or ended unexpectedly."""


class EmbeddedServer:
    """One server process and its folder, which is temporary unless given.

    Leaving the context ends the process and removes a temporary folder. With ``outlive``, and
    unless there was an error, both stay, even after this process has ended. ``log`` is the server's
    log file.
    """

    name = "server"
    _user: int | None = None
    _stop_signal = signal.SIGTERM

    def __init__(self, folder: Path | None, *, outlive: bool) -> None:
        self._given = folder
        self._outlive = outlive
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = folder or Path()

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The id of the running process. Raises ServerFailed if there is none."""
        if self._process is None or self._process.poll() is not None:
            raise ServerFailed(f"{self.name} is not running; the end of its log: {self._log_end()}")
        return self._process.pid

    async def __aenter__(self) -> Self:
        self.folder = self._given or Path(tempfile.mkdtemp(prefix=f"penstock-{self.name}-"))
        try:
            await self._prepare()
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if not self._outlive or kind is not None:
            await self._end()

    async def _prepare(self) -> None:
        """Create what the first start needs."""

    async def _start(self) -> None:
        raise NotImplementedError

    def pause(self) -> None:
        """Suspend all of its processes. Connections stay open and silent.

        Returns once they have stopped: on a busy machine that takes a moment after the signal.
        """
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend may just have ended
                process.suspend()
                while process.status() not in _STILL:
                    time.sleep(_LOOK_SECONDS)

    def resume(self) -> None:
        """Continue paused processes."""
        for process in self._tree():
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend may just have ended
                process.resume()

    def kill(self) -> None:
        """Send SIGKILL to all of its processes at once, as in a crash. Idempotent."""
        if self._process is None or self._process.poll() is not None:
            return
        tree = self._tree()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):  # a backend may just have ended
                process.kill()
        self._process.wait()
        psutil.wait_procs(tree, timeout=_STOP_SECONDS)

    async def restart(self) -> None:
        """Start again with the same port and data, after `kill` or while it is running."""
        await self._stop()
        await self._start()

    def _tree(self) -> list[psutil.Process]:
        """The main process, then its children: paused first, it cannot start another child."""
        main = psutil.Process(self.pid)
        return [main, *main.children(recursive=True)]

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        self.resume()
        process.send_signal(self._stop_signal)

        async def ended() -> bool:
            return process.poll() is not None

        try:
            await _until(ended, _STOP_SECONDS)
        except TimeoutError:
            self.kill()

    async def _end(self) -> None:
        await self._stop()
        if self._given is None:
            await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)

    def _spawn(self, *command: str | Path, environment: Mapping[str, str] | None = None) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  (a program of an installed wheel)
                command,
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                start_new_session=True,  # Ctrl-C is for us only; we stop the server in order
                preexec_fn=None if self._outlive else _die_with_parent,  # noqa: PLW1509  (one call)
            )

    async def _until_ready(self, answers: Callable[[], Awaitable[bool]]) -> None:
        """Wait until the server answers. Raises ServerFailed with the end of its log."""

        async def ready() -> bool:
            return self.pid > 0 and await answers()

        try:
            await _until(ready, _START_SECONDS)
        except TimeoutError as exc:
            raise ServerFailed(
                f"{self.name} did not answer in {_START_SECONDS:g} s: {self._log_end()}"
            ) from exc

    def _log_end(self) -> str:
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else "(none)"


def installed(distribution: str, wanted: Callable[[str], bool]) -> Path:
    """The file of an installed wheel whose path satisfies ``wanted``. Raises ServerFailed."""
    try:
        found: Iterable[Any] = files(distribution) or ()
    except PackageNotFoundError:
        found = ()
    for file in found:
        if wanted(str(file)):
            return Path(file.locate()).resolve()
    raise ServerFailed(f"{distribution} is missing: pip install 'penstock[embedded]'")


def _die_with_parent() -> None:
    """In the child, before it becomes the server: have Linux kill it when the parent's thread ends.

    On other systems this does nothing, and a server outlives a parent that was killed.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1
_prctl: Any = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


async def _until(condition: Callable[[], Awaitable[bool]], seconds: float) -> None:
    """Wait for a condition. Raises TimeoutError after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        await asyncio.sleep(_POLL_SECONDS)

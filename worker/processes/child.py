"""One worker process of several, as the process that started it sees it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence
from http import HTTPStatus

import aiohttp
import structlog

log = structlog.get_logger()

_LOOPBACK = "127.0.0.1"
_ANSWER_SECONDS = 2.0


class Child:
    """Runs ``penstock`` with ``arguments``, as often as it is started; ``name`` is its worker_id.

    It is asked to drain by the end of its standard input. So it drains too when this process is
    killed, and a signal that reaches the whole group is still the first one that it gets.

    `up` is true from its first answer on until it ends.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        self.name = name
        self.up = False
        self._asked = False
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._address = ""

    async def run(self) -> int:
        """Start it and wait until it ends. Its exit code, below 0 if a signal ended it.

        It gets a socket of the loopback, on which only it listens: while it does not,
        whoever asks is refused at once.
        """
        self.up = False
        with socket.socket() as listening:
            listening.bind((_LOOPBACK, 0))
            self._address = f"http://{_LOOPBACK}:{listening.getsockname()[1]}"
            number = listening.fileno()
            process = self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "penstock", *self._arguments),
                *("--processes", "1", "--worker-id", self.name, "--supervised", str(number)),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=asyncio.subprocess.PIPE,
                pass_fds=[number],
                process_group=0,  # Ctrl-C is for this process alone
            )
        log.info("child_started", child=self.name, pid=process.pid)
        if self._asked:
            self.ask_to_stop()
        code = await process.wait()
        self.up = False
        return code

    def ask_to_stop(self) -> None:
        """Have it drain, also if it is just being started. Idempotent."""
        self._asked = True
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """End it at once, also from a signal handler."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)

    async def get(self, client: aiohttp.ClientSession, path: str) -> tuple[int, str]:
        """Status and text of its answer; (0, "") if it gives none."""
        asked = self._process
        limit = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        try:
            async with client.get(self._address + path, timeout=limit) as answer:
                found = answer.status, await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return 0, ""
        if asked is None or asked is not self._process or asked.returncode is not None:
            return 0, ""  # what it said is no longer so
        self.up = self.up or found[0] == HTTPStatus.OK
        return found

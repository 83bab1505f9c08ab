"""What an orchestrator and Prometheus ask over HTTP: /livez, /readyz and /metrics."""

import errno
import socket
from collections.abc import Callable, Mapping
from typing import Protocol, Self, cast

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from penstock.worker.errors import SettingsError
from penstock.worker.wording import why

log = structlog.get_logger()

AUTO = "auto"
NO_PORT = -1
_USUAL_PORT = 8080

Check = Callable[[], str | None]
"""Gives None, or a text saying what is wrong."""


class Answers(Protocol):
    """What is said over HTTP. A mapping has a name for each thing looked at, with None or a text
    saying what is wrong with it.
    """

    async def live(self) -> Mapping[str, str | None]:
        """What keeps whoever speaks here from being alive; empty if nothing can."""

    async def ready(self) -> Mapping[str, str | None]:
        """Every check."""

    async def metrics(self) -> bytes:
        """Prometheus text."""


class OwnAnswers:
    """The `Answers` of one process: alive while its event loop turns."""

    def __init__(self, registry: CollectorRegistry, checks: Mapping[str, Check]) -> None:
        self._registry = registry
        self._checks = checks

    async def live(self) -> Mapping[str, str | None]:
        return {}

    async def ready(self) -> Mapping[str, str | None]:
        return {name: check() for name, check in self._checks.items()}

    async def metrics(self) -> bytes:
        return generate_latest(self._registry)


class HealthServer:
    """Answers while the context is open, on ``port``; then `port` is the real one.

    0 takes any free port, ``auto`` the usual one or, if that is in use, any free one; a socket is
    listened on as it is.

    /livez says 200 if nothing is dead, else 503 with a line for each that is; /readyz 200 if no
    check finds anything, else 503, with every check's answer as JSON; /metrics Prometheus text.
    Entering raises SettingsError if it cannot listen on the address.
    """

    def __init__(self, host: str, port: int | str | socket.socket, answers: Answers) -> None:
        self._wanted = port
        self.port = 0
        self._host = host
        self._answers = answers
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await self._listen()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"http_port = {self._wanted}, http_host = {self._host!r}: cannot listen there: "
                f"{why(error)}; choose another port, 0 for any free one or -1 for none"
            ) from error
        self.port = cast("int", self._runner.addresses[0][1])
        return self

    async def _listen(self) -> None:
        if isinstance(self._wanted, socket.socket):
            await web.SockSite(self._runner, self._wanted).start()
            return
        usual = self._wanted == AUTO
        try:
            await self._listen_on(_USUAL_PORT if usual else int(self._wanted))
        except OSError as error:
            if not usual or error.errno != errno.EADDRINUSE:
                raise
            log.info("http_port_in_use", port=_USUAL_PORT, remedy="taking a free one")
            await self._listen_on(0)

    async def _listen_on(self, port: int) -> None:
        await web.TCPSite(self._runner, self._host, port).start()

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        found = await self._answers.live()
        dead = "".join(f"{name}: {text}\n" for name, text in found.items() if text)
        return web.Response(text=dead or "ok\n", status=503 if dead else 200)

    async def _readyz(self, _request: web.Request) -> web.Response:
        found = await self._answers.ready()
        ready = not any(found.values())
        answer = {"ready": ready, "checks": {name: text or "ok" for name, text in found.items()}}
        return web.json_response(answer, status=200 if ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = await self._answers.metrics()
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

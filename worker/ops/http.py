"""What an orchestrator and Prometheus ask over HTTP: /livez, /readyz and /metrics."""

from collections.abc import Callable, Mapping
from typing import Self, cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from penstock.worker.errors import SettingsError

Check = Callable[[], str | None]
"""Gives None, or a text saying what is wrong."""


class HealthServer:
    """Answers while the context is open. ``port`` is the real one, also if 0 was asked for.

    /livez says 200 while the event loop turns; /readyz 200 if no check finds anything, else 503,
    with every check's answer as JSON; /metrics the registry as Prometheus text. Entering raises
    SettingsError if the address cannot be had.
    """

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, checks: Mapping[str, Check]
    ) -> None:
        self.port = port
        self._host = host
        self._registry = registry
        self._checks = checks
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(
                f"http_port = {self.port}, http_host = {self._host!r}: cannot listen there: "
                f"{error}; choose another port, 0 for any free one or -1 for none"
            ) from error
        self.port = cast("int", self._runner.addresses[0][1])
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._runner.cleanup()

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        found = {name: check() for name, check in self._checks.items()}
        ready = not any(found.values())
        answer = {"ready": ready, "checks": {name: text or "ok" for name, text in found.items()}}
        return web.json_response(answer, status=200 if ready else 503)

    async def _metrics(self, _request: web.Request) -> web.Response:
        text = generate_latest(self._registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

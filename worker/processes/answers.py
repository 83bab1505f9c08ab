"""What several workers answer over HTTP, as one."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus

import aiohttp
from prometheus_client import Metric, generate_latest

from penstock.worker.processes.child import Child
from penstock.worker.processes.merged import MergedMetrics

_SILENT = "does not answer"
_NOT_UP = "is starting, or waits to be started again"


class SharedAnswers:
    """The `ops.http.Answers` of all children: red if one of them is, and it says which."""

    def __init__(
        self, client: aiohttp.ClientSession, children: Sequence[Child], metrics: MergedMetrics
    ) -> None:
        self._client = client
        self._children = children
        self._metrics = metrics

    async def live(self) -> Mapping[str, str | None]:
        """One that has answered before has to go on answering; others are not up yet, which is for
        whoever supervises them.
        """
        answers = await self._ask("/livez")
        return {
            child.name: _SILENT if child.up and status != HTTPStatus.OK else None
            for child, (status, _) in answers.items()
        }

    async def ready(self) -> Mapping[str, str | None]:
        found: dict[str, str | None] = {}
        for child, (status, text) in (await self._ask("/readyz")).items():
            if status:
                found |= _checks(child.name, text)
            else:
                found[child.name] = _SILENT if child.up else _NOT_UP
        return found

    async def metrics(self) -> bytes:
        answers = await self._ask("/metrics")
        # One that has ended since then is counted among the ended, not once more.
        alive = {child: text for child, (status, text) in answers.items() if status and child.up}
        told = {child.name: text for child, text in alive.items()}
        return generate_latest(_Collected(lambda: self._metrics.families(told)))

    async def _ask(self, path: str) -> dict[Child, tuple[int, str]]:
        answers = await asyncio.gather(*(child.get(self._client, path) for child in self._children))
        return dict(zip(self._children, answers, strict=True))


class _Collected:
    """What prometheus_client writes as text."""

    def __init__(self, collect: Callable[[], Iterator[Metric]]) -> None:
        self.collect = collect


def _checks(name: str, answer: str) -> dict[str, str | None]:
    checks: dict[str, str] = json.loads(answer)["checks"]
    return {f"{name} {check}": None if text == "ok" else text for check, text in checks.items()}

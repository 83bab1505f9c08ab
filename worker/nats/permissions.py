"""What the server does not let this user do, as far as it has said so on a connection.

A request that is not permitted has no answer: the server reports it beside, for whom it concerns to
find here.
"""

import asyncio
import re
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from nats.aio.client import Client

from penstock.worker.errors import Cause, SourceUnavailable

Answer = TypeVar("Answer")

_violation = re.compile(r'(Publish|Subscription) to "([^"]*)"', re.IGNORECASE).search
_LATELY_SECONDS = 10.0
_REMEMBERED = 1_000


class Denials:
    """The subjects that were refused on one connection, each with when."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, str]] = {}
        self._changed = asyncio.Event()

    def note(self, text: str) -> None:
        """Keep what the server says, if it names a subject."""
        found = _violation(text)
        if found is None:
            return
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        self._seen.pop(found[2], None)  # the latest is the last
        self._seen[found[2]] = (time.monotonic(), found[1].lower())
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def of(self, prefix: str, since: float | None = None) -> str | None:
        """What is missing for a subject that begins so, if that was refused lately."""
        earliest = time.monotonic() - _LATELY_SECONDS if since is None else since
        for subject, (when, way) in reversed(self._seen.items()):
            if subject.startswith(prefix) and when >= earliest:
                verb = "publish" if way == "publish" else "subscribe"
                return (
                    f"the NATS user has no right to {verb} to {subject}; allow it in the user's "
                    f"permissions ({verb}), as deploy/nats/users.conf does"
                )
        return None

    def refused(self, subject: str, since: float) -> bool:
        """Whether just this subject was refused since then."""
        when, _ = self._seen.get(subject, (float("-inf"), ""))
        return when >= since

    async def change(self) -> None:
        """Wait for the next one."""
        await self._changed.wait()


def denials(nc: Client) -> Denials:
    """Those of a connection that `nats.connection` made; of another, none are known."""
    found: Denials = getattr(nc, "denials", None) or Denials()
    return found


async def permitted(nc: Client, subject: str, request: Coroutine[Any, Any, Answer]) -> Answer:
    """The answer to a request on ``subject``, or SourceUnavailable as soon as it is refused."""
    begun, known = time.monotonic(), denials(nc)
    asking = asyncio.ensure_future(request)
    try:
        while not asking.done():
            if (lacking := known.of(subject, since=begun)) is not None:
                raise SourceUnavailable(lacking, cause=Cause.RIGHT)
            refused = asyncio.ensure_future(known.change())
            try:
                await asyncio.wait({asking, refused}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                refused.cancel()
        return asking.result()
    finally:
        asking.cancel()

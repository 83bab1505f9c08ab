"""``penstock run``: one worker, several processes, or one of these."""

import asyncio
import socket
import sys

from penstock.worker.settings.keys import Settings


def run(settings: Settings, until_idle: float | None, supervised: int | None) -> int:
    """Work until told to stop. ``supervised`` is the number of the socket that a process which
    runs several has given this one. Exit code.
    """
    if supervised is None and settings.processes > 1:
        from penstock.worker.processes import supervisor  # noqa: PLC0415

        arguments = sys.argv[1:]
        return asyncio.run(supervisor.run(settings, arguments, until_idle=until_idle is not None))
    from penstock.worker.commands import one_worker  # noqa: PLC0415  (it brings the drivers)

    if supervised is None:
        return asyncio.run(one_worker.run(settings, until_idle))
    with socket.socket(fileno=supervised) as listening:
        return asyncio.run(one_worker.run_supervised(settings, until_idle, listening))

"""Findings about a nats-server itself."""

from nats.aio.client import Client

from penstock.worker.finding import Finding, Verdict

_OLDEST = (2, 10)
_ATOMIC = (2, 12)


def version(nc: Client) -> Finding:
    """Whether the server's version is new enough."""
    found = nc.connected_server_version
    number = (found.major, found.minor)
    text = f"nats-server {found.major}.{found.minor}.{found.patch}"
    if number < _OLDEST:
        return Finding(Verdict.BAD, text, "upgrade to 2.10 or newer")
    if number < _ATOMIC:
        remedy = "2.12 or newer writes batches atomically, about 4x faster"
        return Finding(Verdict.NOTE, text, remedy)
    return Finding(Verdict.GOOD, text)

"""TLS contexts from files, for clients."""

import functools
import ssl
from collections.abc import Iterable
from pathlib import Path


def tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """A context that trusts ``ca``, or the system's CAs, and presents ``cert``.

    Files that have changed are read again. Otherwise all connections share one context: it takes
    nearly a megabyte, and each attempt would leave one behind until the garbage collector runs.
    Raises OSError, ValueError.
    """
    return _context(ca, cert, key, _stamps((ca, cert, key)))


def _stamps(files: Iterable[str | None]) -> tuple[int, ...]:
    return tuple(Path(file).stat().st_mtime_ns for file in files if file)


@functools.lru_cache(maxsize=4)
def _context(
    ca: str | None,
    cert: str | None,
    key: str | None,
    stamps: tuple[int, ...],  # noqa: ARG001  (makes a changed file another key of the cache)
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(cert, key)
    return context

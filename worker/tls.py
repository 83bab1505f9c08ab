"""TLS contexts from files, for clients."""

import functools
import ssl
from collections.abc import Iterable
from pathlib import Path


def tls_context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Trusts ``ca``, or what the system trusts; shows ``cert``. Raises OSError, ValueError.

    Files that have changed are read again. Otherwise it is one context for all connections: it
    holds nearly a megabyte, and every attempt would leave one behind until the garbage collector
    comes by.
    """
    return _context(ca, cert, key, _stamps((ca, cert, key)))


def _stamps(files: Iterable[str | None]) -> tuple[int, ...]:
    return tuple(Path(file).stat().st_mtime_ns for file in files if file)


@functools.lru_cache(maxsize=4)
def _context(
    ca: str | None,
    cert: str | None,
    key: str | None,
    stamps: tuple[int, ...],  # noqa: ARG001  (of the files, so that a changed one is another key)
) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if cert:
        context.load_cert_chain(cert, key)
    return context

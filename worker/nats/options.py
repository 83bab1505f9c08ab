"""Options of NATS: plain values, without importing its client."""

import ssl
from typing import ClassVar

import msgspec

from penstock.worker.tls import tls_context
from penstock.worker.wording import redacted


class ReadingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is read, and as which durable consumer. Times are in seconds; ``heartbeat`` is
    the server's interval while idle.
    """

    durable: str
    batch_size: int
    batch_bytes: int
    linger: float
    ack_wait: float
    heartbeat: float


class NatsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The address and our credentials. ``url`` may list servers, separated by commas.

    ``credentials``, ``nkey`` and the three ``tls_*`` files are paths. Any of these three,
    ``tls_first``, or a ``tls://`` address requires TLS.
    """

    broker: ClassVar[str] = "nats"

    url: str = "nats://127.0.0.1:4222"
    credentials: str | None = None
    nkey: str | None = None
    user: str | None = None
    password: str | None = None
    token: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_first: bool = False
    inbox_prefix: str = "_INBOX"

    @property
    def servers(self) -> list[str]:
        """The individual addresses."""
        return [part.strip() for part in self.url.split(",") if part.strip()]

    @property
    def wants_tls(self) -> bool:
        """True if a connection without TLS must be refused."""
        named = self.tls_ca or self.tls_cert or self.tls_key or self.tls_first
        return bool(named) or any(url.startswith(("tls://", "wss://")) for url in self.servers)

    def tls(self) -> ssl.SSLContext | None:
        """A context from the current files; None without TLS. Raises OSError, ValueError."""
        if not self.wants_tls:
            return None
        return tls_context(self.tls_ca, self.tls_cert, self.tls_key)

    @property
    def redacted(self) -> str:
        """``url`` without user, password and token."""
        return ",".join(map(redacted, self.servers))

"""Options of RabbitMQ: plain values, without its client, for whoever only says where to connect."""

import ssl
from typing import TYPE_CHECKING, ClassVar

import msgspec

from penstock.worker.errors import SettingsError
from penstock.worker.tls import tls_context
from penstock.worker.wording import redacted, why

if TYPE_CHECKING:
    from yarl import URL


class ReadingOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a queue is read. ``linger`` is in seconds; ``in_flight`` counts batches."""

    batch_size: int
    batch_bytes: int
    linger: float
    in_flight: int = 3


class RabbitOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where RabbitMQ is and who we are. ``heartbeat`` is in whole seconds.

    The path of ``url`` is the virtual host; ``user`` and ``password`` go before those in it. The
    three of TLS are paths of files; with ``amqps://`` the server's certificate is always checked.
    """

    broker: ClassVar[str] = "rabbitmq"

    url: str = "amqp://guest:guest@127.0.0.1:5672/"
    user: str | None = None
    password: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    heartbeat: int = 10

    @property
    def redacted(self) -> str:
        """``url`` without user, password and parameters."""
        return redacted(self.url)

    def address(self, name: str) -> "URL":
        """The whole address of a connection that the server shall show as ``name``."""
        url = _parsed(self.url)
        if self.user is not None:
            url = url.with_user(self.user)
        if self.password is not None:
            url = url.with_password(self.password)
        return url.update_query(heartbeat=self.heartbeat, name=name)

    def tls(self) -> ssl.SSLContext | None:
        """For ``amqps`` urls. Raises SettingsError if it is asked for otherwise, or not to be had.

        Parameters of the url, as ``no_verify_ssl``, have no say in it.
        """
        named = self.tls_ca or self.tls_cert or self.tls_key
        if _parsed(self.url).scheme != "amqps":
            if named:
                raise SettingsError(f"TLS files are given, but {self.redacted} is not amqps://")
            return None
        try:
            return tls_context(self.tls_ca, self.tls_cert, self.tls_key)
        except (OSError, ValueError) as exc:
            raise SettingsError(f"TLS files for RabbitMQ at {self.redacted}: {why(exc)}") from exc


def _parsed(url: str) -> "URL":
    from yarl import URL  # noqa: PLC0415  (the client brings it; options do without the client)

    return URL(url)

"""Log lines with fields, through the standard library's logging.

For the rooms that run inside an agent. A library logs nothing until its application configures
logging, and never prints to standard output, which an agent may use for its protocol. The worker's
configuration (`ops.logs`) shows the fields like those of its own lines.
"""

import logging
import sys

import msgspec


class Line(msgspec.Struct, frozen=True):
    """An event with its fields. As text: ``nats_disconnected connection='publisher /a'``."""

    event: str
    fields: dict[str, object]

    def __str__(self) -> str:
        return " ".join([self.event, *(f"{key}={value!r}" for key, value in self.fields.items())])


class Logger:
    """Writes lines under ``name``; each line has ``fields``."""

    def __init__(self, name: str, **fields: object) -> None:
        self._logger = logging.getLogger(name)
        self._fields = fields

    def bind(self, **fields: object) -> "Logger":
        """A logger whose lines have additional fields."""
        return Logger(self._logger.name, **self._fields, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log something normal."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an error from which the process recovers by itself."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        """Log an error that a person must act on, with the traceback of ``exc_info``."""
        self._write(logging.ERROR, event, fields, exc_info)

    def exception(self, event: str, **fields: object) -> None:
        """Like `error`, with the traceback of the exception that is being handled."""
        self._write(logging.ERROR, event, fields, sys.exception())

    def _write(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        exc_info: BaseException | None = None,
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, Line(event, {**self._fields, **fields}), exc_info=exc_info)


def silent_unless_configured(*names: str) -> None:
    """Keep these loggers from writing to standard error until logging is configured."""
    for name in names:
        logging.getLogger(name).addHandler(logging.NullHandler())


silent_unless_configured("penstock")
